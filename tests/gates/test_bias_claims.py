"""Claims beside amplification: near enough to the target, mitigated, kept language score; known truth in."""

from __future__ import annotations

import numpy as np
import pytest
from arms_of_numbers import NumbersArm, pretrained, ratios, tuned

from fairtest.errors import ComparisonError
from fairtest.gates.assertions import assert_bias_within, assert_mitigated, assert_utility
from fairtest.gates.judge import judge_bias_within, judge_mitigated
from fairtest.gates.result import GateFailure, GateSetupError, GateUndecided, Verdict
from fairtest.settings import Settings

METRIC = "templates.log_ratio[gender]"
SETTINGS = Settings(undecided="fail")


@pytest.mark.parametrize(
    ("mean", "verdict"),
    [(0.1, Verdict.PASS), (-0.1, Verdict.PASS), (1.2, Verdict.FAIL), (-1.2, Verdict.FAIL), (0.5, Verdict.UNDECIDED)],
)
def test_a_distance_counts_on_both_sides_of_the_target(mean, verdict):
    result = judge_bias_within(tuned("dp", mean), metric=METRIC, max_distance=0.5, settings=SETTINGS)
    assert result.verdict is verdict, result.message()
    assert result.change.low <= abs(mean) <= result.change.high
    assert result.change.low >= 0
    assert list(result.levels) == ["dp", "pretrained"]


def test_the_start_itself_may_be_judged_and_needs_no_training():
    result = judge_bias_within(pretrained(0.1), metric=METRIC, max_distance=0.5, settings=SETTINGS)
    assert result.verdict is Verdict.PASS
    assert result.scope == "this checkpoint only"


@pytest.mark.parametrize("arm", [tuned("dp", 0.0, nll=3.0), tuned("dp", 0.0, nll=4.2)])
def test_an_untrained_or_broken_model_is_not_near_enough_to_the_target(arm):
    with pytest.raises(GateUndecided, match="NOT MET"):
        assert_bias_within(arm, metric=METRIC, max_distance=0.5, settings=SETTINGS)


@pytest.mark.parametrize(("distance", "what"), [(0.0, "above 0"), (-1.0, "above 0"), (np.nan, "finite")])
def test_a_distance_that_nothing_can_keep_is_refused(distance, what):
    with pytest.raises(GateSetupError, match=what):
        judge_bias_within(tuned("dp", 0.1), metric=METRIC, max_distance=distance, settings=SETTINGS)


def mitigated(cured, raised=1.4, reference=0.7, *, least=0.3):
    arms = [tuned(name, mean) for name, mean in (("dp_cda", cured), ("dp", raised), ("baseline", reference))]
    return judge_mitigated(*arms, metric=METRIC, min_reduction=least, settings=SETTINGS)


@pytest.mark.parametrize(
    ("cured", "verdict"),
    [(0.8, Verdict.PASS), (-0.8, Verdict.PASS), (1.35, Verdict.FAIL), (1.6, Verdict.FAIL), (-1.5, Verdict.FAIL)],
)
def test_a_cure_brings_the_metric_nearer_by_what_was_asked_for(cured, verdict):
    result = mitigated(cured)
    assert result.verdict is verdict, result.message()
    assert result.allowed == -0.3
    assert list(result.levels) == ["dp_cda", "dp", "baseline"]


def test_where_nothing_was_raised_nothing_is_cured():
    result = mitigated(0.1, raised=0.7, reference=0.72)
    assert result.verdict is Verdict.UNDECIDED
    assert "dp is further from the target than baseline" in result.reason
    assert "assert_no_amplification is the gate for that" in result.advice


def test_a_cure_that_breaks_the_model_is_none():
    broken = tuned("dp_cda", 0.0, nll=2.95)
    arms = (broken, tuned("dp", 1.4, nll=2.0), tuned("baseline", 0.7, nll=2.0))
    with pytest.raises(GateUndecided, match="dp_cda still models language"):
        assert_mitigated(*arms, metric=METRIC, min_reduction=0.3, settings=SETTINGS)


def test_a_cure_that_changed_no_record_is_none():
    arms = (
        NumbersArm("dp_cda", ratios(0.8), nll=2.5, start=pretrained(), changed=0.0),
        tuned("dp", 1.4),
        tuned("baseline", 0.7),
    )
    with pytest.raises(GateUndecided, match=r"0\.0% of its records have a counterfactual - NOT MET"):
        assert_mitigated(*arms, metric=METRIC, min_reduction=0.3, settings=SETTINGS)


def test_a_failed_cure_says_what_was_asked_for():
    with pytest.raises(GateFailure) as caught:
        assert_mitigated(
            tuned("dp_cda", 1.39),
            tuned("dp", 1.4),
            tuned("baseline", 0.7),
            metric=METRIC,
            min_reduction=0.3,
            settings=SETTINGS,
        )
    text = str(caught.value)
    assert text.startswith(
        "FAIL: dp_cda does not bring templates.log_ratio[gender] as much nearer to its target than dp"
    )
    assert "allowed   at most -0.3 nats" in text
    assert "next      look at the worst items" in text


def test_utility_is_one_claim():
    arms = tuned("dp", 0.7), tuned("baseline", 0.7)
    for both in ({}, {"max_perplexity_ratio": 1.2, "max_lms_drop": 2.0}):
        with pytest.raises(GateSetupError, match="utility is one claim"):
            assert_utility(*arms, **both, settings=SETTINGS)
    with pytest.raises(GateSetupError, match="no language modelling score"):
        assert_utility(*arms, max_lms_drop=2.0, metric=METRIC, settings=SETTINGS)


class Triples(NumbersArm):
    """Of every tenth item, `missed` in all, the unrelated sentence is likelier than both others."""

    def __init__(self, name, missed, **options):
        super().__init__(name, ratios(0.7), nll=2.5, start=pretrained(), **options)
        self.missed = missed

    def scores(self, probe_set, axis=None, protocol=None):
        import dataclasses

        rows = super().scores(probe_set, axis, protocol)
        items = len(rows[0].ids)
        found = []
        for seed, row in enumerate(rows):
            wrong = np.random.default_rng([seed, self.missed]).permutation(items)[: self.missed]
            unrelated = np.where(np.isin(np.arange(items), wrong), 0.0, -60.0)
            found.append(
                dataclasses.replace(
                    row,
                    log_probs={**row.log_probs, "unrelated": tuple(unrelated)},
                    tokens={**row.tokens, "unrelated": (10,) * items},
                )
            )
        return tuple(found)


def test_a_language_score_may_drop_by_so_many_points():
    good, worse = Triples("baseline", 10), Triples("dp", 60)
    kept = assert_utility(Triples("dp", 12), good, max_lms_drop=10.0, metric="stereoset.lms[gender]", settings=SETTINGS)
    assert kept.verdict is Verdict.PASS
    assert kept.levels["baseline"].value == pytest.approx(95.0)
    with pytest.raises(GateFailure, match=r"(?s)loses more utility against baseline.*next      train dp longer"):
        assert_utility(worse, good, max_lms_drop=10.0, metric="stereoset.lms[gender]", settings=SETTINGS)


def test_two_arms_of_one_name_are_refused():
    other = tuned("baseline", 1.4)
    other.log_ratio = other.log_ratio[:2]
    with pytest.raises((GateSetupError, ComparisonError), match="two arms are called"):
        judge_mitigated(
            tuned("dp_cda", 0.8), other, tuned("baseline", 0.7), metric=METRIC, min_reduction=0.1, settings=SETTINGS
        )
