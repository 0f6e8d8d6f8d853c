"""Training on a pretended GPU: no step mixes devices, and the weights are those of the CPU.

A GPU draws its noise with a generator of its own, so here it is given the CPU's where weights are compared.
"""

from __future__ import annotations

import itertools
import math
import random
import subprocess
import sys

import pytest
import torch
from family_builders import FAMILIES, batch_of, row_losses
from model_builders import WORDS, gpt2, llama, loaded, save_directory
from pretend_gpu import OnGpu, noise_of_the_cpu, pretend_gpu
from safetensors.torch import load_file

from fairtest.augmentation import UnitViews
from fairtest.errors import ModelError, TrainingError
from fairtest.specs import Training
from fairtest.store import Store
from fairtest.training import trunk_store
from fairtest.training.clipping import PerUnitClipping, verify_against_autograd
from fairtest.training.clipping.per_sample import PerSampleClipping
from fairtest.training.diagnostics import BatchDiagnostics, HeldOutDiagnostics
from fairtest.training.finetune import finetune
from fairtest.training.forward import CausalForward, TokenBatch
from fairtest.training.matching import train_to_loss
from fairtest.training.models import (
    load_model,
    load_state,
    load_trained_state,
    move,
    save_pretrained,
    save_state,
    set_trainable,
    trained_state,
)
from fairtest.training.noise import GaussianNoise
from fairtest.training.norms import median_gradient_norm
from fairtest.training.sources import resolve_model
from fairtest.training.steps import NoiseSpec
from fairtest.training.trunk import TrunkCache, split_trunk

DROPOUT = {"embd_pdrop": 0.2, "attn_pdrop": 0.2, "resid_pdrop": 0.2}
STILL = dict.fromkeys(DROPOUT, 0.0)
TRAINING = {"steps": 2, "batch_size": 6, "learning_rate": 1e-2, "max_length": 16}
LORA = {"trainable": "lora", "lora_rank": 2}
NOISE = NoiseSpec(0.7, 0.5)


def corpus(units=12, seed=0):
    draw = random.Random(seed)
    texts = [" ".join(draw.choices(WORDS[3:], k=draw.randint(3, 9))) for _ in range(2 * units)]
    return [
        UnitViews(f"u{i}", (texts[2 * i], texts[2 * i + 1]) if i % 3 == 0 else (texts[2 * i],)) for i in range(units)
    ]


@pytest.fixture
def the_same_noise():
    with noise_of_the_cpu():
        yield


def trained(device, build, noise, training=TRAINING, *, trunk=False, **options):
    one = loaded(build())
    torch.manual_seed(3)
    set_trainable(one.model, Training(**training))
    move(one, device)
    assert all(isinstance(p, OnGpu) == (device == "cuda") for p in one.model.parameters())
    if trunk:
        one.trunk = split_trunk(one)
        assert one.trunk is not None
    log = finetune(one, corpus(), Training(**training), noise, seed=7, **options)
    assert all(isinstance(p, OnGpu) == (device == "cuda") for p in one.model.parameters())
    return trained_state(one.model), log


CASES = {
    "without DP": (lambda: gpt2(**DROPOUT), None, {}),
    "without DP, shuffled": (lambda: gpt2(**STILL), None, {"shuffled": True}),
    "DP, GPT-2 with a tied head and dropout": (lambda: gpt2(**DROPOUT), NOISE, {}),
    "DP, GPT-2 with a head of its own": (lambda: gpt2(tied=False, **STILL), NOISE, {}),
    "DP, Llama": (llama, NOISE, {}),
    "DP, small micro-batches": (llama, NOISE, {"training": {**TRAINING, "micro_batch_tokens": 60}}),
    "DP, LoRA on GPT-2": (lambda: gpt2(**STILL), NOISE, {"training": {**TRAINING, **LORA}}),
    "DP, LoRA on the last layer of Llama": (llama, NOISE, {"training": {**TRAINING, **LORA, "lora_layers": 1}}),
    "DP, each record's gradient": (lambda: gpt2(**STILL), NoiseSpec(0.7, 0.5, clipping="opacus"), {}),
    "DP, each record's gradient, Llama": (llama, NoiseSpec(0.7, 0.5, clipping="opacus"), {}),
    "DP, gradient checkpointing": (
        lambda: gpt2(**DROPOUT), NOISE, {"training": {**TRAINING, "gradient_checkpointing": True}},
    ),
    "gradient checkpointing": (llama, None, {"training": {**TRAINING, "gradient_checkpointing": True}}),
    "clipping alone": (lambda: gpt2(**STILL), NoiseSpec(0.0, 0.5), {}),
    "noise alone": (lambda: gpt2(**STILL), NoiseSpec(0.7, 0.5, clips=False), {}),
    "SGD": (llama, NOISE, {"training": {**TRAINING, "optimizer": "sgd", "momentum": 0.5}}),
    "Adam": (llama, NOISE, {"training": {**TRAINING, "optimizer": "adam", "warmup_steps": 1}}),
    "DP, the last layer over a trunk": (llama, NOISE, {"training": {**TRAINING, "trainable": "last:1"}, "trunk": True}),
    "the last layer over a trunk": (
        lambda: gpt2(**STILL), None, {"training": {**TRAINING, "trainable": "last:1"}, "trunk": True},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_the_weights_are_those_of_the_cpu(name, the_same_noise):
    build, noise, options = CASES[name]
    expected, log = trained("cpu", build, noise, **options)
    with pretend_gpu():
        found, again = trained("cuda", build, noise, **options)
    assert all(type(value) is torch.Tensor for value in found.values())
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=1e-4, atol=2e-5)
    assert again.losses == pytest.approx(log.losses, rel=1e-5)
    assert again.clipped_share == log.clipped_share
    assert again.median_norms == pytest.approx(log.median_norms, rel=1e-4)


@pytest.mark.parametrize("engine", ["fairtest", "opacus"])
def test_half_precision_is_that_of_the_device(engine, the_same_noise):
    """The two have lists of their own of what is computed in bfloat16, so the weights are near and not the same."""
    training = {**TRAINING, "precision": "bfloat16", "optimizer": "sgd"}
    noise = NoiseSpec(0.7, 0.5, clipping=engine)
    expected, log = trained("cpu", lambda: gpt2(**STILL), noise, training)
    full, _ = trained("cpu", lambda: gpt2(**STILL), noise, {**training, "precision": "float32"})
    seen = []
    with pretend_gpu():
        one = gpt2(**STILL)
        one.transformer.h[0].mlp.c_fc.register_forward_hook(lambda *given: seen.append(given[2].dtype))
        found, again = trained("cuda", lambda: one, noise, training)
    assert torch.bfloat16 in seen
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=1e-2, atol=1e-2)
    assert any(not torch.equal(found[key], full[key]) for key in full)
    assert again.losses == pytest.approx(log.losses, rel=1e-2)


@pytest.mark.parametrize("name", FAMILIES)
def test_clipping_of_a_family_is_that_of_the_cpu(name):
    family = FAMILIES[name]
    model = family.build()
    inputs, labels = batch_of(family, 5)

    def clipped(engine, device):
        batch = ({key: value.to(device) for key, value in inputs.items()}, labels.to(device))
        with engine:
            found = engine.backward(row_losses(family, model, batch), (1, 2, 2))
        engine.close()
        sums = {key: p.grad.cpu() for key, p in model.named_parameters() if p.requires_grad}
        model.zero_grad(set_to_none=True)
        return found.norms.tolist(), sums, batch

    norms, sums, _ = clipped(PerUnitClipping(model, 0.5), "cpu")
    with pretend_gpu():
        model.to("cuda")
        again, found, batch = clipped(PerUnitClipping(model, 0.5), "cuda")
        verify_against_autograd(model, lambda: row_losses(family, model, batch), (1, 2, 2))
        if name in ("gpt2", "llama", "gemma3"):
            third, others, _ = clipped(PerSampleClipping(model, 0.5), "cuda")
            assert third == pytest.approx(norms, rel=1e-4)
            assert_same(others, sums)
    assert again == pytest.approx(norms, rel=1e-4)
    assert_same(found, sums)


def assert_same(found, expected):
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-6)


def test_noise_of_the_device_is_repeatable_and_normal_and_not_that_of_the_cpu():
    with pretend_gpu():
        drawn = []
        for seed, step in ((5, 0), (5, 0), (5, 1), (6, 0)):
            tensors = [torch.zeros(300, 400, device="cuda"), torch.zeros(7, device="cuda")]
            GaussianNoise(seed).add(tensors, 2.0, step, divide_by=4.0)
            drawn.append(torch.cat([tensor.cpu().flatten() for tensor in tensors]))
        secret = torch.zeros(9, device="cuda")
        GaussianNoise(None).add([secret], 2.0, 0)
        assert secret.abs().min() > 0
    assert torch.equal(drawn[0], drawn[1])
    for other in drawn[2:]:
        assert abs(torch.corrcoef(torch.stack([drawn[0], other]))[0, 1]) < 0.02
    assert drawn[0].std() == pytest.approx(0.5, rel=0.01)
    host = [torch.zeros(300, 400), torch.zeros(7)]
    GaussianNoise(5).add(host, 2.0, 0, divide_by=4.0)
    assert not torch.equal(drawn[0][:10], host[0].flatten()[:10])


def test_a_seed_of_the_device_has_all_of_its_64_bits(monkeypatch):
    seeds = []
    with pretend_gpu():
        monkeypatch.setattr(torch.Generator, "manual_seed", lambda self, seed: seeds.append(seed))
        GaussianNoise(5).add([torch.zeros(2, device="cuda") for _ in range(64)], 1.0, 0)
    assert len(set(seeds)) == 64
    assert max(seeds) >= 1 << 63
    assert all(0 <= seed < 1 << 64 for seed in seeds)


GROUPS = {
    "few": [UnitViews(f"a{i}", (text,)) for i, text in enumerate(("he is bad", "was a good", "the park", "he and he"))],
    "many": [UnitViews(f"b{i}", (text, "she is a nurse"), 2) for i, text in enumerate(("he is a doctor", "she works"))],
}


@pytest.mark.parametrize("engine", ["fairtest", "opacus"])
def test_diagnostics_of_held_out_groups_are_those_of_the_cpu(engine, the_same_noise):
    noise = NoiseSpec(0.7, 2.5, clipping=engine)
    options = {"engine": engine, "decompose": engine == "fairtest", "probes": 1}
    same_observations(noise, lambda: HeldOutDiagnostics(GROUPS, **options))


def test_diagnostics_of_batches_are_those_of_the_cpu(the_same_noise):
    units = {unit.id: ("first" if place % 2 else "second") for place, unit in enumerate(corpus())}
    same_observations(NoiseSpec(0.7, 2.5), lambda: BatchDiagnostics(units))


def same_observations(noise, observer):
    expected, _ = trained("cpu", lambda: gpt2(layers=1, **DROPOUT), noise, observer=(host := observer()))
    with pretend_gpu():
        found, _ = trained("cuda", lambda: gpt2(layers=1, **DROPOUT), noise, observer=(there := observer()))
        plain, _ = trained("cuda", lambda: gpt2(layers=1, **DROPOUT), noise)
    assert all(torch.equal(found[name], plain[name]) for name in plain)
    assert_near(found, expected)
    host, there = host.observations, there.observations
    assert host.steps == there.steps
    assert flat(there.values) == pytest.approx(flat(host.values), rel=2e-3, abs=1e-5)
    assert flat(there.items) == pytest.approx(flat(host.items), rel=2e-3, abs=1e-5)


def flat(values):
    if isinstance(values, dict):
        return [x for name in sorted(values) for x in flat(values[name])]
    if isinstance(values, list):
        return [x for part in values for x in flat(part)]
    return [math.nan if values is None else values] if values is not None else []


def test_the_median_norm_is_that_of_the_cpu():
    found = []
    for device in ("cpu", "cuda"):
        with pretend_gpu():
            one = loaded(gpt2())
            set_trainable(one.model, Training())
            found.append(median_gradient_norm(move(one, device), corpus(), Training(max_length=16)))
    assert found[0] == pytest.approx(found[1], rel=1e-5)


def test_a_run_stops_at_a_loss_where_it_does_on_the_cpu():
    found, states = [], []
    training = Training(**{**TRAINING, "steps": 12})
    for device in ("cpu", "cuda"):
        with pretend_gpu():
            one = loaded(gpt2(**STILL))
            set_trainable(one.model, training)
            move(one, device)
            texts = TokenBatch.from_ids([[0, 5, 6, 7, 8], [0, 9, 10]])

            def loss_of(one, texts=texts):
                with torch.no_grad():
                    return -float(CausalForward(one).token_log_probs(texts).mean())

            target = loss_of(one) - 0.05
            found.append(train_to_loss(one, corpus(), training, 3, target=target, loss_of=loss_of))
            states.append(trained_state(one.model))
    assert found[0].step == found[1].step > 0
    assert found[0].share == pytest.approx(found[1].share, abs=1e-3)
    assert_near(*states)


def assert_near(found, expected):
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-3, atol=1e-4)


def test_what_frozen_layers_put_out_is_stored_for_the_cpu_too(tmp_path, monkeypatch, the_same_noise):
    monkeypatch.setattr(trunk_store, "_LEAST_BYTES", 1)
    training = Training(**TRAINING, trainable="last:1")
    states = []
    for device in ("cuda", "cpu"):
        with pretend_gpu():
            one = loaded(llama())
            set_trainable(one.model, training)
            move(one, device)
            one.trunk = split_trunk(one, TrunkCache(store=Store(tmp_path)))
            monkeypatch.setattr(one.trunk, "_run", counting(one.trunk._run, device))
            finetune(one, corpus(), training, NOISE, seed=7)
            states.append(trained_state(one.model))
    assert_near(*states)


def counting(run, device):
    def count(rows):
        assert device == "cuda", "the CPU computes again what the GPU had stored"
        return run(rows)

    return count


@pytest.mark.parametrize("trainable", [{}, LORA])
def test_what_was_trained_on_a_device_is_read_without_one(tmp_path, trainable):
    save_directory(tmp_path / "start", llama())
    training = Training(**TRAINING, **trainable)
    source = resolve_model(str(tmp_path / "start"))
    texts = TokenBatch.from_ids([[0, 5, 6, 7, 8], [0, 9, 10]])
    with pretend_gpu():
        one = move(load_model(source, training, seed=4), "cuda")
        finetune(one, corpus(), training, NOISE, seed=7)
        save_state(trained_state(one.model), tmp_path / "trained.safetensors")
        save_pretrained(one, tmp_path / "whole")
        with torch.no_grad():
            expected = CausalForward(one).token_log_probs(texts).cpu()
            other = move(load_model(source, training, seed=4), "cuda")
            load_trained_state(other.model, load_state(tmp_path / "trained.safetensors"))
            assert torch.equal(CausalForward(other).token_log_probs(texts).cpu(), expected)
    assert {tensor.device.type for tensor in load_file(tmp_path / "whole" / "model.safetensors").values()} == {"cpu"}
    again = load_model(source, training, seed=4)
    load_trained_state(again.model, load_state(tmp_path / "trained.safetensors"))
    whole = load_model(resolve_model(str(tmp_path / "whole")))
    with torch.no_grad():
        for read in (again, whole):
            torch.testing.assert_close(CausalForward(read).token_log_probs(texts), expected, rtol=1e-4, atol=1e-5)


def test_loading_leaves_the_random_state_of_a_device_alone():
    with pretend_gpu() as gpu:
        before = gpu.state.clone()
        load_model(resolve_model("fairtest/tiny"), Training(trainable="lora", lora_rank=2), seed=4)
        assert torch.equal(gpu.state, before)


def test_a_loss_that_is_not_finite_names_its_unit_on_a_device():
    with pretend_gpu():
        one = loaded(gpt2(**STILL))
        with torch.no_grad():
            one.model.transformer.wte.weight[5] = math.inf
        move(one, "cuda")
        set_trainable(one.model, Training())
        for engine in ("fairtest", "opacus"):
            with pytest.raises((TrainingError, ModelError), match=r"not finite|not causal"):
                finetune(one, corpus(), Training(**TRAINING), NoiseSpec(0.7, 0.5, clipping=engine), seed=7)


def test_products_of_norms_are_exact_whatever_a_user_allows_elsewhere():
    """In a process of its own: torch remembers in which of its ways somebody has allowed TF32."""
    code = """
import torch
from fairtest.training.clipping.engine import exact_products
torch.backends.cuda.matmul.fp32_precision = "tf32"
seen = [torch.backends.cuda.matmul.fp32_precision]
with exact_products("cuda"):
    seen.append(torch.backends.cuda.matmul.fp32_precision)
seen.append(torch.backends.cuda.matmul.fp32_precision)
assert seen == ["tf32", "ieee", "tf32"], seen
"""
    if not hasattr(torch.backends.cuda.matmul, "fp32_precision"):
        pytest.skip("this torch has one setting for all backends")
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("device", ["gpu", "cuda:x", "meta", "cpu:"])
def test_a_device_that_cannot_be_is_named(device):
    with pytest.raises(ModelError, match=f"there is no device {device!r}"):
        move(loaded(gpt2()), device)


# In one step of one micro-batch: are all losses finite, are all norms, loss and norms for the log; and transformers
# asks twice whether the attention mask has padding.
WAITS_OF_A_STEP = 3 + 2
COPIES_OF_A_STEP = 3  # ids, lengths, weights


@pytest.mark.parametrize("build", [gpt2, lambda: gpt2(layers=4), llama])
def test_a_step_waits_for_the_device_as_often_however_many_parameters_there_are(build):
    found, run = waits_of(build, NOISE)
    assert found == [(WAITS_OF_A_STEP, COPIES_OF_A_STEP)] * 2
    assert run < 50


def test_other_engines_and_diagnostics_wait_no_more_often_for_more_parameters():
    engine = NoiseSpec(0.7, 0.5, clipping="opacus")
    looks = {"observer": lambda: HeldOutDiagnostics({"few": GROUPS["few"]})}
    for noise, options in ((None, {}), (engine, {}), (NOISE, looks)):
        (few, _), (many, _) = (
            waits_of(lambda layers=layers: gpt2(layers=layers), noise, **options) for layers in (1, 3)
        )
        assert few == many


def waits_of(build, noise, observer=lambda: None):
    """(waits, copies to the device) of the steps after the first two, and waits of the run."""
    counted = []
    with pretend_gpu() as gpu:
        one = loaded(build())
        set_trainable(one.model, Training())
        move(one, "cuda")
        training = Training(**{**TRAINING, "batch_size": 12, "steps": 4})  # all units in every batch

        def note(step, loss):
            counted.append((gpu.waits.of("item", "size", "to the host"), gpu.waits.of("to the device")))

        finetune(one, corpus(), training, noise, seed=7, on_step=note, observer=observer())
        run = gpu.waits.of("item", "size", "to the host")
    pairs = itertools.pairwise(counted[1:])
    return [(after[0] - before[0], after[1] - before[1]) for before, after in pairs], run
