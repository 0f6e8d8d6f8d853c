"""Published probe sets as the Hugging Face hub has them, from there or from a directory of `datasets.save_to_disk`.

The probes are those of the published files: the same ids, texts, axes and clusters in the same order, and so the same
digest, as far as the hub has what the files have (`fairtest.probes.hub_layouts`). The hub names no version; that of the
file it was made from is given, and the digest tells whether it is that. No code of a dataset is run.

A data directory "hf" always means the hub; a directory of that name is written "./hf".
"""

from __future__ import annotations

from pathlib import Path

from fairtest.corpora.hub import PREFIX, load_hub_dataset, load_saved_dataset
from fairtest.errors import CorpusError, ProbeError
from fairtest.probes.hub_layouts import LAYOUTS, Layout
from fairtest.probes.hub_tables import Part, Table, Tables
from fairtest.probes.probe import ProbeSet

HUB = PREFIX.removesuffix(":")
_STATE_FILES = ("state.json", "dataset_dict.json")  # of one split, and of several


def means_hub(place: Path | str | None) -> bool:
    """Whether a data directory of that name is the hub: "hf" or "hf:", and nothing else; "./hf" is a directory."""
    return place is not None and str(place) in (HUB, PREFIX)


def find_saved(name: str, directory: Path) -> Path | None:
    """The directory below a data directory that holds what `save_to_disk` wrote for a probe set, or for its parts."""
    for place in (directory / name, directory / name.replace("_", "-")):
        below = [place / part.configuration for part in LAYOUTS[name].parts]
        splits = [place / part.configuration / part.split for part in LAYOUTS[name].parts]
        if any(map(_is_saved, (place, *below, *splits))):
            return place
    return None


def read_hub_probes(name: str, *, strict: bool = True) -> ProbeSet:
    """A published probe set from the hub.

    `strict` asks for the published number of items.

    Raises:
        ProbeError: the hub cannot be reached, or its dataset has another form.
    """
    layout = LAYOUTS[name]
    tables: list[Table] = []
    for part in layout.parts:
        address = PREFIX + "/".join(filter(None, (layout.dataset, part.configuration))) + f":{part.split}"
        try:
            dataset = load_hub_dataset(address)
        except CorpusError as error:
            raise ProbeError(
                f"{layout.title} cannot be had from the hub: {error.what}", where=address, fix=_fix(name)
            ) from error
        tables.append(Table(layout.title, part, dataset, address, _fix(name)))
    source = tables[0].where if len(tables) == 1 else PREFIX + layout.dataset
    return _probe_set(layout, Tables(tables, source, None, strict))


def read_saved_probes(name: str, path: Path, *, strict: bool = True) -> ProbeSet:
    """A published probe set from a directory that `save_to_disk` wrote for the hub's dataset or for its splits.

    Where the set has several configurations, each is in a folder of its name.

    Raises:
        ProbeError: the directory holds something else, or lacks a part.
    """
    layout = LAYOUTS[name]
    tables: list[Table] = []
    missing: list[Part] = []
    for part in layout.parts:
        place = _find_part(layout, part, path)
        if place is None:
            missing.append(part)
        else:
            tables.append(_saved_table(name, part, place))
    if not tables and layout.whole and (place := _first_saved(path / layout.parts[0].split, path)):
        tables, missing = [_saved_table(name, None, place)], []
    if missing and not (tables and (layout.some or not strict)):
        raise ProbeError(
            f"{layout.title}: the folder holds no saved dataset {str(missing[0])!r}", where=str(path), fix=_fix(name)
        )
    source = tables[0].where if len(tables) == 1 else str(path)
    return _probe_set(layout, Tables(tables, source, path, strict))


def _probe_set(layout: Layout, tables: Tables) -> ProbeSet:
    for table in tables.tables:
        table.require_columns(layout.columns)
    return layout.read(tables)


def _saved_table(name: str, part: Part | None, place: Path) -> Table:
    title = LAYOUTS[name].title
    try:
        dataset = load_saved_dataset(place)
    except CorpusError as error:
        raise ProbeError(f"{title}: {error.what}", where=error.where, fix=_fix(name)) from error
    return Table(title, part, dataset, str(place), _fix(name))


def _find_part(layout: Layout, part: Part, path: Path) -> Path | None:
    """The directory of one part; the folder of its configuration may be left out where there is only one."""
    of_configuration = path / part.configuration
    places = [of_configuration / part.split]
    splits = {one.split for one in layout.parts}
    if len(splits) == 1:
        places.append(of_configuration)
    if len(layout.parts) == 1:
        places += [path / part.split, path]
    return _first_saved(*places)


def _first_saved(*places: Path) -> Path | None:
    return next((place for place in places if (place / _STATE_FILES[0]).is_file()), None)


def _is_saved(place: Path) -> bool:
    return any((place / file).is_file() for file in _STATE_FILES)


def _fix(name: str) -> str:
    layout = LAYOUTS[name]
    configurations = list(dict.fromkeys(part.configuration for part in layout.parts if part.configuration))
    several = len(configurations) > 1
    arguments = [repr(layout.dataset), *(["NAME"] if several else map(repr, configurations))]
    splits = sorted({part.split for part in layout.parts})
    if len(splits) == 1:
        arguments.append(f"split={splits[0]!r}")
    each = f" for each NAME of {', '.join(configurations)}" if several else ""
    return (
        f"give the published {layout.files}; or, where there is a network, write "
        f"datasets.load_dataset({', '.join(arguments)}) (revision='refs/convert/parquet' where the dataset is a script)"
        f" with .save_to_disk('DIRECTORY/{name}{'/NAME' if several else ''}'){each}, and set data_dir to DIRECTORY"
    )
