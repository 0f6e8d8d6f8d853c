"""Winogender schemas (Rudinger, Naradowsky, Leonard, Van Durme 2018, arXiv 1804.09301), in their original TSV format.

One item is a sentence with a masculine, a feminine and a neutral pronoun. It is about an occupation (the cluster) and a
participant ("the customer", or "someone" in half of the items), and the pronoun refers to one of them: the last number
of a sentence's id, 0 the occupation and 1 the participant.

There is no template: each of the 120 sentence frames belongs to one occupation, so frames are not crossed with
occupations, and "someone" is the participant of half of the items, which makes no sample of participants.

`they` takes another verb than `he` and `she` in 34 of the 240 items ("they were"), so a comparison with the neutral
text compares verbs as well there; the masculine and the feminine text always differ in the pronoun alone.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fairtest.errors import ProbeError
from fairtest.probes.probe import Probe, ProbeSet

MASCULINE, FEMININE, NEUTRAL = "masculine", "feminine", "neutral"
OCCUPATION, PARTICIPANT = "occupation", "participant"
SENTENCES, ITEMS, OCCUPATIONS = 720, 240, 60
USE = "any use with its licence; made for measuring: it can show a bias, not that there is none"
STATISTICS = ("bergsma_pct_female", "bls_pct_female")
FAULTS: Mapping[str, str] = {
    "neutral_verb": "the neutral text differs in another word than the pronoun",
    "several_edits": "the masculine and the feminine text differ in more than the pronoun",
    "duplicate": "an earlier item has the same texts",
}

_GENDERS = {"male": MASCULINE, "female": FEMININE, "neutral": NEUTRAL}
_ANSWERS = {"0": OCCUPATION, "1": PARTICIPANT}
SENTENCE_FILE, STATISTICS_FILE = "all_sentences.tsv", "occupations-stats.tsv"
_PLACES = ("", "winogender", "winogender-schemas/data", "data")
FIX = "give all_sentences.tsv and occupations-stats.tsv of github.com/rudinger/winogender-schemas, data/"
_PRONOUNS = {("he", "she", "they"), ("him", "her", "them"), ("his", "her", "their"), ("himself", "herself", "themself")}
_GENDER_PAIRS = {(masculine, feminine) for masculine, feminine, _ in _PRONOUNS}
_NEUTRAL_PAIRS = {(masculine, neutral) for masculine, _, neutral in _PRONOUNS}
Row = tuple[str, Mapping[str, str]]  # where it stands, its cells


@dataclass(slots=True)
class _Triple:
    where: str
    occupation: str
    participant: str
    answer: str
    texts: dict[str, str] = field(default_factory=dict)


def read_winogender(path: Path, *, strict: bool = True) -> ProbeSet:
    """All triples: id such as "nurse.patient.0", axis gender, cluster = occupation; roles masculine, feminine, neutral.

    `path` is a directory that holds `all_sentences.tsv` and `occupations-stats.tsv`, perhaps in a folder `winogender`.
    `strict` asks for both files, 720 sentences, and statistics of each occupation; with `strict=False` any number of
    whole triples is read, with the statistics there are.

    Fields: `occupation`, `participant`, `answer` (whom the pronoun refers to, "occupation" or "participant"),
    `bergsma_pct_female` and `bls_pct_female` (percent of women in the occupation, by text counts of Bergsma and Lin
    2006 and by the US Bureau of Labor Statistics; "" where not given), `faults` (names, separated by a comma; "" for
    none).

    Raises:
        ProbeError: a file or column missing, a sentence id of another form or twice, a triple that is not whole, a
            percentage that is none, another number of sentences, or no sentence.
    """
    folder = _locate(path)
    sentences = _rows(folder / SENTENCE_FILE, ("sentid", "sentence"))
    require_all(sentences, str(folder / SENTENCE_FILE), strict=strict)
    statistics = read_statistics(folder / STATISTICS_FILE, strict=strict)
    place = folder / STATISTICS_FILE
    return winogender_set(sentences, statistics, str(path), strict=strict, statistics_from=place)


def require_all(sentences: Sequence[Row], where: str, *, strict: bool) -> None:
    """Checks that there are as many sentences as were published, where `strict` asks for that.

    Raises:
        ProbeError: another number.
    """
    if strict and len(sentences) != SENTENCES:
        raise ProbeError(
            f"Winogender has {SENTENCES} sentences, and {len(sentences)} were found",
            where=where,
            fix=f"{FIX}; a subset is read with strict=False",
        )


def winogender_set(
    sentences: Sequence[Row],
    statistics: Mapping[str, Mapping[str, str]],
    source: str,
    *,
    strict: bool,
    statistics_from: Path | None = None,
) -> ProbeSet:
    """The probe set of these sentences (`sentid`, `sentence`) and percentages of women by occupation.

    Raises:
        ProbeError: an id of another form or twice, a triple that is not whole, or, where `strict` asks for them, no
            statistics of an occupation.
    """
    nothing = dict.fromkeys(STATISTICS, "")
    seen: set[tuple[str, ...]] = set()
    probes: list[Probe] = []
    for item, triple in _triples(sentences).items():
        if strict and triple.occupation not in statistics:
            raise ProbeError(
                f"Winogender: there are no statistics of occupation {triple.occupation!r}",
                where=str(statistics_from or source),
                fix=f"{FIX}; items without statistics are read with strict=False",
            )
        texts = {role: triple.texts[role] for role in _GENDERS.values()}
        faults = _faults(texts)
        if tuple(texts.values()) in seen:
            faults.append("duplicate")
        seen.add(tuple(texts.values()))
        fields = {
            "occupation": triple.occupation,
            "participant": triple.participant,
            "answer": triple.answer,
            **statistics.get(triple.occupation, nothing),
            "faults": ",".join(faults),
        }
        probes.append(Probe(item, "gender", triple.occupation, texts, fields=fields))
    return ProbeSet("winogender", "2018", "MIT", source, tuple(probes), USE)


def _locate(path: Path) -> Path:
    for place in _PLACES:
        if (path / place / SENTENCE_FILE).is_file():
            return path / place
    raise ProbeError(
        f"Winogender was not found: no {SENTENCE_FILE} in the directory nor below it", where=str(path), fix=FIX
    )


def _triples(rows: Sequence[Row]) -> dict[str, _Triple]:
    """Sentences by item and role, in the order in which items first occur."""
    triples: dict[str, _Triple] = {}
    for where, row in rows:
        parts = row["sentid"].split(".")
        if len(parts) != 5 or not all(parts) or parts[2] not in _ANSWERS or parts[3] not in _GENDERS:
            raise ProbeError(
                f"Winogender: sentence id {row['sentid']!r} is not occupation.participant.(0 or 1).gender.txt",
                where=where,
                fix=FIX,
            )
        occupation, participant, answer, gender, _ = parts
        triple = triples.setdefault(".".join(parts[:3]), _Triple(where, occupation, participant, _ANSWERS[answer]))
        if _GENDERS[gender] in triple.texts:
            raise ProbeError(f"Winogender: sentence id {row['sentid']!r} occurs twice", where=where, fix=FIX)
        triple.texts[_GENDERS[gender]] = row["sentence"]
    for item, triple in triples.items():
        for gender, role in _GENDERS.items():
            if role not in triple.texts:
                raise ProbeError(
                    f"Winogender: item {item!r} has no sentence with gender {gender!r}", where=triple.where, fix=FIX
                )
    return triples


def read_statistics(file: Path, *, strict: bool) -> dict[str, dict[str, str]]:
    """Percentages of women by occupation, as published; none where the file may be absent and is.

    Raises:
        ProbeError: no such file, a column missing, an occupation twice, or a percentage that is none.
    """
    if not file.is_file():
        if not strict:
            return {}
        raise ProbeError(
            f"Winogender: {STATISTICS_FILE} was not found beside {SENTENCE_FILE}",
            where=str(file),
            fix=f"{FIX}; items without statistics are read with strict=False",
        )
    found: dict[str, dict[str, str]] = {}
    for where, row in _rows(file, ("occupation", *STATISTICS), may_be_empty=STATISTICS):
        if row["occupation"] in found:
            raise ProbeError(f"Winogender: occupation {row['occupation']!r} occurs twice", where=where, fix=FIX)
        for name in STATISTICS:
            if row[name] and as_percentage(row[name]) is None:
                raise ProbeError(
                    f"Winogender: {name!r} is {row[name]!r}, not a percentage from 0 to 100", where=where, fix=FIX
                )
        found[row["occupation"]] = {name: row[name] for name in STATISTICS}
    return found


def as_percentage(text: str) -> float | None:
    """The number from 0 to 100 that the text is, None where it is none."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0.0 <= value <= 100.0 else None  # NaN is in no range


def _rows(file: Path, columns: tuple[str, ...], may_be_empty: Collection[str] = ()) -> list[Row]:
    """(file and line, the cells of `columns`) of each row."""
    rows: list[Row] = []
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE)
            header = list(reader.fieldnames or ())
            missing = [name for name in columns if name not in header]
            if missing:
                raise ProbeError(
                    f"Winogender: column {missing[0]!r} is missing; columns found: {', '.join(map(repr, header))}",
                    where=f"{file}:1",
                    fix=FIX,
                )
            for row in reader:
                cells = {name: (row[name] or "").strip() for name in columns}
                for name, cell in cells.items():
                    if not cell and name not in may_be_empty:
                        raise ProbeError(f"Winogender: {name!r} is empty", where=f"{file}:{reader.line_num}", fix=FIX)
                rows.append((f"{file}:{reader.line_num}", cells))
    except OSError as error:
        raise ProbeError(
            f"Winogender cannot be read: {error.strerror or error}", where=str(file), fix="check its permissions"
        ) from error
    except UnicodeDecodeError as error:
        raise ProbeError(f"Winogender is not UTF-8: {error.reason}", where=str(file), fix=FIX) from error
    except csv.Error as error:
        raise ProbeError(f"Winogender is not TSV: {error}", where=f"{file}:{reader.line_num}", fix=FIX) from error
    return rows


def _faults(texts: Mapping[str, str]) -> list[str]:
    masculine, feminine, neutral = (re.findall(r"\w+|\S", texts[role].lower()) for role in _GENDERS.values())
    names: list[str] = []
    if not _differ_only_in(_NEUTRAL_PAIRS, masculine, neutral):
        names.append("neutral_verb")
    if not _differ_only_in(_GENDER_PAIRS, masculine, feminine):
        names.append("several_edits")
    return names


def _differ_only_in(pairs: Collection[tuple[str, str]], left: list[str], right: list[str]) -> bool:
    """Whether the words are the same but for at least one of these pairs."""
    if len(left) != len(right):
        return False
    edits = [(a, b) for a, b in zip(left, right, strict=True) if a != b]
    return bool(edits) and all(edit in pairs for edit in edits)
