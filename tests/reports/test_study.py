"""A study's table: levels, changes, ratios where they mean something, verdicts, and utility in every row."""

from __future__ import annotations

import pytest
from report_documents import METRICS, SPITEFUL, document, explanation, gate, part, spiteful

from fairtest.errors import StoreError
from fairtest.gates.explain import would_show
from fairtest.gates.result import Estimate, Verdict
from fairtest.reports.study import change_of, study_table

GENDER, RACE = METRICS
ROWS = {"pretrained": "before", "baseline": "no DP", "dp": "eps 8", "dp_cda": "eps 8, CDA"}


def level(arm, metric, value, low, high, **more):
    return {"arm": arm, "metric": metric, "value": value, "low": low, "high": high, "seeds": 3, "items": 90,
            "clusters": 30, **more}  # fmt: skip


MEASURED = [
    level("pretrained", GENDER, 61.0, 58.0, 64.0, seeds=1), level("baseline", GENDER, 54.0, 52.0, 56.0),
    level("dp", GENDER, 60.0, 57.0, 63.0), level("dp_cda", GENDER, 40.0, 38.0, 42.0),
    level("pretrained", RACE, 55.0, 49.0, 61.0, seeds=1), level("baseline", RACE, 51.0, 47.0, 55.0),
    level("dp", RACE, 55.0, 51.0, 59.0), level("dp_cda", RACE, 55.0, 51.0, 59.0),
    level("pretrained", "perplexity", 112.0, 104.0, 120.0, seeds=1), level("baseline", "perplexity", 56.0, 54.0, 58.0),
    level("dp", "perplexity", 96.0, 90.0, 102.0), level("dp_cda", "perplexity", 95.0, 89.0, 101.0),
]  # fmt: skip


def made(*gates, explanations=(), measurements=MEASURED):
    return document(gates=list(gates), explanations=list(explanations), measurements=measurements)


def against_baseline(candidate, value, low, high, **more):
    fields = {"candidate": candidate, "change": Estimate(value, low, high), "levels": {}, **more}
    return gate(**fields)


GATES = (
    against_baseline("dp", 6.0, 3.0, 9.0, verdict=Verdict.FAIL),
    against_baseline("dp_cda", 6.0, -1.0, 13.0, verdict=Verdict.UNDECIDED),
    against_baseline("dp", 4.0, -1.0, 9.0, metric=RACE, verdict=Verdict.UNDECIDED),
    gate(gate="mitigated", candidate="dp_cda", reference="dp", change=Estimate(0.0, -2.0, 2.0), allowed=0.0,
         verdict=Verdict.UNDECIDED, levels={}),
    gate(gate="utility", metric="perplexity", candidate="dp", change=Estimate(1.71, 1.6, 1.8), allowed=1.5,
         verdict=Verdict.FAIL, target=None, unit="times the reference's", levels={}),
)  # fmt: skip


def rows_of(text):
    """(cells of the levels' table by label, cells of the changes' table by label)."""
    tables = [[]]
    for line in text.splitlines():
        if line.startswith("| "):
            tables[-1].append([cell.strip().replace("\\", "") for cell in line.strip("|").split(" | ")])
        elif tables[-1]:
            tables.append([])
    return [{row[0]: row[1:] for row in found[2:]} for found in tables if found]


def table(text_document, **changes):
    options = {"metrics": {GENDER: "gender", RACE: "race"}, "rows": ROWS, "reference": "baseline", "title": "Study"}
    return study_table(text_document, **{**options, **changes})


def test_every_row_has_its_levels_and_its_utility_in_the_order_given():
    levels, _ = rows_of(table(made(*GATES)))
    assert list(levels) == list(ROWS.values())
    assert levels["before"] == ["1", "61.0 [58.0, 64.0]", "55.0 [49.0, 61.0]", "112.0 [104.0, 120.0]"]
    assert levels["eps 8"][0] == "3"


def test_a_change_has_its_interval_its_ratio_and_its_verdict():
    _, changes = rows_of(table(made(*GATES)))
    assert changes["eps 8"][0] == "+6.0 [+3.0, +9.0]; x 2.50; FAIL (at most +2)"
    assert changes["eps 8"][2] == "x 1.71 [1.60, 1.80]; FAIL (at most 1.5)"
    assert changes["no DP"] == ["reference"] * 3


def test_a_ratio_is_that_of_distances_whichever_side_of_the_target():
    _, changes = rows_of(table(made(*GATES)))
    assert "x 2.50" in changes["eps 8, CDA"][0]  # 40 is as far from 50 as 60 is


def test_there_is_no_ratio_across_the_target():
    _, changes = rows_of(table(made(*GATES)))
    assert changes["eps 8"][1] == "+4.0 [-1.0, +9.0]; UNDECIDED (at most +2)"


def test_a_gate_against_another_arm_is_told_beside():
    _, changes = rows_of(table(made(*GATES)))
    assert changes["eps 8, CDA"][0].endswith("mitigated against dp: UNDECIDED (at most +0)")


def test_what_no_gate_and_no_explanation_compared_has_no_change():
    _, changes = rows_of(table(made(*GATES)))
    assert changes["before"] == ["-", "-", "x 2.00"]
    assert changes["eps 8, CDA"][1] == "-"


def test_a_change_measured_the_other_way_round_is_turned_and_has_no_verdict():
    turned = gate(candidate="baseline", reference="pretrained", change=Estimate(-7.0, -9.0, -4.0), levels={})
    _, changes = rows_of(table(made(turned)))
    assert changes["before"][0] == "+7.0 [+4.0, +9.0]; x 2.75"


def test_an_explanations_parts_are_changes_too():
    found = explanation(start=part("the start", "beside", ("pretrained", "baseline"), (5.0, 3.0, 7.0), "above zero"))
    text_document = made(explanations=[found])
    assert change_of(text_document, GENDER, "baseline_matched", "baseline").estimate == Estimate(3.1, 1.3, 4.9)
    assert change_of(text_document, GENDER, "dp", "baseline").estimate == Estimate(3.5, 1.5, 5.5)
    assert change_of(text_document, GENDER, "pretrained", "baseline").estimate == Estimate(5.0, 3.0, 7.0)
    assert change_of(text_document, GENDER, "dp", "pretrained") is None


def test_the_last_row_has_the_change_that_every_row_would_have_shown():
    text = table(made(*GATES))
    _, changes = rows_of(text)
    widest = would_show(Estimate(6.0, -1.0, 13.0), 0.95)
    of_race = would_show(Estimate(4.0, -1.0, 9.0), 0.95)
    assert changes["this data would have shown"] == [f"+{widest:.3g}", f"+{of_race:.3g}", "-"]
    assert "Of 3 changes 1 lies above zero with the whole interval, 0 lie below it, and 2 hold zero" in text


def test_an_interval_without_an_end_would_have_shown_nothing():
    endless = against_baseline("dp", 1.0, float("-inf"), float("inf"))
    _, changes = rows_of(table(made(endless)))
    assert changes["this data would have shown"][0] == "none"


def test_a_verdict_that_the_family_does_not_bear_has_a_star():
    family = {"verdict": "UNDECIDED", "p": 0.06, "size": 5}
    one = {**against_baseline("dp", 6.0, 3.0, 9.0, verdict=Verdict.FAIL), "family": family}
    text = table({**made(), "gates": [one]})
    assert "FAIL\\* (at most +2)" in text
    assert "does not hold in the family" in text


def test_metrics_and_arms_may_be_given_without_labels():
    text = table(made(*GATES), metrics=[GENDER], rows=["dp"], reference="baseline")
    levels, changes = rows_of(text)
    assert list(levels) == ["dp"]
    assert list(changes) == ["dp", "this data would have shown"]
    assert "stereoset.ss\\[gender\\] (target 50)" in text


@pytest.mark.parametrize(
    ("changes", "kind"),
    [({"rows": {"dpp": "x"}}, "arm dpp"), ({"reference": "base"}, "arm base"), ({"metrics": ["toxicity"]}, "metric")],
)
def test_what_is_not_in_the_report_is_an_error(changes, kind):
    with pytest.raises(StoreError, match=f"the report has no {kind}"):
        table(made(*GATES), **changes)


@pytest.mark.parametrize("text", SPITEFUL[:4])
def test_names_do_not_break_the_table(text):
    found = table(spiteful(text), metrics={text: text}, rows={text: text}, reference=text, title=text)
    lines = [line for line in found.splitlines() if line.startswith("|")]
    assert {line.replace("\\|", "").count("|") for line in lines[:3]} == {lines[0].replace("\\|", "").count("|")}
    assert "<script" not in found
