"""A plan takes the parts of a DP arm as it takes any arm: nothing is trained, and no time is taken for another's."""

from __future__ import annotations

import json

import pytest

from fairtest.experiments.arms import Arms, custom_arm
from fairtest.experiments.experiment import Experiment
from fairtest.gates.planning.arms import NO_VALUES, PlannedArm, PlannedArms
from fairtest.gates.planning.planned_gate import needs
from fairtest.gates.planning.planner import Planner, Sources
from fairtest.gates.planning.table import totals
from fairtest.gates.planning.times import FROM_STORE, TIMED_HERE, Times
from fairtest.settings import Settings
from fairtest.specs import DP, Arm
from fairtest.store import Store
from fairtest.store.naming import described
from fairtest.tiny.generator import corpus

RATIOS = "templates.log_ratio[gender]"
NAMES = ["clip_only", "noise_only", "shuffled", "baseline_matched"]


class Stop(Exception):  # noqa: N818 - what a test runner raises to end a test
    """Stands for pytest's skip."""


def refuse(reason):
    raise Stop(reason)


@pytest.fixture
def planning(tmp_path):
    path = tmp_path / "records.jsonl"
    path.write_text("".join(json.dumps({"text": row.text}) + "\n" for row in corpus("private", 0.65, 120, seed=1)))
    settings = Settings(corpus=str(path), batch_size=16, steps=4, max_length=32, seeds=2, threads=1)
    planner = Planner(settings, refuse, "test_it", Sources(timing=False))
    return planner, PlannedArms(Experiment(settings, Store(tmp_path / "store")), planner)


@pytest.mark.parametrize("name", NAMES)
def test_a_test_that_touches_a_part_is_planned(planning, name):
    planner, arms = planning
    arm = arms[name]
    assert isinstance(arm, PlannedArm)
    planner.assert_no_amplification(arm, arms.baseline, metric=RATIOS, max_increase=0.2)
    (gate,) = planner.gates
    assert gate.candidate == name
    needed = {"dp"} if name == "baseline_matched" else set()
    assert {run.arm for run in gate.runs} == {name, "baseline", *needed}
    with pytest.raises(Stop, match=NO_VALUES):
        arm.statement()


def test_parts_of_a_planned_arm_are_planned(planning):
    _, arms = planning
    for arm in (arms.dp.clip_only(), arms.dp_cda.noise_only(), arms.dp.matched(), arms.baseline.shuffled()):
        assert isinstance(arm, PlannedArm)
        assert len(arm.seeds) == 2
        with pytest.raises(Stop, match=NO_VALUES):
            arm.train()


@pytest.mark.parametrize("name", NAMES)
def test_a_privacy_claim_of_a_part_is_planned_to_fail(planning, name):
    planner, arms = planning
    planner.assert_privacy(arms[name], max_epsilon=3.0)
    (gate,) = planner.gates
    told = {
        "clip_only": "clip_only is a part of a DP arm, its clipping without its noise, and claims no privacy",
        "noise_only": "noise_only is a part of a DP arm, its noise without its clipping, and claims no privacy",
    }
    assert needs(gate) == f"will FAIL: {told.get(name, 'it is trained without differential privacy')}"


def test_runs_that_a_matched_run_is_matched_to_are_planned_with_it(planning):
    planner, arms = planning
    planner.measure(arms.baseline_matched, "perplexity")
    planner.measure(arms.dp_cda.matched(), "perplexity")
    planner.measure(arms.dp, "perplexity")
    matched, of_cda, alone = (sorted((run.arm, run.seed) for run in gate.runs) for gate in planner.gates)
    assert matched == [("baseline_matched", 0), ("baseline_matched", 1), ("dp", 0), ("dp", 1)]
    assert of_cda == [(arm, seed) for arm in ("baseline_matched_dp_cda", "dp_cda") for seed in (0, 1)]
    assert alone == [("dp", 0), ("dp", 1)]
    assert totals(planner.gates, 1).startswith(
        "0 gates and 3 measurements; 8 distinct runs: 0 in the store, 8 to train"
    )


def test_times_of_a_search_are_not_those_of_its_kind(planning):
    _, planned = planning
    experiment = planned.baseline.experiment
    private = custom_arm(experiment, "private", dp=DP(epsilon=None, noise_multiplier=2.0)).limited(1)
    private.matched().train()
    after = Planner(experiment.settings, refuse, sources=Sources(timing=False))
    after.note(private.matched())
    assert [(run.arm, run.stored) for run in after.gates[0].runs] == [("baseline_matched_private", True)]
    times = Times(experiment, {entry.digest: entry for entry in experiment.store.entries("run")}, timing=False)
    assert times.seconds(private.spec)[1] == FROM_STORE
    assert times.seconds(private.clip_only().spec)[1] == FROM_STORE  # a step of the same kind
    for arm in (Arms(experiment).baseline, private.matched(), private.noise_only()):
        assert times.seconds(arm.spec)[0] is None
    timed = Times(experiment, {}, timing=True).seconds(private.noise_only().spec)
    assert timed[0] > 0
    assert timed[1] == TIMED_HERE


def test_entries_of_parts_are_described_by_what_they_are():
    dp = DP(epsilon=3.0)
    private = Arm(name="x", dp=dp)
    assert described(Arm(name="x", dp=dp, ablation="clip_only").as_dict()).startswith("not private, clip_only of eps")
    assert described(Arm(name="x", ablation="shuffled").as_dict()).startswith("not private, shuffled, ")
    matched = described(Arm(name="x", matched_to=private).as_dict())
    assert matched.startswith("not private, stopped at the loss of epsilon 3.0")
    assert described(private.as_dict()).startswith("epsilon 3.0")
