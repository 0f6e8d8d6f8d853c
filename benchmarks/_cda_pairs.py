"""Sentences with the counterfactual that each is to become: published pairs, and cases written for this project."""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
OWN_CASES = ROOT / "tests" / "augmentation" / "cases" / "gender.jsonl"

_PARTS = ("type1.dev", "type1.test", "type2.dev", "type2.test")
_COUNTERPARTS = {("he", "she"), ("him", "her"), ("his", "her"), ("his", "hers"), ("himself", "herself")}
_COUNTERPARTS |= {(feminine, masculine) for masculine, feminine in _COUNTERPARTS}
PRONOUNS = frozenset(word for pair in _COUNTERPARTS for word in pair)


@dataclass(frozen=True)
class Pair:
    """A sentence and what it is to become: itself, where it is to be left alone."""

    name: str
    text: str
    expected: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class PairSet:
    """Pairs of one origin; `missing` says why there are none, `notes` what to know of them."""

    name: str
    pairs: Sequence[Pair] = ()
    missing: str = ""
    notes: tuple[str, ...] = ()


def data_dir() -> Path:
    """Where published data sets are; it need not exist."""
    return Path(os.environ.get("FAIRTEST_DATA_DIR") or ROOT.parent / "shared" / "data").resolve()


def pair_sets(words: Container[str]) -> list[PairSet]:
    """All sets, in the order of the table; `words` are those that a swap of all gender words changes."""
    data = data_dir()
    return [
        winogender(data / "winogender" / "all_sentences.tsv"),
        *winobias(data / "winobias", words),
        cases("cases beside the data", data.parent / "cases" / "cda_gender.jsonl"),
        cases("cases of the tests", OWN_CASES),
    ]


def winogender(path: Path) -> PairSet:
    """Masculine and feminine version of each sentence, both directions."""
    name = "Winogender, both ways"
    if not path.is_file():
        return PairSet(name, missing="no data")
    versions: dict[str, dict[str, str]] = {}
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
            sentence, gender, _ = row["sentid"].rsplit(".", 2)
            versions.setdefault(sentence, {})[gender] = row["sentence"]
    ways = (("male", "female"), ("female", "male"))
    return PairSet(name, [Pair(f"{key} {a}", v[a], v[b]) for a, b in ways for key, v in versions.items()])


def winobias(folder: Path, words: Container[str]) -> list[PairSet]:
    """Pro and anti lines without number and brackets, each direction a set, less the pairs that no swap can make."""
    names = ("WinoBias, pro to anti", "WinoBias, anti to pro")
    if not folder.is_dir():
        return [PairSet(name, missing="no data") for name in names]
    good: list[tuple[str, str, str]] = []
    faults: list[str] = []
    for part in _PARTS:
        sides = (_winobias_lines(folder / f"{side}_stereotyped_{part}.txt") for side in ("pro", "anti"))
        for number, (pro, anti) in enumerate(zip(*sides, strict=True), start=1):
            if _differ_in_pronouns_alone(pro, anti):
                good.append((f"{part} {number}", pro, anti))
            else:
                faults.append(f"{part} {number}")
    kept = [name for name, pro, _ in good if _other_words(pro, words)]
    notes = (
        f"WinoBias, {len(faults)} of {len(good) + len(faults)} pairs left out, faults of the data (file and line): "
        + ", ".join(faults),
        f"WinoBias, {len(kept)} pairs keep a word that a whole swap changes (his mom), so a right one misses them: "
        + ", ".join(kept),
    )
    return [
        PairSet(names[0], [Pair(name, pro, anti) for name, pro, anti in good], notes=notes),
        PairSet(names[1], [Pair(name, anti, pro) for name, pro, anti in good]),
    ]


def _winobias_lines(path: Path) -> list[str]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return [re.sub(r"^\d+\s+|[\[\]]", "", line.strip()) for line in lines if line.strip()]


def _differ_in_pronouns_alone(pro: str, anti: str) -> bool:
    """Whether each word is the same or a pronoun of the other gender, and no pronoun is the same on both sides."""
    first, second = (re.findall(r"\w+|\S", text.lower()) for text in (pro, anti))
    return len(first) == len(second) and all(
        (a not in PRONOUNS) if a == b else (a, b) in _COUNTERPARTS for a, b in zip(first, second, strict=True)
    )


def _other_words(text: str, words: Container[str]) -> bool:
    return any(word in words and word not in PRONOUNS for word in re.findall(r"\w+", text.lower()))


def cases(name: str, path: Path) -> PairSet:
    """Lines of {input, output, options}; an output of null is a sentence that is to be left alone."""
    if not path.is_file():
        return PairSet(name, missing="no such file")
    return PairSet(name, list(_cases(path)))


def _cases(path: Path) -> Iterator[Pair]:
    for line in path.read_bytes().split(b"\n"):  # splitlines would end a line inside a string, at a U+2028
        if line.strip():
            case = json.loads(line)
            expected = case["input"] if case["output"] is None else case["output"]
            yield Pair(str(case.get("id", "")), case["input"], expected, case.get("options") or {})
