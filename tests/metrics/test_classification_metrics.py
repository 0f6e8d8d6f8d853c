"""Rates and AUCs by group against plain loops over items and pairs, and the algebra they have to obey."""

import importlib.util
import math
import sys
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairtest.errors import ComparisonError, MetricError
from fairtest.metrics.classification import (
    OVERALL,
    accuracy_gap,
    auc_by_group,
    bnsp_auc,
    bpsn_auc,
    demographic_parity_difference,
    equalized_odds_difference,
    group_change,
    rate_by_group,
    subgroup_auc,
)

AUCS = {"subgroup_auc": subgroup_auc, "bpsn_auc": bpsn_auc, "bnsp_auc": bnsp_auc}
needs_fairlearn = pytest.mark.skipif(importlib.util.find_spec("fairlearn") is None, reason="fairlearn is not installed")

bits = st.sampled_from([0, 1])
# Few distinct scores, so that ties are common; exact in binary, so that a negated score is as exact.
scored = st.lists(st.tuples(bits, st.integers(-3, 3).map(lambda i: i / 4), st.sampled_from("abc")), min_size=1)
labelled = st.lists(st.tuples(bits, bits, st.sampled_from("abc")), min_size=1)
# Both classes in both groups, so that every rate has a value.
full = st.lists(st.tuples(bits, bits, st.sampled_from("ab")), max_size=12).map(
    lambda rows: rows + [(truth, 1, group) for truth, group in product((0, 1), "ab")]
)


def pairs_auc(highs, lows):
    """The definition: every positive against every negative, a tie one half."""
    wins = 0.0
    for high in highs:
        for low in lows:
            wins += 1.0 if high > low else 0.5 if high == low else 0.0
    return wins / (len(highs) * len(lows)) if highs and lows else None


def oracle(name, rows, group):
    highs, lows = [], []
    for truth, score, found in rows:
        inside = found == group
        if truth == 1 and inside == (name != "bpsn_auc"):
            highs.append(score)
        if truth == 0 and inside == (name != "bnsp_auc"):
            lows.append(score)
    return pairs_auc(highs, lows)


def share(events):
    return sum(events) / len(events) if events else None


def rate_oracle(rate, rows):
    if rate == "accuracy":
        return share([truth == predicted for truth, predicted, _ in rows])
    if rate == "selection_rate":
        return share([predicted for _, predicted, _ in rows])
    wanted = 1 if rate == "true_positive_rate" else 0
    return share([predicted for truth, predicted, _ in rows if truth == wanted])


def same(left, right):
    return left is right is None or math.isclose(left, right, abs_tol=1e-12)


RATES = ("accuracy", "selection_rate", "true_positive_rate", "false_positive_rate")


@pytest.mark.parametrize("rate", RATES)
@given(rows=labelled)
def test_a_rate_is_a_share_of_the_items_that_count(rate, rows):
    found = rate_by_group(*zip(*rows, strict=True), rate)
    assert same(found.overall, rate_oracle(rate, rows))
    assert list(found.by_group) == sorted({row[2] for row in rows})
    for group, value in found.by_group.items():
        assert same(value, rate_oracle(rate, [row for row in rows if row[2] == group]))
        assert (value is None) == (group in found.undefined)


@pytest.mark.parametrize("auc", AUCS)
@given(rows=scored)
def test_an_auc_is_the_share_of_pairs_in_order(auc, rows):
    found = auc_by_group(*zip(*rows, strict=True), auc)
    assert same(found.overall, pairs_auc([s for t, s, _ in rows if t], [s for t, s, _ in rows if not t]))
    for group, value in found.by_group.items():
        assert same(value, oracle(auc, rows, group))
        assert (value is None) == (group in found.undefined)


@pytest.mark.parametrize(("auc", "mirrored"), [("subgroup_auc",) * 2, ("bpsn_auc", "bnsp_auc")])
@given(rows=scored)
def test_complementing_labels_and_scores_swaps_the_two_cross_aucs(auc, mirrored, rows):
    truth, scores, groups = zip(*rows, strict=True)
    before = auc_by_group(truth, scores, groups, auc)
    after = auc_by_group([1 - one for one in truth], [-score for score in scores], groups, mirrored)
    assert all(same(value, after.by_group[group]) for group, value in before.by_group.items())
    assert same(before.overall, after.overall)


@pytest.mark.parametrize("auc", AUCS)
@given(rows=scored)
def test_negating_the_scores_complements_an_auc(auc, rows):
    truth, scores, groups = zip(*rows, strict=True)
    after = auc_by_group(truth, [-score for score in scores], groups, auc)
    for group, value in auc_by_group(truth, scores, groups, auc).by_group.items():
        assert same(None if value is None else 1 - value, after.by_group[group])


@given(scored, st.randoms())
def test_the_order_of_items_changes_nothing(rows, random):
    shuffled = list(rows)
    random.shuffle(shuffled)
    predicted = [(truth, int(score > 0), group) for truth, score, group in rows]
    shuffled_predicted = [(truth, int(score > 0), group) for truth, score, group in shuffled]
    for auc in AUCS:
        assert auc_by_group(*zip(*rows, strict=True), auc) == auc_by_group(*zip(*shuffled, strict=True), auc)
    for rate in RATES:
        before = rate_by_group(*zip(*predicted, strict=True), rate)
        assert before == rate_by_group(*zip(*shuffled_predicted, strict=True), rate)


@given(scored)
def test_only_the_order_of_scores_matters_to_an_auc(rows):
    truth, scores, groups = zip(*rows, strict=True)
    for auc in AUCS:
        grown = auc_by_group(truth, [math.exp(score) for score in scores], groups, auc)
        assert grown == auc_by_group(truth, scores, groups, auc)


def test_the_cross_aucs_tell_the_two_kinds_of_error_apart():
    """Background: 0.2 and 0.8. The subgroup's scores are all too high, so its negatives look positive."""
    truth, groups = [0, 1, 0, 1], ["rest", "rest", "named", "named"]
    member = [group == "named" for group in groups]
    high = [0.2, 0.8, 0.9, 1.0]
    assert (subgroup_auc(truth, high, member), bpsn_auc(truth, high, member), bnsp_auc(truth, high, member)) == (
        1,
        0,
        1,
    )
    low = [0.2, 0.8, 0.0, 0.1]
    assert (subgroup_auc(truth, low, member), bpsn_auc(truth, low, member), bnsp_auc(truth, low, member)) == (1, 1, 0)


def test_a_constant_score_is_a_coin():
    for function in AUCS.values():
        assert function([0, 1, 0, 1], [0.3] * 4, [True, True, False, False]) == 0.5


@needs_fairlearn
@given(full)
def test_fairlearn_differences_are_gaps_of_rates(rows):
    columns = tuple(zip(*rows, strict=True))
    by_group = {rate: [rate_oracle(rate, [row for row in rows if row[2] == group]) for group in "ab"] for rate in RATES}
    gaps = {rate: max(values) - min(values) for rate, values in by_group.items()}
    assert same(demographic_parity_difference(*columns), gaps["selection_rate"])
    odds = max(gaps["true_positive_rate"], gaps["false_positive_rate"])
    assert same(equalized_odds_difference(*columns), odds)
    assert same(accuracy_gap(*columns), gaps["accuracy"])


@needs_fairlearn
def test_demographic_parity_needs_no_positives_in_a_group():
    assert demographic_parity_difference([1, 0, 0, 0], [1, 1, 1, 0], ["a", "a", "b", "b"]) == 0.5


@needs_fairlearn
def test_a_group_without_positives_is_no_gap_of_one():
    """Group b has no positive; fairlearn takes its true positive rate to be 0 and finds a gap of 1."""
    from fairlearn.metrics import equalized_odds_difference as of_fairlearn

    truth, predicted, groups = [1, 0, 0, 0], [1, 0, 0, 0], ["a", "a", "b", "b"]
    assert of_fairlearn(truth, predicted, sensitive_features=groups) == 1.0
    with pytest.raises(MetricError) as caught:
        equalized_odds_difference(truth, predicted, groups)
    assert caught.value.what == "true_positive_rate of group 'b' is undefined: no positive among its items"


def test_without_fairlearn_the_command_that_installs_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "fairlearn", None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MetricError) as caught:
        demographic_parity_difference([0, 1], [0, 1], ["a", "b"])
    assert caught.value.what == "demographic_parity_difference needs the package fairlearn, and it is not installed"
    assert caught.value.fix == 'pip install "fairtest[classification]"'


def test_a_report_says_who_is_worst_and_counts_items_by_group_and_class():
    report = rate_by_group(["x", "y", "z", "x"], ["x", "y", "x", "y"], ["f", "f", "m", "m"])
    assert (report.overall, report.by_group) == (0.5, {"f": 1.0, "m": 0.0})
    assert (report.gap, report.worst_group) == (1.0, "m")
    assert report.counts == {"f": {"x": 1, "y": 1}, "m": {"x": 1, "z": 1}}


def test_the_worst_false_positive_rate_is_the_largest():
    report = rate_by_group([0, 0, 0, 0], [0, 0, 1, 0], ["a", "a", "b", "b"], "false_positive_rate")
    assert (report.by_group, report.worst_group) == ({"a": 0.0, "b": 0.5}, "b")


def test_what_is_undefined_is_none_with_a_reason():
    truth, scores, groups = [0, 0, 1, 0], [0.1, 0.2, 0.3, 0.4], ["a", "a", "b", "b"]
    report = auc_by_group(truth, scores, groups)
    assert report.by_group == {"a": None, "b": 0.0}
    assert report.undefined == {"a": "no positive in the subgroup"}
    assert auc_by_group(truth, scores, groups, "bpsn_auc").undefined == {"b": "no positive in the background"}
    nobody = rate_by_group([0, 0], [0, 1], ["a", "b"], "true_positive_rate")
    assert nobody.overall is None
    assert nobody.undefined[OVERALL] == "no positive among its items"
    with pytest.raises(MetricError, match="group 'a' is undefined: no positive in the subgroup"):
        _ = report.gap


def test_a_number_that_was_asked_for_is_an_error_where_undefined():
    with pytest.raises(MetricError, match="bpsn_auc is undefined: no negative in the subgroup"):
        bpsn_auc([0, 1, 1], [0.1, 0.2, 0.3], [False, True, False])


def test_the_change_of_a_group_stands_next_to_the_overall_change():
    truth, groups = [1, 1, 1, 1], ["a", "a", "b", "b"]
    baseline = rate_by_group(truth, [1, 1, 1, 1], groups)
    candidate = rate_by_group(truth, [1, 1, 0, 0], groups)
    change = group_change(baseline, candidate)
    assert (change.overall, change.by_group) == (-0.5, {"a": 0.0, "b": -1.0})
    assert change.beyond_overall == {"a": 0.5, "b": -0.5}


def test_an_undefined_value_has_no_change():
    truth, groups = [0, 0, 1, 0], ["a", "a", "b", "b"]
    reports = [auc_by_group(truth, scores, groups) for scores in ([0, 0, 0, 1], [0, 0, 1, 0])]
    change = group_change(*reports)
    assert change.by_group == {"a": None, "b": 1.0}
    assert change.beyond_overall["a"] is None
    assert change.undefined == {"a": "no positive in the subgroup"}


def test_reports_of_other_items_or_metrics_do_not_compare():
    report = rate_by_group([1, 0], [1, 0], ["a", "b"])
    for other in (
        rate_by_group([0, 0], [1, 0], ["a", "b"]),
        rate_by_group([1, 0], [1, 0], ["a", "b"], "selection_rate"),
    ):
        with pytest.raises(ComparisonError, match="does not compare with"):
            group_change(report, other)


def test_arrays_and_lists_give_the_same_report():
    truth, predicted, groups = [1, 0, 1, 0], [1, 1, 0, 0], [2, 2, 3, 3]
    of_lists = rate_by_group(truth, predicted, groups)
    assert rate_by_group(np.array(truth), np.array(predicted), np.array(groups)) == of_lists
    assert list(of_lists.by_group) == ["2", "3"]


@pytest.mark.parametrize(
    ("columns", "what"),
    [
        (([], [], []), "not of one length, or empty"),
        (([1], [1, 0], ["a"]), r"y_true \(1,\), y_pred \(2,\), groups \(1,\)"),
        (([1, 0], [[0.2, 0.8], [0.7, 0.3]], ["a", "b"]), r"y_pred \(2, 2\)"),
        (([1, 0], [1, 0], ["a", None]), "item 1 has no entry in groups"),
        (([1, float("nan")], [1, 0], ["a", "b"]), "item 1 has no entry in y_true, but nan"),
        (([1, 2], [1, 0], ["a", "b"]), "item 1 has 2 in y_true, which is neither 0 nor 1"),
        (([1, 0], [1, "0"], ["a", "b"]), "item 1 has '0' in y_pred"),
    ],
)
def test_columns_that_cannot_be_read_are_named(columns, what):
    with pytest.raises(MetricError, match=what):
        rate_by_group(*columns, "selection_rate")


@pytest.mark.parametrize("score", [float("inf"), float("nan"), "high", None])
def test_a_score_that_is_no_number_names_its_item(score):
    with pytest.raises(MetricError) as caught:
        auc_by_group([0, 1], [0.5, score], ["a", "b"])
    assert caught.value.where == "scores[1]"


def test_one_group_has_no_gap():
    with pytest.raises(MetricError, match="there is one group only, 'a'"):
        accuracy_gap([1, 0], [1, 0], ["a", "a"])


def test_unknown_names_are_answered_with_those_there_are():
    with pytest.raises(MetricError, match="unknown rate 'recall'") as caught:
        rate_by_group([1], [1], ["a"], "recall")
    assert caught.value.fix == "known rates: accuracy, selection_rate, true_positive_rate, false_positive_rate"
    with pytest.raises(MetricError, match="unknown AUC 'auc'"):
        auc_by_group([1], [1], ["a"], "auc")
