"""Two arms beside each other on the same units: what tells units apart falls out, what tells the arms apart stays."""

from __future__ import annotations

import random
from statistics import fmean

import numpy as np
import pytest

from fairtest.errors import MetricError, SpecError
from fairtest.experiments.contrast import Contrast
from fairtest.experiments.diagnosis import Diagnosis, furthest_apart
from fairtest.experiments.diagnosis_records import joined

UNITS = 12


def diagnosis(arm, effect, *, seeds=(0, 1, 2), steps=(0, 9), drawn="d", private=False, groups=("a", "b"), **more):
    """Units that differ much from each other, the same in every arm, and groups that `effect` tells apart a little."""
    unit = random.Random("units")
    level = {group: [unit.gauss(3.0, 1.0) for _ in range(UNITS)] for group in groups}
    runs = []
    for seed in seeds:
        noise = random.Random(f"{arm}:{seed}")
        items = {
            group: [
                [own + effect.get(group, 0.0) * step + noise.gauss(0, 0.02) for own in level[group]] for step in steps
            ]
            for group in groups
        }
        run = {
            "steps": list(steps),
            "values": {"loss": {group: [fmean(row) for row in rows] for group, rows in items.items()}},
            "items": {"loss": items},
            "cost": 0.1,
            "seconds": 1.0,
        }
        for quantity, value in more.items():
            run["values"][quantity] = {group: [value] * len(steps) for group in groups}
        runs.append(run)
    return Diagnosis(
        arm=arm, by="column 'group'", seeds=tuple(seeds), units=dict.fromkeys(groups, UNITS),
        counts=dict.fromkeys(groups, UNITS), left_out={}, runs=tuple(runs), private=private, claims_privacy=arm == "dp",
        drawn=drawn,
    )  # fmt: skip


def test_a_small_effect_of_an_arm_is_told_where_units_differ_much():
    dp, baseline = diagnosis("dp", {"b": 0.02}), diagnosis("baseline", {})
    assert not dp.difference("loss").told
    found = Contrast(dp, baseline).difference("loss")
    assert (found.larger, found.smaller) == ("b", "a")
    assert found.told
    assert found.interval.low < 0.18 < found.interval.high


def test_the_difference_is_that_of_the_definition():
    dp, baseline = diagnosis("dp", {"b": 0.02}), diagnosis("baseline", {"a": 0.005})
    changes = {
        group: fmean(
            ours - theirs
            for mine, other in zip(dp.runs, baseline.runs, strict=True)
            for ours, theirs in zip(mine["items"]["loss"][group][-1], other["items"]["loss"][group][-1], strict=True)
        )
        for group in ("a", "b")
    }
    found = Contrast(dp, baseline).difference("loss")
    assert found.value == pytest.approx(changes["b"] - changes["a"], abs=1e-12)
    assert Contrast(baseline, dp).difference("loss").value == pytest.approx(found.value, abs=1e-12)
    assert Contrast(baseline, dp).difference("loss").larger == "a"


def test_arms_that_train_alike_are_not_told_apart_more_often_than_an_interval_allows():
    told = 0
    for draw in range(60):
        one, other = (diagnosis(f"{name}{draw}", {}) for name in ("one", "other"))
        told += Contrast(one, other).difference("loss").told
    assert told <= 8  # 5% of 60 is 3; more than 8 has a chance below 1%


def test_of_three_groups_every_pair_is_covered():
    values = {group: np.random.default_rng(seed).normal(size=(3, UNITS)) for seed, group in enumerate("abc")}
    of_three = furthest_apart(values)
    of_two = furthest_apart({group: values[group] for group in (of_three.larger, of_three.smaller)})
    assert of_three.value == of_two.value
    assert of_three.interval.low < of_two.interval.low < of_two.interval.high < of_three.interval.high


def test_the_finding_says_against_which_arm_and_over_what():
    dp, baseline = diagnosis("dp", {"b": 0.02}), diagnosis("baseline", {})
    (finding,) = Contrast(dp, baseline).findings
    assert finding.startswith("Loss, dp against baseline: 0.1")
    assert "nats a token more for 'b' than for 'a' at step 9 (95% interval over 3 paired seeds" in finding
    assert finding.endswith("'b' is the one that dp leaves furthest behind, and 'a' the one it serves first.")
    same = Contrast(diagnosis("dp", {}), baseline).finding()
    assert "which is not told from none" in same
    assert "serves" not in same
    one = Contrast(diagnosis("dp", {"b": 0.02}, seeds=(4,)), diagnosis("baseline", {}, seeds=(4,))).finding()
    assert one.endswith("in this pair of runs; of other runs nothing is said.")


def test_only_steps_that_both_looked_at_are_compared():
    dp = diagnosis("dp", {"b": 0.02}, steps=(0, 3, 9))
    assert Contrast(dp, diagnosis("baseline", {}, steps=(0, 5, 9))).steps == (0, 9)
    with pytest.raises(MetricError, match="no common step"):
        Contrast(dp, diagnosis("baseline", {}, steps=(1, 2))).difference("loss")


def test_arms_of_other_lengths_have_no_end_in_common():
    """At their last common step, which may be the first of all, one of them has hardly begun."""
    short, long = diagnosis("dp", {"b": 0.02}, steps=(0, 9)), diagnosis("baseline", {}, steps=(0, 9, 29))
    with pytest.raises(MetricError, match="dp ends with step 9 and baseline with step 29"):
        Contrast(short, long).difference("loss")
    with pytest.raises(MetricError, match="no end of both"):
        _ = Contrast(short, long).findings


def test_a_step_without_a_value_on_one_side_is_left_out_on_both():
    dp, baseline = (diagnosis(name, {}, steps=(0, 5, 9), cosine_update=0.0) for name in ("dp", "baseline"))
    for one, values in ((dp, [9.0, 2.0, 3.0]), (baseline, [None, 1.0, 1.0])):
        for run in one.runs:
            run["values"]["cosine_update"] = {"a": list(values), "b": [value and 2 * value for value in values]}
    found = Contrast(dp, baseline).difference("cosine_update", over="run")
    assert (found.larger, found.value) == ("b", pytest.approx(1.5))


def test_what_no_epsilon_covers_is_said():
    dp, baseline = diagnosis("dp", {}), diagnosis("baseline", {})
    assert "reads baseline, which claims no privacy: not for release" in Contrast(dp, baseline).note
    assert "epsilons add up" in Contrast(dp, diagnosis("dp", {})).note


def test_what_is_the_same_for_all_units_of_an_arm_is_left_out():
    """An arm that clips nothing has a clipped share of 0 by construction: the contrast would be the other arm's own."""
    dp = diagnosis("dp", {}, clipped_share=0.5, norm_median=2.0)
    baseline = diagnosis("baseline", {}, clipped_share=0.0, norm_median=1.5)
    assert Contrast(dp, baseline).quantities == ("loss", "norm_median")


@pytest.mark.parametrize(
    ("change", "told"), [({"drawn": "other"}, "units"), ({"seeds": (0, 1)}, "seeds"), ({"private": True}, "kind")]
)
def test_unlike_diagnoses_are_refused(change, told):
    with pytest.raises(SpecError, match=f"did not look at the same {told}"):
        Contrast(diagnosis("dp", {}), diagnosis("baseline", {}, **change))


def test_an_arm_that_is_diagnosed_by_other_groups_too_keeps_both():
    first, second = diagnosis("dp", {}).as_dict(), diagnosis("dp", {}).as_dict()
    second = {**second, "diagnostics": [{**one, "by": "words"} for one in second["diagnostics"]],
              "diagnostics_notes": ["Groups by words."], "diagnostics_findings": ["Another."]}  # fmt: skip
    both = joined(joined({"steps": 3}, first), second)
    assert both["steps"] == 3
    assert [one["by"] for one in both["diagnostics"]] == ["column 'group'", "column 'group'", "words", "words"]
    assert both["diagnostics_note"].endswith(" Groups by words.")
    assert both["diagnostics_findings"][-1] == "Another."
    assert joined(both, second) == both
    assert joined(both, {"statement": None}) == both
