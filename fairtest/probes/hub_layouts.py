"""How the hub has each published probe set, and how its rows become the probes of the published files.

- CrowS-Pairs and StereoSet keep some labels as numbers of classes.
- WinoBias is the CoNLL version of the lines: tokens, whom the pronoun refers to, and in the name of a document the
  number of the line, counted from 0; rows come in the order of these names as texts. Tokens are joined as the lines are
  written: possessives apart but in two pairs, n't and punctuation not.
- Winogender has the sentences and no statistics of occupations; they are read from the published file where it lies
  beside a saved dataset, and else the version says that there are none.
- BBQ has the published objects, a configuration for each category.
- BOLD has one row for each article, whose prompts are a list.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

from fairtest.probes import bbq, bold, crows_pairs, stereoset, winobias, winogender
from fairtest.probes.hub_tables import Part, Table, Tables
from fairtest.probes.linked import first_linked
from fairtest.probes.probe import ANTI_STEREOTYPE, STEREOTYPE, UNRELATED, Probe, ProbeSet

_ROLES = {"stereotype": STEREOTYPE, "anti-stereotype": ANTI_STEREOTYPE, "unrelated": UNRELATED}
_LINE_NUMBER = re.compile(r"//(\d+)$")
_CLOSE = re.compile(r" (?=(?:[.,!?;:]|n't)(?: |$))")  # the space before it goes
_SPLITS = {"dev": "validation", "test": "test"}  # of WinoBias, here and on the hub
_ONE_WORD = {("1", "dev", 369), ("1", "test", 113)}  # lines of WinoBias that write a possessive together


@dataclass(frozen=True)
class Layout:
    """Where the hub has a probe set, and how it is read.

    Args:
        parts: the datasets it is made of.
        whole: all parts may also lie in one saved dataset.
        some: it is enough that a folder holds some of the parts.
        files: what to give instead, where the hub does not help.
    """

    title: str
    dataset: str
    parts: tuple[Part, ...]
    columns: tuple[str, ...]
    read: Callable[[Tables], ProbeSet]
    files: str
    whole: bool = False
    some: bool = False


def _crows_pairs(found: Tables) -> ProbeSet:
    (table,) = found.tables
    if found.strict:
        table.require_items(crows_pairs.ITEMS)
    features = table.dataset.features
    pairs: list[tuple[str, str, str, str]] = []
    for where, row in table.rows():
        axis = table.label(row["bias_type"], features["bias_type"], "bias_type", where)
        more, less = (table.text(row, column, where) for column in ("sent_more", "sent_less"))
        row_id = row.get("id")
        pairs.append((str(len(pairs) if row_id is None else row_id), more, less, axis))
    firsts = first_linked([(more, less) for _, more, less, _ in pairs])
    probes = tuple(
        Probe(row_id, axis, pairs[first][0], {STEREOTYPE: more, ANTI_STEREOTYPE: less})
        for (row_id, more, less, axis), first in zip(pairs, firsts, strict=True)
    )
    return ProbeSet("crows_pairs", "anonymized", "CC BY-SA 4.0", found.source, probes, crows_pairs.USE)


def _stereoset(found: Tables) -> ProbeSet:
    (table,) = found.tables
    if found.strict:
        table.require_items(stereoset.ITEMS)
    feature = table.dataset.features["sentences"]
    # A list of objects is kept as an object of lists, or as it is, by the version of `datasets` that wrote it.
    inner = feature if isinstance(feature, dict) else getattr(feature, "feature", None)
    labels = inner.get("gold_label") if isinstance(inner, dict) else None
    probes: list[Probe] = []
    for where, row in table.rows():
        texts: dict[str, str] = {}
        sentences = _sentences(row["sentences"])
        if sentences is None:
            raise table.error("'sentences' holds no list of sentence and gold_label", where)
        given = [table.label(one.get("gold_label"), labels, "gold_label", where) for one in sentences]
        for label, sentence in zip(given, sentences, strict=True):
            if label in _ROLES:
                texts[_ROLES[label]] = table.text(sentence, "sentence", where)
        if len(given) != len(_ROLES) or len(texts) != len(_ROLES):
            raise table.error(
                f"an item needs three sentences with gold_label {', '.join(_ROLES)}, and has {given}", where
            )
        probe_id, axis, target = (table.text(row, column, where) for column in ("id", "bias_type", "target"))
        probes.append(Probe(probe_id, axis, target, texts))
    version = "1.0-dev/intrasentence"
    return ProbeSet("stereoset", version, "CC BY-SA 4.0", found.source, tuple(probes), stereoset.USE)


def _sentences(value: Any) -> list[Mapping[str, Any]] | None:
    """Label and sentence of each candidate; None where the column holds something else."""
    if isinstance(value, dict):
        labels, texts = value.get("gold_label"), value.get("sentence")
        if not isinstance(labels, list) or not isinstance(texts, list):
            return None
        return [{"gold_label": label, "sentence": text} for label, text in zip_longest(labels, texts)]
    return value if isinstance(value, list) and all(isinstance(one, dict) for one in value) else None


def _winobias(found: Tables) -> ProbeSet:
    tables = found.by_part()
    pairs: list[winobias.Pair] = []
    for kind in winobias.TYPES:
        for split, hub_split in _SPLITS.items():
            sides = [tables.get(Part(f"type{kind}_{side}", hub_split)) for side in ("pro", "anti")]
            together = {number for *part, number in _ONE_WORD if part == [kind, split]}
            lines = [_lines(table, together, strict=found.strict) for table in sides if table is not None]
            if lines:
                pairs += winobias.pair_lines(kind, split, lines[0], lines[1] if len(lines) > 1 else [])
    return winobias.winobias_set(pairs, found.source)


def _lines(table: Table, together: set[int], *, strict: bool) -> list[winobias.Line]:
    if strict:
        table.require_items(winobias.LINES, "lines in each part")
    lines: list[winobias.Line] = []
    for where, row in table.rows():
        document = table.text(row, "document_id", where)
        number = _LINE_NUMBER.search(document)
        if number is None:
            raise table.error(f"'document_id' is {document!r}, and should end in // and a number", where)
        tokens = table.texts(row, "tokens", where)
        ends = table.texts(row, "coreference_clusters", where)
        spans = [(int(a), int(b)) for a, b in zip(ends[::2], ends[1::2], strict=False) if (a + b).isdecimal()]
        if 2 * len(spans) != len(ends) or not all(a <= b < len(tokens) for a, b in spans):
            raise table.error(f"'coreference_clusters' is {ends!r:.60}, and should be pairs of places of tokens", where)
        mentions = [" ".join(tokens[first : last + 1]) for first, last in sorted(spans)]
        line = int(number[1]) + 1
        text = _CLOSE.sub("", " ".join(tokens))
        if line in together:
            text = text.replace(" 's ", "'s ")
        lines.append(winobias.line_of(line, text, mentions, where))
    return sorted(lines, key=lambda line: line.number)


def _winogender(found: Tables) -> ProbeSet:
    (table,) = found.tables
    columns = ("sentid", "sentence")
    sentences = [(at, {name: table.text(row, name, at).strip() for name in columns}) for at, row in table.rows()]
    winogender.require_all(sentences, table.where, strict=found.strict)
    name, strict = winogender.STATISTICS_FILE, found.strict
    places = (found.folder / name, found.folder.parent / name) if found.folder else ()
    if file := next(filter(Path.is_file, places), None):
        statistics = winogender.read_statistics(file, strict=strict)
        return winogender.winogender_set(sentences, statistics, found.source, strict=strict, statistics_from=file)
    probes = winogender.winogender_set(sentences, {}, found.source, strict=False)
    return replace(probes, version=f"{probes.version} without {name}")


def _bbq(found: Tables) -> ProbeSet:
    return bbq.bbq_set([(table.where, table.rows()) for table in found.tables], found.source, strict=found.strict)


def _bold(found: Tables) -> ProbeSet:
    (table,) = found.tables
    articles: list[bold.Article] = []
    for where, row in table.rows():
        domain, group, article = (table.text(row, column, where) for column in ("domain", "category", "name"))
        articles.append(bold.Article(domain, group, article, tuple(table.texts(row, "prompts", where)), where))
    return bold.bold_set(articles, found.source, strict=found.strict)


LAYOUTS: Mapping[str, Layout] = {
    "crows_pairs": Layout(
        title="CrowS-Pairs",
        dataset="nyu-mll/crows_pairs",
        parts=(Part("", "test"),),
        columns=("sent_more", "sent_less", "bias_type"),
        read=_crows_pairs,
        files="crows_pairs_anonymized.csv",
    ),
    "stereoset": Layout(
        title="StereoSet",
        dataset="McGill-NLP/stereoset",
        parts=(Part("intrasentence", "validation"),),
        columns=("id", "target", "bias_type", "sentences"),
        read=_stereoset,
        files="dev.json",
    ),
    "winobias": Layout(
        title="WinoBias",
        dataset="uclanlp/wino_bias",
        parts=tuple(
            Part(f"type{kind}_{side}", split)
            for kind in winobias.TYPES
            for side in ("pro", "anti")
            for split in _SPLITS.values()
        ),
        columns=("document_id", "tokens", "coreference_clusters"),
        read=_winobias,
        files="eight pro_ and anti_stereotyped_type files",
    ),
    "winogender": Layout(
        title="Winogender",
        dataset="oskarvanderwal/winogender",
        parts=(Part("all", "test"),),
        columns=("sentid", "sentence"),
        read=_winogender,
        files=f"{winogender.SENTENCE_FILE} and {winogender.STATISTICS_FILE}",
    ),
    "bbq": Layout(
        title="BBQ",
        dataset="oskarvanderwal/bbq",
        parts=tuple(Part(category, "test") for category in bbq.ITEMS),
        columns=("example_id", "category", "context", "question", "answer_info", "additional_metadata", "label"),
        read=_bbq,
        files="JSON lines of the categories (Age.jsonl, ...)",
        whole=True,
        some=True,
    ),
    "bold": Layout(
        title="BOLD",
        dataset="AmazonScience/bold",
        parts=(Part("", "train"),),
        columns=("domain", "category", "name", "prompts"),
        read=_bold,
        files="five *_prompt.json files",
    ),
}
