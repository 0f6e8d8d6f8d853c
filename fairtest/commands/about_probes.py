"""What `fairtest score` says of a probe set before it says a number, and which of its items it leaves out."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fairtest.commands.table import wrapped

if TYPE_CHECKING:
    from fairtest.probes.probe import ProbeSet


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds where probes are from and which are left out."""
    parser.add_argument(
        "--data",
        metavar="DIR",
        help="where published probe sets lie (default: $FAIRTEST_DATA_DIR); hf: the Hugging Face hub (a directory of"
        " that name is written ./hf)",
    )
    parser.add_argument(
        "--without",
        nargs="+",
        action="extend",
        default=[],
        metavar="FAULT",
        help="leave out the items that have one of these faults, by the names that the head of the output lists",
    )


def without_named(probes: ProbeSet, options: argparse.Namespace) -> ProbeSet:
    """The set without the items that have one of the faults the options name.

    Raises:
        ProbeError: an unknown fault, or no item is left.
    """
    from fairtest.errors import ProbeError
    from fairtest.probes.faults import without_faults

    try:
        return without_faults(probes, options.without)
    except ProbeError as error:
        raise ProbeError(error.what, where="--without", fix=error.fix) from error


def faults_by_name(probes: ProbeSet) -> Mapping[str, int]:
    """How many items have each of the known faults, without those that none has."""
    from fairtest.probes.faults import fault_names, faults_of

    found = faults_of(probes) if fault_names(probes) else {}
    return {name: len(ids) for name, ids in found.items() if ids}


def described(probes: ProbeSet) -> dict[str, Any]:
    """The set as plain data, without its items and without a path."""
    return {
        "name": probes.name,
        "version": probes.version,
        "digest": probes.digest,
        "licence": probes.licence,
        "use": probes.use,
        "items": len(probes),
        "faults": dict(faults_by_name(probes)),
    }


def head_lines(model: str, digest: str, probes: ProbeSet) -> list[str]:
    """Model and probe set by name and digest; version, licence, allowed use and known faults of the set."""
    lines = [
        *wrapped(f"{model} (SHA-256 {digest[:12]}) on {probes.name}"),
        *wrapped(f"probes: version {probes.version}, SHA-256 {probes.digest[:12]}, {len(probes)} items"),
        *wrapped(f"licence: {probes.licence}"),
        *wrapped(f"use: {probes.use or 'not said'}"),
    ]
    if faults := faults_by_name(probes):
        listed = ", ".join(f"{name} {count}" for name, count in faults.items())
        lines += wrapped(f"known faults: {listed} (left out by --without NAME)")
    return lines
