"""Known change since the baseline in, right verdict out; and never a pass that means nothing."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from arms_of_numbers import ITEMS, NumbersArm, pretrained, ratios, tuned
from hypothesis import given, settings
from hypothesis import strategies as st

from fairtest.gates.baselines.entry import BaselineEntry, BaselineError
from fairtest.gates.baselines.files import update
from fairtest.gates.baselines.of_arm import baselines_of, entry_of
from fairtest.gates.regression import judge_regression, regression
from fairtest.gates.result import GateSetupError, Verdict
from fairtest.settings import Settings

METRIC = "templates.log_ratio[gender]"
PREFERENCE = "templates.preference[gender]"


@pytest.fixture
def here(tmp_path):
    return Settings(baseline_dir=str(tmp_path / "baselines"))


def store(arm, here, *, metric=METRIC):
    file = baselines_of(arm, here)
    update(file.path, [entry_of(arm, metric, here)], file.model)


def judge(arm, here, *, max_increase=0.2, metric=METRIC):
    return judge_regression(arm, metric=metric, max_increase=max_increase, settings=here)


def shifted(arm, change, *, by_item=0.02):
    """The arm with every log ratio moved by `change`, and by a little noise of its own on each item and seed."""
    noise = np.random.default_rng(5).normal(0, by_item, arm.log_ratio.shape) if by_item else 0.0
    return NumbersArm(arm.name, arm.log_ratio + change + noise, nll=2.5, start=arm.start())


class Later(NumbersArm):
    """The same arm trained by a later version of something: other runs."""

    @property
    def identity(self):
        return tuple(f"later-{run}" for run in super().identity)


def later(arm, **options):
    return Later(arm.name, arm.log_ratio, nll=options.pop("nll", 2.5), start=arm.start(), **options)


@pytest.mark.parametrize(
    ("before", "now", "verdict"),
    [
        (0.70, 1.40, Verdict.FAIL),  # more biased
        (0.70, 0.75, Verdict.PASS),
        (0.90, 0.40, Verdict.PASS),  # less biased
        (0.70, 0.91, Verdict.UNDECIDED),  # at the allowed increase
        (0.70, -1.40, Verdict.FAIL),  # as far away on the other side of the target
        (0.70, -0.30, Verdict.PASS),
    ],
)
def test_the_verdict_follows_the_known_change(here, before, now, verdict):
    store(tuned("dp", before), here)
    result = judge(tuned("dp", now), here)
    assert result.verdict is verdict, result.message()
    truth = abs(now) - abs(before)
    assert result.change.low <= truth <= result.change.high
    assert (result.gate, result.seeds, result.items, result.clusters) == ("no_regression", 3, 200, 20)
    assert result.reference.startswith("baseline file of 20")
    assert set(result.levels) == {"dp", result.reference}
    assert result.message().startswith(verdict.value)
    assert (result.p_pass <= result.alpha) is (verdict is Verdict.PASS)
    assert (result.p_fail <= result.alpha) is (verdict is Verdict.FAIL)


def test_a_failure_names_the_items_that_moved_most(here):
    arm = tuned("dp", 0.7)
    store(arm, here)
    moved = arm.log_ratio + 0.3
    moved[:, 17] += 3.0
    result = judge(Later("dp", moved + np.random.default_rng(1).normal(0, 0.02, moved.shape), nll=2.5), here)
    assert result.worst[0].id == "item-17"
    assert result.worst[0].change == pytest.approx(3.3, abs=0.1)


def test_the_pairing_by_item_makes_a_small_change_decidable(here):
    """Items differ by 0.3 and clusters by 0.2; a shift of 0.05 is seen because each item is compared with itself."""
    arm = tuned("dp", 0.7, seeds=5)
    store(arm, here)
    result = judge(shifted(arm, 0.05), here, max_increase=0.02)
    assert result.verdict is Verdict.FAIL
    assert result.change.high - result.change.low < 0.02


# -- the same weights -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", [METRIC, PREFERENCE])
def test_the_same_weights_pass_because_nothing_changed(here, metric):
    arm = NumbersArm("dp", ratios(0.1), nll=2.5, start=pretrained())
    store(arm, here, metric=metric)
    result = judge(arm, here, metric=metric, max_increase=0.0)
    assert result.verdict is Verdict.PASS
    assert result.reason == "the same weights as the baseline: nothing changed"
    assert (result.change.low, result.change.high) == (0.0, 0.0)
    assert result.p_pass is None  # no evidence of a sample, so no member of a family


def test_values_that_differ_by_rounding_are_the_same_weights_whatever_the_runs_are_called(here):
    arm = tuned("dp", 0.7)
    store(arm, here)
    same = later(arm)
    same.log_ratio = same.log_ratio + np.random.default_rng(0).uniform(-2e-5, 2e-5, same.log_ratio.shape)
    assert judge(same, here, max_increase=0.0).reason == "the same weights as the baseline: nothing changed"


def test_nothing_changed_is_no_pass_where_a_decrease_was_asked_for(here):
    arm = tuned("dp", 0.7)
    store(arm, here)
    result = judge(arm, here, max_increase=-0.1)
    assert result.verdict is Verdict.FAIL
    assert "a decrease of at least 0.1 was asked for" in result.reason


def test_runs_of_the_same_digest_with_other_values_are_compared_and_not_passed_by_name(here):
    """A digest says what was asked of a run; another version of torch may make other weights of that."""
    arm = tuned("dp", 0.7)
    store(arm, here)
    result = judge(shifted(arm, 0.6), here)
    assert result.verdict is Verdict.FAIL
    assert "other packages or another machine made the difference" in result.finding


def test_equal_preferences_of_other_weights_are_no_evidence(here):
    arm = NumbersArm("dp", ratios(0.1), nll=2.5, start=pretrained())
    store(arm, here, metric=PREFERENCE)
    result = judge(later(arm, nll=2.45), here, metric=PREFERENCE)
    assert result.verdict is Verdict.UNDECIDED
    assert "no preference flipped, though the weights differ" in result.reason
    renamed = judge(later(arm), here, metric=PREFERENCE)  # held-out losses are the same too
    assert renamed.verdict is Verdict.PASS


def test_a_change_of_one_size_on_every_item_is_no_evidence(here):
    arm = tuned("dp", 0.7)
    store(arm, here)
    for change in (0.01, -0.3):
        result = judge(shifted(arm, change, by_item=0.0), here)
        assert result.verdict is Verdict.UNDECIDED, result.message()
        assert "the change is the same on every item and seed" in result.reason


# -- never a pass -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("log_ratio", "metric"), [(np.zeros((1, ITEMS)), METRIC), (ratios(9.0), PREFERENCE)])
def test_all_ties_and_constants_are_neither_passed_nor_recorded(here, log_ratio, metric):
    arm = NumbersArm("dp", log_ratio, nll=2.5, start=pretrained())
    found = regression(arm, metric=metric, max_increase=0.2, settings=here, update="new")
    assert not found.result.recorded
    assert "a constant is no measurement" in found.result.reason
    assert found.record["status"] == "blocked"
    store(arm, here, metric=metric)
    assert judge(arm, here, metric=metric).verdict is Verdict.UNDECIDED


@pytest.mark.parametrize("items", [1, 30])
def test_one_item_or_few_clusters_are_undecided_though_nothing_changed(here, items):
    start = NumbersArm("pretrained", ratios(1.8, seeds=1, items=items), nll=3.0, tuned=False)
    arm = NumbersArm("dp", ratios(0.5, items=items), nll=2.5, start=start)
    store(arm, here)
    result = judge(arm, here)
    assert result.verdict is Verdict.UNDECIDED, result.message()


def test_an_arm_that_was_not_trained_is_neither_passed_nor_recorded(here):
    store(tuned("dp", 0.7), here)
    untrained = tuned("dp", 0.7, nll=3.0)
    assert "dp was trained" in judge(untrained, here).reason
    assert judge(untrained, here).blocked
    found = regression(untrained, metric=METRIC, max_increase=0.2, settings=here, update="all")
    assert found.result.blocked
    assert not found.result.recorded
    assert "entry" not in found.record


def test_a_model_that_lost_its_language_since_the_baseline_does_not_look_fair(here):
    store(tuned("dp", 0.7, nll=2.0), here)
    collapsed = judge(tuned("dp", 0.1, nll=2.9), here)  # still below the pretrained model's 3.0
    assert collapsed.verdict is Verdict.UNDECIDED
    assert "still models language" in collapsed.reason
    (guard,) = (guard for guard in collapsed.guards if not guard.met)
    assert "times the baseline's on the same texts" in guard.detail


def test_with_other_held_out_texts_the_start_is_asked_instead(here):
    arm = tuned("dp", 0.7, nll=2.0)
    file = baselines_of(arm, here)
    entry = entry_of(arm, METRIC, here)
    other = dataclasses.replace(entry, held_out=dataclasses.replace(entry.held_out, texts="other"))
    update(file.path, [other], file.model)
    result = judge(tuned("dp", 0.72, nll=2.9), here)
    assert result.verdict is Verdict.PASS, result.message()
    assert any("times that of pretrained" in guard.detail for guard in result.guards)


def test_the_same_model_twice_is_no_second_seed(here):
    store(tuned("dp", 0.7), here)
    copies = NumbersArm("dp", np.repeat(ratios(0.7, seeds=1), 3, axis=0), nll=2.5, start=pretrained())
    assert judge(copies, here).blocked
    assert not regression(copies, metric=METRIC, max_increase=0.2, settings=here, update="new").result.recorded


def test_an_unmet_guard_takes_back_even_the_pass_of_the_same_weights(here):
    arm = tuned("dp", 0.7)
    store(arm, here)
    unaugmented = NumbersArm("dp", arm.log_ratio, nll=2.5, start=pretrained(), changed=0.0)
    assert judge(unaugmented, here).verdict is Verdict.UNDECIDED


@pytest.mark.parametrize("threshold", [float("nan"), float("inf"), "2", True, None])
def test_a_threshold_that_is_no_number_is_refused(here, threshold):
    with pytest.raises(GateSetupError, match="max_increase must be a finite number"):
        judge(tuned("dp", 0.7), here, max_increase=threshold)


# -- seeds ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("before", "now", "compared"), [(5, 3, 3), (3, 5, 3), (1, 3, 1), (4, 1, 1)])
def test_the_seeds_that_both_have_are_compared(here, before, now, compared):
    arm = tuned("dp", 0.7, seeds=before)
    store(arm, here)
    result = judge(tuned("dp", 0.75, seeds=now), here)
    assert result.seeds == compared
    assert f"{compared} of {max(before, now)} seeds are compared: the baseline has {before}" in result.finding
    assert result.scope == ("training" if compared > 1 else "this checkpoint only")


class OnDemand(NumbersArm):
    """An arm under seeds="auto"."""

    available_seeds = 8

    def limited(self, seeds):
        return OnDemand(self.name, ratios(0.8, seeds=8, seed_sd=0.1)[:seeds], nll=2.5, start=self.start())


def test_adaptive_seeds_look_at_no_more_seeds_than_the_baseline_has(here):
    auto = dataclasses.replace(here, seeds="auto")
    store(NumbersArm("dp", ratios(0.7, seeds=5, seed_sd=0.1), nll=2.5, start=pretrained()), here)
    result = judge(OnDemand("dp", ratios(0.8), nll=2.5, start=pretrained()), auto, max_increase=0.1)
    assert result.seeds == 5
    assert "look 2 of 2 (5 seeds" in result.look


def test_a_baseline_under_adaptive_seeds_gets_all_the_seeds_there_may_be(here):
    auto = dataclasses.replace(here, seeds="auto")
    arm = OnDemand("dp", ratios(0.8), nll=2.5, start=pretrained())
    assert entry_of(arm, METRIC, auto).seeds == 8
    assert regression(arm, metric=METRIC, max_increase=0.1, settings=auto, update="new").result.seeds == 8


# -- baselines that are not there, or of something else ---------------------------------------------------------------


class Unmeasurable(NumbersArm):
    def scores(self, probe_set, axis=None, protocol=None):
        raise AssertionError("it would have been trained")


def test_a_missing_baseline_is_told_before_anything_is_trained(here):
    with pytest.raises(BaselineError, match=r"no baseline for templates.log_ratio\[gender\] of dp"):
        judge(Unmeasurable("dp", ratios(0.7), nll=2.5), here)


@pytest.mark.parametrize(
    ("changed", "words"), [({"probes": "q" * 20}, "other probes"), ({"protocol": "causal-nobos"}, "other definitions")]
)
def test_other_probes_or_another_protocol_cannot_be_compared(here, changed, words):
    store(tuned("dp", 0.7), here)
    with pytest.raises(BaselineError, match=words):
        judge(tuned("dp", 0.7, **changed), here)
    found = regression(tuned("dp", 0.7, **changed), metric=METRIC, max_increase=0.2, settings=here, update="new")
    assert found.result.recorded


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"target": 50.0}, "target 50.0, now 0.0"),
        ({"unit": "points"}, "unit points, now nats"),
        ({"item_digest": "other"}, "names of the items other"),
        ({"values": ((0.1, 0.2),) * 3}, "items 2, now 200"),
    ],
)
def test_a_baseline_of_another_definition_cannot_be_compared(here, change, words):
    arm = tuned("dp", 0.7)
    file = baselines_of(arm, here)
    entry = dataclasses.replace(entry_of(arm, METRIC, here), **change)
    if "values" in change:
        mean = dataclasses.replace(entry.estimate, value=0.15, low=0.1)
        entry = dataclasses.replace(entry, estimate=mean)
    update(file.path, [entry], file.model)
    with pytest.raises(BaselineError, match=words):
        judge(arm, here)


# -- recording --------------------------------------------------------------------------------------------------------


def test_a_missing_baseline_is_recorded_where_that_is_asked_for(here):
    found = regression(tuned("dp", 0.7), metric=METRIC, max_increase=0.2, settings=here, update="new")
    assert found.result.recorded
    assert found.result.verdict is Verdict.UNDECIDED  # nothing was compared
    assert found.result.reason == "no earlier value to compare with: recorded as the baseline"
    assert found.result.p_pass is None
    assert "commit the file" in found.result.message()
    entry = json.loads(json.dumps(found.record))["entry"]
    assert entry["seeds"] == 3
    assert baselines_of(tuned("dp", 0.7), here).entries == {}  # the gate itself writes nothing


def test_new_judges_what_has_a_baseline_and_all_records_it_again(here):
    store(tuned("dp", 0.7), here)
    options = {"metric": METRIC, "max_increase": 0.2, "settings": here}
    judged = regression(tuned("dp", 1.4), **options, update="new")
    assert judged.result.verdict is Verdict.FAIL
    assert judged.record["status"] == "compared"
    again = regression(tuned("dp", 1.4), **options, update="all")
    assert again.result.recorded
    assert again.result.reason.startswith("recorded as the baseline in the place of that of 20")
    assert "-> 1.4" in again.result.reason


def test_what_is_judged_before_the_file_is_what_is_judged_after_it(here):
    arm = tuned("dp", 0.7)
    entry = entry_of(arm, METRIC, here)
    store(arm, here)
    read = baselines_of(arm, here).get(entry.key)
    assert read == entry
    assert read.made == entry.made


@settings(max_examples=25, deadline=None)
@given(change=st.floats(-0.5, 0.5), seed=st.integers(0, 99))
def test_a_round_trip_through_the_file_changes_no_verdict(tmp_path_factory, change, seed):
    from fairtest.gates.regression import _judged

    here = Settings(baseline_dir=str(tmp_path_factory.mktemp("b")))
    old = NumbersArm("dp", ratios(0.7, rng=seed), nll=2.5, start=pretrained())
    new = NumbersArm("dp", ratios(0.7 + change, rng=seed), nll=2.5, start=pretrained())
    entry = entry_of(old, METRIC, here)
    again = BaselineEntry.from_dict(entry.key, json.loads(json.dumps(entry.as_dict())))
    first, second = (_judged(new, stored, METRIC, 0.2, here) for stored in (entry, again))
    assert first == second
