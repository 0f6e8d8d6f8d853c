"""A user's own trainer makes the runs: kept, paired and refused as those of the library are."""

from __future__ import annotations

import dataclasses
import functools
import json
import shutil

import pytest
import torch
from checkpoint_builders import STATED
from trainers import base, calls, nudge

from fairtest.errors import PrivacyError, TrainingError
from fairtest.experiments.arms import Arms, custom_arm
from fairtest.experiments.checkpoint import Checkpoint
from fairtest.experiments.experiment import Experiment
from fairtest.experiments.progress import Progress
from fairtest.settings import Settings
from fairtest.store import Store
from fairtest.tiny.generator import corpus, write_jsonl


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    path = tmp_path_factory.mktemp("corpus") / "records.jsonl"
    write_jsonl(corpus("private", 0.65, 100, seed=1), path, prefix="r")
    return path


@pytest.fixture
def make(records, tmp_path):
    def experiment(trainer, progress=None, **changes):
        fields = {"corpus": str(records), "seeds": 2, "max_length": 48, "threads": 1, "cache_dir": str(tmp_path / "s")}
        settings = Settings(**{**fields, **changes})
        return Experiment(settings, Store(settings.cache_dir), progress or Progress(), trainer=trainer)

    calls.clear()
    return experiment


def stored(experiment):
    return list(experiment.store.entries("run"))


def test_a_run_is_what_the_trainer_saved_and_is_made_once(make):
    arms = Arms(make(nudge))
    first = [scores.log_probs for scores in arms.cda.scores("templates", "gender")]
    assert first[0] != first[1]
    units = len(arms.cda.experiment.training_corpus)
    assert calls == [("cda", units, 0, []), ("cda", units, 1, [])]
    calls.clear()
    again = Arms(make(nudge))
    assert [scores.log_probs for scores in again.cda.scores("templates", "gender")] == first
    assert again.cda.held_out().nll != again.pretrained.held_out().nll
    assert calls == []
    assert {run["seconds"] for run in again.cda.experiment.ledger.values()} == {None}
    for run in stored(again.cda.experiment):
        assert not [name for name in run.files if name.endswith(".pt") or name.startswith("made")]


def test_what_the_library_knows_of_such_a_run(make):
    arms = Arms(make(nudge))
    assert arms.cda.changed_share() > 0.5
    assert arms.baseline.changed_share() is None
    assert arms.cda.seconds_per_run() > 0
    assert arms.cda.trained_tensors() is None
    assert arms.pretrained.trained_tensors() == 0
    assert arms.cda.experiment.describe()["trainer"] == "trainers.nudge"
    assert arms.cda.train()[0]["views_per_unit"] == 2


def test_loaded_and_exported_models_are_the_trainers_and_can_be_judged_as_checkpoints(make, tmp_path):
    arm = Arms(make(nudge)).baseline
    model, _ = arm.load(1)
    weight = next(iter(model.parameters())).clone()
    with torch.no_grad():
        next(iter(model.parameters())).zero_()
    assert torch.equal(next(iter(arm.load(1)[0].parameters())), weight)
    arm.save_pretrained(tmp_path / "exported", seed=1)
    there = Checkpoint(tmp_path / "exported").bind(arm.experiment.settings, arm.experiment.store)
    assert there.scores("templates", "gender")[0].log_probs == arm.scores("templates", "gender")[1].log_probs


def test_the_library_and_a_trainer_never_share_a_run(make):
    spec = make(None).settings.arms()["baseline"]
    versioned = functools.partial(nudge)
    versioned.version = "2"
    digests = {make(trainer).run_digest(spec, 0) for trainer in (None, nudge, versioned)}
    assert len(digests) == 3


def test_a_failing_trainer_leaves_nothing_and_names_arm_seed_and_line(make):
    def failing(arm, units, seed, directory):
        if seed == 1:
            raise ZeroDivisionError("no batch")
        return nudge(arm, units, seed, directory)

    arm = Arms(make(failing)).dp
    with pytest.raises(TrainingError, match=r"failing failed: ZeroDivisionError: no batch") as caught:
        arm.scores("templates")
    assert caught.value.where.startswith("arm dp, seed 1, test_own_trainer.py:")
    assert len(stored(arm.experiment)) == 1
    assert not any((arm.experiment.store.root / "work").iterdir())


def kept(change):
    def wrong(arm, units, seed, directory):
        return change(nudge(arm, units, seed, directory), directory)

    return wrong


def without(name):
    def change(out, _):
        (out / name).unlink()
        return out

    return change


def pristine(_, directory):
    model, tokenizer = base()
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


def diverged(_, directory):
    model, tokenizer = base()
    with torch.no_grad():
        next(iter(model.parameters()))[0, 0] = torch.nan
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda *_: None, "it returned None, which is no path"),
        (lambda *_: "elsewhere", "it returned 'elsewhere', and there is no such folder"),
        (lambda out, _: out.parents[3], "which is not in the folder it was given"),
        (without("config.json"), "has no config.json"),
        (without("model.safetensors"), r"has no weights \(\*.safetensors\)"),
        (pristine, "its weights are those of the base model, so nothing was trained"),
        (diverged, "is not finite"),
    ],
)
def test_what_is_no_trained_model_is_refused_and_not_kept(make, change, message):
    arm = Arms(make(kept(change))).baseline
    with pytest.raises(TrainingError, match=message) as caught:
        arm.train()
    assert caught.value.where == "arm baseline, seed 0"
    assert stored(arm.experiment) == []


def test_a_trainer_that_leaves_its_seed_out_is_found_out_also_when_all_is_in_the_store(make):
    def deaf(arm, units, seed, directory):
        del seed
        return nudge(arm, units, 0, directory)

    for _ in range(2):
        with pytest.raises(TrainingError, match="seed 0 of arm 'baseline' and seed 1 of arm 'baseline' have the same"):
            Arms(make(deaf)).baseline.scores("templates", "gender")


def test_a_trainer_that_makes_no_difference_between_arms_is_found_out(make):
    arms = Arms(make(nudge, seeds=1))
    arms.dp.train()
    arms.dp.train()
    with pytest.raises(TrainingError, match="seed 0 of arm 'dp' and seed 0 of arm 'other' have the same weights"):
        custom_arm(arms.dp.experiment, "other", dp=8.0).train()


# -- privacy ----------------------------------------------------------------------------------------------------------


def claiming(**changes):
    def claim(out, _):
        dataclasses.replace(STATED, **changes).write(out / "privacy.json")
        return out

    return kept(claim)


def test_without_a_statement_of_the_trainer_a_private_arm_claims_nothing(make):
    assert Arms(make(nudge)).dp.statement() is None


def test_what_the_trainer_states_is_the_arms_statement_and_is_exported(make, tmp_path):
    arm = Arms(make(claiming())).dp
    assert arm.statement().epsilon == STATED.epsilon
    assert "of one seed (2 seeds were trained to measure" in arm.statement().released
    arm.save_pretrained(tmp_path / "out")
    assert json.loads((tmp_path / "out/privacy.json").read_text())["epsilon"] == STATED.epsilon
    shutil.rmtree(tmp_path / "out")


def test_a_statement_that_forgets_the_counterfactuals_is_refused(make):
    with pytest.raises(PrivacyError, match=r"speaks of at most 1 text\(s\) a unit, and the units have up to 2"):
        Arms(make(claiming())).dp_cda.train()
    assert Arms(make(claiming(max_views_per_unit=2))).dp_cda.statement().max_views_per_unit == 2


def test_a_malformed_statement_is_refused(make):
    def malformed(out, directory):
        (directory / "privacy.json").write_text('{"epsilon": 1}')
        return out

    with pytest.raises(PrivacyError, match="made cannot be used: a privacy statement lacks unit"):
        Arms(make(kept(malformed))).dp.train()


# -- side by side -----------------------------------------------------------------------------------------------------


def test_a_trainer_of_a_module_works_in_other_processes(make):
    arm = Arms(make(nudge, workers=2)).baseline
    arm.train()
    assert calls == []
    assert len(stored(arm.experiment)) == 2


def test_a_trainer_that_cannot_be_sent_runs_here_and_that_is_said_once(make):
    lines = []

    class Stream:
        write = lines.append
        flush = isatty = staticmethod(lambda: False)

    arms = Arms(make(kept(lambda out, _: out), Progress(Stream), workers=2))
    arms.baseline.train()
    arms.cda.train()
    told = [line for line in lines if "cannot be sent to another process" in line]
    assert len(told) == 1
    assert "trained one after another" in told[0]
    assert [call[0] for call in calls] == ["baseline", "baseline", "cda", "cda"]
