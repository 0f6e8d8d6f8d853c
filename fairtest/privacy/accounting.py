"""Noise for a budget, and budget for a noise: the Poisson-sampled Gaussian mechanism under "add or remove one unit".

Noise is calibrated with the PRV accountant (Gopi et al. 2021, fast) and the epsilon that is reported comes from privacy
loss distributions (PLD, Koskela et al. 2020, as in Google's dp-accounting). Both are upper bounds.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any, Literal

from fairtest.errors import PrivacyError
from fairtest.specs import DP

Accountant = Literal["pld", "prv", "rdp"]

_LARGEST_NOISE = 1000.0
_SMALLEST_NOISE = 0.1
_PRECISION = 1e-3
_TOO_WEAK = 200.0
_PRV_ERROR = 0.01


@dataclass(frozen=True, kw_only=True)
class PrivacyPlan:
    """What one private run will spend, known before it starts.

    `sample_rate` is q = batch_size / units, `noise_multiplier` is sigma in multiples of the clipping norm, `epsilon` is
    the reported upper bound (infinite without noise), `epsilon_prv` the PRV accountant's for comparison (None where it
    has none, as for q = 1), `accountant` names what gave `epsilon`, with its version.
    """

    units: int
    batch_size: int
    sample_rate: float
    steps: int
    noise_multiplier: float
    delta: float
    epsilon: float
    epsilon_prv: float | None
    target_epsilon: float | None
    accountant: str

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON data; an infinite epsilon is null."""
        return {**asdict(self), "epsilon": self.epsilon if math.isfinite(self.epsilon) else None}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> PrivacyPlan:
        """The inverse of `as_dict`."""
        return cls(**{**data, "epsilon": math.inf if data["epsilon"] is None else data["epsilon"]})


def plan_privacy(dp: DP, *, units: int, batch_size: int, steps: int) -> PrivacyPlan:
    """Noise and epsilon of `steps` Poisson batches of `batch_size` expected units out of `units`.

    With `dp.epsilon`, the smallest noise (to 0.1%) with which the reported epsilon is at most that. Takes seconds.

    Raises:
        PrivacyError: delta is not below 1 / units, the batch is larger than the corpus, or no noise reaches epsilon.
    """
    delta = resolve_delta(dp, units)
    if batch_size > units:
        raise PrivacyError(
            f"a batch of {batch_size} units cannot be sampled from {units}",
            where="Training(batch_size=)",
            fix=f"give a batch_size of at most {units}; well below it costs less privacy a step",
        )
    sample_rate = batch_size / units
    if dp.noise_multiplier is not None:
        noise_multiplier = dp.noise_multiplier
    else:
        noise_multiplier = _calibrate(float(dp.epsilon or 0.0), sample_rate, steps, delta)
    epsilon, accountant = _reported(noise_multiplier, sample_rate, steps, delta)
    while dp.epsilon is not None and epsilon > dp.epsilon:
        noise_multiplier *= 1 + _PRECISION
        epsilon, accountant = _reported(noise_multiplier, sample_rate, steps, delta)
    has_prv = sample_rate < 1 and 0 < epsilon <= _TOO_WEAK
    return PrivacyPlan(
        units=units,
        batch_size=batch_size,
        sample_rate=sample_rate,
        steps=steps,
        noise_multiplier=noise_multiplier,
        delta=delta,
        epsilon=epsilon,
        epsilon_prv=epsilon_of(noise_multiplier, sample_rate, steps, delta, "prv") if has_prv else None,
        target_epsilon=dp.epsilon,
        accountant=accountant,
    )


def resolve_delta(dp: DP, units: int) -> float:
    """Delta of a run on so many units; "auto" is 1 / (10 units).

    Raises:
        PrivacyError: delta is 1 / units or more: it would allow publishing one unit outright.
    """
    if dp.delta == "auto":
        return 1 / (10 * units)
    if dp.delta >= 1 / units:
        raise PrivacyError(
            f"delta {dp.delta:g} is not below 1/N = {1 / units:.3g} of the {units} training units",
            where="DP(delta=)",
            fix=f'give delta="auto" (here {1 / (10 * units):.3g}) or a smaller number',
        )
    return dp.delta


def epsilon_of(
    noise_multiplier: float, sample_rate: float, steps: int, delta: float, accountant: Accountant = "pld"
) -> float:
    """Epsilon spent by `steps` Poisson-sampled Gaussian releases; infinite without noise.

    Raises:
        PrivacyError: the accountant has no answer (PRV with sample_rate 1).
    """
    if noise_multiplier == 0:
        return math.inf
    if accountant == "pld":
        from dp_accounting.dp_event import GaussianDpEvent, PoissonSampledDpEvent

        return _pld_epsilon(PoissonSampledDpEvent(sample_rate, GaussianDpEvent(noise_multiplier)), steps, delta)
    if accountant == "prv":
        return _prv_epsilon(noise_multiplier, sample_rate, steps, delta, _PRV_ERROR)
    return _rdp_epsilon(noise_multiplier, sample_rate, steps, delta)


def naive_cda_epsilon(
    noise_multiplier: float,
    sample_rate: float,
    steps: int,
    delta: float,
    *,
    copies: Literal["independent", "same_batch"] = "independent",
) -> float:
    """Epsilon that protects a record and its counterfactual, when both are records of their own, clipped one by one.

    `independent` copies enter a batch independently: 0, 1 or 2 times the clipping norm with probabilities (1-q)^2,
    2q(1-q), q^2 (mixture of Gaussians, Choquette-Choo et al. 2023). Copies in the `same_batch` enter together: the
    sensitivity is 2. `sample_rate` is q of one copy. Computed on a coarser grid than what is reported, rounded up.
    """
    if noise_multiplier == 0:
        return math.inf
    from dp_accounting.dp_event import GaussianDpEvent, MixtureOfGaussiansDpEvent, PoissonSampledDpEvent

    q = sample_rate
    if copies == "independent":
        event = MixtureOfGaussiansDpEvent(noise_multiplier, [0.0, 1.0, 2.0], [(1 - q) ** 2, 2 * q * (1 - q), q**2])
    else:
        event = PoissonSampledDpEvent(q, GaussianDpEvent(noise_multiplier / 2))
    return _pld_epsilon(event, steps, delta, interval=1e-3)


def _reported(noise_multiplier: float, sample_rate: float, steps: int, delta: float) -> tuple[float, str]:
    if noise_multiplier == 0:
        return math.inf, "none (no noise)"
    # Loss distributions of next to no noise need gigabytes, to tell one meaningless epsilon from another.
    rough = _rdp_epsilon(noise_multiplier, sample_rate, steps, delta)
    if not rough <= _TOO_WEAK:
        return rough, f"RDP, opacus {version('opacus')}"
    return epsilon_of(noise_multiplier, sample_rate, steps, delta), f"PLD, dp-accounting {version('dp-accounting')}"


def _calibrate(target: float, sample_rate: float, steps: int, delta: float) -> float:
    """Smallest noise multiplier, to a relative 0.1%, whose epsilon is at most the target."""
    error = min(_PRV_ERROR, target / 100)

    def spent(noise_multiplier: float) -> float:
        if sample_rate == 1:
            return epsilon_of(noise_multiplier, sample_rate, steps, delta)
        return _prv_epsilon(noise_multiplier, sample_rate, steps, delta, error)

    low, high = _bracket(spent, target)
    while high / low > 1 + _PRECISION:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if spent(middle) <= target else (middle, high)
    return high


def _bracket(spent: Callable[[float], float], target: float) -> tuple[float, float]:
    high = 1.0
    while spent(high) > target:
        high *= 2
        if high > _LARGEST_NOISE:
            raise PrivacyError(
                f"epsilon {target:g} cannot be met: it would take noise of more than {_LARGEST_NOISE:g} clipping norms",
                where="DP(epsilon=)",
                fix="give a larger epsilon, more training units, fewer steps or a smaller batch",
            )
    low = high / 2
    while low > _SMALLEST_NOISE and spent(low) <= target:
        low, high = low / 2, low
    return (low, high) if low > _SMALLEST_NOISE else (high, high)


def _pld_epsilon(event: Any, steps: int, delta: float, interval: float = 1e-4) -> float:
    from dp_accounting import NeighboringRelation
    from dp_accounting.pld import PLDAccountant

    with _numerics():
        accountant = PLDAccountant(NeighboringRelation.ADD_OR_REMOVE_ONE, value_discretization_interval=interval)
        return float(accountant.compose(event, steps).get_epsilon(delta))


def _prv_epsilon(noise_multiplier: float, sample_rate: float, steps: int, delta: float, error: float) -> float:
    if sample_rate == 1:
        raise PrivacyError(
            "the PRV accountant has no answer for batches that hold every unit",
            where="sample_rate 1",
            fix="use the PLD accountant",
        )
    from opacus.accountants import PRVAccountant

    with _numerics():
        accountant = PRVAccountant()
        accountant.history = [(noise_multiplier, sample_rate, steps)]
        return float(accountant.get_epsilon(delta, eps_error=error))


def _rdp_epsilon(noise_multiplier: float, sample_rate: float, steps: int, delta: float) -> float:
    from opacus.accountants import RDPAccountant

    with _numerics():
        accountant = RDPAccountant()
        accountant.history = [(noise_multiplier, sample_rate, steps)]
        return float(accountant.get_epsilon(delta))


@contextmanager
def _numerics() -> Iterator[None]:
    """Accountants warn where a bound is looser than it could be or a logarithm is -inf: upper bounds all the same."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
