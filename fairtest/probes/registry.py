"""Probe sets by name, as settings and metrics name them."""

from __future__ import annotations

import difflib
import os
from pathlib import Path

from fairtest.errors import ProbeError
from fairtest.probes.crows_pairs import read_crows_pairs
from fairtest.probes.probe import ProbeSet
from fairtest.probes.stereoset import read_stereoset
from fairtest.probes.winobias import read_winobias
from fairtest.probes.winogender import read_winogender

DATA_DIR_VARIABLE = "FAIRTEST_DATA_DIR"
PUBLISHED = {
    "stereoset": read_stereoset,
    "crows_pairs": read_crows_pairs,
    "winobias": read_winobias,
    "winogender": read_winogender,
}
PROBE_SETS = ("templates", *PUBLISHED)


def load_probe_set(name: str, data_dir: Path | None = None) -> ProbeSet:
    """The probe set of that name; published ones are read from `data_dir`, else from $FAIRTEST_DATA_DIR.

    Raises:
        ProbeError: an unknown name, no data directory given, or the data is missing or malformed.
    """
    if name == "templates":
        from fairtest.probes.templates import gender_templates

        return gender_templates()
    if name not in PUBLISHED:
        near = difflib.get_close_matches(name, PROBE_SETS, n=1)
        meant = f"did you mean {near[0]!r}? " if near else ""
        raise ProbeError(
            f"unknown probe set {name!r}", where="probe set", fix=f"{meant}known probe sets: {', '.join(PROBE_SETS)}"
        )
    place = data_dir or os.environ.get(DATA_DIR_VARIABLE)
    how = f"set data_dir in [tool.fairtest] (or ${DATA_DIR_VARIABLE}) to the directory that holds it"
    if not place:
        raise ProbeError(f"probe set {name!r} needs its published data, and no directory is set", where=name, fix=how)
    try:
        return PUBLISHED[name](Path(place))
    except ProbeError as error:
        if Path(error.where) != Path(place):
            raise
        raise ProbeError(error.what, where=error.where, fix=f"{how}; {error.fix}") from error
