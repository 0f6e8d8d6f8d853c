"""Parts of a DP arm stand beside it: named, trained by the same path, found again, and without any claim."""

from __future__ import annotations

import pytest

from fairtest.digests import digest_of
from fairtest.errors import SpecError
from fairtest.experiments.arms import Arms, custom_arm
from fairtest.experiments.checkpoint import Checkpoint
from fairtest.experiments.experiment import Experiment
from fairtest.experiments.stated import PRIVACY_FILE
from fairtest.gates.claims import judge_privacy_claim
from fairtest.gates.result import Verdict
from fairtest.settings import Settings
from fairtest.specs import CDA, DP, Arm, Training
from fairtest.store import Store
from fairtest.tiny.generator import corpus, write_jsonl
from fairtest.training.finetune import NoiseSpec, finetune
from fairtest.training.models import load_state, trained_state

PARTS = ["clip_only", "noise_only", "shuffled", "baseline_matched"]


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    path = tmp_path_factory.mktemp("corpus") / "records.jsonl"
    write_jsonl(corpus("private", 0.65, 120, seed=1), path, prefix="r")
    return path


@pytest.fixture(scope="module")
def make(records, tmp_path_factory):
    store = tmp_path_factory.mktemp("store")

    def experiment(trainer=None, root=store, **changes):
        fields = {"corpus": str(records), "seeds": 1, "steps": 2, "batch_size": 24, "max_length": 48, "threads": 1}
        return Experiment(Settings(**{**fields, **changes}), Store(root), trainer=trainer)

    return experiment


def digest(experiment, arm, seed=0):
    return experiment.run_digest(arm.spec, seed)


def state_of(experiment, arm):
    arm.train()
    entry = next(e for e in experiment.store.entries("run") if e.digest == digest(experiment, arm))
    return load_state(entry.file("trained.safetensors")), entry


def trained(experiment, arm, noise, **options):
    """What the training loop itself makes of an arm's units."""
    loaded = experiment.base_model(arm.spec, 0)
    finetune(loaded, experiment.inputs.augmented(arm.spec).units, arm.spec.training, noise, 0, **options)
    return trained_state(loaded.model)


def same(one, other):
    return all(bool((one[name] == other[name]).all()) for name in one)


# -- what is trained --------------------------------------------------------------------------------------------------


def test_each_part_is_trained_with_its_share_of_what_the_dp_arm_does(make):
    experiment = make()
    arms = Arms(experiment)
    (dp,) = arms.dp.train()
    sigma, limit = dp["noise_multiplier"], dp["max_grad_norm"]
    expected = {
        "clip_only": trained(experiment, arms.clip_only, NoiseSpec(0.0, limit)),
        "noise_only": trained(experiment, arms.noise_only, NoiseSpec(sigma, limit, clips=False)),
        "shuffled": trained(experiment, arms.shuffled, None, shuffled=True),
    }
    for name, state in expected.items():
        found, entry = state_of(experiment, arms[name])
        assert same(found, state), name
        done = tuple(entry.result[field] for field in ("noise_multiplier", "max_grad_norm", "noise_std", "release"))
        assert (
            done
            == {
                "clip_only": (0.0, limit, 0.0, False),
                "noise_only": (None, None, sigma * limit, False),
                "shuffled": (None, None, None, False),
            }[name]
        )
    assert not same(expected["clip_only"], expected["noise_only"])
    assert not same(expected["shuffled"], state_of(experiment, arms.baseline)[0])


def test_clipping_alone_is_dp_with_sigma_zero(make):
    experiment = make()
    zero = custom_arm(experiment, "sigma_zero", dp=DP(epsilon=None, noise_multiplier=0.0))
    assert same(state_of(experiment, zero)[0], state_of(experiment, Arms(experiment).clip_only)[0])


def test_a_part_of_a_release_arm_can_be_repeated(make):
    experiment = make()
    released = custom_arm(experiment, "dp_release", dp=DP(epsilon=3.0, release=True))
    found, entry = state_of(experiment, released.noise_only())
    assert not entry.result["release"]
    assert same(found, state_of(experiment, Arms(experiment).noise_only)[0])


# -- no claim ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PARTS)
def test_no_part_claims_privacy(make, tmp_path, name):
    experiment = make()
    arm = Arms(experiment)[name]
    assert not arm.spec.private
    assert arm.statement() is None
    assert experiment.privacy_plan(arm.spec) is None
    assert PRIVACY_FILE not in state_of(experiment, arm)[1].files
    arm.save_pretrained(tmp_path / name)
    assert not (tmp_path / name / PRIVACY_FILE).exists()
    result = judge_privacy_claim(
        arm, max_epsilon=1e6, max_delta=None, unit=None, allow_repeated=True, settings=Settings()
    )
    assert result.verdict is Verdict.FAIL
    told = {
        "clip_only": "clip_only is a part of a DP arm, its clipping without its noise, and claims no privacy",
        "noise_only": "noise_only is a part of a DP arm, its noise without its clipping, and claims no privacy",
    }
    otherwise = "the arm was trained without differential privacy"
    assert result.reason == f"there is no privacy statement: {told.get(name, otherwise)}"


# -- names ------------------------------------------------------------------------------------------------------------


def test_parts_have_names_and_going_through_the_arms_gives_the_five(make):
    arms = Arms(make())
    assert [arm.name for arm in arms] == ["pretrained", "baseline", "cda", "dp", "dp_cda"]
    for name in PARTS:
        assert getattr(arms, name).name == arms[name].name == name
        assert name in dir(arms)
    with pytest.raises(
        SpecError, match=r"(?s)there is no arm 'clip_onyl'.*did you mean 'clip_only'.*shuffled"
    ) as error:
        arms["clip_onyl"]
    assert "noise_only" in str(error.value)


def test_parts_of_an_arm_follow_it(make):
    experiment = make()
    arms = Arms(experiment)
    for name in ("clip_only", "noise_only"):
        assert digest(experiment, getattr(arms.dp, name)()) == digest(experiment, arms[name])
        assert getattr(arms.dp, name)().name == name
    assert arms.dp.matched().spec == arms.baseline_matched.spec
    assert arms.baseline.shuffled().spec == arms.shuffled.spec
    mine = custom_arm(experiment, "dp_eps8", dp=8.0, cda=True).limited(3)
    names = {arm.name: arm for arm in (mine.clip_only(), mine.noise_only(), mine.matched(), arms.cda.shuffled())}
    assert list(names) == ["clip_only_dp_eps8", "noise_only_dp_eps8", "baseline_matched_dp_eps8", "shuffled_cda"]
    assert all(arm.spec.cda == experiment.settings.cda for arm in names.values())
    assert len(mine.matched().seeds) == 3
    assert mine.matched().spec.matched_to == mine.spec
    assert mine.matched().spec.dp is None


def test_an_arm_that_has_no_such_part_says_whom_to_ask(make):
    arms = Arms(make())
    for arm, method, fix in (
        (arms.baseline, "clip_only", "arms.dp.clip_only()"),
        (arms.cda, "noise_only", "arms.dp.noise_only()"),
        (arms.pretrained, "matched", "arms.dp.matched()"),
        (arms.dp, "shuffled", "arms.baseline.shuffled()"),
        (arms.pretrained, "shuffled", "arms.baseline.shuffled()"),
        (arms.clip_only, "noise_only", "arms.dp.noise_only()"),
        (arms.baseline_matched, "shuffled", "arms.baseline.shuffled()"),
    ):
        with pytest.raises(SpecError) as error:
            getattr(arm, method)()
        assert fix in str(error.value), (arm, method)


def test_their_names_are_taken(make):
    for name in PARTS:
        with pytest.raises(SpecError, match="name of a standard arm"):
            custom_arm(make(), name)


def test_a_trainer_of_ones_own_has_no_parts(make):
    def mine(arm, units, seed, directory):
        raise AssertionError

    arms = Arms(make(trainer=mine))
    assert not hasattr(arms, "clip_only")
    assert not set(PARTS) & set(dir(arms))
    for ask in (lambda: arms["baseline_matched"], arms.dp.noise_only, arms.baseline.shuffled, arms.dp.matched):
        with pytest.raises(SpecError, match=r"takes training of this library apart, and .*mine trains"):
            ask()


def test_a_checkpoint_has_no_parts():
    checkpoint = Checkpoint("some/where")
    assert not hasattr(checkpoint, "clip_only")
    with pytest.raises(SpecError, match="was trained elsewhere"):
        checkpoint.matched()
    with pytest.raises(AttributeError, match="no attribute 'mached'"):
        checkpoint.mached()


# -- keys -------------------------------------------------------------------------------------------------------------


def test_arms_of_before_are_found_under_the_digests_of_before():
    training = Training(steps=2)
    plain, private = Arm(name="x", training=training), Arm(name="x", training=training, dp=DP(epsilon=3.0), cda=CDA())
    assert digest_of(plain.as_dict()).startswith("394adadf353bdbd6")
    assert digest_of(private.as_dict()).startswith("c965e279542d7b95")


def test_the_key_of_a_run_has_what_it_had(make):
    experiment = make()
    arms = Arms(experiment)
    for arm in (arms.baseline, arms.dp):
        _, entry = state_of(experiment, arm)
        assert set(entry.key) == {"version", "model", "corpus", "arm", "seed"}
        assert entry.key["version"] == 2
    assert len({digest(experiment, arms[name]) for name in (*PARTS, "baseline", "dp")}) == 6
