"""Published probe sets as the Hugging Face hub has them, from there or from a directory of `datasets.save_to_disk`.

The probes are those of the published files: the same ids, texts, axes and clusters in the same order, and so the same
digest. The hub names no version; that of the file it was made from is given, and the digest tells whether it is that.
Only CrowS-Pairs and StereoSet are read so. No code of a dataset is run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from fairtest.corpora.hub import PREFIX, load_hub_dataset, load_saved_dataset
from fairtest.errors import CorpusError, ProbeError
from fairtest.probes import crows_pairs, stereoset
from fairtest.probes.linked import first_linked
from fairtest.probes.probe import ANTI_STEREOTYPE, STEREOTYPE, UNRELATED, Probe, ProbeSet

HUB = PREFIX.removesuffix(":")
_STATE_FILES = ("state.json", "dataset_dict.json")  # of one split, and of several
_ROLES = {"stereotype": STEREOTYPE, "anti-stereotype": ANTI_STEREOTYPE, "unrelated": UNRELATED}


@dataclass(frozen=True)
class _Layout:
    """How the hub has a probe set."""

    title: str
    dataset: str
    split: str
    version: str
    licence: str
    use: str
    items: int
    columns: tuple[str, ...]
    probes: Callable[[_Table], tuple[Probe, ...]]

    @property
    def address(self) -> str:
        return f"{PREFIX}{self.dataset}:{self.split}"


@dataclass(frozen=True)
class _Table:
    """The rows of a dataset, with messages that name where a value stands."""

    title: str
    dataset: Any
    where: str
    fix: str

    def rows(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """("source, row N", row) of every row."""
        for index, row in enumerate(self.dataset):
            yield f"{self.where}, row {index}", row

    def text(self, row: Mapping[str, Any], column: str, where: str) -> str:
        value = row.get(column)
        if not isinstance(value, str) or not value.strip():
            found = "is empty" if value in (None, "") else f"is {value!r}"[:80]
            raise ProbeError(f"{self.title}: {column!r} {found}, and should be a text", where=where, fix=self.fix)
        return value

    def label(self, value: Any, feature: Any, column: str, where: str) -> str:
        """The name of a class that is stored as its number, or as its name."""
        names = _class_names(feature)
        if names is not None and type(value) is int and 0 <= value < len(names):
            value = names[value]
        return self.text({column: value}, column, where)


def means_hub(place: Path | str | None) -> bool:
    """Whether a data directory of that name is the hub: "hf" where there is no such directory.

    A setting may have been made a path from its file's directory, so only the last part counts.
    """
    return bool(place) and Path(str(place)).name in (HUB, PREFIX) and not Path(str(place)).exists()


def find_saved(name: str, directory: Path) -> Path | None:
    """The directory that `save_to_disk` wrote for a probe set below a data directory, None where there is none."""
    places = (directory / name, directory / name.replace("_", "-"))
    return next((place for place in places if any((place / file).is_file() for file in _STATE_FILES)), None)


def read_hub_probes(name: str, *, strict: bool = True) -> ProbeSet:
    """A published probe set from the hub.

    `strict` asks for the published number of items.

    Raises:
        ProbeError: the set is not read from the hub, the hub cannot be reached, or its dataset has another form.
    """
    layout = _layout(name, HUB)
    try:
        dataset = load_hub_dataset(layout.address)
    except CorpusError as error:
        raise ProbeError(
            f"{layout.title} cannot be had from the hub: {error.what}", where=layout.address, fix=_fix(name)
        ) from error
    return _probe_set(name, layout, dataset, layout.address, strict=strict)


def read_saved_probes(name: str, path: Path, *, strict: bool = True) -> ProbeSet:
    """A published probe set from a directory that `save_to_disk` wrote for the hub's dataset or for its splits.

    Raises:
        ProbeError: the set is not read from such a directory, or the directory holds something else.
    """
    layout = _layout(name, str(path))
    split = path / layout.split
    source = split if (path / "dataset_dict.json").is_file() and split.is_dir() else path
    try:
        dataset = load_saved_dataset(source)
    except CorpusError as error:
        raise ProbeError(f"{layout.title}: {error.what}", where=error.where, fix=_fix(name)) from error
    return _probe_set(name, layout, dataset, str(source), strict=strict)


def _layout(name: str, where: str) -> _Layout:
    if name not in LAYOUTS:
        raise ProbeError(
            f"probe set {name!r} is read from its published files only, not from the hub or a saved dataset",
            where=where,
            fix=f"set data_dir to a directory that holds the files; the hub is read for {' and '.join(LAYOUTS)}",
        )
    return LAYOUTS[name]


def _fix(name: str) -> str:
    layout = LAYOUTS[name]
    owner, title, *configuration = layout.dataset.split("/")
    arguments = ", ".join(map(repr, (f"{owner}/{title}", *configuration)))
    return (
        f"give the published file; or, where there is a network, write datasets.load_dataset({arguments}, "
        f"split={layout.split!r}) (revision='refs/convert/parquet' where the dataset is a script) with "
        f".save_to_disk('DIRECTORY/{name}'), and set data_dir to DIRECTORY"
    )


def _probe_set(name: str, layout: _Layout, dataset: Any, where: str, *, strict: bool) -> ProbeSet:
    columns = list(dataset.column_names)
    missing = [column for column in layout.columns if column not in columns]
    if missing:
        raise ProbeError(
            f"{layout.title}: column {missing[0]!r} is missing; columns found: {', '.join(map(repr, columns))}",
            where=where,
            fix=_fix(name),
        )
    if strict and len(dataset) != layout.items:
        raise ProbeError(
            f"{layout.title} has {layout.items} items, and {len(dataset)} were found",
            where=where,
            fix=f"{_fix(name)}; a subset is read with strict=False",
        )
    probes = layout.probes(_Table(layout.title, dataset, where, _fix(name)))
    return ProbeSet(name, layout.version, layout.licence, where, probes, layout.use)


def _class_names(feature: Any) -> list[str] | None:
    """Names of the classes of a column, or of the items of a column of lists."""
    while getattr(feature, "names", None) is None:
        feature = getattr(feature, "feature", None)
        if feature is None:
            return None
    return list(feature.names)


def _crows_pairs(table: _Table) -> tuple[Probe, ...]:
    features = table.dataset.features
    pairs: list[tuple[str, str, str, str]] = []
    for where, row in table.rows():
        axis = table.label(row["bias_type"], features["bias_type"], "bias_type", where)
        more, less = (table.text(row, column, where) for column in ("sent_more", "sent_less"))
        row_id = row.get("id")
        pairs.append((str(len(pairs) if row_id is None else row_id), more, less, axis))
    firsts = first_linked([(more, less) for _, more, less, _ in pairs])
    return tuple(
        Probe(row_id, axis, pairs[first][0], {STEREOTYPE: more, ANTI_STEREOTYPE: less})
        for (row_id, more, less, axis), first in zip(pairs, firsts, strict=True)
    )


def _stereoset(table: _Table) -> tuple[Probe, ...]:
    feature = table.dataset.features["sentences"]
    # A list of objects is kept as an object of lists, or as it is, by the version of `datasets` that wrote it.
    inner = feature if isinstance(feature, dict) else getattr(feature, "feature", None)
    labels = inner.get("gold_label") if isinstance(inner, dict) else None
    probes: list[Probe] = []
    for where, row in table.rows():
        texts: dict[str, str] = {}
        sentences = _sentences(row["sentences"])
        if sentences is None:
            raise ProbeError(
                "StereoSet: 'sentences' holds no list of sentence and gold_label", where=where, fix=table.fix
            )
        found = [table.label(one.get("gold_label"), labels, "gold_label", where) for one in sentences]
        for label, sentence in zip(found, sentences, strict=True):
            if label in _ROLES:
                texts[_ROLES[label]] = table.text(sentence, "sentence", where)
        if len(found) != len(_ROLES) or len(texts) != len(_ROLES):
            raise ProbeError(
                f"StereoSet: an item needs three sentences with gold_label {', '.join(_ROLES)}, and has {found}",
                where=where,
                fix=table.fix,
            )
        probe_id, axis, target = (table.text(row, column, where) for column in ("id", "bias_type", "target"))
        probes.append(Probe(probe_id, axis, target, texts))
    return tuple(probes)


def _sentences(value: Any) -> list[Mapping[str, Any]] | None:
    """Label and sentence of each candidate; None where the column holds something else."""
    if isinstance(value, dict):
        labels, texts = value.get("gold_label"), value.get("sentence")
        if not isinstance(labels, list) or not isinstance(texts, list):
            return None
        return [{"gold_label": label, "sentence": text} for label, text in zip_longest(labels, texts)]
    return value if isinstance(value, list) and all(isinstance(one, dict) for one in value) else None


LAYOUTS = {
    "crows_pairs": _Layout(
        title="CrowS-Pairs",
        dataset="nyu-mll/crows_pairs",
        split="test",
        version="anonymized",
        licence="CC BY-SA 4.0",
        use=crows_pairs.USE,
        items=crows_pairs.ITEMS,
        columns=("sent_more", "sent_less", "bias_type"),
        probes=_crows_pairs,
    ),
    "stereoset": _Layout(
        title="StereoSet",
        dataset="McGill-NLP/stereoset/intrasentence",
        split="validation",
        version="1.0-dev/intrasentence",
        licence="CC BY-SA 4.0",
        use=stereoset.USE,
        items=stereoset.ITEMS,
        columns=("id", "target", "bias_type", "sentences"),
        probes=_stereoset,
    ),
}
