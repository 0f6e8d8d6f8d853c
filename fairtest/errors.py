"""Everything a user can get wrong, as one family of exceptions.

Each message says what was wrong, where, and what to do. A caller that wants to catch them all catches
`FairtestError`; the subclasses name the part of the input that was at fault.
"""

from __future__ import annotations

import functools
import sys
import warnings
from collections.abc import Callable


class FairtestError(Exception):
    """An error the user can repair.

    Args:
        what: what was wrong, with the value that was found.
        where: file and line, field, setting, unit or probe; empty where nothing narrower is known.
        fix: what to do about it.
    """

    def __init__(self, what: str, *, where: str = "", fix: str = "") -> None:
        self.what = what
        self.where = where
        self.fix = fix
        super().__init__(what, where, fix)

    def __reduce__(self) -> tuple[Callable[..., FairtestError], tuple[object, ...]]:
        # Errors cross process borders, and an exception is rebuilt from positional arguments unless told otherwise.
        return _rebuilt, (type(self), self.what, self.where, self.fix)

    def __str__(self) -> str:
        lines = [self.what]
        if self.where:
            lines.append(f"  where: {self.where}")
        if self.fix:
            lines.append(f"  do:    {self.fix}")
        return "\n".join(lines)


def _rebuilt(kind: type[FairtestError], what: str, where: str, fix: str) -> FairtestError:
    return kind(what, where=where, fix=fix)


class SettingsError(FairtestError):
    """A setting has an unknown name or a value it cannot have."""


class SpecError(FairtestError):
    """An arm is described in a way that cannot be trained (epsilon, batch, steps, ...)."""


class CorpusError(FairtestError):
    """A corpus is missing, empty, or holds something that is not a text record."""


class ModelError(FairtestError):
    """A model or tokenizer cannot be found, fetched or loaded."""


class AugmentationError(FairtestError):
    """Counterfactual augmentation cannot be done, or changed nothing."""


class ProbeError(FairtestError):
    """A probe set is missing, malformed, or was filtered to nothing."""


class MetricError(FairtestError):
    """A metric is unknown, or its scores are missing or not finite."""


class TrainingError(FairtestError):
    """Training cannot start or had to stop (no rule for a parameter, loss not finite, ...)."""


class NotFiniteError(TrainingError):
    """The loss or gradient of a unit is infinite or not a number; `unit` is its position in the batch."""

    def __init__(self, what: str, *, where: str = "", fix: str = "", unit: int = 0) -> None:
        super().__init__(what, where=where, fix=fix)
        self.unit = unit

    def __reduce__(self) -> tuple[Callable[..., FairtestError], tuple[object, ...]]:
        return functools.partial(NotFiniteError, where=self.where, fix=self.fix, unit=self.unit), (self.what,)


class PrivacyError(FairtestError):
    """A privacy budget cannot be met, or a privacy claim does not hold."""


class StoreError(FairtestError):
    """The store cannot be read or written, or an entry is damaged."""


class ComparisonError(FairtestError):
    """Two sides of a gate cannot be compared (other items, other protocol, no values)."""


class PrivacyWarning(UserWarning):
    """A privacy budget that can be met and is hardly worth its name."""


class AugmentationWarning(UserWarning):
    """Counterfactual augmentation that can be done and hardly reaches the corpus."""


def warn_user(message: str, category: type[Warning]) -> None:
    """Warns at the line of the first caller outside this library, which is where a user can do something about it."""
    frame, level = sys._getframe(1), 2  # noqa: SLF001 - the library's own stack, as `warnings` reads it
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "fairtest":
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)
