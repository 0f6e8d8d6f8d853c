"""A study arm in which counterfactuals are units: its noise is what people add, and its statement what they get."""

from __future__ import annotations

import warnings

import pytest

from fairtest.errors import AugmentationError, PrivacyError, PrivacyWarning, TrainingError
from fairtest.experiments.arms import Arms, custom_arm
from fairtest.experiments.copies import Copies, copies_of, delta_of_originals, training_units
from fairtest.experiments.experiment import Experiment
from fairtest.gates.assertions import assert_privacy
from fairtest.gates.planning.times import Times
from fairtest.gates.result import GateFailure, Verdict
from fairtest.privacy.accounting import epsilon_of
from fairtest.privacy.checks import judge_privacy
from fairtest.settings import Settings
from fairtest.specs import CDA, DP
from fairtest.store import Store
from fairtest.tiny.generator import corpus, write_jsonl

NAIVE = CDA(mode="naive_copies")
NOISY = DP(epsilon=None, noise_multiplier=2.0)  # much noise is accounted for in a second, and needs no search


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    path = tmp_path_factory.mktemp("corpus") / "records.jsonl"
    write_jsonl(corpus("private", 0.65, 200, seed=1), path, prefix="r")
    return path


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return tmp_path_factory.mktemp("store")


@pytest.fixture
def make(records, store):
    def experiment(root=store, **changes):
        fields = {"corpus": str(records), "seeds": 1, "steps": 2, "batch_size": 32, "max_length": 48, "threads": 1}
        return Experiment(Settings(**{**fields, **changes}), Store(root))

    return experiment


def test_an_arm_of_copies_claims_what_it_is_and_fails_at_what_it_looks_like(make):
    experiment = make()
    arm = custom_arm(experiment, "dp_copies", dp=NOISY, cda=NAIVE)
    originals = len(experiment.training_corpus)
    (record,) = arm.train()
    statement = arm.statement()
    assert record["units"] == statement.units == originals + statement.copies == training_units(experiment, arm.spec)
    assert statement.copies == record["coverage"]["changed"] > 0
    assert (statement.max_copies_per_unit, statement.max_views_per_unit) == (1, 2)
    assert statement.sample_rate == 32 / statement.units == record["sample_rate"]
    assert statement.delta == 1 / (10 * originals)
    claimed = statement.epsilon_claimed
    assert 0.1 < claimed < 0.3
    assert statement.epsilon > 1.9 * claimed
    assert judge_privacy(statement, statement.epsilon + 0.01) == []
    with pytest.raises(GateFailure) as caught:
        assert_privacy(arm, max_epsilon=1.1 * claimed)
    assert caught.value.result.verdict is Verdict.FAIL
    assert f"is claimed as if {statement.copies} copies were other people's" in str(caught.value)
    assert f"claimed {claimed:#.3g} as if copies were other people" in statement.summary()
    assert arm.changed_share() == record["coverage"]["changed"] / originals


def test_noise_is_that_of_the_claim_and_views_keep_theirs(make):
    experiment = make()
    plan = experiment.privacy_plan(custom_arm(experiment, "budget", dp=0.5, cda=NAIVE).spec)
    originals = len(experiment.training_corpus)
    assert plan.units > originals
    assert plan.target_epsilon == 0.5
    assert plan.epsilon == epsilon_of(plan.noise_multiplier, plan.sample_rate, plan.steps, plan.delta) <= 0.5
    copies, views, plain = (custom_arm(experiment, f"noisy_{cda}", dp=NOISY, cda=cda) for cda in (NAIVE, True, None))
    assert experiment.privacy_plan(copies.spec).units == training_units(experiment, copies.spec) == plan.units
    assert experiment.privacy_plan(views.spec) == experiment.privacy_plan(plain.spec)
    assert experiment.privacy_plan(plain.spec).units == originals
    assert copies_of(experiment, views.spec) == Copies()
    assert views.statement().epsilon == plain.statement().epsilon
    assert views.statement().copies == 0


def test_passes_over_the_corpus_are_passes_over_the_copies_too(make):
    experiment = make(steps=None, epochs=0.5)
    arm = custom_arm(experiment, "copies", cda=NAIVE)
    units = training_units(experiment, arm.spec)
    (record,) = arm.train()
    assert record["units"] == units > len(experiment.training_corpus)
    assert (
        record["steps"]
        == arm.spec.training.steps_for(units)
        > Arms(experiment).cda.spec.training.steps_for(len(experiment.training_corpus))
    )
    assert arm.statement() is None
    a_step = record["seconds"] / record["steps"]
    runs = {entry.digest: entry for entry in experiment.store.entries("run")}
    found = [entry for entry in runs.values() if entry.digest == experiment.run_digest(arm.spec, 0)]
    seconds, _ = Times(experiment, {entry.digest: entry for entry in found}).seconds(arm.spec)
    assert seconds == pytest.approx(a_step * record["steps"])


def test_a_share_of_the_units_has_copies(make):
    experiment = make()
    arm = custom_arm(experiment, "some", cda=CDA(mode="naive_copies", fraction=0.4))
    some = copies_of(experiment, arm.spec)
    every = copies_of(experiment, custom_arm(experiment, "all", cda=NAIVE).spec)
    assert 0.25 * every.total < some.total < 0.55 * every.total
    (record,) = arm.train()
    assert record["units"] == len(experiment.training_corpus) + some.total
    left = record["coverage"]["unchanged_by_reason"]["not among the share that is augmented"]
    assert 0.45 < left / len(experiment.training_corpus) < 0.75


def test_copies_that_are_cut_off_before_the_swapped_word_fail_the_arm(make):
    with pytest.raises(TrainingError, match=r"none of \d+ counterfactuals differs from its record in the tokens"):
        custom_arm(make(max_length=2), "cut", cda=NAIVE).train()


def test_an_axis_that_the_corpus_does_not_speak_of_fails_the_arm_before_noise_is_calibrated(make):
    experiment = make()
    arm = custom_arm(experiment, "none", dp=DP(), cda=CDA(axes=("religion",), mode="naive_copies"))
    with pytest.raises(AugmentationError, match="changed none of"):
        arm.train()


def test_without_a_copy_the_claim_is_a_plain_one(make):
    experiment = make()
    cda = CDA(axes=("religion",), mode="naive_copies", allow_unchanged=True)
    arm = custom_arm(experiment, "unchanged", dp=NOISY, cda=cda)
    arm.train()
    assert arm.statement() == custom_arm(experiment, "dp_noisy", dp=NOISY).statement()


def test_delta_is_of_the_people_and_below_one_over_what_is_sampled():
    assert delta_of_originals(DP(), 100, 200).delta == 1 / 1000
    assert delta_of_originals(DP(), 100, 2000).delta == 1 / 4000
    assert delta_of_originals(DP(delta=1e-6), 100, 200).delta == 1e-6


def test_a_trainer_of_ones_own_cannot_claim_that_copies_are_other_people(make):
    from fairtest.experiments.own_trainer import _require_all_copies
    from fairtest.privacy.copies import CopiesSpent
    from fairtest.privacy.statement import statement_of

    experiment = make()
    plan = experiment.privacy_plan(custom_arm(experiment, "dp_noisy", dp=NOISY).spec)
    plain = statement_of(plan, max_grad_norm=1.0, unit="record")
    with pytest.raises(PrivacyError, match=r"up to 1 of them are of one unit, and it speaks of 0"):
        _require_all_copies(plain, 1)
    honest = statement_of(plan, max_grad_norm=1.0, unit="record", copies=CopiesSpent(50, 1, 6.5, "PLD"))
    _require_all_copies(honest, 1)
    _require_all_copies(plain, 0)
    _require_all_copies(None, 1)


def test_a_claim_below_twenty_that_is_above_it_for_a_person_is_warned_of_once(make, tmp_path, monkeypatch):
    monkeypatch.setattr("fairtest.privacy.copies.group_epsilon", lambda *_, **__: 25.0)
    experiment = make(root=tmp_path)
    arm = custom_arm(experiment, "weak", dp=NOISY, cda=NAIVE)
    told = (
        "arm 'weak': for a person whose record has copies epsilon is 25, which is above 20 and hardly protects;"
        r" 0\.2\d* is claimed as if copies were other people"
    )
    with pytest.warns(PrivacyWarning, match=told):
        experiment.privacy_plan(arm.spec)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        experiment.privacy_plan(arm.spec)  # said once
        experiment.privacy_plan(custom_arm(experiment, "views", dp=NOISY, cda=True).spec)


def test_a_plan_foresees_that_the_claim_will_fail(make):
    from fairtest.gates.planning.planner import _privacy

    arm = custom_arm(make(), "dp_copies", dp=NOISY, cda=NAIVE)
    problems, spent = _privacy(arm, 0.3, None, "record", release=False)
    (problem,) = problems
    assert "is above the allowed 0.3 (0.2" in problem
    assert "is claimed as if copies of a record were other people's" in problem
    assert f"epsilon {arm.statement().epsilon:.3g} at delta" in spent
