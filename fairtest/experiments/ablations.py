"""What takes a DP arm apart: its clipping, its noise and its batches, each by itself, and its twin without DP, stopped
where it has learned as much. None of them claims any privacy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fairtest.errors import SpecError
from fairtest.specs import Arm

if TYPE_CHECKING:
    from fairtest.experiments.claims import Claims
    from fairtest.privacy.accounting import PrivacyPlan
    from fairtest.training.steps import NoiseSpec

CLIP_ONLY, NOISE_ONLY, SHUFFLED, MATCHED = "clip_only", "noise_only", "shuffled", "baseline_matched"
PARTS = (CLIP_ONLY, NOISE_ONLY, SHUFFLED, "matched")  # methods of an arm
# The named arm whose parts have plain names; those of another arm end in its name.
_PLAIN = {CLIP_ONLY: "dp", NOISE_ONLY: "dp", MATCHED: "dp", SHUFFLED: "baseline"}


def derived(spec: Arm, part: str) -> Arm:
    """One of what takes an arm apart.

    Raises:
        SpecError: the arm has no such part.
    """
    method = "matched" if part == MATCHED else part
    where = f"arm {spec.name}, {method}()"
    if spec.ablation is not None or spec.matched_to is not None:
        raise SpecError(
            f"arm {spec.name!r} is itself a part of another arm, and is not taken apart again",
            where=where,
            fix=f"ask the arm that it was made of, for example arms.{_PLAIN[part]}.{method}()",
        )
    if spec.training is None or (spec.dp is None) != (part == SHUFFLED):
        wanted = "one that is fine-tuned without DP" if part == SHUFFLED else "an arm with DP"
        raise SpecError(
            f"arm {spec.name!r} has no {method} arm: it takes {wanted}",
            where=where,
            fix=f"ask arms.{_PLAIN[part]}.{method}(), or an arm of yours: finetune(name=..., dp=...)"
            if part != SHUFFLED
            else "ask arms.baseline.shuffled(), or an arm of yours without dp: finetune(name=...)",
        )
    name = part if spec.name == _PLAIN[part] else f"{part}_{spec.name}"
    if part == MATCHED:
        return Arm(name=name, training=spec.training, cda=spec.cda, matched_to=spec)
    return Arm(name=name, training=spec.training, dp=spec.dp, cda=spec.cda, ablation=part)


def why_no_claim(spec: Arm) -> str | None:
    """Why a part of a DP arm has no privacy statement though it has a `dp`; None of other arms."""
    if spec.dp is None or spec.private:
        return None
    what = {CLIP_ONLY: "its clipping without its noise", NOISE_ONLY: "its noise without its clipping"}
    return f"{spec.name} is a part of a DP arm, {what[spec.ablation or '']}, and claims no privacy"


def prepare_noise(claims: Claims, spec: Arm) -> None:
    """Works out once what noise and clipping of all seeds share."""
    if spec.dp is not None:
        _plan(claims, spec)
        claims.max_grad_norm(spec)


def noise_of(claims: Claims, spec: Arm) -> NoiseSpec | None:
    """What is done to the gradients of an arm: the DP arm's clipping and noise, or one of the two; None: nothing.

    An ablation draws as a comparison does, never as a release: it is there to be set beside other arms of its seed.
    """
    if spec.dp is None:
        return None
    from fairtest.training.steps import NoiseSpec

    plan = _plan(claims, spec)
    max_grad_norm, clipping = claims.max_grad_norm(spec), spec.dp.clipping
    if plan is None:  # clip_only: an arm that is private has a plan
        return NoiseSpec(0.0, max_grad_norm, clipping=clipping)
    if spec.ablation == NOISE_ONLY:
        return NoiseSpec(plan.noise_multiplier, max_grad_norm, clips=False)
    return NoiseSpec(plan.noise_multiplier, max_grad_norm, release=spec.dp.release, clipping=clipping)


def _plan(claims: Claims, spec: Arm) -> PrivacyPlan | None:
    """Where the noise comes from; None where there is none."""
    return claims.calibrated(spec) if spec.ablation == NOISE_ONLY else claims.plan(spec)
