"""What a gate could detect, before anything is trained: minimum detectable effects and numbers of seeds.

An effect here is the change beyond the allowed one. A gate says FAIL when its whole interval is beyond, which is a
one-sided t test at (1 - confidence) / 2; its power is that of the noncentral t distribution.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from scipy.optimize import brentq
from scipy.special import nctdtr, ndtri, stdtrit

from fairtest.errors import ComparisonError
from fairtest.statistics.components import Contrast
from fairtest.statistics.planning import MAX_SEEDS

# What a plan takes until something is measured (two models of one family on StereoSet: 0.14).
DISCORDANCE = 0.15
POWER = 0.8
_NORMAL = 1e4  # degrees of freedom from which t is taken as normal


@dataclass(frozen=True, slots=True)
class Precision:
    """Expected standard error of a paired change, in the unit of the values, and its degrees of freedom."""

    se: float
    df: float


def minimum_detectable(se: float, df: float, confidence: float, power: float = POWER, *, tests: int = 1) -> float:
    """The smallest change beyond the allowed one that an interval of `confidence` is wholly beyond with probability
    `power`. `tests`: how many gates Holm corrects for, in its hardest step (Bonferroni's).

    Infinite with no degrees of freedom.

    Raises:
        ComparisonError: an argument has no meaning.
    """
    _between("confidence", confidence)
    _check(power, tests)
    if not se >= 0.0:
        raise ComparisonError(f"the standard error is {se}", where="se", fix="give what plan_se gives")
    if df <= 0.0 or se == math.inf:
        return math.inf
    return se * _detectable_errors(df, (1.0 - confidence) / 2.0 / tests, power)


def plan_se(
    items: int,
    clusters: int,
    seeds: int,
    *,
    discordance: float | None = None,
    item_sd: float | None = None,
    seed_sd: float = 0.0,
    design_effect: float = 1.0,
) -> Precision:
    """`planned_contrast` as its standard error and degrees of freedom: those of a t interval as wide at 95%.

    Raises:
        ComparisonError: as there.
    """
    contrast = planned_contrast(
        items,
        clusters,
        seeds,
        discordance=discordance,
        item_sd=item_sd,
        seed_sd=seed_sd,
        design_effect=design_effect,
    )
    return Precision(math.sqrt(contrast.variance), contrast.df)


def detectable(contrast: Contrast, confidence: float, power: float = POWER, *, tests: int = 1) -> float:
    """`minimum_detectable` of a contrast, planned or measured, with the degrees of freedom that its interval has at the
    level asked for: with few seeds they fall as `tests` grows.

    Raises:
        ComparisonError: an argument has no meaning.
    """
    _between("confidence", confidence)
    _check(power, tests)
    df = contrast.df_at(1.0 - (1.0 - confidence) / tests)
    return minimum_detectable(math.sqrt(contrast.variance), df, confidence, power, tests=tests)


def planned_contrast(
    items: int,
    clusters: int,
    seeds: int,
    *,
    discordance: float | None = None,
    item_sd: float | None = None,
    seed_sd: float = 0.0,
    design_effect: float = 1.0,
) -> Contrast:
    """What is to be expected of a paired change over `items` in `clusters`, with so many seeds.

    Either `discordance`, the share of items whose preference differs between the two sides (a change then is in points,
    and an item's has a standard deviation of 100 sqrt(discordance)), or `item_sd`, the standard deviation of an item's
    change. `design_effect`: how many times the variance is larger than that of independent items. `seed_sd`: standard
    deviation of the change between seeds; 0 asks about these checkpoints alone, and so does one seed.

    The variance is design_effect item_sd^2 / items + seed_sd^2 / seeds: an item's change is taken to be the same for
    every seed, which is cautious.

    Where the reference is as close to the metric's target as it is known, a change must also be told from one through
    the target, for which the mean of both sides counts and not their difference: of preferences its items have a
    standard deviation of 100 sqrt(1 - discordance). Plan with 1 - discordance too, and take the larger effect.

    Raises:
        ComparisonError: a number has no meaning, or not exactly one of `discordance` and `item_sd` is given.
    """
    sd = _item_sd(discordance, item_sd)
    for name, count in (("items", items), ("clusters", clusters), ("seeds", seeds)):
        if count < 1:
            raise ComparisonError(f"{name} is {count}", where=f"{name}=", fix="plan with at least one")
    for name, value in (("seed_sd", seed_sd), ("design_effect", design_effect)):
        if not 0.0 <= value < math.inf:
            raise ComparisonError(f"{name} is {value}", where=f"{name}=", fix="give a finite number, at least 0")
    return Contrast(
        estimate=0.0,
        seeds=seeds,
        seed_sd=seed_sd if seeds > 1 and seed_sd > 0.0 else None,
        cluster_se=sd * math.sqrt(design_effect / items),
        interaction_se=0.0,
        cluster_df=clusters - 1.0,
    )


def seeds_needed(
    change: float,
    items: int,
    clusters: int,
    *,
    discordance: float | None = None,
    item_sd: float | None = None,
    seed_sd: float,
    design_effect: float = 1.0,
    confidence: float = 0.95,
    power: float = POWER,
    tests: int = 1,
) -> int | None:
    """The smallest number of seeds, 2 to 100, with which `change` (beyond the allowed one) is detected with `power`;
    None where the items alone are too few.

    Raises:
        ComparisonError: as `plan_se` and `minimum_detectable`.
    """
    for seeds in range(2, MAX_SEEDS + 1):
        planned = planned_contrast(
            items,
            clusters,
            seeds,
            discordance=discordance,
            item_sd=item_sd,
            seed_sd=seed_sd,
            design_effect=design_effect,
        )
        if detectable(planned, confidence, power, tests=tests) <= change:
            return seeds
    return None


def preference_mde(
    items: int,
    discordance: float = DISCORDANCE,
    *,
    design_effect: float = 1.0,
    tests: int = 1,
    power: float = POWER,
    alpha: float = 0.05,
) -> float:
    """Minimum detectable change of a preference share, in points, of one checkpoint against another: a one-sided normal
    test at `alpha` / `tests` of paired preferences.

    (z(1 - alpha / tests) + z(power)) 100 sqrt(discordance design_effect / items). It knows of no seeds, so it is the
    least that any number of them can reach. A gate of confidence 0.95 has alpha = 0.025.

    Raises:
        ComparisonError: a number has no meaning.
    """
    _between("alpha", alpha)
    _check(power, tests)
    planned = plan_se(items, items, 1, discordance=discordance, design_effect=design_effect)
    return planned.se * _detectable_errors(math.inf, alpha / tests, power)


def _detectable_errors(df: float, alpha: float, power: float) -> float:
    """Effect in standard errors that a one-sided t test at `alpha` sees with `power`."""
    normal = float(ndtri(1.0 - alpha) + ndtri(power))
    if df >= _NORMAL:
        return normal
    critical = float(stdtrit(df, 1.0 - alpha))

    def short(effect: float) -> float:
        return (1.0 - power) - float(nctdtr(df, effect, critical))

    highest = max(normal, 1.0)
    while short(highest) < 0.0:
        highest *= 2.0
    return float(brentq(short, 0.0, highest, xtol=1e-9))


def _item_sd(discordance: float | None, item_sd: float | None) -> float:
    if (discordance is None) == (item_sd is None):
        raise ComparisonError(
            "a plan needs either the discordance of items or their standard deviation",
            where="discordance=, item_sd=",
            fix="give discordance for a preference share, item_sd for a mean",
        )
    if discordance is not None:
        if not 0.0 <= discordance <= 1.0:
            raise ComparisonError(
                f"the discordance is {discordance}", where="discordance=", fix="it is a share, between 0 and 1"
            )
        return 100.0 * math.sqrt(discordance)
    if item_sd is None or not 0.0 <= item_sd < math.inf:
        raise ComparisonError(f"item_sd is {item_sd}", where="item_sd=", fix="give a finite number, at least 0")
    return item_sd


def _between(name: str, value: float) -> None:
    if not 0.0 < value < 1.0:
        raise ComparisonError(f"{name} is {value}", where=f"{name}=", fix="it lies between 0 and 1")


def _check(power: float, tests: int) -> None:
    _between("power", power)
    if tests < 1:
        raise ComparisonError(f"the number of tests is {tests}", where="tests=", fix="at least this one")
