"""Pronouns of three novels that a reader labelled one by one (see labelled/README.md): no rule made these labels.

They measure and are never tuned on: read the table, not the misses.
"""

from __future__ import annotations

import csv
import hashlib
import re
import sys
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pytest

from fairtest.augmentation import counterfactual
from fairtest.specs import CDA

LABELLED = Path(__file__).parent / "labelled" / "pronouns.csv"
# Offsets hold for these editions alone.
SHA256 = {
    "little_women.txt": "265a009c91bcb80a85eb581e191413e6cb5f4f58d0a5288dc596d2a11cffb5d4",
    "middlemarch.txt": "3d847bc5d5ed4305eb2176b68c46af70e12b6a5748c5693918d472ea31b59813",
    "pride_and_prejudice.txt": "796fa7cc4370dac1735ffe0ad1117b66e6244ac21c1bad44e2ba740996b4c65b",
}
LABELS = {"her": {"him", "his"}, "hers": {"his"}, "him": {"her"}, "his": {"her", "hers"}}
NOTES = {"", "doubtful", "gerund", "italics", "title", "verse"}
BLANK_LINE = re.compile(r"\n[ \t]*\n")


class Labelled(NamedTuple):
    file: str
    offset: int
    word: str
    label: str
    note: str


def labelled_rows() -> list[Labelled]:
    with LABELLED.open(encoding="utf-8", newline="") as file:
        return [Labelled(r["file"], int(r["offset"]), r["word"], r["label"], r["note"]) for r in csv.DictReader(file)]


@pytest.fixture(scope="module")
def novels(data_dir: Path) -> dict[str, str]:
    texts = {}
    for name, digest in SHA256.items():
        path = data_dir / "gutenberg-novels" / name
        if not path.is_file():
            pytest.skip(f"{path} is absent")
        raw = path.read_bytes()
        found = hashlib.sha256(raw).hexdigest()
        assert found == digest, f"{name} is another edition than the labelled one: its SHA-256 is {found}, not {digest}"
        texts[name] = raw.decode("utf-8")
    return texts


def paragraph_around(text: str, offset: int) -> tuple[int, int]:
    """Where the paragraph with the offset begins and ends; blank lines part paragraphs."""
    start = 0
    for blank in BLANK_LINE.finditer(text):
        if blank.start() > offset:
            return start, blank.start()
        start = blank.end()
    return start, len(text)


def test_every_row_has_a_label_that_its_word_can_have():
    rows = labelled_rows()
    assert {row.file for row in rows} == set(SHA256)
    assert [row for row in rows if row.label not in LABELS[row.word] or row.note not in NOTES] == []
    places = [(row.file, row.offset) for row in rows]
    assert places == sorted(set(places))


def test_every_labelled_word_stands_alone_at_its_offset(novels):
    wrong = [
        row
        for row in labelled_rows()
        if not re.compile(rf"(?<![A-Za-z]){row.word}(?![A-Za-z])", re.IGNORECASE).match(novels[row.file], row.offset)
    ]
    assert wrong == []


def test_pronouns_of_novels_swap_as_a_reader_labelled_them(novels):
    found: dict[tuple[str, int], str] = {}
    done = set()
    for row in labelled_rows():
        start, end = paragraph_around(novels[row.file], row.offset)
        if (row.file, start) not in done:
            done.add((row.file, start))
            for change in counterfactual(novels[row.file][start:end], CDA()).changes:
                found[row.file, start + change.start] = change.after.lower()
    seen: Counter[str] = Counter()
    right: Counter[str] = Counter()
    left: Counter[str] = Counter()
    for row in labelled_rows():
        after = found.get((row.file, row.offset))
        # A word left as it is (its paragraph says what a swap would make false) is neither right nor wrong.
        if after is None:
            left[row.word] += 1
        else:
            seen[row.word] += 1
            right[row.word] += after == row.label
    lines = [f"{word:5}{seen[word]:6}{right[word]:7}{left[word]:6}" for word in LABELS]
    table = "\n".join(["", "word      n  right  left", *lines, ""])
    sys.stdout.write(table)  # pytest -s shows it
    assert left.total() <= 0.02 * len(labelled_rows()), table
    assert right.total() / seen.total() >= 0.98, table
