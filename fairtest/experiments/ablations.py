"""Parts of what a DP arm does, each by itself: clipping, noise, and batches. None of them claims any privacy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fairtest.specs import Arm

if TYPE_CHECKING:
    from fairtest.experiments.claims import Claims
    from fairtest.privacy.accounting import PrivacyPlan
    from fairtest.training.steps import NoiseSpec

NOISE_ONLY, SHUFFLED = "noise_only", "shuffled"


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
