"""A whole session on a pretended GPU: arms, parts of arms, gates, diagnoses, checkpoints. Its values are the CPU's, and
its store is read without a device.
"""

from __future__ import annotations

import pytest
import torch
from checkpoint_builders import moved
from pretend_gpu import OnGpu, noise_of_the_cpu, pretend_gpu
from safetensors.torch import load_file
from scoring.masked_builders import bert
from trainers import nudge

from fairtest.commands import main
from fairtest.errors import ModelError
from fairtest.experiments import model_scorer
from fairtest.experiments.arms import Arms, custom_arm
from fairtest.experiments.built_in import BuiltIn
from fairtest.experiments.checkpoint import Checkpoint
from fairtest.experiments.diagnostics import diagnose
from fairtest.experiments.experiment import Experiment
from fairtest.experiments.generation_scores import score_generations_of_model
from fairtest.experiments.model_scores import score_model
from fairtest.gates.assertions import assert_no_amplification, assert_privacy, assert_utility
from fairtest.gates.measure import gate_metric, item_matrix
from fairtest.gates.result import Verdict
from fairtest.privacy.statement import NOISE_RELEASE_GPU, NOISE_SEEDED, NOISE_SEEDED_GPU
from fairtest.probes.registry import load_probe_set
from fairtest.scoring.completions import Decoding
from fairtest.settings import Settings
from fairtest.specs import DP
from fairtest.store import Store
from fairtest.tiny.generator import corpus, write_jsonl
from fairtest.training.models import save_pretrained

pytestmark = pytest.mark.filterwarnings("ignore:epsilon:fairtest.errors.PrivacyWarning")
METRIC = "templates.log_ratio[gender]"


@pytest.fixture(autouse=True)
def _no_model_outlives_its_device():
    yield
    model_scorer._load.cache_clear()


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    path = tmp_path_factory.mktemp("corpus") / "records.jsonl"
    write_jsonl(corpus("private", 0.65, 120, seed=1), path, prefix="r")
    return path


@pytest.fixture
def make(records, tmp_path):
    def experiment(device, store="store", trainer=None, **changes):
        fields = {"corpus": str(records), "seeds": 2, "steps": 2, "batch_size": 24, "max_length": 32, "threads": 1}
        settings = Settings(**{**fields, "held_out": 0.2, "learning_rate": 1e-3, "device": device, **changes})
        return Experiment(settings, Store(tmp_path / store), **({} if trainer is None else {"trainer": trainer}))

    return experiment


def arms_of(experiment):
    arms = Arms(experiment)
    dp = custom_arm(experiment, "mine", dp=DP(epsilon=None, noise_multiplier=1.0, max_grad_norm="median"))
    return {
        "pretrained": arms.pretrained,
        "cda": arms.cda,
        "mine": dp,
        "noise_only": dp.noise_only(),
        "clip_only": dp.clip_only(),
        "matched": dp.matched(),
        "shuffled": arms.baseline.shuffled(),
    }


def measured(arms):
    values = {name: values_of(arm) for name, arm in arms.items()}
    losses = {name: [sum(nll) for nll in arm.held_out().nll] for name, arm in arms.items()}
    return values, losses


def values_of(arm):
    values, _, _ = item_matrix(arm, gate_metric(METRIC, arm))
    return values.tolist()


def no_model(*_):
    pytest.fail("a model is trained or loaded")


def test_a_session_measures_on_a_device_what_it_measures_on_the_cpu(make, monkeypatch):
    with noise_of_the_cpu():
        values, losses = measured(arms_of(make("cpu", "other", seeds=1)))
        with pretend_gpu():
            arms = arms_of(make("cuda", seeds=1))
            found, found_losses = measured(arms)
            model, _ = arms["mine"].load(0)
            assert {type(p) for p in model.parameters()} == {OnGpu}
    for name, expected in values.items():
        for seed, of_seed in enumerate(expected):
            assert found[name][seed] == pytest.approx(of_seed, rel=5e-3, abs=2e-3), name
        assert found_losses[name] == pytest.approx(losses[name], rel=1e-4), name
    assert {run["device"] for run in arms["mine"].train()} == {"cuda"}

    # The device is no part of a run's key: what was trained there is found by a session without one.
    monkeypatch.setattr(BuiltIn, "base_model", no_model)
    again = arms_of(make("cpu", seeds=1))
    values, losses = measured(again)
    assert values == found
    assert losses == found_losses
    assert again["mine"].statement().noise_generator == NOISE_SEEDED_GPU


def test_gates_are_judged_on_a_device(make):
    with pretend_gpu():
        experiment = make("cuda", steps=6, learning_rate=5e-3)
        arms = Arms(experiment)
        dp = custom_arm(experiment, "mine", dp=DP(epsilon=None, noise_multiplier=1.0, max_grad_norm=1.0))
        results = [
            assert_no_amplification(dp, arms.baseline, metric=METRIC, max_increase=2.0),
            assert_utility(dp, arms.baseline, max_perplexity_ratio=2.0),
        ]
    assert {result.verdict for result in results} == {Verdict.PASS}


def test_a_diagnosis_on_a_device_is_that_of_the_cpu(make):
    found = {}
    with noise_of_the_cpu():
        for device in ("cpu", "cuda"):
            with pretend_gpu():
                experiment = make(device, device, held_out=0.4, seeds=1)
                arm = custom_arm(experiment, "mine", dp=DP(epsilon=None, noise_multiplier=1.0, max_grad_norm=1.0))
                arm.train()  # a run of the store is repeated, and has to end at the same weights
                found[device] = diagnose(
                    arm, lambda record: "odd" if int(record.id[2:]) % 2 else "even", units_per_group=8
                )
    for quantity in ("loss", "norm_median", "clip_factor"):
        on_cpu, there = (found[device].difference(quantity) for device in ("cpu", "cuda"))
        assert there.value == pytest.approx(on_cpu.value, rel=1e-2)


def test_the_statement_of_noise_for_release_names_the_generator_of_the_device(make):
    with pretend_gpu():
        experiment = make("cuda", seeds=1, steps=6, learning_rate=5e-3)
        dp = DP(epsilon=None, noise_multiplier=2.0, release=True, max_grad_norm=1.0)
        arm = custom_arm(experiment, "mine", dp=dp)
        statement = arm.statement()
        assert_privacy(arm, max_epsilon=statement.epsilon + 1, release=True)
    assert (statement.noise_generator, statement.repeatable) == (NOISE_RELEASE_GPU, False)
    assert "64-bit" in statement.noise_generator


def test_runs_of_both_kinds_of_device_are_both_named(make):
    first = custom_arm(make("cpu", seeds=1), "mine", dp=DP(epsilon=None, noise_multiplier=1.0, max_grad_norm=1.0))
    first.train()
    with pretend_gpu():
        both = custom_arm(make("cuda", seeds=2), "mine", dp=DP(epsilon=None, noise_multiplier=1.0, max_grad_norm=1.0))
        assert [run["device"] for run in both.train()] == ["cpu", "cuda"]
    assert both.statement().noise_generator == f"{NOISE_SEEDED}; or {NOISE_SEEDED_GPU}"


def test_what_a_session_exports_from_a_device_is_read_without_one(make, tmp_path):
    with pretend_gpu():
        arm = Arms(make("cuda", trainable="lora", lora_rank=2)).baseline.limited(1)
        arm.save_pretrained(tmp_path / "model")
        expected = arm.scores("templates", "gender")[0]
    assert {tensor.device.type for tensor in load_file(tmp_path / "model" / "model.safetensors").values()} == {"cpu"}
    (found,) = (
        Checkpoint(tmp_path / "model", tuned=False)
        .bind(Settings(threads=1), Store(tmp_path / "s"))
        .scores("templates", "gender")
    )
    for role, values in expected.log_probs.items():
        assert found.log_probs[role] == pytest.approx(values, rel=1e-4)


def test_runs_of_an_own_trainer_are_scored_on_the_device(make, monkeypatch):
    monkeypatch.setattr("fairtest.scoring.likelihood._forward", on_the_device())
    values = []
    for device in ("cpu", "cuda"):
        with pretend_gpu():
            arm = Arms(make(device, device, trainer=nudge, seeds=1)).baseline
            values.append(values_of(arm)[0])
    assert values[1] == pytest.approx(values[0], rel=1e-4, abs=1e-4)
    assert DEVICES == ["cpu", "cuda"]


DEVICES = []


def on_the_device():
    """The same forward pass, which notes where it is taken."""
    from fairtest.scoring import likelihood

    real = likelihood._forward
    DEVICES.clear()

    def note(loaded):
        DEVICES.append(loaded.model.device.type)
        return real(loaded)

    return note


def test_checkpoints_are_scored_on_the_device_that_the_settings_name(tmp_path, monkeypatch):
    monkeypatch.setattr("fairtest.scoring.likelihood._forward", on_the_device())
    seeds = [moved(tmp_path / f"seed{seed}", seed) for seed in range(2)]
    texts = tmp_path / "held_out.jsonl"
    write_jsonl(corpus("private", 0.65, 20, seed=9), texts, prefix="h")
    found = []
    with pretend_gpu():
        for device in ("cpu", "cuda"):
            settings = Settings(threads=1, max_length=48, device=device)
            checkpoint = Checkpoint(*seeds, held_out=texts).bind(settings, Store(tmp_path / device))
            found.append((values_of(checkpoint), checkpoint.held_out().nll))
    for one, other in zip(*found, strict=True):
        for seed, expected in enumerate(one):
            assert other[seed] == pytest.approx(expected, rel=1e-4, abs=1e-4)
    assert DEVICES == ["cpu"] * 4 + ["cuda"] * 4


def test_a_model_is_scored_on_the_device_that_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr("fairtest.scoring.likelihood._forward", on_the_device())
    save_pretrained(bert(), tmp_path / "masked")
    probes, prompts = load_probe_set("templates").only("gender"), load_probe_set("occupation_prompts")
    decoding = Decoding(samples=1, max_new_tokens=3)
    with pretend_gpu():
        found = []
        for device in ("cpu", "cuda"):
            common = {"store": Store(tmp_path / device), "threads": 1, "device": device}
            causal = score_model("fairtest/tiny", probes, **common)
            written = score_generations_of_model(
                "fairtest/tiny",
                prompts,
                lambda texts: [float(len(text)) for text in texts],
                decoding=decoding,
                **common,
            )
            found.append([one.estimate for one in causal.estimates])
            found[-1] += [gap.difference for axis in written.axes for gap in axis.gaps]
        assert found[1] == pytest.approx(found[0], rel=1e-4, abs=1e-4)
    assert DEVICES == ["cpu", "cuda"]
    model_scorer._load.cache_clear()
    with pytest.raises(ModelError, match="torch sees 0 CUDA devices, so not 'cuda'"):
        score_model("fairtest/tiny", probes, store=Store(tmp_path / "third"), device="cuda")


def test_the_command_scores_on_the_device_that_is_asked_for(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("fairtest.scoring.likelihood._forward", on_the_device())
    command = ["score", "fairtest/tiny", "templates", "--metric", METRIC, "--threads", "1", "--cache-dir"]
    shown = []
    with pretend_gpu():
        for device in ("cpu", "cuda"):
            assert main([*command, str(tmp_path / device), "--device", device]) == 0
            shown.append(capsys.readouterr().out)
        assert main([*command, str(tmp_path / "cpu"), "--device", "cuda:7"]) == 0  # nothing is left to be run
        assert main([*command, str(tmp_path / "new"), "--device", "cuda:7"]) == 2
        assert "torch sees 1 CUDA devices, so not 'cuda:7'" in capsys.readouterr().err
        assert main([*command, str(tmp_path / "new"), "--device", "gpu"]) == 2
        assert "there is no device 'gpu'" in capsys.readouterr().err
    assert shown[0] == shown[1]
    assert DEVICES == ["cpu", "cuda"]


def test_torch_is_as_it_was():
    assert not torch.cuda.is_available()
