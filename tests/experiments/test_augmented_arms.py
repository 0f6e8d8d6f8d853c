"""What a CDA arm is trained on: further views, texts that stand for a record, axes of one's own."""

from __future__ import annotations

import pytest

from fairtest.errors import AugmentationError, SettingsError, TrainingError
from fairtest.experiments.arms import Arms, custom_arm
from fairtest.experiments.experiment import Experiment
from fairtest.privacy.checks import judge_privacy
from fairtest.settings import Settings, layered
from fairtest.specs import CDA, DP
from fairtest.store import Store
from fairtest.tiny.generator import corpus, write_jsonl

JOBS = """groups = ["first", "second", "third"]
[[terms]]
words = ["nurse", "engineer", "teacher"]
[[terms]]
words = ["clerk", "doctor", "lawyer"]
"""


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


@pytest.fixture
def jobs(tmp_path):
    path = tmp_path / "jobs.toml"
    path.write_text(JOBS, encoding="utf-8")
    return path


def test_substituted_records_are_trained_in_one_view_under_the_same_claim(make):
    experiment = make(cda_mode="substitute")
    arms = Arms(experiment)
    (record,) = arms.dp_cda.train()
    coverage = record["coverage"]
    assert record["views_per_unit"] == 1
    assert coverage["views"] == coverage["records"]
    share = coverage["changed"] / (coverage["changed"] + coverage["unchanged_by_reason"]["drawn to stay as it is"])
    assert 0.35 < share < 0.65
    statement = arms.dp_cda.statement()
    assert statement.max_views_per_unit == 1
    assert statement.epsilon == arms.dp.statement().epsilon
    assert judge_privacy(statement, 3.0) == []


def test_an_axis_of_three_groups_gives_three_views_clipped_together(make, jobs):
    experiment = make(cda_axes=(str(jobs),))
    arm = Arms(experiment).dp_cda
    (record,) = arm.train()
    assert record["views_per_unit"] == 3
    assert arm.statement().max_views_per_unit == 3
    assert arm.statement().epsilon == Arms(experiment).dp.statement().epsilon
    one = custom_arm(experiment, "one", dp=DP(), cda=CDA(axes=(str(jobs),), counterfactuals="one"))
    assert one.train()[0]["views_per_unit"] == 2


def test_other_words_are_another_run(make, jobs):
    def digest():
        experiment = make(cda_axes=(str(jobs),))
        return experiment.run_digest(Arms(experiment).cda.spec, 0)

    before = digest()
    jobs.write_text(JOBS.replace("lawyer", "judge"), encoding="utf-8")
    assert digest() != before


def test_words_that_change_under_a_session_are_not_trained_under_the_old_ones(make, jobs):
    arms = Arms(make(cda_axes=(str(jobs),)))
    assert arms.cda.identity
    jobs.write_text(JOBS.replace("lawyer", "judge"), encoding="utf-8")
    with pytest.raises(AugmentationError, match="have changed since this session first read them"):
        arms.cda.train()


def test_word_lists_that_are_not_there_fail_the_arm_and_no_other(make, tmp_path):
    arms = Arms(make(cda_axes=(str(tmp_path / "absent.toml"),)))
    assert arms.baseline.train()
    with pytest.raises(AugmentationError, match="cannot be read"):
        arms.cda.train()


def test_an_axis_that_the_corpus_does_not_speak_of_fails_the_arm(make):
    with pytest.raises(AugmentationError, match="changed none of"):
        Arms(make(cda_axes=("religion",))).cda.train()


def test_substitutions_that_are_cut_off_fail_the_arm(make):
    with pytest.raises(TrainingError, match=r"none of \d+ counterfactuals differs from its record in the tokens"):
        Arms(make(cda_mode="substitute", max_length=2)).cda.train()


def test_a_seed_that_nothing_is_drawn_with_is_an_error():
    with pytest.raises(SettingsError, match="'cda_seed' has no effect here"):
        layered(("p.toml", {"cda_seed": 3}, None))
    with pytest.raises(SettingsError, match="cda_fraction below 1"):
        layered(("p.toml", {"cda_seed": 3, "cda_fraction": 1.0}, None))
    assert layered(("p.toml", {"cda_seed": 3, "cda_mode": "substitute"}, None)).cda.seed == 3
    share = layered(("p.toml", {"cda_seed": 3, "cda_fraction": 0.5}, None)).cda
    assert (share.seed, share.fraction) == (3, 0.5)
