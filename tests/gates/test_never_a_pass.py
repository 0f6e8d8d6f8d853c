"""Input that must never pass, each kind with a message of its own."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from arms_of_numbers import CLUSTERS, ITEMS, NumbersArm, pretrained, ratios, tuned

from fairtest.errors import ComparisonError, MetricError
from fairtest.gates.assertions import assert_no_amplification
from fairtest.gates.claims import judge_utility
from fairtest.gates.decision import ThresholdWarning
from fairtest.gates.judge import judge_amplification
from fairtest.gates.result import Flips, GateUndecided, Verdict
from fairtest.settings import Settings

LOG_RATIO, PREFERENCE = "templates.log_ratio[gender]", "templates.preference[gender]"
SETTINGS = Settings(undecided="fail")


def arm(name, log_ratio, **options):
    return NumbersArm(name, log_ratio, **{"nll": 2.5, "start": pretrained(), **options})


def refused(candidate, reference, message, *, metric=LOG_RATIO, error=GateUndecided):
    with pytest.raises(error, match=message):
        assert_no_amplification(candidate, reference, metric=metric, max_increase=5.0, settings=SETTINGS)


def test_not_a_number():
    values = ratios(0.7)
    values[2, 3] = np.inf
    refused(arm("dp", values), tuned("baseline", 0.7), "probe 'item-3'", error=MetricError)


def test_all_ties():
    # Log ratios of 0 and another noise on both texts: the seeds differ, no preference does.
    rows = np.zeros((3, ITEMS))
    refused(arm("dp", rows), arm("baseline", rows, nll=2.4), "all 200 items are ties", metric=PREFERENCE)


def test_constant_scores():
    refused(arm("dp", np.full((3, ITEMS), 0.9)), arm("baseline", np.full((3, ITEMS), 0.9), nll=2.4), "a constant is no")


def test_a_preference_that_flips_on_no_item():
    rows = np.abs(ratios(3.0)) * np.where(np.arange(ITEMS) % 3, 1.0, -1.0)
    refused(
        arm("dp", rows),
        arm("baseline", rows + 0.001, nll=2.4),
        "the same for every seed and cluster",
        metric=PREFERENCE,
    )


def near_the_target():
    """Log ratios of which 11 of 20 are positive, so that the interval of the preference holds its target."""
    return np.abs(ratios(3.0)) * np.where(np.arange(ITEMS) % 20 < 11, 1.0, -1.0)


def test_a_preference_that_flips_on_no_item_near_the_target():
    # There the interval has a width: which side of the target both are on is open. Nothing differs all the same.
    rows = near_the_target()
    sides = arm("dp", rows), arm("baseline", rows + 0.001, nll=2.4)
    result = judge_amplification(*sides, metric=PREFERENCE, max_increase=5.0, settings=SETTINGS)
    assert result.change.low < -1.0
    refused(*sides, "the same for every seed and cluster", metric=PREFERENCE)


@pytest.mark.parametrize(("allowed", "verdict"), [(2.0, Verdict.UNDECIDED), (10.0, Verdict.PASS)])
def test_a_handful_of_flips_excludes_no_small_change(allowed, verdict):
    # One of 200 preferences flipped: of a change of 2 points, four are expected, and one or none happen in 9% of cases.
    rows = np.abs(ratios(3.0)) * np.where(np.arange(ITEMS) % 3, 1.0, -1.0)
    flipped = rows + 0.001
    flipped[:, 0] *= -1.0
    result = judge_amplification(
        arm("dp", flipped), arm("baseline", rows, nll=2.4), metric=PREFERENCE, max_increase=allowed, settings=SETTINGS
    )
    assert result.change.high < 2.0
    assert result.verdict is verdict, result.message()
    if verdict is Verdict.UNDECIDED:
        assert "1 of 200 preferences moved" in result.reason
        assert result.p_pass > 0.025


def test_one_item():
    start = NumbersArm("pretrained", [[1.8]], nll=3.0, tuned=False)
    rows = np.array([[0.70], [0.71], [0.69]])
    refused(arm("dp", rows, start=start), arm("baseline", rows + 0.001, start=start), "a single item is no sample")


def test_other_items_on_the_two_sides():
    start = NumbersArm("pretrained", ratios(1.8, seeds=1, items=150), nll=3.0, tuned=False)
    refused(
        tuned("dp", 0.7), arm("baseline", ratios(0.7, items=150), start=start), "different items", error=ComparisonError
    )


def test_other_protocols_on_the_two_sides():
    refused(
        tuned("dp", 0.7), tuned("baseline", 0.7, protocol="causal-nobos"), "different probes", error=ComparisonError
    )


def test_seeds_that_are_one_model():
    one = np.repeat(ratios(0.75, seeds=1), 3, axis=0)
    refused(arm("dp", one), tuned("baseline", 0.7), "2 of 3 seeds repeat another - NOT MET")


def test_different_numbers_of_seeds():
    refused(tuned("dp", 0.7, seeds=3), tuned("baseline", 0.7, seeds=5), "cannot be paired", error=ComparisonError)


def test_too_few_clusters():
    few = 4 * ITEMS // CLUSTERS
    start = NumbersArm("pretrained", ratios(1.8, seeds=1, items=few), nll=3.0, tuned=False)
    sides = [arm(name, ratios(mean, items=few), start=start) for name, mean in (("dp", 0.7), ("baseline", 0.71))]
    refused(*sides, "4 clusters are too few")


def test_a_start_that_nobody_knows_and_texts_that_nobody_gave():
    class Unknown(NumbersArm):
        start_known = False

    class Textless(NumbersArm):
        def held_out(self):
            return None

    for kind, message in (
        (Unknown, r"it is not known what it was tuned from - NOT MET"),
        (Textless, r"there are no held-out texts that would show it - NOT MET"),
    ):
        candidate = kind("dp", ratios(0.7), nll=2.5, start=pretrained())
        refused(candidate, tuned("baseline", 0.71), message)


@pytest.mark.parametrize(
    ("metric", "threshold", "message"),
    [
        (PREFERENCE, 0.02, "if 2 points were meant, write 2"),
        (PREFERENCE, -0.05, "if -5 points were meant"),
        (LOG_RATIO, 25.0, "gate a preference metric"),
    ],
)
def test_a_threshold_in_another_unit_is_warned_of_at_the_users_line(metric, threshold, message):
    with pytest.warns(ThresholdWarning, match=message) as caught:
        judge_amplification(
            tuned("dp", 0.7), tuned("baseline", 0.72), metric=metric, max_increase=threshold, settings=SETTINGS
        )
    assert caught[0].filename == __file__


@pytest.mark.parametrize(("metric", "threshold"), [(PREFERENCE, 2.0), (PREFERENCE, 0.0), (LOG_RATIO, 0.02)])
def test_a_threshold_in_its_unit_is_not(metric, threshold):
    with warnings.catch_warnings():
        warnings.simplefilter("error", ThresholdWarning)
        judge_amplification(
            tuned("dp", 0.7), tuned("baseline", 0.72), metric=metric, max_increase=threshold, settings=SETTINGS
        )


@pytest.mark.parametrize(("ratio", "verdict"), [(0.02, Verdict.FAIL), (25.0, Verdict.PASS)])
def test_a_ratio_that_is_no_factor_is_warned_of(ratio, verdict):
    with pytest.warns(ThresholdWarning, match="is a factor"):
        result = judge_utility(
            tuned("dp", 0.7, nll=2.52), tuned("baseline", 0.7), max_perplexity_ratio=ratio, settings=SETTINGS
        )
    assert result.verdict is verdict


def test_preferences_come_with_their_flips_and_exact_mcnemar():
    from scipy.stats import binomtest

    candidate, reference = ratios(0.3), ratios(0.0)
    result = judge_amplification(
        arm("dp", candidate), arm("baseline", reference), metric=PREFERENCE, max_increase=5.0, settings=SETTINGS
    )
    up = int(((candidate[0] > 0) & (reference[0] < 0)).sum())
    down = int(((candidate[0] < 0) & (reference[0] > 0)).sum())
    assert len(result.flips) == 3
    assert result.flips[0] == Flips(up, down, pytest.approx(binomtest(up, up + down).pvalue))
    assert f"flips     {up} up, {down} down (p " in result.message()
    ratio = judge_amplification(
        arm("dp", candidate), arm("baseline", reference), metric=LOG_RATIO, max_increase=5.0, settings=SETTINGS
    )
    assert ratio.flips == ()


def test_what_would_decide_has_a_price():
    sides = [arm(name, ratios(mean, seed_sd=0.15), seconds=90.0) for name, mean in (("dp", 0.86), ("baseline", 0.7))]
    result = judge_amplification(*sides, metric=LOG_RATIO, max_increase=0.2, settings=SETTINGS)
    assert result.verdict is Verdict.UNDECIDED
    assert "more of each side, about " in result.advice
    assert "min of training" in result.advice
