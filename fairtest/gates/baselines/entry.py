"""What one stored baseline is: the values of an arm on a metric, item by item and seed by seed, as the file holds them.

Values are kept with four decimals (points or nats), and a comparison rounds the new ones the same way. So what is
judged before an entry is written and after it is read again are the same numbers, and no verdict hangs on the file.
"""

from __future__ import annotations

import importlib.metadata
import math
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from fairtest.errors import FairtestError
from fairtest.gates.baselines import checks
from fairtest.gates.result import Estimate

DECIMALS = 4
# Preferences have three values, and a line of these characters shows in a diff which items flipped.
_CODES = {0.0: "0", 50.0: "=", 100.0: "1"}
_VALUES = {code: value for value, code in _CODES.items()}
_SEPARATOR = " | "
_PACKAGES = ("fairtest", "torch", "transformers", "opacus", "numpy", "scipy")
DIGEST_LENGTH = 16


class BaselineError(FairtestError):
    """A stored baseline is missing, cannot be read, or cannot be compared with."""


@dataclass(frozen=True, order=True)
class BaselineKey:
    """What a baseline is of, by meaning: never a test's name, a date or a machine.

    `protocol`: the metric's protocol with its version, and how texts were scored; `probes`: the start of the digest of
    the probes.
    """

    arm: str
    metric: str
    protocol: str
    probes: str

    @property
    def text(self) -> str:
        """As it stands in the file."""
        return _SEPARATOR.join((self.arm, self.metric, self.protocol, f"probes {self.probes}"))

    @classmethod
    def parse(cls, text: str) -> BaselineKey:
        """The inverse of `text`.

        Raises:
            ValueError: it is not of that form.
        """
        parts = text.rsplit(_SEPARATOR, 3)
        if len(parts) != 4 or not all(parts) or not parts[3].startswith("probes "):
            raise ValueError("a key has the form ARM | METRIC | PROTOCOL | probes DIGEST")
        return cls(parts[0], parts[1], parts[2], parts[3].removeprefix("probes "))


@dataclass(frozen=True)
class StoredHeldOut:
    """Held-out loss of every seed (nats per token), of which texts (the start of their digest) and how many tokens."""

    texts: str
    tokens: int
    loss: tuple[float, ...]


@dataclass(frozen=True)
class BaselineEntry:
    """One baseline. `made` (date, packages, platform) tells where it comes from and is compared with nothing.

    `values[s][i]`: value of item i under seed s; the items are those of the probes in the key, `item_digest` is of
    their names in order. `runs`: the start of the digest of each run.
    """

    key: BaselineKey
    unit: str
    target: float | None
    estimate: Estimate
    confidence: float
    runs: tuple[str, ...]
    item_digest: str
    values: tuple[tuple[float, ...], ...]
    held_out: StoredHeldOut | None
    made: Mapping[str, Any] = field(default_factory=dict, compare=False)

    @property
    def seeds(self) -> int:
        """Number of seeds."""
        return len(self.values)

    @property
    def items(self) -> int:
        """Number of items."""
        return len(self.values[0])

    @property
    def date(self) -> str:
        """The day it was recorded."""
        return str(self.made.get("date", "an unknown day"))

    @property
    def coarse(self) -> bool:
        """Whether every value is one of the three of a preference."""
        return all(value in _CODES for row in self.values for value in row)

    def text(self) -> str:
        """For a person: `0.58 [0.47, 0.69] nats, 3 seeds`."""
        return f"{self.estimate.text()} {self.unit}, {self.seeds} seed{'s' if self.seeds > 1 else ''}"

    def as_dict(self) -> dict[str, Any]:
        """Plain data as the file holds it, without the key."""
        coarse = self.coarse
        return {
            "estimate": {
                "confidence": self.confidence,
                **{name: _finite(getattr(self.estimate, name)) for name in ("value", "low", "high")},
            },
            "held_out": None
            if self.held_out is None
            else {
                "loss": list(self.held_out.loss),
                "texts": self.held_out.texts,
                "tokens": self.held_out.tokens,
            },
            "items": {"count": self.items, "digest": self.item_digest},
            "made": dict(self.made),
            "means": [round(_mean(row), DECIMALS) for row in self.values],
            "runs": list(self.runs),
            "seeds": self.seeds,
            "target": self.target,
            "unit": self.unit,
            "values": ["".join(_CODES[value] for value in row) if coarse else list(row) for row in self.values],
        }

    @classmethod
    def from_dict(cls, key: BaselineKey, data: object) -> BaselineEntry:
        """The inverse of `as_dict`.

        Raises:
            ValueError: the data is not what `as_dict` writes; the text says which field, and what is wrong with it.
        """
        fields = checks.object_of("the entry", data, _FIELDS)
        count = checks.whole("items.count", checks.object_of("items", fields["items"], ("count", "digest"))["count"])
        seeds = checks.whole("seeds", fields["seeds"])
        rows = tuple(
            _row(f"values[{s}]", row, count) for s, row in enumerate(checks.list_of("values", fields["values"], seeds))
        )
        means = [
            checks.number(f"means[{s}]", mean) for s, mean in enumerate(checks.list_of("means", fields["means"], seeds))
        ]
        for seed, (mean, row) in enumerate(zip(means, rows, strict=True)):
            if abs(mean - _mean(row)) > 2 * 10**-DECIMALS:
                raise ValueError(f"means[{seed}] is {mean:g}, and the mean of values[{seed}] is {_mean(row):.4f}")
        runs = tuple(
            checks.text(f"runs[{s}]", run) for s, run in enumerate(checks.list_of("runs", fields["runs"], seeds))
        )
        if len(set(runs)) < seeds:
            raise ValueError("runs has one run twice, and seeds that are copies are no sample")
        estimate = _estimate(fields["estimate"])
        if abs(estimate.value - math.fsum(means) / seeds) > 2 * 10**-DECIMALS:
            raise ValueError(
                f"estimate.value is {estimate.value:g}, and the mean of means is {math.fsum(means) / seeds:.4f}"
            )
        target = fields["target"]
        return cls(
            key=key,
            unit=checks.text("unit", fields["unit"]),
            target=None if target is None else checks.number("target", target),
            estimate=estimate,
            confidence=checks.number("estimate.confidence", fields["estimate"]["confidence"]),
            runs=runs,
            item_digest=checks.text("items.digest", fields["items"]["digest"]),
            values=rows,
            held_out=_held_out(fields["held_out"], seeds),
            made=_made(fields["made"]),
        )


_FIELDS = ("estimate", "held_out", "items", "made", "means", "runs", "seeds", "target", "unit", "values")


def rounded(values: npt.NDArray[np.float64] | Sequence[Sequence[float]]) -> npt.NDArray[np.float64]:
    """Values as an entry keeps them."""
    kept: npt.NDArray[np.float64] = np.round(np.asarray(values, dtype=float), DECIMALS) + 0.0  # no minus zero
    return kept


def environment() -> dict[str, Any]:
    """Day, machine and versions, as metadata; no package is imported for it."""
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "packages": {name: version for name in _PACKAGES if (version := _version(name))},
        "platform": f"{platform.system()} {platform.machine()}".strip(),
        "python": platform.python_version(),
    }


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _row(where: str, value: object, count: int) -> tuple[float, ...]:
    if not isinstance(value, (str, list)):
        raise ValueError(f"{where} is neither a list of numbers nor a text of 0, = and 1: {checks.shown(value)}")  # noqa: TRY004
    if len(value) != count:
        raise ValueError(f"{where} has {len(value)} values, and items.count is {count}")
    if isinstance(value, list):
        return tuple(checks.number(f"{where}[{index}]", number) for index, number in enumerate(value))
    for index, code in enumerate(value):
        if code not in _VALUES:
            raise ValueError(f"{where} has {code!r} at {index}; preferences are 0 (anti), = (tie) and 1 (stereotype)")
    return tuple(_VALUES[code] for code in value)


def _estimate(value: object) -> Estimate:
    data = checks.object_of("estimate", value, ("confidence", "value", "low", "high"))
    if not 0 < checks.number("estimate.confidence", data["confidence"]) < 1:
        raise ValueError(f"estimate.confidence is not between 0 and 1: {checks.shown(data['confidence'])}")
    middle = checks.number("estimate.value", data["value"])
    low = -math.inf if data["low"] is None else checks.number("estimate.low", data["low"])
    high = math.inf if data["high"] is None else checks.number("estimate.high", data["high"])
    if not low <= middle <= high:
        raise ValueError(f"estimate.value {middle:g} is not between low {low:g} and high {high:g}")
    return Estimate(middle, low, high)


def _held_out(value: object, seeds: int) -> StoredHeldOut | None:
    if value is None:
        return None
    data = checks.object_of("held_out", value, ("loss", "texts", "tokens"))
    losses = checks.list_of("held_out.loss", data["loss"], seeds)
    return StoredHeldOut(
        texts=checks.text("held_out.texts", data["texts"]),
        tokens=checks.whole("held_out.tokens", data["tokens"]),
        loss=tuple(checks.number(f"held_out.loss[{seed}]", loss) for seed, loss in enumerate(losses)),
    )


def _made(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"made is no object: {checks.shown(value)}")  # noqa: TRY004
    return value


def _mean(row: Sequence[float]) -> float:
    return math.fsum(row) / len(row)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
