"""Epsilon of a mechanism: what one unit, or a person met several times, spends over a run.

Privacy loss distributions (PLD, Koskela et al. 2020, as in Google's dp-accounting) are what is reported, PRV (Gopi et
al. 2021) and RDP (Mironov et al. 2019), as in Opacus, stand beside them. All are upper bounds.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

from fairtest.errors import PrivacyError

Accountant = Literal["pld", "prv", "rdp"]
Copies = Literal["independent", "same_batch"]

PRV_ERROR = 0.01
_MOST_STEPS = 10**6
_PRV_GRID = 1 << 21  # points of a loss distribution: a gigabyte and some seconds
_GROUP_GRID = 1e-3
_WIDEST_SHIFT = 20.0  # in standard deviations of the noise: beyond it a loss distribution takes gigabytes


def epsilon_of(
    noise_multiplier: float, sample_rate: float, steps: int, delta: float, accountant: Accountant = "pld"
) -> float:
    """Epsilon spent by `steps` Poisson-sampled Gaussian releases; infinite without noise.

    Raises:
        PrivacyError: the accountant has no answer (PRV with sample_rate 1), or none that fits into memory.
    """
    require_countable(steps)
    if noise_multiplier == 0:
        return math.inf
    if accountant == "pld":
        from dp_accounting.dp_event import GaussianDpEvent, PoissonSampledDpEvent

        return _pld_epsilon(PoissonSampledDpEvent(sample_rate, GaussianDpEvent(noise_multiplier)), steps, delta)
    if accountant == "prv":
        return prv_epsilon(noise_multiplier, sample_rate, steps, delta, PRV_ERROR)
    return rdp_epsilon(noise_multiplier, sample_rate, steps, delta)


def group_epsilon(
    noise_multiplier: float,
    sample_rate: float,
    steps: int,
    delta: float,
    *,
    times: int = 2,
    copies: Copies = "independent",
) -> float:
    """Epsilon that protects someone who is behind `times` units, each clipped on its own.

    `independent` units enter a batch independently, each with probability q = `sample_rate`: a step moves by k clipping
    norms with probability Binomial(times, q)(k), a mixture of Gaussians (Choquette-Choo et al. 2023). Units of the
    `same_batch` enter together: the sensitivity is `times`. Computed on a coarser grid than what is reported, rounded
    up; where `times` clipping norms are more than 20 standard deviations of the noise, a looser bound (RDP).

    Raises:
        PrivacyError: `times` is not a whole number of at least 1, or there are too many steps.
    """
    require_countable(steps)
    if isinstance(times, bool) or not isinstance(times, int) or times < 1:
        raise PrivacyError(
            f"a person is behind a whole number of units, at least 1, got {times!r}",
            where="group_epsilon(times=)",
            fix="2 is a record and its copy",
        )
    if noise_multiplier == 0:
        return math.inf
    together = together_rate(sample_rate, times) if copies == "independent" else sample_rate
    if is_wide(noise_multiplier, times):
        return rdp_epsilon(noise_multiplier / times, together, steps, delta)
    from dp_accounting.dp_event import GaussianDpEvent, MixtureOfGaussiansDpEvent, PoissonSampledDpEvent

    if copies == "independent":
        shifts = range(times + 1)
        chances = [math.comb(times, k) * sample_rate**k * (1 - sample_rate) ** (times - k) for k in shifts]
        event = MixtureOfGaussiansDpEvent(noise_multiplier, [float(k) for k in shifts], chances)
    else:
        event = PoissonSampledDpEvent(sample_rate, GaussianDpEvent(noise_multiplier / times))
    return _pld_epsilon(event, steps, delta, interval=_GROUP_GRID)


def together_rate(sample_rate: float, times: int) -> float:
    """Chance that at least one of `times` units is in a batch."""
    return 1 - (1 - sample_rate) ** times


def is_wide(noise_multiplier: float, times: int) -> bool:
    """Whether `group_epsilon` takes the looser bound: `times` clipping norms are too far above the noise."""
    return times > _WIDEST_SHIFT * noise_multiplier


def naive_cda_epsilon(
    noise_multiplier: float, sample_rate: float, steps: int, delta: float, *, copies: Copies = "independent"
) -> float:
    """Epsilon that protects a record and its counterfactual, when both are records of their own, clipped one by one.

    `sample_rate` is q of one copy. See `group_epsilon`.
    """
    return group_epsilon(noise_multiplier, sample_rate, steps, delta, times=2, copies=copies)


def require_countable(steps: int) -> None:
    if steps > _MOST_STEPS:
        raise PrivacyError(
            f"{steps} steps are more than can be accounted for, which is {_MOST_STEPS}",
            where="Training(steps=, epochs=)",
            fix="train for fewer steps, with a larger batch if need be",
        )


def _pld_epsilon(event: Any, steps: int, delta: float, interval: float = 1e-4) -> float:
    from dp_accounting import NeighboringRelation
    from dp_accounting.pld import PLDAccountant

    with _numerics():
        accountant = PLDAccountant(NeighboringRelation.ADD_OR_REMOVE_ONE, value_discretization_interval=interval)
        return float(accountant.compose(event, steps).get_epsilon(delta))


def prv_epsilon(noise_multiplier: float, sample_rate: float, steps: int, delta: float, error: float) -> float:
    if sample_rate == 1:
        raise PrivacyError(
            "the PRV accountant has no answer for batches that hold every unit",
            where="sample_rate 1",
            fix="use the PLD accountant",
        )
    from opacus.accountants import PRVAccountant

    error = max(error, _affordable_error(noise_multiplier, sample_rate, steps, delta))
    with _numerics():
        accountant = PRVAccountant()
        accountant.history = [(noise_multiplier, sample_rate, steps)]
        return float(accountant.get_epsilon(delta, eps_error=error))


def _affordable_error(noise_multiplier: float, sample_rate: float, steps: int, delta: float) -> float:
    """The error that PRV reaches on `_PRV_GRID` points; its grid is as wide as what RDP allows epsilon to be."""
    slack = delta / 1000
    width = 2 * (rdp_epsilon(noise_multiplier, sample_rate, steps, slack / 4) + 3)
    return width / _PRV_GRID * math.sqrt(steps * math.log(12 / slack) / 2)


def rdp_epsilon(noise_multiplier: float, sample_rate: float, steps: int, delta: float) -> float:
    from opacus.accountants import RDPAccountant

    with _numerics():
        accountant = RDPAccountant()
        accountant.history = [(noise_multiplier, sample_rate, steps)]
        return float(accountant.get_epsilon(delta))


@contextmanager
def _numerics() -> Iterator[None]:
    """Accountants warn where a bound is looser than it could be or a logarithm is -inf: upper bounds all the same.

    Raises:
        PrivacyError: a loss distribution does not fit into memory, or a number is beyond floating point.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except (MemoryError, OverflowError) as error:
            raise PrivacyError(
                f"epsilon cannot be computed: the accountant needs more than there is ({error or 'memory'})",
                where="DP(epsilon=, noise_multiplier=), Training(steps=, batch_size=)",
                fix="train for fewer steps, add more noise, or give an epsilon that is neither tiny nor huge",
            ) from error
