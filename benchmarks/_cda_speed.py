"""How fast each method is on running text, by whether a paragraph has words whose counterpart depends on context."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from _cda_methods import DICTIONARY, Method
from _cda_rows import Row, fill_times, progress

AMBIGUOUS = re.compile(r"\b(?:her|hers|his)\b", re.IGNORECASE)
BATCH = 100  # records between two looks at the clock


@dataclass(frozen=True)
class Texts:
    """Records of one kind, in a shuffled order so that the first ones speak for all."""

    name: str
    records: Sequence[str]

    @property
    def megabytes(self) -> float:
        return size(self.records) / 1e6


def size(records: Sequence[str]) -> int:
    """Bytes of UTF-8."""
    return sum(len(record.encode()) for record in records)


def corpora(data: Path, *, quick: bool) -> list[tuple[str, list[str]]]:
    """WikiText-2 (valid and test) and the three novels, a record a paragraph; what this file writes where absent."""
    found = []
    for name, folder in (("WikiText-2", "wikitext-2"), ("novels", "gutenberg-novels")):
        texts = [path.read_text(encoding="utf-8") for path in sorted((data / folder).glob("*.txt"))]
        # WikiText-2 has a paragraph a line, a novel blank lines between paragraphs.
        pattern = r"\n+" if folder == "wikitext-2" else r"\n(?:[ \t]*\n)+"
        records = [record for text in texts for record in re.split(pattern, text) if record.strip()]
        if records:
            found.append((name, records[:400] if quick else records))
    return found or [("generated text", list(generated(600 if quick else 20_000)))]


def generated(count: int) -> Iterator[str]:
    """Plain paragraphs, the same ones each time; every fourth is about nobody."""
    draw = random.Random(count)
    people = ("doctor", "carpenter", "neighbour", "clerk", "painter", "driver", "teacher", "baker")
    things = ("letter", "coat", "garden", "ladder", "boat", "camera", "violin", "kettle")
    about_someone = (
        "The {person} said that he had left his {thing} at the station, and his sister went to fetch it for him.",
        "She gave the {person} her {thing} because he had asked her for it; the one by the door was hers.",
        "The {person} and her brother met him at noon, and nobody told her where the {thing} was.",
    )
    about_nobody = "A {thing} that the {person} repaired stood in the hall of house {number} for most of the winter."
    for number in range(count):
        frame = about_someone[number % 4] if number % 4 < 3 else about_nobody
        yield " ".join(
            frame.format(person=draw.choice(people), thing=draw.choice(things), number=number) for _ in range(3)
        )


def split(name: str, records: Sequence[str]) -> tuple[Texts, Texts]:
    """Records without and with ambiguous words."""
    shuffled = list(records)
    random.Random(0).shuffle(shuffled)
    kinds: tuple[list[str], list[str]] = ([], [])
    for record in shuffled:
        kinds[bool(AMBIGUOUS.search(record))].append(record)
    return Texts(f"{name}, none of her, hers, his", kinds[0]), Texts(f"{name}, her, hers or his", kinds[1])


def speed_rows(
    named: Sequence[tuple[str, Sequence[str]]], methods: Mapping[str, Method | str], rounds: int, cap: float
) -> list[Row]:
    """Rows for paragraphs without, with and both; methods take turns, so what slows one round slows all of them."""
    rows = []
    for name, records in named:
        parts = split(name, records)
        rows += _rows_of(name, parts, methods, rounds, cap)
    return rows


def _rows_of(
    name: str, parts: Sequence[Texts], methods: Mapping[str, Method | str], rounds: int, cap: float
) -> list[Row]:
    present = {key: method for key, method in methods.items() if not isinstance(method, str)}
    seconds: dict[tuple[str, str], list[float]] = {(part.name, key): [] for part in parts for key in present}
    done = dict.fromkeys(seconds, 1.0)
    for part in parts:
        for method in present.values():  # what is made at the first call is not what is measured
            method(part.records[:BATCH], {})
        for turn in range(rounds):
            progress(f"{part.name}: round {turn + 1} of {rounds}")
            for key in list(present)[:: -1 if turn % 2 else 1]:
                spent, share = _timed(present[key], part, cap)
                seconds[part.name, key].append(spent / share)
                done[part.name, key] = min(done[part.name, key], share)
    rows = []
    cases = [(part.name, [part]) for part in parts] + [(f"{name}, all", list(parts))]
    for case, members in cases:
        per_round = {
            key: [sum(r) for r in zip(*(seconds[p.name, key] for p in members), strict=True)] for key in present
        }
        for key, method in methods.items():
            row = Row(case, key)
            if isinstance(method, str):
                row.note = method
            else:
                fill_times(row, per_round[key], per_round[DICTIONARY], sum(part.megabytes for part in members))
                shares = [(done[part.name, key], part.megabytes) for part in members]
                if any(share < 1 for share, _ in shares):
                    of_all = sum(share * part for share, part in shares) / sum(part for _, part in shares)
                    row.note = f"rate over {of_all:.1%} of the text"
            rows.append(row)
    return rows


def _timed(method: Method, texts: Texts, cap: float) -> tuple[float, float]:
    """Seconds, and the share of the bytes that was done before the cap."""
    done = 0
    began = time.perf_counter()
    for start in range(0, len(texts.records), BATCH):
        method(texts.records[start : start + BATCH], {})
        done = start + BATCH
        if time.perf_counter() - began > cap:
            break
    spent = time.perf_counter() - began
    return spent, 1.0 if done >= len(texts.records) else size(texts.records[:done]) / size(texts.records)
