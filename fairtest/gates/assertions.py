"""Assertion helpers: plain functions, usable in any test runner or notebook."""

from __future__ import annotations

import os
from collections.abc import Callable

from fairtest.errors import warn_user
from fairtest.experiments.arms import Measured, TunedArm
from fairtest.experiments.checkpoint import Checkpoint
from fairtest.gates.claims import judge_privacy_claim, judge_utility
from fairtest.gates.compare import require_arms
from fairtest.gates.judge import judge_amplification, judge_bias_within, judge_kept_score, judge_mitigated
from fairtest.gates.looks import at_looks
from fairtest.gates.regression import judge_regression
from fairtest.gates.result import (
    GateFailure,
    GateResult,
    GateSetupError,
    GateUndecided,
    UndecidedWarning,
    Verdict,
)
from fairtest.settings import Settings

Record = Callable[[GateResult], None]

# What build servers set: GitHub, GitLab, Travis, Circle and many others; Jenkins; Azure; TeamCity; AWS CodeBuild.
_CI_VARIABLES = ("CI", "BUILD_NUMBER", "JENKINS_URL", "TF_BUILD", "TEAMCITY_VERSION", "CODEBUILD_BUILD_ID")


def assert_no_amplification(
    candidate: Measured,
    reference: Measured,
    *,
    metric: str,
    max_increase: float,
    settings: Settings | None = None,
    record: Record | None = None,
) -> GateResult:
    """Fails when the candidate is further from the metric's target than the reference by more than `max_increase`
    (the metric's unit).

    Args:
        candidate, reference: arms, for example `arms.dp_cda` and `arms.baseline`.
        metric: for example "templates.log_ratio[gender]" or "stereoset.ss[gender]".
        max_increase: allowed amplification, |candidate - target| - |reference - target|.
        settings: confidence, guards and policy; None: those of the candidate's experiment.
        record: is given the result before anything is raised.

    Raises:
        GateFailure: the verdict is FAIL.
        GateUndecided: a guard is not met, or the verdict is UNDECIDED and the policy is "fail".
        FairtestError: the question has no answer as asked.
    """
    __tracebackhide__ = True
    settings = settings or settings_of(candidate)
    require_arms(candidate, reference)

    def judge(arms: tuple[Measured, ...], settings: Settings) -> GateResult:
        return judge_amplification(*arms, metric=metric, max_increase=max_increase, settings=settings)

    return settle(at_looks(judge, (candidate, reference), settings), settings, record)


def assert_bias_within(
    arm: Measured,
    *,
    metric: str,
    max_distance: float,
    settings: Settings | None = None,
    record: Record | None = None,
) -> GateResult:
    """Fails when the arm's metric is further than `max_distance` from its target (0 of a log ratio, 50 of a stereotype
    score), whatever another arm does.

    Raises:
        GateFailure, GateUndecided, FairtestError: as `assert_no_amplification`.
    """
    __tracebackhide__ = True
    settings = settings or settings_of(arm)
    require_arms(arm)

    def judge(arms: tuple[Measured, ...], settings: Settings) -> GateResult:
        return judge_bias_within(*arms, metric=metric, max_distance=max_distance, settings=settings)

    return settle(at_looks(judge, (arm,), settings), settings, record)


def assert_mitigated(
    candidate: Measured,
    amplified: Measured,
    reference: Measured,
    *,
    metric: str,
    min_reduction: float,
    settings: Settings | None = None,
    record: Record | None = None,
) -> GateResult:
    """Fails when the candidate is not nearer to the metric's target than `amplified` by at least `min_reduction` (the
    metric's unit).

    Args:
        candidate, amplified, reference: for example `arms.dp_cda`, `arms.dp`, `arms.baseline`: does CDA undo what DP
            raised? Where `amplified` is not further from the target than `reference` beyond doubt, nothing was raised,
            and the verdict is UNDECIDED.

    Raises:
        GateFailure, GateUndecided, FairtestError: as `assert_no_amplification`.
    """
    __tracebackhide__ = True
    settings = settings or settings_of(candidate)
    require_arms(candidate, amplified, reference)

    def judge(arms: tuple[Measured, ...], settings: Settings) -> GateResult:
        return judge_mitigated(*arms, metric=metric, min_reduction=min_reduction, settings=settings)

    return settle(at_looks(judge, (candidate, amplified, reference), settings), settings, record)


def assert_utility(
    candidate: Measured,
    reference: Measured,
    *,
    max_perplexity_ratio: float | None = None,
    max_lms_drop: float | None = None,
    metric: str = "stereoset.lms",
    settings: Settings | None = None,
    record: Record | None = None,
) -> GateResult:
    """Fails when the candidate's held-out perplexity is more than `max_perplexity_ratio` times the reference's, or, if
    that is asked for instead, when its language modelling score `metric` is more than `max_lms_drop` points lower.

    Raises:
        GateFailure, GateUndecided, FairtestError: as `assert_no_amplification`.
    """
    __tracebackhide__ = True
    settings = settings or settings_of(candidate)
    require_arms(candidate, reference)
    if (max_perplexity_ratio is None) == (max_lms_drop is None):
        raise GateSetupError(
            "utility is one claim: a ratio of perplexities, or a drop of the language modelling score",
            where="assert_utility",
            fix="give max_perplexity_ratio= or max_lms_drop=, one of them",
        )

    def judge(arms: tuple[Measured, ...], settings: Settings) -> GateResult:
        if max_perplexity_ratio is not None:
            return judge_utility(*arms, max_perplexity_ratio=max_perplexity_ratio, settings=settings)
        return judge_kept_score(*arms, metric=metric, max_drop=max_lms_drop, settings=settings)  # type: ignore[arg-type]

    return settle(at_looks(judge, (candidate, reference), settings), settings, record)


def assert_no_regression(
    arm: Measured,
    *,
    metric: str,
    max_increase: float,
    settings: Settings | None = None,
    record: Record | None = None,
) -> GateResult:
    """Fails when the arm is further from the metric's target than its stored baseline by more than `max_increase` (the
    metric's unit).

    The baseline is read from `settings.baseline_dir`, under the model, the metric, its protocol, the probes and the
    arm's name; pytest --fairtest-update-baseline writes it.

    Raises:
        GateFailure, GateUndecided, FairtestError: as `assert_no_amplification`; there being no baseline is an error.
    """
    __tracebackhide__ = True
    settings = settings or settings_of(arm)
    return settle(judge_regression(arm, metric=metric, max_increase=max_increase, settings=settings), settings, record)


def assert_privacy(
    arm: Measured,
    *,
    max_epsilon: float,
    max_delta: float | None = None,
    unit: str | None = None,
    release: bool = False,
    allow_repeated: bool = False,
    settings: Settings | None = None,
    record: Record | None = None,
) -> GateResult:
    """Fails when the arm has no privacy statement, the statement does not hold, or its budget is above `max_epsilon`,
    `max_delta`.

    Args:
        unit: the privacy unit the claim has to be about ("record", or the name of the unit column); None: any.
        release: the weights will be published, so noise that can be drawn again from a seed is refused.
        allow_repeated: accept a corpus in which many records repeat (or mirror) the text of others, although each
            record is counted as a unit of its own: only where you know that no person is behind two of them.

    Raises:
        GateFailure, GateUndecided, FairtestError: as `assert_no_amplification`.
    """
    __tracebackhide__ = True
    settings = settings or settings_of(arm)
    result = judge_privacy_claim(
        arm,
        max_epsilon=max_epsilon,
        max_delta=max_delta,
        unit=unit,
        release=release,
        allow_repeated=allow_repeated,
        settings=settings,
    )
    return settle(result, settings, record)


def settle(result: GateResult, settings: Settings, record: Record | None = None) -> GateResult:
    """Turns a verdict into what a test does: returns, warns, skips, or raises `GateFailure` or `GateUndecided`."""
    __tracebackhide__ = True
    if record is not None:
        record(result)
    if result.recorded or (result.verdict is Verdict.PASS and not result.blocked):
        return result
    if result.verdict is Verdict.FAIL:
        raise GateFailure(result)
    if result.blocked or undecided_policy(settings) == "fail":
        raise GateUndecided(result)
    if undecided_policy(settings) == "skip":
        import pytest

        pytest.skip(result.message())
    if undecided_policy(settings) == "warn":
        warn_user(result.message(), UndecidedWarning)
    return result


def undecided_policy(settings: Settings) -> str:
    """What an UNDECIDED verdict does here and now to its test: "fail", "warn", "pass" or "skip"."""
    if settings.undecided != "auto":
        return settings.undecided
    under_ci = any(os.environ.get(name, "").lower() not in ("", "0", "false") for name in _CI_VARIABLES)
    return "fail" if under_ci else "warn"


def settings_of(arm: Measured) -> Settings:
    """The settings of an arm's own experiment, or those that a checkpoint was given; else the defaults."""
    require_arms(arm)
    if isinstance(arm, TunedArm):
        return arm.experiment.settings
    return arm.settings if isinstance(arm, Checkpoint) else Settings()
