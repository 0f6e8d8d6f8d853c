"""Whether a privacy claim holds, and stays within a budget: each fault in one sentence."""

from __future__ import annotations

import math
from collections.abc import Iterator

from fairtest.privacy.statement import PrivacyStatement
from fairtest.privacy.terms import ADD_OR_REMOVE_ONE, CLIPPED_TOGETHER, NOISE_SEEDED, NOISE_SEEDED_GPU, POISSON

MOST_REPEATED = 0.05


def judge_privacy(
    statement: PrivacyStatement | None,
    max_epsilon: float,
    max_delta: float | None = None,
    unit: str | None = None,
    *,
    release: bool = False,
    recompute: bool = False,
    allow_repeated: bool = False,
) -> list[str]:
    """What is wrong with a claim, each in one sentence; empty where it holds and stays within the budget.

    `release` asks for noise that nobody can draw again: for weights that leave the house.
    `recompute` also derives epsilon anew from sigma, q, steps and delta (a second of work): for claims of others.
    `allow_repeated` accepts that more than 5% of the records repeat others: for text that no one person repeats.
    """
    if statement is None:
        return ["there is no privacy statement: the arm was trained without differential privacy"]
    problems = [*_budget_problems(statement, max_epsilon, max_delta), *_mechanism_problems(statement)]
    if unit is not None and statement.unit != unit:
        problems.append(f"the privacy unit is one {statement.unit}, and one {unit} is required")
    seeded = any(name in statement.noise_generator for name in (NOISE_SEEDED, NOISE_SEEDED_GPU))
    if release and (statement.repeatable or seeded):
        problems.append(
            "the noise can be drawn again by whoever knows the run's seed, so these weights are not for release:"
            " train with DP(release=True)"
        )
    if not allow_repeated:
        problems += _repetition_problem(statement)
    if recompute and not problems:
        problems += _recomputed_problem(statement)
    return problems


def _budget_problems(statement: PrivacyStatement, max_epsilon: float, max_delta: float | None) -> Iterator[str]:
    epsilon, delta, units = statement.epsilon, statement.delta, statement.units
    if not math.isfinite(epsilon) or statement.noise_multiplier == 0:
        yield "there is no privacy: no noise was added, so epsilon is infinite"
    elif not epsilon <= max_epsilon:
        yield f"epsilon {epsilon:.4g} is above the allowed {max_epsilon:g}{_of_copies(statement)}"
    if not delta < 1 / units:
        yield f"delta {delta:.3g} is not below 1/N = {1 / units:.3g}"
    if max_delta is not None and not delta <= max_delta:
        yield f"delta {delta:.3g} is above the allowed {max_delta:g}"
    if statement.epsilon_of_two is not None and statement.epsilon_of_two < epsilon:
        yield (
            f"epsilon {epsilon:.4g} of one unit cannot be above that of a person behind two,"
            f" {statement.epsilon_of_two:.4g}"
        )


def _mechanism_problems(statement: PrivacyStatement) -> Iterator[str]:
    drawn, accounted, views = statement.sampler_actual, statement.sampler_declared, statement.max_views_per_unit
    if drawn != accounted:
        yield f"batches were drawn by {drawn} sampling and accounted as {accounted}"
    if views > 1 and statement.views_handling != CLIPPED_TOGETHER and not statement.copies:
        yield (
            f"a unit has up to {views} views and they were {statement.views_handling}, so it moves a step by up to"
            f" {views} clipping norms and not by one"
        )
    if statement.copies:
        yield from _copies_problems(statement)
    expected = statement.sample_rate * statement.units
    if not math.isclose(expected, statement.batch_size, rel_tol=1e-6):
        yield (
            f"the sampling rate {statement.sample_rate:.4g} does not belong to batches of {statement.batch_size} out of"
            f" {statement.units} units: q N is {expected:.6g}"
        )


def _of_copies(statement: PrivacyStatement) -> str:
    """Why epsilon is not what was claimed, where copies are units."""
    if statement.epsilon_claimed is None:
        return ""
    return (
        f": {statement.epsilon_claimed:#.3g} is claimed as if {statement.copies} copies were other people's, and"
        f" whoever is behind a {statement.unit} and its counterfactuals is in the corpus up to"
        f" {1 + statement.max_copies_per_unit} times (clip them with their {statement.unit}: CDA(mode='two_sided'))"
    )


def _copies_problems(statement: PrivacyStatement) -> Iterator[str]:
    """What cannot be true of a statement whose epsilon is to be that of a unit and its copies."""
    claimed, most = statement.epsilon_claimed, statement.max_copies_per_unit
    if statement.noise_multiplier > 0 and (claimed is None or not claimed < statement.epsilon):
        yield (
            f"{statement.copies} of the units are copies of others, so epsilon of a person cannot be what is claimed as"
            " if they were other people's"
        )
    if statement.max_views_per_unit > (statement.max_records_per_unit or 1) + most:
        yield (
            f"a unit has up to {statement.max_views_per_unit} texts, more than its records and {most} copies of it, so"
            " some counterfactual is not accounted for"
        )


def _repetition_problem(statement: PrivacyStatement) -> list[str]:
    repeated, units = statement.repeated_units, statement.originals
    # Without a column that names them, documents are records.
    one_each = statement.unit == "record" or (
        statement.unit == "document" and (statement.max_records_per_unit or 1) == 1
    )
    if not one_each or repeated <= MOST_REPEATED * units:
        return []
    two = "" if statement.epsilon_of_two is None else f" ({statement.epsilon_of_two:.3g} for one behind two of them)"
    problem = (
        f"{repeated} of {units} {statement.unit}s have the text of another {statement.unit} or its counterfactual, so"
        f" epsilon is per {statement.unit} and not per person{two}: name the person's column as unit_field"
    )
    return [problem]


def _recomputed_problem(statement: PrivacyStatement) -> list[str]:
    from fairtest.privacy.accounting import epsilon_of, group_epsilon

    if statement.sampler_actual != POISSON or statement.neighbouring != ADD_OR_REMOVE_ONE:
        return [f"epsilon cannot be recomputed for {statement.sampler_actual} sampling, {statement.neighbouring}"]
    parts = (statement.noise_multiplier, statement.sample_rate, statement.steps, statement.delta)
    found = group_epsilon(*parts, times=1 + statement.max_copies_per_unit) if statement.copies else epsilon_of(*parts)
    if found > statement.epsilon * 1.01 + 0.01:
        return [
            f"the stated epsilon {statement.epsilon:.4g} does not follow from its sigma, q and steps: {found:.4g} does"
        ]
    return []
