"""Probe sets by name, as settings and metrics name them: ours, published ones, files, and those of installed packages.

A package adds a probe set with an entry point in the group `fairtest.probes` whose name is the set's name and whose
object is a function: it is called with the data directory (None where none is set) and returns the `ProbeSet`. One
named like a published set is asked where the data directory does not hold that set. Its metrics, if it is not one of
those, come with entry points of `fairtest.metrics`.
"""

from __future__ import annotations

import difflib
import os
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from fairtest.errors import ProbeError
from fairtest.probes.bbq import read_bbq
from fairtest.probes.bold import read_bold
from fairtest.probes.crows_pairs import read_crows_pairs
from fairtest.probes.hub import find_saved, means_hub, read_hub_probes, read_saved_probes
from fairtest.probes.own import SUFFIXES, is_probe_file, read_own_probes
from fairtest.probes.probe import ProbeSet
from fairtest.probes.prompts import completion_prompts, occupation_prompts, own_prompts
from fairtest.probes.stereoset import read_stereoset
from fairtest.probes.winobias import read_winobias
from fairtest.probes.winogender import read_winogender

ENTRY_POINT_GROUP = "fairtest.probes"
DATA_DIR_VARIABLE = "FAIRTEST_DATA_DIR"
PUBLISHED = {
    "stereoset": read_stereoset,
    "crows_pairs": read_crows_pairs,
    "winobias": read_winobias,
    "winogender": read_winogender,
    "bbq": read_bbq,
    "bold": read_bold,
}
PROMPTS = {"prompts": own_prompts, "occupation_prompts": occupation_prompts, "completions": completion_prompts}
PROBE_SETS = ("templates", *PUBLISHED, *PROMPTS)


def load_probe_set(name: str, data_dir: Path | str | None = None) -> ProbeSet:
    """The probe set of that name; published ones are read from `data_dir`, else from $FAIRTEST_DATA_DIR.

    The directory holds the published files, or folders named after the sets that `datasets.save_to_disk` wrote; "hf"
    is the Hugging Face hub (`fairtest.probes.hub`), and "./hf" a directory of that name.

    A name that ends in .csv, .tsv, .jsonl or .ndjson is a file of one's own (`fairtest.probes.own`): a path from the
    current directory, else from the data directory.

    Raises:
        ProbeError: an unknown name, no data directory given, the data is missing or malformed, or a package's probe
            set cannot be loaded.
    """
    directory, from_hub = _place(data_dir)
    if name == "templates":
        from fairtest.probes.templates import templates

        return templates()
    if name in PROMPTS:
        return PROMPTS[name]()
    if is_probe_file(name):
        return read_own_probes(find_probe_file(name, data_dir), name=name)
    point = next(iter(entry_points(group=ENTRY_POINT_GROUP, name=name)), None)
    if name in PUBLISHED:
        return _published(name, directory, point, from_hub=from_hub)
    if point is not None:
        return _of_package(name, directory, point)
    known = probe_set_names()
    near = difflib.get_close_matches(name, known, n=1)
    meant = f"did you mean {near[0]!r}? " if near else ""
    files = f"; a file ends in {', '.join(SUFFIXES)}" if {"/", "\\", "."} & set(name) else ""
    raise ProbeError(
        f"unknown probe set {name!r}", where="probe set", fix=f"{meant}known probe sets: {', '.join(known)}{files}"
    )


def find_probe_file(name: str, data_dir: Path | str | None = None) -> Path:
    """A file of one's own: a path from the current directory, else from the data directory.

    Raises:
        ProbeError: it is in neither.
    """
    directory, _ = _place(data_dir)
    places = [Path(name), *([directory / name] if directory else [])]
    for place in places:
        if place.exists():
            return place
    looked = " and ".join(str(place.absolute()) for place in places)
    raise ProbeError("there is no such probe file", where=name, fix=f"looked for {looked}")


def probe_set_names() -> tuple[str, ...]:
    """Names of all probe sets that can be used here: ours, the published ones, then those of packages."""
    points = entry_points(group=ENTRY_POINT_GROUP)
    return (*PROBE_SETS, *sorted({point.name for point in points} - set(PROBE_SETS)))


def _published(name: str, directory: Path | None, point: EntryPoint | None, *, from_hub: bool) -> ProbeSet:
    if from_hub:
        return read_hub_probes(name)
    how = (
        f"set data_dir in [tool.fairtest] (or ${DATA_DIR_VARIABLE}, or --data) to the directory that holds it,"
        " or to hf: for the Hugging Face hub"
    )
    if directory is None:
        if point is not None:
            return _of_package(name, directory, point)
        raise ProbeError(f"probe set {name!r} needs its published data, and no directory is set", where=name, fix=how)
    try:
        return PUBLISHED[name](directory)
    except ProbeError as error:
        if Path(error.where) != directory:
            raise
        if (saved := find_saved(name, directory)) is not None:
            return read_saved_probes(name, saved)
        if point is not None:
            return _of_package(name, directory, point)
        raise ProbeError(error.what, where=error.where, fix=f"{how}; {error.fix}") from error


def _place(data_dir: Path | str | None) -> tuple[Path | None, bool]:
    """The data directory, None where none is set; and whether the hub is meant instead of one."""
    place = data_dir or os.environ.get(DATA_DIR_VARIABLE)
    from_hub = means_hub(place)
    return (Path(place) if place and not from_hub else None), from_hub


def _of_package(name: str, directory: Path | None, point: EntryPoint) -> ProbeSet:
    where = f"entry point {point.value}"
    try:
        found = point.load()(directory)
    except ProbeError:
        raise
    except Exception as error:  # anything may go wrong in another package
        raise ProbeError(
            f"probe set {name!r} cannot be loaded: {error}", where=where, fix="reinstall its package"
        ) from error
    if not isinstance(found, ProbeSet) or found.name != name:
        what = f"a probe set named {found.name!r}" if isinstance(found, ProbeSet) else repr(found)[:80]
        raise ProbeError(
            f"entry point {name!r} gives {what}, not a ProbeSet of that name",
            where=where,
            fix="let its function return a fairtest.probes.probe.ProbeSet",
        )
    return found
