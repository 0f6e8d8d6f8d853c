"""What the commands know of the project that they are called in: its settings, and amounts as a person reads them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fairtest.settings import Settings, session_settings, settings_root

_UNITS = ("B", "kB", "MB", "GB", "TB")
_MINUTE, _HOUR, _DAY = 60.0, 3600.0, 86_400.0


def project_settings(
    directory: Path | None = None, command_line: Mapping[str, Any] | None = None
) -> tuple[Settings, Path | None]:
    """The settings in a directory (default: where we are), and the directory whose pyproject.toml has them; None where
    there is none.

    Raises:
        SettingsError: they cannot be read, or hold what cannot be.
    """
    here = Path.cwd() if directory is None else directory.absolute()
    root = settings_root(here)
    settings = session_settings(root=root or here, invocation=Path.cwd(), command_line=command_line)
    return settings, root


def amount(size: float) -> str:
    """Bytes for a person: 812 B, 1.4 MB."""
    for unit in _UNITS:
        if size < 1000 or unit == _UNITS[-1]:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.1f} {unit}"
        size /= 1000
    raise AssertionError


def age(seconds: float) -> str:
    """How long ago, for a person: 40 s, 5 min, 3 h, 12 d."""
    for unit, length, until in (("s", 1.0, 2 * _MINUTE), ("min", _MINUTE, 2 * _HOUR), ("h", _HOUR, 2 * _DAY)):
        if seconds < until:
            return f"{max(seconds, 0) / length:.0f} {unit}"
    return f"{seconds / _DAY:.0f} d"


def counted(count: int, noun: str, plural: str = "") -> str:
    """A number with its noun: 1 entry, 2 entries."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"
