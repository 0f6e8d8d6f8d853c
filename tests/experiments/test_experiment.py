"""Arms made real on the embedded model: paired, found again by content, and safe from what a user does with a model."""

from __future__ import annotations

import json

import pytest
import torch

from fairtest.errors import CorpusError, SettingsError, SpecError
from fairtest.experiments.arms import Arms, custom_arm
from fairtest.experiments.experiment import Experiment
from fairtest.gates.claims import judge_privacy_claim
from fairtest.privacy.checks import judge_privacy
from fairtest.settings import Settings
from fairtest.specs import Arm, Training
from fairtest.store import Store
from fairtest.tiny.generator import corpus, write_jsonl


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    path = tmp_path_factory.mktemp("corpus") / "records.jsonl"
    write_jsonl(corpus("private", 0.65, 200, seed=1), path, prefix="r")
    return path


@pytest.fixture
def make(records, tmp_path):
    def experiment(store=tmp_path / "store", **changes):
        fields = {"corpus": str(records), "seeds": 2, "steps": 2, "batch_size": 32, "max_length": 48, "threads": 1}
        return Experiment(Settings(**{**fields, **changes}), Store(store))

    return experiment


def ratios(arm):
    return [scores.log_probs for scores in arm.scores("templates")]


def test_what_a_user_does_with_a_loaded_model_changes_no_score(make, tmp_path):
    untouched = ratios(Arms(make(tmp_path / "other")).baseline)
    arms = Arms(make())
    first, _ = arms.baseline.load()
    with torch.no_grad():
        for parameter in first.parameters():
            parameter.zero_()
    second, _ = arms.cda.load()
    assert first is not second
    assert ratios(arms.baseline) == untouched


def test_a_new_session_finds_the_same_scores_and_trains_nothing(make):
    first = ratios(Arms(make()).baseline)
    again = make()
    assert ratios(Arms(again).baseline) == first
    assert all(run["seconds"] is None for run in again.ledger.values())
    assert len(again.ledger) == 2


def test_arms_of_a_seed_differ_and_seeds_differ(make):
    arms = Arms(make())
    baseline, cda = ratios(arms.baseline), ratios(arms.cda)
    assert baseline[0] != baseline[1]
    assert baseline[0] != cda[0]
    assert not set(arms.baseline.identity) & set(arms.cda.identity)


@pytest.mark.parametrize(
    "changes", [{"epsilon": 4.0}, {"steps": 3}, {"learning_rate": 1e-3}, {"held_out": 0.2}, {"max_grad_norm": 2.0}]
)
def test_whatever_changes_training_changes_the_digest(make, changes):
    spec = make().settings.arms()["dp_cda"]
    changed = make(**changes)
    assert changed.run_digest(changed.settings.arms()["dp_cda"], 0) != make().run_digest(spec, 0)


def test_another_text_is_another_run(make, tmp_path, records):
    rows = [json.loads(line) for line in records.read_text().splitlines()]
    rows[0]["text"] += " More."
    other = tmp_path / "other.jsonl"
    other.write_text("".join(json.dumps(row) + "\n" for row in rows))
    spec = make().settings.arms()["baseline"]
    assert make(corpus=str(other)).run_digest(spec, 0) != make().run_digest(spec, 0)


def test_speed_settings_and_names_find_the_same_run(make):
    spec = make().settings.arms()["dp"]
    fast = make(micro_batch_tokens=64)
    assert fast.run_digest(fast.settings.arms()["dp"], 0) == make().run_digest(spec, 0)


def test_the_statement_tells_what_the_runs_did(make):
    statement = Arms(make()).dp_cda.statement()
    assert statement.epsilon <= 3.0
    assert (statement.units, statement.steps, statement.batch_size) == (len(make().training_corpus), 2, 32)
    assert statement.max_views_per_unit == 2
    assert "2 seeds were trained" in statement.released
    assert Arms(make()).baseline.statement() is None


def test_two_arms_of_one_name_are_refused(make):
    experiment = make()
    custom_arm(experiment, "mine", steps=2)
    custom_arm(experiment, "mine", steps=2)
    with pytest.raises(SpecError, match="two different arms are called 'mine'"):
        custom_arm(experiment, "mine", steps=3)


def test_an_arm_that_is_not_there_is_an_attribute_error_too(make):
    arms = Arms(make())
    assert not hasattr(arms, "dp_eps8")
    with pytest.raises(SpecError, match="there is no arm 'dp_eps8'"):
        arms["dp_eps8"]
    assert [arm.name for arm in arms] == ["pretrained", "baseline", "cda", "dp", "dp_cda"]


def test_a_group_column_that_no_record_has_is_an_error(make):
    with pytest.raises(CorpusError, match="no record has a column 'grop'"):
        Arms(make(group_field="grop")).baseline.held_out()


def test_without_a_corpus_only_the_pretrained_model_can_be_scored(make):
    experiment = make(corpus=None)
    assert len(ratios(Arms(experiment).pretrained)) == 1
    with pytest.raises(SettingsError, match="no corpus is set"):
        experiment.run_digest(Arm(name="x", training=Training(steps=2)), 0)


def test_epochs_of_one_arm_replace_the_sessions_steps(make):
    assert custom_arm(make(), "long", epochs=2.0).spec.training.steps_for(160) == 10


@pytest.mark.parametrize("values", [{"steps": 3, "epochs": 2.0}, {"lora_rank": 4}, {"lora_layers": 1}])
def test_what_an_arm_of_ones_own_would_ignore_is_an_error(make, values):
    with pytest.raises(SpecError, match="has no effect here"):
        custom_arm(make(), "own", **values)


def test_copies_added_as_records_are_found_and_the_epsilon_of_the_person_behind_two_is_told(make, tmp_path, records):
    rows = [json.loads(line) for line in records.read_text().splitlines()]
    generated = corpus("private", 0.65, 200, seed=1)
    copies = [
        {**row, "id": f"{row['id']}-copy", "text": made.counterfactual}
        for row, made in zip(rows, generated, strict=True)
    ]
    naive = tmp_path / "naive.jsonl"
    naive.write_text("".join(json.dumps(row) + "\n" for row in rows + copies))
    settings = Settings(undecided="warn", min_improvement=1e-6)
    arm = Arms(make(corpus=str(naive), steps=4)).dp
    statement = arm.statement()
    assert statement.repeated_units > 0.7 * statement.units
    assert statement.epsilon_of_two > 1.5 * statement.epsilon
    assert (
        "name the person's column"
        in judge_privacy_claim(
            arm, max_epsilon=3.0, max_delta=None, unit=None, allow_repeated=False, settings=settings
        ).reason
    )
    assert Arms(make(steps=4)).dp.statement().repeated_units == 0
    allowed = judge_privacy(statement, max_epsilon=3.0, allow_repeated=True)
    assert allowed == []
