"""Assertion helpers: plain functions, usable in any test runner or notebook."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable

from fairtest.experiments.arms import Measured, TunedArm
from fairtest.gates.judge import judge_amplification, judge_privacy_claim, judge_utility, require_arms
from fairtest.gates.result import GateFailure, GateResult, GateUndecided, UndecidedWarning, Verdict
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
    settings = settings or _settings_of(candidate)
    result = judge_amplification(candidate, reference, metric=metric, max_increase=max_increase, settings=settings)
    return settle(result, settings, record)


def assert_utility(
    candidate: Measured,
    reference: Measured,
    *,
    max_perplexity_ratio: float,
    settings: Settings | None = None,
    record: Record | None = None,
) -> GateResult:
    """Fails when the candidate's held-out perplexity is more than `max_perplexity_ratio` times the reference's.

    Raises:
        GateFailure, GateUndecided, FairtestError: as `assert_no_amplification`.
    """
    __tracebackhide__ = True
    settings = settings or _settings_of(candidate)
    result = judge_utility(candidate, reference, max_perplexity_ratio=max_perplexity_ratio, settings=settings)
    return settle(result, settings, record)


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
    settings = settings or _settings_of(arm)
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
    if result.verdict is Verdict.PASS and not result.blocked:
        return result
    if result.verdict is Verdict.FAIL:
        raise GateFailure(result)
    if result.blocked or undecided_policy(settings) == "fail":
        raise GateUndecided(result)
    if undecided_policy(settings) == "skip":
        import pytest

        pytest.skip(result.message())
    warnings.warn(result.message(), UndecidedWarning, stacklevel=_stacklevel())
    return result


def undecided_policy(settings: Settings) -> str:
    """What an UNDECIDED verdict does here and now: "fail", "warn" or "skip" a test."""
    if settings.undecided != "auto":
        return settings.undecided
    under_ci = any(os.environ.get(name, "").lower() not in ("", "0", "false") for name in _CI_VARIABLES)
    return "fail" if under_ci else "warn"


def _stacklevel() -> int:
    """How many frames up the first caller outside this library is, for `warnings.warn` in `settle`."""
    frame = sys._getframe(2)  # noqa: SLF001 - the library's own stack, as `warnings` reads it
    level = 2
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "fairtest":
        frame, level = frame.f_back, level + 1
    return level


def _settings_of(arm: Measured) -> Settings:
    require_arms(arm)
    return arm.experiment.settings if isinstance(arm, TunedArm) else Settings()
