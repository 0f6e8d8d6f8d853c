"""Noise for a budget, and budget for a noise: the Poisson-sampled Gaussian mechanism under "add or remove one unit".

Noise is calibrated with the PRV accountant (Gopi et al. 2021, fast) and the epsilon that is reported comes from privacy
loss distributions (PLD, Koskela et al. 2020, as in Google's dp-accounting). Both are upper bounds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any

from fairtest.errors import PrivacyError, PrivacyWarning, warn_user
from fairtest.privacy.accountants import (
    PRV_ERROR,
    epsilon_of,
    group_epsilon,
    naive_cda_epsilon,
    prv_epsilon,
    rdp_epsilon,
    require_countable,
)
from fairtest.specs import DP

__all__ = [
    "WEAK_EPSILON",
    "PrivacyPlan",
    "epsilon_of",
    "group_epsilon",
    "membership_advantage",
    "naive_cda_epsilon",
    "pair_epsilon",
    "plan_privacy",
    "resolve_delta",
    "warn_if_weak",
]

WEAK_EPSILON = 20.0
_LARGEST_NOISE = 1000.0
_SMALLEST_NOISE = 0.1
_PRECISION = 1e-3
TOO_WEAK = 200.0
_NUDGES = 100
_HOPELESS = 1.5


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
    Warns (`PrivacyWarning`) of an epsilon above 20.

    Raises:
        PrivacyError: delta is not below 1 / units, the batch is larger than the corpus, no noise reaches epsilon, or
            there are more steps than can be accounted for.
    """
    require_countable(steps)
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
    for _ in range(_NUDGES):
        if dp.epsilon is None or epsilon <= dp.epsilon or epsilon > _HOPELESS * dp.epsilon:
            break
        noise_multiplier *= 1 + _PRECISION
        epsilon, accountant = _reported(noise_multiplier, sample_rate, steps, delta)
    if dp.epsilon is not None and not epsilon <= dp.epsilon:
        raise PrivacyError(
            f"epsilon {dp.epsilon:g} cannot be met: the accountants are not fine enough for it over {steps} steps"
            f" (noise of {noise_multiplier:.4g} clipping norms is certain to spend at most {epsilon:.3g})",
            where="DP(epsilon=)",
            fix="give a larger epsilon or fewer steps, or name the noise: DP(epsilon=None, noise_multiplier=...)",
        )
    warn_if_weak(epsilon, delta)
    has_prv = sample_rate < 1 and 0 < epsilon <= TOO_WEAK
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


def membership_advantage(epsilon: float, delta: float) -> float:
    """Largest advantage (true less false positive rate, 0 to 1) of whoever guesses whether a unit was trained on:
    (e^epsilon - 1 + 2 delta) / (e^epsilon + 1) (Humphries et al. 2023).
    """
    shrunk = math.exp(-epsilon)
    return (1 - shrunk + 2 * delta * shrunk) / (1 + shrunk)


def warn_if_weak(epsilon: float, delta: float) -> None:
    """Warns (`PrivacyWarning`) of an epsilon above 20, which is a number and hardly a guarantee.

    An infinite one claims nothing, so nothing is said.
    """
    if WEAK_EPSILON < epsilon < math.inf:
        short = 2 * (1 - delta) * math.exp(-epsilon) / (1 + math.exp(-epsilon))
        warn_user(
            f"epsilon {epsilon:.4g} is above {WEAK_EPSILON:g} and hardly protects: it lets an attacker tell units that"
            f" were trained on from others with an advantage of (e^eps - 1 + 2 delta) / (e^eps + 1) = 1 - {short:.1e},"
            " where 1 is certainty",
            PrivacyWarning,
        )


def pair_epsilon(plan: PrivacyPlan) -> float:
    """Epsilon, at the plan's delta, for a person who is behind two units that enter batches independently.

    Infinite where the plan's own epsilon is none to speak of.
    """
    if not plan.epsilon <= TOO_WEAK:
        return math.inf
    return naive_cda_epsilon(plan.noise_multiplier, plan.sample_rate, plan.steps, plan.delta, copies="independent")


def _reported(noise_multiplier: float, sample_rate: float, steps: int, delta: float) -> tuple[float, str]:
    if noise_multiplier == 0:
        return math.inf, "none (no noise)"
    # Loss distributions of next to no noise need gigabytes, to tell one meaningless epsilon from another.
    rough = rdp_epsilon(noise_multiplier, sample_rate, steps, delta)
    if not rough <= TOO_WEAK:
        return rough, f"RDP, opacus {version('opacus')}"
    return epsilon_of(noise_multiplier, sample_rate, steps, delta), f"PLD, dp-accounting {version('dp-accounting')}"


def _calibrate(target: float, sample_rate: float, steps: int, delta: float) -> float:
    """Smallest noise multiplier, to a relative 0.1%, whose epsilon is at most the target."""
    error = min(PRV_ERROR, target / 100)

    def spent(noise_multiplier: float) -> float:
        if sample_rate == 1:
            return epsilon_of(noise_multiplier, sample_rate, steps, delta)
        return prv_epsilon(noise_multiplier, sample_rate, steps, delta, error)

    low, high = _bracket(spent, target, _first_guess(target, sample_rate, steps, delta))
    while high / low > 1 + _PRECISION:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if spent(middle) <= target else (middle, high)
    return high


def _first_guess(target: float, sample_rate: float, steps: int, delta: float) -> float:
    """A power of two near the noise that is looked for, at least 1; only a start, the accountants decide.

    Far below that noise a loss distribution is so wide that it takes gigabytes. The guess is the central limit of many
    steps, mu-Gaussian DP with mu = q sqrt(T (exp(1 / sigma^2) - 1)) (Bu et al. 2020), exact in delta (Balle and Wang
    2018).
    """
    noise_multiplier = 1.0
    while True:
        spread = math.expm1(noise_multiplier**-2) if sample_rate < 1 else noise_multiplier**-2
        mu = sample_rate * math.sqrt(steps * spread)
        tail = math.erfc((target / mu + mu / 2) / math.sqrt(2)) / 2
        spent = math.erfc((target / mu - mu / 2) / math.sqrt(2)) / 2
        if spent - (math.exp(target + math.log(tail)) if tail > 0 else 0.0) <= delta:
            return noise_multiplier
        noise_multiplier = _doubled(noise_multiplier, target)


def _doubled(noise_multiplier: float, target: float) -> float:
    if 2 * noise_multiplier > _LARGEST_NOISE:
        raise PrivacyError(
            f"epsilon {target:g} cannot be met: it would take noise of more than {_LARGEST_NOISE:g} clipping norms",
            where="DP(epsilon=)",
            fix="give a larger epsilon, more training units, fewer steps or a smaller batch",
        )
    return 2 * noise_multiplier


def _bracket(spent: Callable[[float], float], target: float, high: float) -> tuple[float, float]:
    while spent(high) > target:
        high = _doubled(high, target)
    low = high / 2
    while low > _SMALLEST_NOISE and spent(low) <= target:
        low, high = low / 2, low
    return (low, high) if low > _SMALLEST_NOISE else (high, high)
