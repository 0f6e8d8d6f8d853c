"""A privacy statement as sentences: what a reviewer signs, a line for a terminal, and what limits the claim."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from fairtest.privacy.terms import NOT_STATED

if TYPE_CHECKING:
    from fairtest.privacy.statement import PrivacyStatement


def prose_of(statement: PrivacyStatement) -> str:
    """The statement as a paragraph for a report or a model card; every field is in it."""
    sentences = [_claim(statement), _contribution(statement), _mechanism(statement), _accounting(statement)]
    sentences.append(f"Noise: {statement.noise_generator}. Released: {statement.released}.")
    sentences.append(f"Not covered: {'; '.join(statement.not_covered)}.")
    caveat = caveat_of(statement)
    if caveat:
        sentences.append(f"{caveat[0].upper()}{caveat[1:]}.")
    return " ".join(sentences)


def summary_of(statement: PrivacyStatement) -> str:
    """The statement in one line."""
    strength = f"epsilon {statement.epsilon:.3g}" if math.isfinite(statement.epsilon) else "no finite epsilon"
    if statement.epsilon_claimed is not None:
        strength += f" (claimed {statement.epsilon_claimed:#.3g} as if copies were other people)"
    units = f"{statement.units}" + (f" of which {statement.copies} copies" if statement.copies else "")
    line = (
        f"{strength} at delta {statement.delta:.3g} ({statement.delta_times_units:.2g}/N), per {statement.unit}:"
        f" N {units}, q {statement.sample_rate:.4g}, {statement.steps} steps, sigma"
        f" {statement.noise_multiplier:.4g}, C {statement.max_grad_norm:.4g}, {statement.accountant}"
    )
    return f"{line}; not for release" if statement.repeatable else line


def caveat_of(statement: PrivacyStatement) -> str:
    """What limits the claim even where it holds; empty where nothing does."""
    limits = []
    if statement.epsilon_claimed is not None:
        limits.append(
            f"claimed {statement.epsilon_claimed:#.3g} as if copies were other people; for a person whose"
            f" {statement.unit} has {_number(statement.max_copies_per_unit)} it is {_strength(statement.epsilon)}"
        )
    repeated = statement.repeated_units
    if repeated:
        two = ""
        if statement.epsilon_of_two is not None:
            two = f"; for a person behind two of them epsilon is {statement.epsilon_of_two:.3g} at the same delta"
        limits.append(
            f"{repeated} of {statement.originals} units have the text of another unit: where they come from"
            f" one person, this epsilon is not that person's (name the person's column as the unit){two}"
        )
    if statement.repeatable:
        limits.append(
            "the noise can be drawn again from its seed, and arms of one seed share their noise, which serves"
            " paired comparisons: weights made this way are not for release"
        )
    return "; ".join(limits)


def _claim(statement: PrivacyStatement) -> str:
    delta = f"delta = {statement.delta:.3g} ({statement.delta_times_units:.2g} times 1/N, N = {statement.originals})"
    if math.isfinite(statement.epsilon):
        strength = f"Training gives epsilon = {statement.epsilon:.3g} at {delta} of differential privacy"
    else:
        strength = f"Training gives no finite epsilon at {delta}: it is not differentially private"
    together = " together with its copies" if statement.copies else ""
    return f"{strength}. Neighbouring corpora: {statement.neighbouring}; the unit is one {statement.unit}{together}."


def _contribution(statement: PrivacyStatement) -> str:
    views = "one text"
    if statement.max_views_per_unit > 1:
        views = (
            f"up to {statement.max_views_per_unit} texts (counterfactuals included), whose gradients are"
            f" {statement.views_handling}"
        )
    most = statement.max_records_per_unit
    records = "" if most is None else f", from {'one record' if most == 1 else f'at most {most} records'}"
    left_out = statement.records_left_out
    capped = f" ({left_out} record{'s' * (left_out != 1)} above that cap left out)" if left_out else ""
    return f"Each unit contributes {views}{records}{capped}.{_copies(statement)}"


def _copies(statement: PrivacyStatement) -> str:
    if not statement.copies:
        return ""
    return (
        f" Counterfactuals are units of their own: {statement.copies} of the {statement.units} units that are sampled"
        f" are copies of others, at most {statement.max_copies_per_unit} of one, each sampled and clipped by itself."
    )


def _number(copies: int) -> str:
    return "a copy" if copies == 1 else f"{copies} copies"


def _strength(epsilon: float) -> str:
    return f"{epsilon:.3g}" if math.isfinite(epsilon) else "infinite"


def _mechanism(statement: PrivacyStatement) -> str:
    chosen = statement.max_grad_norm_chosen
    chosen = f"how C was chosen is {NOT_STATED}" if chosen == NOT_STATED else chosen
    return (
        f"Mechanism: {statement.steps} steps, in each of which a unit is in the batch with probability q ="
        f" {statement.sample_rate:.4g} ({statement.batch_size} of {statement.units} units are expected; sampler"
        f" {statement.sampler_actual}, accounted as {statement.sampler_declared}), its gradient is clipped to the L2"
        f" norm C = {statement.max_grad_norm:.4g} ({chosen}), and Gaussian noise of sigma ="
        f" {statement.noise_multiplier:.4g} times C is added to the sum. Clipping engine: {statement.clipping}."
        f" Optimizer: {statement.optimizer}."
    )


def _accounting(statement: PrivacyStatement) -> str:
    beside = "" if statement.epsilon_prv is None else f"; the PRV accountant gives {statement.epsilon_prv:.3g}"
    return f"Accountant: {statement.accountant}{beside}."
