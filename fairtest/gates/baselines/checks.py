"""Checks of what somebody may have edited by hand: each returns the value, or says what is wrong with it and where."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

_LARGEST = 1e15  # beyond it four decimals mean nothing


def known_names(where: str, found: Sequence[str], known: Sequence[str]) -> None:
    """Exactly the known names are there.

    Raises:
        ValueError: one is missing, or one is unknown (with a suggestion).
    """
    for name in found:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            raise ValueError(
                f"{where} has an unknown field {name!r}" + (f", did you mean {close[0]!r}?" if close else "")
            )
    missing = [name for name in known if name not in found]
    if missing:
        raise ValueError(f"{where} has no {missing[0]!r}")


def object_of(where: str, value: object, names: Sequence[str]) -> dict[str, Any]:
    """An object with exactly these names."""
    if not isinstance(value, dict):
        raise ValueError(f"{where} is no object: {shown(value)}")  # noqa: TRY004 - it is the file's value that is wrong
    known_names(where, list(value), names)
    return value


def list_of(where: str, value: object, length: int) -> list[Any]:
    """A list with one element a seed."""
    if not isinstance(value, list):
        raise ValueError(f"{where} is no list: {shown(value)}")  # noqa: TRY004
    if len(value) != length:
        raise ValueError(f"{where} has {len(value)} elements, and there are {length} seeds")
    return value


def number(where: str, value: object) -> float:
    """A finite number."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < _LARGEST:
        return float(value)
    raise ValueError(f"{where} is no number: {shown(value)}")


def whole(where: str, value: object) -> int:
    """A count."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{where} is no whole number above 0: {shown(value)}")
    return value


def text(where: str, value: object) -> str:
    """A text with something in it."""
    if not isinstance(value, str) or not value:
        raise ValueError(f"{where} is no text: {shown(value)}")
    return value


def shown(value: object) -> str:
    """A value for a message, cut where it is long."""
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
