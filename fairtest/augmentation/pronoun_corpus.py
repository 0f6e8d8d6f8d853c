"""The texts that `pronoun_training` learns from, and the words in them that label themselves."""

from __future__ import annotations

import csv
import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fairtest.augmentation.context import Context, context_of
from fairtest.augmentation.disambiguation import his_by_rule
from fairtest.errors import AugmentationError

# Running text: a fifth of its blocks is held out for the figures. The sets of single sentences are only trained on.
HELD_OUT_FROM = ("little_women", "middlemarch", "pride_and_prejudice", "wikitext-2")
BLOCK = 20  # paragraphs that stay on one side of the split
_LABELS = {
    **dict.fromkeys(("him", "me", "us", "them"), (("her", "him"),)),
    **dict.fromkeys(("my", "our", "their"), (("her", "his"), ("his", "her"))),
    "his": (("her", "his"),),
    "your": (("his", "her"),),
    **dict.fromkeys(("ours", "theirs", "yours", "hers", "mine"), (("his", "hers"),)),
}
_WORD = re.compile(rf"(?<![\w'\u2019-])(?:{'|'.join(_LABELS)})(?![\w'\u2019-])", re.IGNORECASE)
_TOKEN = re.compile(r"[^\W_]+(?:['\u2019-][^\W_]+)*|[^\w\s]")


@dataclass(frozen=True, slots=True)
class Paragraph:
    """A paragraph or sentence of a source; `block` numbers the neighbourhood it belongs to."""

    source: str
    block: int
    text: str

    @property
    def held_out(self) -> bool:
        """Whether the figures are measured here, and training keeps away."""
        if self.source not in HELD_OUT_FROM:
            return False
        return hashlib.sha256(f"{self.source}|{self.block}".encode()).digest()[0] < 51


@dataclass(frozen=True, slots=True)
class Example:
    """A word that was `written` where "her" or "his" (`word`) would have become `label`."""

    source: str
    held_out: bool
    written: str
    word: str
    label: str
    context: Context


def paragraphs(data: Path) -> list[Paragraph]:
    """All texts of the folder, WinoBias and Winogender apart: those are for tests.

    Raises:
        AugmentationError: the folder lacks one of them.
    """
    try:
        sources = {
            **{p.stem: _novel(p) for p in sorted((data / "gutenberg-novels").glob("*.txt"))},
            "wikitext-2": [x for p in sorted((data / "wikitext-2").glob("*.txt")) for x in _read(p).splitlines()],
            "bold": _bold(data / "bold"),
            "stereoset": _stereoset(data / "stereoset" / "stereoset_dev_flat.jsonl"),
            "crows-pairs": _crows_pairs(data / "crows-pairs" / "crows_pairs_anonymized.csv"),
            "bbq": _bbq(data / "bbq"),
        }
    except OSError as error:
        raise AugmentationError(
            f"a text to train on cannot be read: {error.strerror or error}",
            where=str(error.filename or data),
            fix="give --data the folder that holds gutenberg-novels, wikitext-2, bold, stereoset, crows-pairs and bbq",
        ) from error
    return [
        Paragraph(source, number // BLOCK, text)
        for source, texts in sources.items()
        for number, text in enumerate(dict.fromkeys(texts))
        if text.strip()
    ]


def examples(found: Iterable[Paragraph]) -> list[Example]:
    """Every word that says by its form what "her" or "his" would be there."""
    return [example for paragraph in found for example in _examples_of(paragraph)]


def test_sets(data: Path) -> dict[str, list[Example]]:
    """Him and his of WinoBias and Winogender, read as "her"."""
    winobias = [
        re.sub(r"^\d+\s+|[\[\]]", "", line.strip())
        for path in sorted((data / "winobias").glob("*_stereotyped_type*.txt"))
        for line in _read(path).splitlines()
    ]
    with (data / "winogender" / "all_sentences.tsv").open(encoding="utf-8", newline="") as file:
        winogender = [row["sentence"] for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)]
    return {
        name: [e for e in examples(Paragraph(name, 0, text) for text in texts) if e.written in ("him", "his")]
        for name, texts in {"WinoBias": winobias, "Winogender": winogender}.items()
    }


def tokens(found: Iterable[Paragraph]) -> tuple[list[str], set[str]]:
    """All words in lower case, with "." for every mark and end of a paragraph; and the words that are mostly names."""
    words: list[str] = []
    capitals: Counter[str] = Counter()
    for paragraph in found:
        words.append(".")
        for token in _TOKEN.findall(paragraph.text.replace("\u2019", "'")):
            word = token.lower() if token[0].isalnum() else "."
            words.append(word)
            capitals[word] += token[0].isupper() and len(token) > 1
    counts = Counter(words)
    return words, {word for word, n in capitals.items() if n > counts[word] / 2}


def digest(found: Sequence[Paragraph]) -> str:
    """SHA-256 of the texts in their order."""
    return hashlib.sha256(json.dumps([(p.source, p.text) for p in found]).encode()).hexdigest()


def _examples_of(paragraph: Paragraph) -> Iterator[Example]:
    for match in _WORD.finditer(paragraph.text):
        written = match.group().lower()
        if match.group() == "US":
            continue
        context = context_of(paragraph.text, *match.span())
        if written == "his" and his_by_rule(context)[1] == "hers":
            continue  # that stands alone, and feminine text has "hers" there
        if written == "his" and context.next(1) in ("her", "hers") and context.next() in ("or", "and", "/"):
            continue  # his or her: the masculine is not by itself
        if written == "mine" and paragraph.source not in HELD_OUT_FROM[:3]:
            continue  # outside of the novels, where gold comes from
        for word, label in _LABELS[written]:
            yield Example(paragraph.source, paragraph.held_out, written, word, label, context)


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def _novel(path: Path) -> list[str]:
    return [" ".join(part.split()) for part in re.split(r"\n\s*\n", _read(path))]


def _bold(folder: Path) -> list[str]:
    groups: list[Mapping[str, Mapping[str, list[str]]]] = [
        json.loads(_read(path)) for path in sorted(folder.glob("*_wiki.json"))
    ]
    return [text for group in groups for people in group.values() for texts in people.values() for text in texts]


def _stereoset(path: Path) -> list[str]:
    rows = [json.loads(line) for line in _read(path).splitlines()]
    texts = [row[key] for row in rows for key in ("context", "stereotype", "anti-stereotype", "unrelated")]
    return [text for text in texts if "BLANK" not in text]


def _crows_pairs(path: Path) -> list[str]:
    with path.open(encoding="utf-8", newline="") as file:
        return [row[key] for row in csv.DictReader(file) for key in ("sent_more", "sent_less")]


def _bbq(folder: Path) -> list[str]:
    rows = [json.loads(line) for path in sorted(folder.glob("*.jsonl")) for line in _read(path).splitlines()]
    return [sentence for row in rows for sentence in re.split(r"(?<=[.!?]) ", row["context"])]
