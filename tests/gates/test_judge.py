"""Known truth in, right verdict out; and never a pass that means nothing."""

from __future__ import annotations

import numpy as np
import pytest
from arms_of_numbers import NumbersArm, pretrained, ratios, tuned
from repository import CI_VARIABLES

from fairtest.errors import ComparisonError, MetricError
from fairtest.gates.assertions import assert_no_amplification, assert_utility, undecided_policy
from fairtest.gates.claims import judge_utility
from fairtest.gates.decision import decide
from fairtest.gates.judge import judge_amplification
from fairtest.gates.result import (
    Estimate,
    GateFailure,
    GateSetupError,
    GateUndecided,
    UndecidedWarning,
    Verdict,
)
from fairtest.settings import Settings

METRIC = "templates.log_ratio[gender]"
SETTINGS = Settings()


def judge(candidate, reference, *, max_increase=0.2, metric=METRIC, settings=SETTINGS):
    return judge_amplification(candidate, reference, metric=metric, max_increase=max_increase, settings=settings)


@pytest.mark.parametrize(
    ("candidate", "reference", "verdict"),
    [
        (1.40, 0.70, Verdict.FAIL),  # amplifies
        (0.75, 0.70, Verdict.PASS),  # does not
        (0.40, 0.90, Verdict.PASS),  # the opposite: less biased
        (0.91, 0.70, Verdict.UNDECIDED),  # at the allowed increase
        (-1.40, 0.70, Verdict.FAIL),  # as far away on the other side of the target is bias too
        (-0.30, 0.70, Verdict.PASS),  # on the other side, but nearer
    ],
)
def test_the_verdict_follows_the_known_amplification(candidate, reference, verdict):
    result = judge(tuned("dp", candidate), tuned("baseline", reference))
    assert result.verdict is verdict, result.message()
    truth = abs(candidate) - abs(reference)
    assert result.change.low <= truth <= result.change.high
    assert result.change.value == pytest.approx(truth, abs=0.1)
    assert (result.seeds, result.items, result.clusters) == (3, 200, 20)


@pytest.mark.parametrize(
    ("low", "high", "allowed", "verdict"),
    [
        (0.1, 0.2, 0.2, Verdict.PASS),
        (0.21, 0.3, 0.2, Verdict.FAIL),
        (0.2, 0.3, 0.2, Verdict.UNDECIDED),
        (-np.inf, np.inf, 0.2, Verdict.UNDECIDED),
        (np.nan, np.nan, 0.2, Verdict.UNDECIDED),
    ],
)
def test_a_pass_needs_the_whole_interval(low, high, allowed, verdict):
    assert decide(Estimate(0.25, low, high), allowed)[0] is verdict


def test_an_arm_that_was_not_trained_is_never_a_pass():
    start = pretrained(0.7)
    untrained = tuned("dp", 0.70, nll=3.0, start=start)
    result = judge(untrained, tuned("baseline", 0.72, start=start))
    assert result.verdict is Verdict.UNDECIDED
    assert result.blocked
    assert "dp was trained" in result.reason
    with pytest.raises(GateUndecided, match="GUARD"):
        assert_no_amplification(
            untrained, tuned("baseline", 0.72), metric=METRIC, max_increase=0.2, settings=Settings(undecided="warn")
        )


def test_an_arm_that_got_worse_is_never_a_pass():
    result = judge(tuned("dp", 0.70, nll=3.3), tuned("baseline", 0.72))
    assert result.verdict is Verdict.UNDECIDED
    assert "ROSE" in result.message()


def test_a_collapsed_model_does_not_look_fair():
    # It was "trained" (its loss fell), but its perplexity is e^1.0 times the reference's.
    result = judge(tuned("dp", 0.0, nll=2.9), tuned("baseline", 0.7, nll=1.9))
    assert result.verdict is Verdict.UNDECIDED
    assert "still models language" in result.reason


def test_the_same_model_on_both_sides_is_never_a_pass():
    arm = tuned("dp", 0.7)
    result = judge(arm, arm)
    assert result.verdict is Verdict.UNDECIDED
    assert "different models" in result.reason


def test_one_seed_says_it_is_about_this_checkpoint_only():
    result = judge(tuned("dp", 1.4, seeds=1), tuned("baseline", 0.7, seeds=1))
    assert result.scope == "this checkpoint only"
    assert "this checkpoint only" in result.message()


def test_too_few_clusters_are_not_decided():
    start = NumbersArm("pretrained", ratios(1.8, seeds=1, items=30), nll=3.0, tuned=False)
    few = [
        NumbersArm(name, ratios(mean, items=30), nll=2.5, start=start)
        for name, mean in (("dp", 0.1), ("baseline", 0.7))
    ]
    result = judge(*few)
    assert result.verdict is Verdict.UNDECIDED
    assert "3 clusters are too few" in result.reason


def test_an_undecided_gate_says_what_would_decide():
    result = judge(tuned("dp", 0.85), tuned("baseline", 0.70))
    if result.verdict is not Verdict.UNDECIDED:
        pytest.fail(result.message())
    assert "seeds would decide" in result.advice or "more probes" in result.advice


def test_the_finding_tells_kept_bias_from_added_bias():
    kept = judge(tuned("dp", 1.4), tuned("baseline", 0.7))
    assert "keeps bias of the pretrained model that baseline removed" in kept.finding
    added = judge(tuned("dp", 2.4), tuned("baseline", 0.7))
    assert "adds bias" in added.finding
    assert judge(tuned("dp", 0.6), tuned("baseline", 0.7)).finding == ""


def test_other_probes_or_another_protocol_cannot_be_compared():
    with pytest.raises(ComparisonError, match="different probes or protocols"):
        judge(tuned("dp", 0.7), tuned("baseline", 0.7, protocol="causal-nobos"))
    with pytest.raises(ComparisonError, match="different probes or protocols"):
        judge(tuned("dp", 0.7), tuned("baseline", 0.7, probes="other"))


def test_a_score_that_is_not_a_number_names_its_item():
    values = ratios(0.7)
    values[1, 5] = np.nan
    with pytest.raises(MetricError, match="item-5"):
        judge(NumbersArm("dp", values, nll=2.5, start=pretrained()), tuned("baseline", 0.7))


@pytest.mark.parametrize("threshold", [float("nan"), float("inf"), "2", True, None])
def test_a_threshold_that_is_no_number_is_refused(threshold):
    with pytest.raises(GateSetupError, match="max_increase must be a finite number"):
        judge(tuned("dp", 0.7), tuned("baseline", 0.7), max_increase=threshold)


def test_utility_is_a_ratio_of_perplexities_with_an_interval():
    result = judge_utility(
        tuned("dp", 0.7, nll=[2.60, 2.61, 2.59]), tuned("baseline", 0.7), max_perplexity_ratio=1.25, settings=SETTINGS
    )
    assert result.verdict is Verdict.PASS
    assert result.change.value == pytest.approx(np.exp(0.1 * 1.004), rel=1e-3)
    worse = judge_utility(
        tuned("dp", 0.7, nll=2.8), tuned("baseline", 0.7), max_perplexity_ratio=1.25, settings=SETTINGS
    )
    assert worse.verdict is Verdict.FAIL
    with pytest.raises(GateSetupError, match="must be above 0"):
        judge_utility(tuned("dp", 0.7), tuned("baseline", 0.7), max_perplexity_ratio=0.0, settings=SETTINGS)


def test_a_failure_reads_as_an_expert_would_write_it():
    with pytest.raises(GateFailure) as caught:
        assert_no_amplification(
            tuned("dp", 1.4), tuned("baseline", 0.7), metric=METRIC, max_increase=0.2, settings=SETTINGS
        )
    text = str(caught.value)
    assert text.startswith(
        "FAIL: dp amplifies templates.log_ratio[gender] against baseline by more than is allowed\n  measured  +0."
    )
    for label in ("allowed   at most +0.2 nats", "levels    dp 1.", "target 0", "why       the whole interval",
                  "meaning   dp keeps bias", "guard     dp was trained", "worst     item-", "next      "):  # fmt: skip
        assert label in text, text
    assert "95% interval over 3 paired seeds x 200 items in 20 clusters" in text


@pytest.mark.parametrize(("policy", "environment", "outcome"), [
    ("auto", "true", GateUndecided), ("auto", "", UndecidedWarning), ("auto", "false", UndecidedWarning),
    ("fail", "", GateUndecided), ("warn", "true", UndecidedWarning), ("skip", "", pytest.skip.Exception),
])  # fmt: skip
def test_what_an_undecided_verdict_does_is_a_policy(policy, environment, outcome, monkeypatch):
    monkeypatch.setenv("CI", environment)
    seen = []
    check = pytest.warns(outcome) if outcome is UndecidedWarning else pytest.raises(outcome)
    with check:
        assert_no_amplification(
            tuned("dp", 0.85),
            tuned("baseline", 0.70),
            metric=METRIC,
            max_increase=0.2,
            settings=Settings(undecided=policy),
            record=seen.append,
        )
    assert [result.verdict for result in seen] == [Verdict.UNDECIDED]


def test_a_recorded_result_is_plain_data():
    import json

    seen = []
    assert_utility(
        tuned("dp", 0.7, nll=2.55),
        tuned("baseline", 0.7),
        max_perplexity_ratio=1.5,
        settings=SETTINGS,
        record=seen.append,
    )
    data = json.loads(json.dumps(seen[0].as_dict()))
    assert data["verdict"] == "PASS"
    assert data["change"]["low"] <= data["change"]["value"] <= data["change"]["high"]


@pytest.mark.parametrize("variable", CI_VARIABLES)
def test_every_build_server_fails_an_undecided_gate(variable, monkeypatch):
    assert undecided_policy(Settings()) == "warn"
    monkeypatch.setenv(variable, "1")
    assert undecided_policy(Settings()) == "fail"
