"""What a DP arm claims is what its runs did (clipping norm, noise, unit), and the claim goes with the model."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from fairtest.errors import PrivacyError, PrivacyWarning, SpecError
from fairtest.experiments.arms import Arms, custom_arm
from fairtest.experiments.experiment import Experiment
from fairtest.experiments.stated import PRIVACY_FILE
from fairtest.experiments.weights import digest_of_weights
from fairtest.privacy.checks import judge_privacy
from fairtest.privacy.statement import NOT_STATED, PrivacyStatement
from fairtest.settings import Settings
from fairtest.specs import DP
from fairtest.store import Store
from fairtest.tiny.generator import corpus, write_jsonl
from fairtest.training.norms import unit_gradient_norms


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    path = tmp_path_factory.mktemp("corpus") / "records.jsonl"
    write_jsonl(corpus("private", 0.65, 200, seed=1), path, prefix="r")
    return path


@pytest.fixture
def make(records, tmp_path):
    def experiment(store=tmp_path / "store", **changes):
        fields = {"corpus": str(records), "seeds": 1, "steps": 2, "batch_size": 32, "max_length": 48, "threads": 1}
        return Experiment(Settings(**{**fields, **changes}), Store(store))

    return experiment


def test_the_median_norm_reads_no_training_unit(make):
    experiment = make(max_grad_norm="median", held_out=0.3)
    arms = Arms(experiment)
    norms = sorted(
        unit_gradient_norms(
            experiment.base_model(arms.dp.spec, 0), experiment.held_out_units(), experiment.settings.training
        )
    )
    (record,) = arms.dp.train()
    assert record["max_grad_norm"] == norms[(len(norms) - 1) // 2]
    statement = arms.dp.statement()
    assert statement.max_grad_norm == record["max_grad_norm"]
    assert "held-out units" in statement.max_grad_norm_chosen
    assert arms.dp_cda.statement().max_grad_norm == statement.max_grad_norm  # arms differ in CDA alone
    assert Arms(make()).dp.statement().max_grad_norm_chosen == "fixed before training"


def test_another_held_out_part_is_another_run_where_the_norm_comes_from_it(make):
    def digest(**changes):
        experiment = make(max_grad_norm="median", **changes)
        return experiment.run_digest(Arms(experiment).dp.spec, 0)

    assert digest(held_out=0.1) != digest(held_out=0.3)


def test_a_release_says_so_and_a_comparison_is_refused_for_it(make):
    experiment = make()
    private = Arms(experiment).dp
    released = custom_arm(experiment, "dp_release", dp=DP(epsilon=3.0, release=True))
    assert released.train()[0]["release"]
    assert judge_privacy(released.statement(), 3.0, release=True) == []
    assert judge_privacy(private.statement(), 3.0) == []
    (problem,) = judge_privacy(private.statement(), 3.0, release=True)
    assert "seed" in problem
    assert "operating system" in released.statement().noise_generator
    assert not released.statement().repeatable
    assert released.identity != private.identity


def test_a_saved_model_carries_its_statement_and_a_run_in_the_store_too(make, tmp_path):
    arms = Arms(make())
    arms.dp.save_pretrained(tmp_path / "model")
    written = PrivacyStatement.read(tmp_path / "model" / PRIVACY_FILE)
    # The copy beside the weights says which weights it is about, and is believed beside no others.
    assert written.weights == digest_of_weights(tmp_path / "model")
    written = dataclasses.replace(written, weights=NOT_STATED)
    assert written == arms.dp.statement()
    from transformers import AutoModelForCausalLM

    again = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    model, _ = arms.dp.load()
    for name, value in model.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], value)
    stored = list((tmp_path / "store").rglob(PRIVACY_FILE))
    assert [PrivacyStatement.read(path) for path in stored] == [written]
    arms.baseline.save_pretrained(tmp_path / "plain")
    assert not (tmp_path / "plain" / PRIVACY_FILE).exists()


def test_a_claim_about_another_unit_is_refused_before_anything_is_trained(make, tmp_path):
    experiment = make()
    arm = custom_arm(experiment, "dp_user", dp=DP(epsilon=3.0, unit="user"))
    with pytest.raises(PrivacyError, match=r"claimed for a user, and corpus .* is grouped by record"):
        arm.train()
    assert not list((tmp_path / "store").rglob("*.safetensors"))
    assert not experiment.ledger


def test_a_batch_of_more_units_than_there_are_is_refused_in_every_arm(make):
    experiment = make(batch_size=500)
    for arm in (Arms(experiment).baseline, Arms(experiment).dp):
        with pytest.raises(SpecError, match="a batch of 500 units cannot be sampled"):
            arm.train()


def test_per_sample_gradients_train_the_same_arm(make):
    """The fallback for layers without a rule differs by rounding alone."""
    experiment = make(optimizer="sgd", learning_rate=0.1)
    fast = custom_arm(experiment, "fast", dp=DP(epsilon=3.0))
    slow = custom_arm(experiment, "slow", dp=DP(epsilon=3.0, clipping="opacus"))
    (ours, _), (theirs, _) = fast.load(), slow.load()
    for (name, a), b in zip(ours.state_dict().items(), theirs.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5, msg=name)
    assert "Opacus" in slow.statement().clipping
    assert "one backward pass" in fast.statement().clipping


def test_a_weak_epsilon_warns_once_a_session_also_when_its_plan_is_found(make):
    for _ in range(2):
        arm = Arms(make(epsilon=50.0)).dp
        with pytest.warns(PrivacyWarning, match="epsilon") as told:
            _ = [arm.statement() for _ in range(2)]
        assert len(told) == 1
