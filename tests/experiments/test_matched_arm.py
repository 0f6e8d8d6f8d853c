"""The matched arm is the baseline, stopped where it has learned as much as the DP arm of its seed."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from fairtest.errors import SpecError, StoreError
from fairtest.experiments.arms import Arms, custom_arm
from fairtest.experiments.experiment import Experiment
from fairtest.gates.guards import trained_guard
from fairtest.settings import Settings
from fairtest.specs import DP, Arm
from fairtest.store import Store
from fairtest.tiny.generator import corpus, write_jsonl
from fairtest.training.finetune import finetune
from fairtest.training.models import trained_state

STEPS = 12
# Noise by name: nothing to calibrate. The first learns slowly, the second falls apart.
SOME, MUCH = DP(epsilon=None, noise_multiplier=0.1), DP(epsilon=None, noise_multiplier=50.0)


pytestmark = pytest.mark.filterwarnings("ignore:epsilon:fairtest.errors.PrivacyWarning")


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    path = tmp_path_factory.mktemp("corpus") / "records.jsonl"
    write_jsonl(corpus("private", 0.65, 120, seed=1), path, prefix="r")
    return path


@pytest.fixture(scope="module")
def make(records, tmp_path_factory):
    store = tmp_path_factory.mktemp("store")

    def experiment(root=store, **changes):
        fields = {
            "corpus": str(records),
            "seeds": 2,
            "steps": STEPS,
            "batch_size": 24,
            "max_length": 32,
            "threads": 1,
            "held_out": 0.2,
            "learning_rate": 3e-4,
        }
        return Experiment(Settings(**{**fields, **changes}), Store(root))

    return experiment


def losses(arm):
    held_out = arm.held_out()
    return [sum(nll) / sum(held_out.tokens) for nll in held_out.nll]


def baseline_states(experiment, spec, seed):
    """Weights of the plain run after each number of steps, by a plain hook."""
    loaded = experiment.base_model(spec, seed)
    states = [trained_state(loaded.model)]
    finetune(
        loaded,
        experiment.inputs.augmented(spec).units,
        spec.training,
        None,
        seed,
        on_step=lambda *_: states.append(trained_state(loaded.model)),
    )
    return states


@pytest.mark.parametrize("changes", [{}, {"trainable": "last:1"}, {"trainable": "lora", "lora_layers": 1}])
def test_it_is_its_seeds_baseline_at_the_step_that_has_the_dp_arms_loss(make, changes):
    experiment = make(**changes)
    private = custom_arm(experiment, "private", dp=SOME)
    arm = private.matched()
    assert (experiment.base_model(arm.spec, 0).trunk is not None) == bool(changes)
    records, targets, found = arm.train(), losses(private), losses(arm)
    assert (arm.name, len(arm.seeds)) == ("baseline_matched_private", 2)
    for seed, record in enumerate(records):
        step = record["matched_step"]
        assert record["steps"] == step == len(record["losses"]) + record["empty_batches"]
        assert record["baseline_steps"] == STEPS
        assert record["target_loss"] == targets[seed]
        assert record["matched_loss"] == pytest.approx(found[seed], abs=1e-6)
        assert (record["max_grad_norm"], record["noise_multiplier"]) == (None, None)
        start = dict(record["held_out_losses"])[0]
        assert record["matched_loss"] == pytest.approx(targets[seed], abs=0.005 * (start - targets[seed]))
        model, _ = arm.load(seed)
        states = baseline_states(experiment, Arms(experiment).baseline.spec, seed)
        before, after = states[step - 1], states[step]
        expected = {name: torch.lerp(value, after[name], record["matched_share"]) for name, value in before.items()}
        own = {name: value for name, value in model.named_parameters() if name in expected}
        assert own.keys() == expected.keys()
        assert all(torch.equal(own[name], expected[name]) for name in own)
    assert {record["reached"] for record in records} == {True}
    assert 0 < records[0]["matched_step"] <= STEPS


def test_scoring_on_the_way_is_what_the_guards_compute(make):
    experiment = make()
    arm = custom_arm(experiment, "private", dp=SOME).matched()
    guard = trained_guard(arm, min_improvement=0.001, confidence=0.95)
    gain = losses(Arms(experiment).pretrained)[0] - sum(losses(arm)) / 2
    assert f"fell by {gain:.3f} nats" in guard.detail
    (start, first), *_ = arm.train()[0]["held_out_losses"]
    assert (start, first) == (0, pytest.approx(losses(Arms(experiment).pretrained)[0], abs=1e-5))


def test_an_arm_that_learned_nothing_is_matched_by_the_pretrained_model(make):
    experiment = make(seeds=1)
    arm = custom_arm(experiment, "noise", dp=MUCH).matched()
    (record,) = arm.train()
    assert (record["matched_step"], record["reached"], record["losses"]) == (0, True, [])
    assert losses(arm)[0] == pytest.approx(losses(Arms(experiment).pretrained)[0], abs=1e-6)
    guard = trained_guard(arm, min_improvement=0.001, confidence=0.95)
    assert not guard.met
    assert "each of 0 trained tensors" in guard.detail


def test_an_arm_that_learned_more_gives_the_last_step(make):
    experiment = make(seeds=1)
    private = custom_arm(experiment, "private", dp=SOME)
    slow = dataclasses.replace(private.spec.training, learning_rate=1e-5)
    (record,) = experiment.arm(Arm(name="slow", training=slow, matched_to=private.spec)).train()
    assert (record["matched_step"], record["steps"], record["reached"]) == (STEPS, STEPS, False)
    assert record["matched_loss"] > record["target_loss"]


def test_cda_of_the_arm_is_that_of_its_twin(make):
    arm = custom_arm(make(seeds=1), "private_cda", dp=SOME, cda=True).matched()
    (record,) = arm.train()
    assert record["views_per_unit"] == 2
    assert arm.changed_share() > 0.5


# -- keys and the store -----------------------------------------------------------------------------------------------


def test_whatever_moves_the_match_changes_the_digest(make):
    def digest(dp=SOME, **changes):
        experiment = make(**changes)
        return experiment.run_digest(custom_arm(experiment, "private", dp=dp).matched().spec, 0)

    everything = [
        digest(),
        digest(dp=MUCH),
        digest(held_out=0.3),
        digest(max_length=31),
        digest(steps=STEPS + 1),
    ]
    assert len(set(everything)) == len(everything)
    assert digest() == everything[0]


def test_a_new_session_finds_the_match_and_asks_for_no_dp_run(make, tmp_path):
    experiment = make(root=tmp_path, seeds=1)
    first = custom_arm(experiment, "private", dp=SOME).matched().train()
    private = experiment.run_digest(custom_arm(experiment, "private", dp=SOME).spec, 0)
    assert private in experiment.ledger  # it was trained for the match, and the ledger says so
    again = make(root=tmp_path, seeds=1, train="never")
    assert custom_arm(again, "private", dp=SOME).matched().train() == first
    assert private not in again.ledger


def test_without_leave_to_train_nothing_is_trained(make, tmp_path):
    arm = custom_arm(make(root=tmp_path, seeds=1, train="never"), "private", dp=SOME).matched()
    with pytest.raises(StoreError, match="arm 'baseline_matched_private' with seed 0 is not in the store"):
        arm.train()


def test_workers_train_each_run_once_and_find_the_same_match(make, tmp_path):
    alone = custom_arm(make(), "private", dp=SOME).matched().train()
    experiment = make(root=tmp_path, workers=2)
    arm = custom_arm(experiment, "private", dp=SOME).matched()
    both = arm.train()
    assert [record["matched_step"] for record in both] == [record["matched_step"] for record in alone]
    assert [record["losses"] for record in both] == [record["losses"] for record in alone]
    trained = [run for run in experiment.ledger.values() if run["seconds"] is not None]
    assert sorted((run["arm"], run["seed"]) for run in trained) == [
        ("baseline_matched_private", 0),
        ("baseline_matched_private", 1),
        ("private", 0),
        ("private", 1),
    ]
    assert len(list(experiment.store.entries("run"))) == 4


def test_a_matched_run_is_not_observed(make):
    experiment = make(seeds=1)
    arm = custom_arm(experiment, "private", dp=SOME, steps=2).matched()
    with pytest.raises(SpecError, match="a run without DP up to one of its steps"):
        experiment.observed(arm.spec, 0, object())
