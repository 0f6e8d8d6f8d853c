"""WinoBias (Zhao, Wang, Yatskar, Ordonez, Chang 2018, arXiv 1804.06876), in its original numbered lines.

One item is a pair of lines, the pro-stereotypical (role `stereotype`) and the anti-stereotypical (role
`anti_stereotype`) one: a sentence about two occupations, whose pronoun refers to the one that stands in brackets. In
type 1 one has to know the world to tell to which, in type 2 the syntax tells. Half of the pro lines are about a man
and half about a woman, so a model that always finds "he" likelier has no preference here.

The cluster is the occupation that the pronoun refers to, the template the other one. That is how the set was built:
40 occupations, 20 of each lean, nearly every pair of opposite lean (393 of 400) in four sentences, in two of them about
the one and in two about the other. Both matter: of the variance of SmolLM2-135M's log ratios, 20% is between the
occupations referred to and 10% between the others. An occupation pulls the other way where it is the other one (its
two means correlate with -0.77), which crossed clusters do not use, so intervals are wide rather than narrow: half
widths of 9.0 points, and 4.8 by a jackknife that leaves an occupation out in both places. A sentence frame is no
factor: frames hardly ever occur twice (1580 among 1584 pairs).

Text is as published: possessives stand apart ("the editor 's desk"), in both lines of a pair alike. Brackets go with
the blanks inside them ("the [ physician]", once).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fairtest.errors import ProbeError
from fairtest.probes.probe import ANTI_STEREOTYPE, STEREOTYPE, Probe, ProbeSet

LINES = 396  # of each file
TYPES, SPLITS = ("1", "2"), ("dev", "test")
ITEMS = LINES * len(TYPES) * len(SPLITS)
USE = "any use with its licence; made for measuring: dev to choose by, test to report"
FAULTS: Mapping[str, str] = {
    "several_edits": "the lines differ in more than the gender of their pronouns",
    "other_referent": "the lines bracket different occupations",
    "identical": "the lines are the same",
    "duplicate": "an earlier pair has the same two lines",
}

_SIDES = {STEREOTYPE: "pro", ANTI_STEREOTYPE: "anti"}
_PLACES = ("", "winobias", "WinoBias/wino/data", "wino/data")
_FIX = "give the eight {pro,anti}_stereotyped_type{1,2} files of github.com/uclanlp/corefBias, WinoBias/wino/data"
_COUNTERPARTS = {("he", "she"), ("him", "her"), ("his", "her"), ("his", "hers"), ("himself", "herself")}
_COUNTERPARTS |= {(feminine, masculine) for masculine, feminine in _COUNTERPARTS}
_PRONOUNS = frozenset(word for pair in _COUNTERPARTS for word in pair)
_MASCULINE = frozenset({"he", "him", "his", "himself"})
_NUMBERED = re.compile(r"(\d+)\s+(\S.*)")
_BRACKETS = re.compile(r"\[([^\[\]]*)\]")
_ARTICLE = re.compile(r"(?:the|an?)\s+", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Line:
    """One sentence: where it stands, its number, its text, whom it is about, and the pronouns that say so."""

    where: str
    number: int
    text: str
    occupation: str
    pronouns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Pair:
    """A pro- and an anti-stereotypical line of one type ("1", "2") and split ("dev", "test")."""

    kind: str
    split: str
    pro: Line
    anti: Line


def read_winobias(path: Path, *, strict: bool = True) -> ProbeSet:
    """All pairs: id such as "type1.dev.12" (the line's number), axis gender, cluster = the occupation referred to.

    `path` is a directory that holds the files, perhaps in a folder `winobias`, named `pro_stereotyped_type1.dev.txt` or
    as upstream `pro_stereotyped_type1.txt.dev`. `strict` asks for all eight, of 396 lines each; with `strict=False`
    a part (type and split) may be absent, and have any number of lines.

    Fields: `type`, `split`, `occupation` (referred to), `other_occupation`, `pronouns` and `anti_pronouns` (those in
    brackets, separated by a comma), `gender` (of the pro line's pronouns, masculine or feminine), `faults` (names,
    separated by a comma; "" for none).

    Raises:
        ProbeError: a file missing, a line of another form, lines that do not pair, another number of lines, or no line.
    """
    pairs: list[Pair] = []
    for kind in TYPES:
        for split in SPLITS:
            pairs += _part(path, kind, split, strict=strict)
    if not pairs:
        raise _not_found(path)
    return winobias_set(pairs, str(path))


def winobias_set(pairs: Sequence[Pair], source: str) -> ProbeSet:
    """The probe set of these pairs.

    Raises:
        ProbeError: a sentence is about one known occupation only, or an id occurs twice.
    """
    return ProbeSet("winobias", "2018", "MIT", source, tuple(_probes(pairs)), USE)


def _part(path: Path, kind: str, split: str, *, strict: bool) -> list[Pair]:
    """The pairs of one type and split, none where both files are absent and may be."""
    files = {side: _locate(path, side, kind, split) for side in _SIDES.values()}
    absent = [side for side, file in files.items() if file is None]
    if absent and (strict or len(absent) < len(files)):
        raise _not_found(path, f"{absent[0]}_stereotyped_type{kind}.{split}.txt")
    sides = [_lines(file, strict=strict) for file in files.values() if file is not None]
    if not sides:
        return []
    return pair_lines(kind, split, *sides)


def pair_lines(kind: str, split: str, pro: Sequence[Line], anti: Sequence[Line]) -> list[Pair]:
    """The lines of one type and split side by side.

    Raises:
        ProbeError: their numbers differ, or one side has more lines.
    """
    for left, right in zip(pro, anti, strict=False):
        if left.number != right.number:
            raise ProbeError(
                f"WinoBias: line number {right.number} stands beside {left.number} of the pro side",
                where=right.where,
                fix=f"give both sides the same numbers; {_FIX}",
            )
    if len(pro) != len(anti):
        longer, shorter = (pro, anti) if len(pro) > len(anti) else (anti, pro)
        raise ProbeError(
            f"WinoBias: type {kind} {split} has {len(pro)} pro and {len(anti)} anti lines",
            where=longer[len(shorter)].where,
            fix=f"give each line its counterpart; {_FIX}",
        )
    return [Pair(kind, split, left, right) for left, right in zip(pro, anti, strict=True)]


def _locate(path: Path, side: str, kind: str, split: str) -> Path | None:
    stem = f"{side}_stereotyped_type{kind}"
    names = (f"{stem}.{split}.txt", f"{stem}.txt.{split}")
    found = (path / place / name for place in _PLACES for name in names)
    return next((file for file in found if file.is_file()), None)


def _not_found(path: Path, name: str = "pro_stereotyped_type1.dev.txt") -> ProbeError:
    return ProbeError(f"WinoBias was not found: no {name} in the directory nor below it", where=str(path), fix=_FIX)


def _lines(file: Path, *, strict: bool) -> list[Line]:
    try:
        content = file.read_text(encoding="utf-8")
    except OSError as error:
        raise ProbeError(
            f"WinoBias cannot be read: {error.strerror or error}", where=str(file), fix="check its permissions"
        ) from error
    except UnicodeDecodeError as error:
        raise ProbeError(f"WinoBias is not UTF-8: {error.reason}", where=str(file), fix=_FIX) from error
    raw = [(at, line) for at, line in enumerate(content.split("\n"), start=1) if line.strip()]
    if strict and len(raw) != LINES:
        raise ProbeError(
            f"WinoBias has {LINES} lines in each file, and {len(raw)} were found",
            where=str(file),
            fix=f"{_FIX}; a subset is read with strict=False",
        )
    if not raw:
        raise ProbeError("WinoBias: the file has no line", where=str(file), fix=_FIX)
    lines: list[Line] = []
    numbers: set[int] = set()
    for at, line in raw:
        read = _line(line.strip(), f"{file}:{at}")
        if read.number in numbers:
            raise ProbeError(f"WinoBias: line number {read.number} occurs twice", where=read.where, fix=_FIX)
        numbers.add(read.number)
        lines.append(read)
    return lines


def _line(line: str, where: str) -> Line:
    match = _NUMBERED.fullmatch(line)
    if match is None:
        raise ProbeError(f"WinoBias: the line does not begin with its number: {line[:60]!r}", where=where, fix=_FIX)
    mentions = [found.strip() for found in _BRACKETS.findall(match[2])]
    text = _BRACKETS.sub(lambda found: found[1].strip(), match[2])
    return line_of(int(match[1]), text, mentions, where)


def line_of(number: int, text: str, mentions: Sequence[str], where: str) -> Line:
    """A line whose `mentions`, in the order of the text, are an occupation and its pronouns.

    Raises:
        ProbeError: they are not.
    """
    pronouns = tuple(word.lower() for word in mentions if word.lower() in _PRONOUNS)
    others = [mention for mention in mentions if mention.lower() not in _PRONOUNS]
    if len(others) != 1 or not pronouns or not others[0] or "[" in text or "]" in text:
        raise ProbeError(
            "WinoBias: a line brackets one occupation and its pronouns, and this one"
            f" {', '.join(map(repr, mentions)) or 'nothing'}",
            where=where,
            fix=_FIX,
        )
    return Line(where, number, text, _ARTICLE.sub("", others[0], count=1), pronouns)


def _probes(pairs: Sequence[Pair]) -> list[Probe]:
    other_than = _OtherOccupation(line.occupation for pair in pairs for line in (pair.pro, pair.anti))
    seen: set[tuple[str, str]] = set()
    probes: list[Probe] = []
    for pair in pairs:
        pro, anti = pair.pro, pair.anti
        other = other_than(pro)
        faults = _faults(pro, anti)
        if (pro.text, anti.text) in seen:
            faults.append("duplicate")
        seen.add((pro.text, anti.text))
        fields = {
            "type": pair.kind,
            "split": pair.split,
            "occupation": pro.occupation,
            "other_occupation": other,
            "pronouns": ",".join(pro.pronouns),
            "anti_pronouns": ",".join(anti.pronouns),
            "gender": "masculine" if pro.pronouns[0] in _MASCULINE else "feminine",
            "faults": ",".join(faults),
        }
        probe_id = f"type{pair.kind}.{pair.split}.{pro.number}"
        texts = {STEREOTYPE: pro.text, ANTI_STEREOTYPE: anti.text}
        probes.append(Probe(probe_id, "gender", pro.occupation, texts, other, fields=fields))
    return probes


class _OtherOccupation:
    """Finds the occupation that a sentence names first among those its pronoun does not refer to.

    Occupations are those that some line brackets; an article stands in front, so that "to cook" is none.
    """

    def __init__(self, occupations: Iterable[str]) -> None:
        longest_first = sorted(set(occupations), key=lambda word: (-len(word), word))
        self._pattern = re.compile(rf"\b(?:the|an?)\s+({'|'.join(map(re.escape, longest_first))})\b", re.IGNORECASE)

    def __call__(self, line: Line) -> str:
        found: list[str] = self._pattern.findall(line.text)
        other = next((word for word in found if word != line.occupation), None)
        if other is None:
            raise ProbeError(
                f"WinoBias: no occupation beside {line.occupation!r} was found among those that lines bracket",
                where=line.where,
                fix="keep the lines about two occupations together (2k - 1 and 2k); " + _FIX,
            )
        return other


def _faults(pro: Line, anti: Line) -> list[str]:
    names: list[str] = []
    if pro.text == anti.text:
        names.append("identical")
    elif not _differ_in_pronouns_alone(pro.text, anti.text):
        names.append("several_edits")
    if pro.occupation != anti.occupation:
        names.append("other_referent")
    return names


def _differ_in_pronouns_alone(pro: str, anti: str) -> bool:
    """Whether each word is the same or a pronoun of the other gender, and no pronoun is the same in both lines."""
    left, right = (re.findall(r"\w+|\S", text.lower()) for text in (pro, anti))
    return len(left) == len(right) and all(
        (a not in _PRONOUNS) if a == b else (a, b) in _COUNTERPARTS for a, b in zip(left, right, strict=True)
    )
