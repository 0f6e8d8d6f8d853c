"""Plans of gates: what they would find, what they need, and what it costs; nothing is trained."""

from __future__ import annotations

import json
import math
import re

import numpy as np
import pytest
from plan_builders import gate_of
from safetensors.numpy import save_file

from fairtest.errors import FairtestError, SpecError
from fairtest.experiments.ablations import PARTS
from fairtest.experiments.arms import Arms, TunedArm, custom_arm
from fairtest.experiments.checkpoint import Checkpoint
from fairtest.experiments.experiment import PROTOCOL, Experiment
from fairtest.experiments.model_scorer import SCORING_VERSION
from fairtest.gates.fairness import Fairness
from fairtest.gates.planning import times as plan_times
from fairtest.gates.planning.arms import NO_VALUES, PlannedArm, PlannedArms
from fairtest.gates.planning.basis import items_of
from fairtest.gates.planning.planned_gate import (
    PlannedGate,
    PlannedRun,
    detectable,
    needs,
    with_seeds,
)
from fairtest.gates.planning.planner import Planner, Sources
from fairtest.gates.planning.table import distinct, plan_lines, totals
from fairtest.metrics import parse_metric
from fairtest.probes.registry import load_probe_set
from fairtest.settings import Settings
from fairtest.specs import DP
from fairtest.statistics.components import Contrast
from fairtest.statistics.power import minimum_detectable, preference_mde
from fairtest.store import Store
from fairtest.tiny.generator import corpus

RATIOS = "templates.log_ratio[gender]"


class Stop(Exception):  # noqa: N818 - what a test runner raises to end a test
    """Stands for pytest's skip."""


def refuse(reason):
    raise Stop(reason)


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    path = tmp_path_factory.mktemp("corpus") / "records.jsonl"
    rows = [json.dumps({"text": record.text}) + "\n" for record in corpus("private", 0.65, 200, seed=1)]
    path.write_text("".join(rows))
    return path


@pytest.fixture
def planning(records, tmp_path):
    """A function that gives (planner, arms) under some settings."""

    def make(*, timing=False, **settings):
        known = Settings(**{"corpus": str(records), "batch_size": 16, "steps": 4, "max_length": 48, **settings})
        planner = Planner(known, refuse, "test_it", Sources(timing))
        return planner, PlannedArms(Experiment(known, Store(tmp_path / "store")), planner)

    return make


# -- figures ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("axis", "alone", "family"),
    [("", 2.5, 3.3), ("[race-color]", 4.2, 5.7), ("[gender]", 5.9, 8.0), ("[religion]", 9.4, 12.6)],
)
def test_a_crows_pairs_gate_finds_what_a_normal_approximation_says(planning, data_dir, axis, alone, family):
    """One checkpoint, one-sided 5%, discordance 0.15; the gate's own t distribution is a little wider."""
    planner, arms = planning(data_dir=str(data_dir), seeds=1, confidence=0.9)
    planner.assert_no_amplification(arms.dp, arms.baseline, metric=f"crows_pairs.preference{axis}", max_increase=2.0)
    (gate,) = planner.gates
    assert gate.items == {"": 1508, "[race-color]": 516, "[gender]": 262, "[religion]": 105}[axis]
    assert detectable(gate) == pytest.approx(alone, abs=0.12)
    assert detectable(gate, tests=8) == pytest.approx(family, abs=0.35)
    assert detectable(gate) == pytest.approx(preference_mde(gate.items), rel=0.03)
    assert detectable(gate) >= preference_mde(gate.items)


def test_seeds_add_their_part(planning, data_dir):
    found = []
    for seeds in (3, 5, 20):
        planner, arms = planning(data_dir=str(data_dir), seeds=seeds)
        planner.assert_no_amplification(arms.dp, arms.baseline, metric="crows_pairs.preference", max_increase=2.0)
        found.append(detectable(planner.gates[0]))
    assert found == sorted(found, reverse=True)
    # Two thirds of an item's variance are drawn with each seed, and averaged over 20.
    variance = 100.0**2 * 0.15 / 1508 * (1 / 3 + 2 / 3 / 20)
    assert found[-1] == pytest.approx(minimum_detectable(math.sqrt(variance), 40.0, 0.95), rel=0.1)


def test_clusters_of_several_items_tell_less(planning):
    planner, arms = planning()
    planner.assert_no_amplification(arms.dp, arms.baseline, metric="templates.preference[gender]", max_increase=2.0)
    (gate,) = planner.gates
    assert (gate.items, gate.factors) == (640, (40, 16))
    assert "design effect 3.7" in gate.basis  # 1 + 0.05 (16 - 1) + 0.05 (40 - 1)
    one_seed = with_seeds(gate.spread, 1)
    assert one_seed.cluster_se == pytest.approx(100.0 * math.sqrt(0.15 * 3.7 / 640))
    assert one_seed.seed_sd is None


def test_a_detectable_change_is_found_in_four_of_five_simulated_gates(planning):
    """The plan's figure against intervals of simulated scores with the spread it assumes."""
    from fairtest.statistics.intervals import amplification_interval

    rng = np.random.default_rng(3)
    seeds, clusters, per_cluster = 5, 40, 5
    cluster_sd, item_sd, seed_sd = 0.3, 1.0, 0.1
    variance = cluster_sd**2 / clusters + item_sd**2 / (clusters * per_cluster)
    spread = Contrast(0.0, seeds, seed_sd, math.sqrt(variance), 0.0, clusters - 1.0)
    effect = detectable(gate_of(spread=spread, unit="nats"))
    labels = np.repeat(np.arange(clusters), per_cluster)
    found = passed = 0
    for _ in range(1500):
        shared = np.repeat(rng.normal(0, cluster_sd, clusters), per_cluster) + rng.normal(0, item_sd, len(labels))
        change = shared + rng.normal(0, seed_sd, (seeds, 1))
        interval = amplification_interval(10.0 + effect + change, np.full_like(change, 10.0), labels, 0.0)
        found += interval.low > 0.0
        passed += interval.high - effect <= effect
    assert 0.75 < found / 1500 < 0.87
    assert 0.75 < passed / 1500 < 0.87


def test_a_plan_is_plain_data_and_comes_back():
    gate = gate_of(runs=(PlannedRun("d", "dp", 0, stored=False, seconds=1.5, timed="x"),))
    assert PlannedGate.from_dict(json.loads(json.dumps(gate.as_dict()))) == gate
    assert PlannedGate.from_dict(gate_of(gate="privacy", looks=()).as_dict()).seeds == 0


# -- where numbers come from ------------------------------------------------------------------------------------------


def test_log_ratios_need_the_pretrained_model(planning):
    planner, arms = planning()
    planner.assert_no_amplification(arms.dp, arms.baseline, metric=RATIOS, max_increase=0.25)
    assert detectable(planner.gates[0]) is None
    assert needs(planner.gates[0]).startswith("not planned: no basis (the pretrained model is not scored")


def test_the_pretrained_model_is_scored_and_a_step_timed_and_nothing_is_trained(planning, tmp_path):
    planner, arms = planning(timing=True, threads=1)
    planner.assert_no_amplification(arms.dp_cda, arms.baseline, metric=RATIOS, max_increase=0.25)
    planner.assert_bias_within(arms.baseline, metric=RATIOS, max_distance=0.5)
    change, level = planner.gates
    assert "2 times their standard deviation under the pretrained model (0.34 nats)" in change.basis
    assert with_seeds(level.spread, 1).cluster_se == pytest.approx(0.75 * with_seeds(change.spread, 1).cluster_se)
    one_seed = 2.0 * 0.3395 * math.sqrt(3.7 / 640)
    assert change.spread.seed_sd == pytest.approx(math.hypot(0.25 * 0.3395, one_seed * math.sqrt(2 / 3)), rel=0.01)
    assert {run.timed for run in change.runs} == {plan_times.TIMED_HERE}
    assert all(run.seconds > 0 for run in change.runs)
    assert sorted(path.name for path in (tmp_path / "store/entries").iterdir()) == ["scores"]


def test_scores_in_the_store_are_measured_instead(planning, tmp_path):
    planner, arms = planning(seeds=5)
    put_runs(arms, tmp_path, seeds=3)
    planner.assert_no_amplification(arms.dp, arms.baseline, metric=RATIOS, max_increase=0.25)
    planner.assert_bias_within(arms.dp, metric=RATIOS, max_distance=0.5)
    change, level = planner.gates
    assert change.basis == level.basis == "measured: scores of 3 seeds of these arms in the store"
    assert (change.spread.seeds, change.seeds) == (3, 5)
    assert change.spread.seed_sd == pytest.approx(0.1 * np.std([0, 1, 2], ddof=1))
    assert detectable(change) < detectable(change, seeds=3)
    assert [run.stored for run in change.runs] == [True, True, True, False, False] * 2


def test_one_seed_in_the_store_says_nothing_of_others(planning, tmp_path):
    planner, arms = planning(seeds=5)
    put_runs(arms, tmp_path, seeds=1)
    planner.assert_no_amplification(arms.dp, arms.baseline, metric=RATIOS, max_increase=0.25)
    planner.assert_no_amplification(arms.dp, arms.baseline, metric="templates.preference[gender]", max_increase=0.25)
    ratio, share = planner.gates
    assert ratio.basis == "no basis (one seed in the store says nothing of others)"
    assert share.basis.endswith("assumed: how other seeds differ")


def test_perplexity_is_planned_from_losses_that_are_there(planning, tmp_path):
    planner, arms = planning(seeds=3)
    planner.assert_utility(arms.dp, arms.baseline, max_perplexity_ratio=1.25)
    put_runs(arms, tmp_path, seeds=3)
    planner = Planner(planner.settings, refuse)
    planner.assert_utility(arms.dp, arms.baseline, max_perplexity_ratio=1.25)
    (gate,) = planner.gates
    assert gate.basis.startswith("measured: scores of 3 seeds")
    assert 0 < detectable(gate) < 1


def test_values_that_never_vary_are_no_basis(planning, tmp_path):
    planner, arms = planning(seeds=2)
    put_runs(arms, tmp_path, seeds=2, varied=False)
    planner.assert_utility(arms.dp, arms.baseline, max_perplexity_ratio=1.25)
    assert (
        needs(planner.gates[0]) == "not planned: no basis (nothing varied between the seeds and items that are there)"
    )


def test_other_versions_of_scores_are_not_read(planning, tmp_path):
    planner, arms = planning(seeds=3)
    put_runs(arms, tmp_path, seeds=3, version=SCORING_VERSION - 1)
    planner.assert_no_amplification(arms.dp, arms.baseline, metric=RATIOS, max_increase=0.25)
    assert detectable(planner.gates[0]) is None


def test_runs_of_the_same_kind_tell_the_time(planning, tmp_path):
    planner, arms = planning(seeds=3, timing=False)
    put_runs(arms, tmp_path, seeds=1)
    planner.note(arms.baseline)
    missing = [run for run in planner.gates[0].runs if not run.stored]
    assert [(run.seconds, run.timed) for run in missing] == [(8.0, plan_times.FROM_STORE)] * 2
    planner.note(arms.cda)
    assert {(run.seconds, run.timed) for run in planner.gates[1].runs} == {(None, "not timed")}


def test_more_steps_take_longer(planning, tmp_path):
    planner, arms = planning(seeds=1, timing=False)
    put_runs(arms, tmp_path, seeds=1)
    longer = planner.planned(custom_arm(arms.baseline.experiment, "longer", steps=40, learning_rate=1e-3))
    planner.note(longer)
    assert planner.gates[0].runs[0].seconds == pytest.approx(80.0)


def test_items_are_those_that_the_metric_counts():
    probes = load_probe_set("templates", None)
    items = items_of(parse_metric(RATIOS), probes)
    assert (items.count, items.factors, items.share, items.fixed) == (640, (40, 16), False, True)
    assert items_of(parse_metric("templates.preference[race]"), probes).share


def test_every_metric_of_a_published_set_can_be_counted(data_dir):
    for name, count in (
        ("stereoset.ss[gender]", 255),
        ("stereoset.lms[gender]", 255),
        ("winogender.masculine_preference", 120),
    ):
        ref = parse_metric(name)
        items = items_of(ref, load_probe_set(ref.metric.probe_set, data_dir))
        assert items.count == count, name
        assert items.share, name


def test_clusters_below_the_fewest_are_told(planning, data_dir):
    planner, arms = planning(data_dir=str(data_dir))
    planner.assert_no_amplification(arms.dp, arms.baseline, metric="stereoset.ss[religion]", max_increase=5.0)
    assert "3 clusters, and at least 5 are needed" in needs(planner.gates[0])


# -- arms and helpers -------------------------------------------------------------------------------------------------


def test_a_planner_has_every_helper_of_a_fairness_fixture():
    helpers = {name for name in dir(Fairness) if name.startswith("assert_")} | {"measure"}
    assert helpers <= set(dir(Planner))


# Plain facts, and other arms, which are planned as well (those of PARTS in test_planned_ablations).
PLAIN = {"name", "tuned", "kind", "start_known", "seeds", "available_seeds", "identity", "limited", "start", *PARTS}


@pytest.mark.parametrize("name", sorted({name for name in dir(TunedArm) if not name.startswith("_")} - PLAIN))
def test_an_arm_gives_no_values(planning, name):
    planner, arms = planning(seeds=2)
    arguments = {"scores": ("templates",), "save_pretrained": ("somewhere",)}.get(name, ())
    with pytest.raises(Stop, match=NO_VALUES):
        getattr(arms.dp, name)(*arguments)
    assert len(planner.gates[0].runs) == 2


def test_arms_of_a_planned_arm_are_planned(planning):
    _, arms = planning()
    assert all(isinstance(arm, PlannedArm) for arm in (*arms, arms["dp"], arms.dp.start(), arms.dp.limited(2)))
    assert arms.dp.limited(2).seeds == (0, 1)
    assert isinstance(arms, Arms)


def test_a_result_has_no_values(planning):
    planner, arms = planning()
    result = planner.assert_no_amplification(
        arms.dp, arms.baseline, metric="templates.preference[gender]", max_increase=1.0
    )
    with pytest.raises(Stop, match=NO_VALUES):
        _ = result.verdict
    with pytest.raises(Stop, match=NO_VALUES):
        _ = planner.measure(arms.dp, "perplexity").value
    assert [gate.gate for gate in planner.gates] == ["no_amplification", "measure"]


def test_every_kind_of_gate_about_a_metric_is_planned(planning, data_dir):
    planner, arms = planning(seeds=2, data_dir=str(data_dir))
    share = "templates.preference[gender]"
    planner.assert_mitigated(arms.dp_cda, arms.dp, arms.baseline, metric=share, min_reduction=1.0)
    planner.assert_no_regression(arms.dp, metric=share, max_increase=1.0)
    planner.assert_utility(arms.dp, arms.baseline, max_lms_drop=2.0, metric="stereoset.lms[gender]")
    assert [(gate.gate, gate.allowed, len(gate.runs)) for gate in planner.gates] == [
        ("mitigated", -1.0, 6),
        ("no_regression", 1.0, 2),
        ("utility", 2.0, 4),
    ]
    assert [gate.basis.startswith("assumed") for gate in planner.gates] == [True] * 3


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda p, a: p.assert_no_amplification(a.dp, a.baseline, metric="x.y", max_increase=1.0), "unknown metric"),
        (lambda p, a: p.assert_no_amplification("dp", a.baseline, metric=RATIOS, max_increase=1.0), "is no arm"),
        (lambda p, a: p.assert_no_amplification(a.dp, a.baseline, metric=RATIOS, max_increase=math.nan), "finite"),
        (lambda p, a: p.assert_bias_within(a.dp, metric="perplexity", max_distance=1.0), "utility, not bias"),
        (lambda p, a: p.assert_utility(a.dp, a.baseline), "one threshold"),
        (lambda p, a: p.assert_bias_within(a.dp, metric="stereoset.ss", max_distance=1.0), "needs its published data"),
    ],
)
def test_what_a_gate_refuses_a_plan_refuses(planning, ask, words, monkeypatch):
    monkeypatch.delenv("FAIRTEST_DATA_DIR", raising=False)
    planner, arms = planning()
    with pytest.raises(FairtestError, match=words):
        ask(planner, arms)


def test_a_batch_larger_than_the_corpus_is_told_before_training(planning):
    planner, arms = planning(batch_size=1000)
    with pytest.raises(SpecError, match="a batch of 1000 units"):
        planner.assert_utility(arms.cda, arms.baseline, max_perplexity_ratio=1.2)


def test_privacy_is_known_before_training(planning):
    planner, arms = planning()
    noisy = planner.planned(custom_arm(arms.dp.experiment, "noisy", dp=DP(epsilon=None, noise_multiplier=0.8)))
    planner.assert_privacy(noisy, max_epsilon=8.0, unit="record")
    planner.assert_privacy(noisy, max_epsilon=0.5, max_delta=1e-9, unit="user", release=True)
    planner.assert_privacy(arms.baseline, max_epsilon=3.0)
    held, broken, without = (needs(gate) for gate in planner.gates)
    assert re.fullmatch(
        r"within the budget: epsilon [\d.]+ at delta 0.00\d+ per record, noise 0.8 clipping norms", held
    )
    assert broken.startswith("will FAIL: epsilon ")
    for words in ("above the allowed 0.5", "delta", "the privacy unit is one record, and one user", "not for release"):
        assert words in broken
    assert without == "will FAIL: it is trained without differential privacy"


def test_what_an_own_trainer_states_is_not_known(records, tmp_path):
    def trainer(arm, units, seed, directory):
        raise AssertionError("nothing is trained")

    trainer.version = "1"
    settings = Settings(corpus=str(records), batch_size=16, steps=4)
    planner = Planner(settings, refuse, sources=Sources())
    arms = PlannedArms(Experiment(settings, Store(tmp_path / "s"), trainer=trainer), planner)
    planner.assert_privacy(arms.dp, max_epsilon=3.0)
    assert needs(planner.gates[0]) == "what your own trainer states is known after training"
    assert planner.gates[0].runs[0].timed == "trained by your own trainer, so no step can be timed"


def test_checkpoints_are_planned_without_scoring_them(planning, data_dir, tmp_path):
    planner, _ = planning(data_dir=str(data_dir))
    for index, name in enumerate(("a0", "a1", "b0", "b1")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text('{"architectures": ["GPT2LMHeadModel"]}')
        (tmp_path / name / "tokenizer.json").write_text("{}")
        save_file({"weight": np.full(4, index)}, tmp_path / name / "model.safetensors")
    a, b = (Checkpoint(tmp_path / f"{name}0", tmp_path / f"{name}1", name=name) for name in "ab")
    planner.assert_no_amplification(a, b, metric="crows_pairs.preference[gender]", max_increase=5.0)
    planner.assert_utility(a, b, max_perplexity_ratio=1.2)
    share, ratio = planner.gates
    assert (share.items, share.seeds, share.runs) == (262, 2, ())
    assert share.spread is not None
    assert ratio.spread is None


def test_adaptive_seeds_are_planned_to_the_last_look(planning):
    planner, arms = planning(seeds="auto", max_seeds=8)
    planner.assert_no_amplification(arms.dp, arms.baseline, metric="templates.preference[gender]", max_increase=5.0)
    (gate,) = planner.gates
    assert gate.looks == (3, 5, 8)
    assert gate.confidence == pytest.approx(1 - 0.05 * 3 / 8)
    assert [run.later for run in gate.runs] == ([False] * 3 + [True] * 5) * 2
    text = "\n".join(plan_lines(planner.gates, 120))
    assert "seeds = auto: looked at with 3, 5, 8 seeds" in text
    assert "6 to train, and up to 10 more while gates are undecided" in text


# -- the table --------------------------------------------------------------------------------------------------------


def test_runs_are_counted_once_over_all_gates(planning):
    planner, arms = planning(seeds=3, workers=2)
    for candidate in (arms.dp, arms.cda):
        planner.assert_utility(candidate, arms.baseline, max_perplexity_ratio=1.25)
    planner.measure(arms.baseline, "perplexity")
    assert len(distinct(planner.gates)) == 9
    assert totals(planner.gates, 2) == (
        "2 gates and 1 measurement; 9 distinct runs: 0 in the store, 9 to train; nobody knows how long with 2 workers"
    )


def put_runs(arms, tmp_path, *, seeds, version=SCORING_VERSION, varied=True):
    """Leaves in the store what training and scoring would: scores that differ by seed, arm and item in a known way."""
    store = Store(tmp_path / "store")
    experiment = arms.dp.experiment
    probes = experiment.probe_set("templates").only("gender")
    units = experiment.held_out_corpus.units
    texts = [record.text for unit in units for record in unit.records]
    rng = np.random.default_rng(0)
    items = rng.normal(0.0, 1.0, len(probes))
    items -= items.mean()
    level = 2.0 + rng.normal(0.0, 2.0, len(probes))
    for place, arm in enumerate((arms.baseline, arms.dp)):
        for seed in range(seeds):
            run = experiment.run_digest(arm.spec, seed)
            store.obtain("run", experiment._run_key(arm.spec, seed), lambda _: {"seconds": 8.0, "steps": 4})
            values = level + place * (0.5 + 0.1 * seed + 0.2 * items)
            scores = {
                "probe_set": "templates",
                "probe_digest": probes.digest,
                "protocol": PROTOCOL,
                "ids": [probe.id for probe in probes.probes],
                "axes": [probe.axis for probe in probes.probes],
                "clusters": [probe.cluster for probe in probes.probes],
                "log_probs": {"stereotype": list(values), "anti_stereotype": [0.0] * len(probes)},
                "tokens": {"stereotype": [5] * len(probes), "anti_stereotype": [5] * len(probes)},
                "templates": list(probes.templates),
                "fields": [{} for _ in probes.probes],
            }
            key = {"version": version, "run": run, "probes": probes.digest, "protocol": PROTOCOL}
            store.obtain_json("scores", key, lambda scores=scores: scores)
            losses = [10.0 + place + 0.1 * seed + place * varied * (index % 5) for index in range(len(texts))]
            key = {
                "version": version,
                "run": run,
                "texts": plan_times.digest_of(texts),
                "max_length": 48,
                "long_texts": "cut",
            }
            value = {"nll": losses, "tokens": [7] * len(texts)}
            store.obtain_json("held-out", key, lambda value=value: value)
