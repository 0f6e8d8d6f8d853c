"""What a unit is to the trainer: its views, its blocks, its records; and noise that nobody can repeat."""

import math

import pytest
import torch
from model_builders import WORDS, gpt2, llama, loaded
from test_finetune_arms import STILL, assert_close, corpus, train, weights

from fairtest.augmentation import UnitViews
from fairtest.errors import TrainingError
from fairtest.specs import Training
from fairtest.training.encoding import encode_units
from fairtest.training.forward import CausalForward, TokenBatch
from fairtest.training.norms import median_gradient_norm, unit_gradient_norms
from fairtest.training.sampling import poisson_batches
from fairtest.training.steps import NoiseSpec

KNOWN = WORDS[3:]


def long_units(count=8):
    """Units of one to three views of one to thirty words."""
    return [
        UnitViews(
            f"u{i}",
            tuple(" ".join(KNOWN[(i + j + k) % len(KNOWN)] for k in range(1 + 7 * i % 30)) for j in range(1 + i % 3)),
        )
        for i in range(count)
    ]


def unit_gradient(model, unit, training):
    """The mean over views of the mean over a view's tokens, from each view's blocks one by one."""
    forward = CausalForward(loaded(model))
    losses = []
    for text in unit.views:
        ids = loaded(model).tokenizer(text)["input_ids"]
        room = training.max_length - 1
        blocks = [[0, *ids[i : i + room]] for i in range(0, len(ids), room)]
        if training.long_texts == "cut":
            blocks = blocks[:1]
        total = sum(-forward.token_log_probs(TokenBatch.from_ids([block])).sum() for block in blocks)
        losses.append(total / sum(len(block) - 1 for block in blocks))
    return torch.autograd.grad(torch.stack(losses).mean(), list(model.parameters()))


def norm_of(gradients):
    return float(torch.stack([g.norm() for g in gradients]).norm())


@pytest.mark.parametrize("long_texts", ["cut", "blocks"])
def test_a_units_gradient_norm_is_that_of_its_mean_over_views_and_tokens(long_texts):
    model, training = gpt2(**STILL), Training(max_length=9, long_texts=long_texts, micro_batch_tokens=60)
    expected = [norm_of(unit_gradient(model, unit, training)) for unit in long_units()]
    found = unit_gradient_norms(loaded(model), long_units(), training)
    assert found == pytest.approx(expected, rel=1e-5)
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("clipping", ["fairtest", "opacus"])
@pytest.mark.parametrize("build", [gpt2, llama])
def test_training_on_blocks_clips_each_unit_once(build, clipping):
    options = STILL if build is gpt2 else {}
    units, limit = long_units(), 0.8
    training = Training(
        steps=2,
        batch_size=4,
        max_length=9,
        long_texts="blocks",
        optimizer="sgd",
        learning_rate=0.1,
        momentum=0.5,
        lr_schedule="constant",
        micro_batch_tokens=60,
    )
    expected = build(**options)
    optimizer = torch.optim.SGD(expected.parameters(), lr=0.1, momentum=0.5)
    for batch in poisson_batches(len(units), 0.5, 2, 3):
        total = [torch.zeros_like(p) for p in expected.parameters()]
        for index in batch:
            gradients = unit_gradient(expected, units[index], training)
            for whole, gradient in zip(total, gradients, strict=True):
                whole.add_(gradient * min(1.0, limit / norm_of(gradients)))
        for p, whole in zip(expected.parameters(), total, strict=True):
            p.grad = whole / 4
        optimizer.step()
    found, log = train(
        build(**options), NoiseSpec(0.0, limit, clipping=clipping), training=training, units=units, seed=3
    )
    assert_close(found, weights(expected), 1e-5)
    assert log.rows == len([row for unit in encode_units(loaded(gpt2()), units, training).units for row in unit.rows])
    assert log.cut_texts == 0


def test_one_long_text_moves_a_sum_by_no_more_than_a_short_one():
    """Adding one unit to a corpus moves the clipped sum by at most C, however long its text is."""
    training = Training(steps=1, batch_size=2, max_length=5, long_texts="blocks", optimizer="sgd", learning_rate=1.0)
    short, long = UnitViews("short", ("he is good",)), UnitViews("long", (" ".join(KNOWN * 10),))
    limit, seed = 0.05, 0
    before = weights(gpt2(**STILL))
    one = Training(**{**training.__dict__, "batch_size": 1})
    alone, _ = train(gpt2(**STILL), NoiseSpec(0.0, limit), training=one, units=[short], seed=seed)
    both, _ = train(gpt2(**STILL), NoiseSpec(0.0, limit), training=training, units=[short, long], seed=seed)
    moved = [(before[n] - both[n]) * 2 - (before[n] - alone[n]) for n in before]
    assert norm_of(moved) == pytest.approx(limit, rel=1e-3)


def test_the_median_norm_is_that_of_the_units():
    model, training = gpt2(**STILL), Training(max_length=9, long_texts="blocks")
    norms = sorted(unit_gradient_norms(loaded(model), long_units(7), training))
    assert median_gradient_norm(loaded(model), long_units(7), training) == norms[3]
    with pytest.raises(TrainingError, match="no unit"):
        median_gradient_norm(loaded(model), [], training)


def test_a_release_is_another_model_each_time_and_a_comparison_is_not():
    secret, open_ = NoiseSpec(1.0, 0.5, release=True), NoiseSpec(1.0, 0.5)
    training = Training(steps=2, batch_size=6)
    released = [train(gpt2(**STILL), secret, training=training)[0] for _ in range(2)]
    compared = [train(gpt2(**STILL), open_, training=training)[0] for _ in range(2)]
    assert any(not torch.equal(released[0][name], released[1][name]) for name in released[0])
    assert all(torch.equal(compared[0][name], compared[1][name]) for name in compared[0])


@pytest.mark.parametrize("noise", [None, NoiseSpec(0.0, 0.5)])
def test_gradient_checkpointing_changes_nothing_beyond_rounding_and_is_taken_off(noise):
    plain, _ = train(gpt2(**STILL), noise)
    model = gpt2(**STILL)
    found, _ = train(
        model,
        noise,
        training=Training(steps=4, batch_size=6, learning_rate=1e-2, max_length=16, gradient_checkpointing=True),
    )
    assert_close(found, plain, 2e-4)
    assert not any(getattr(module, "gradient_checkpointing", False) for module in model.modules())


@pytest.mark.parametrize("noise", [None, NoiseSpec(0.0, 0.5)])
def test_bfloat16_trains_nearly_the_same_weights_in_float32(noise):
    training = {"steps": 3, "batch_size": 6, "optimizer": "sgd", "learning_rate": 0.1}
    plain, log = train(gpt2(**STILL), noise, training=Training(**training))
    half, half_log = train(gpt2(**STILL), noise, training=Training(**training, precision="bfloat16"))
    before = weights(gpt2(**STILL))
    assert all(value.dtype == torch.float32 for value in half.values())
    moved = {name: plain[name] - before[name] for name in plain}
    difference = norm_of([half[name] - plain[name] for name in plain]) / norm_of(list(moved.values()))
    assert 1e-5 < difference < 0.05  # a value of bfloat16 has 8 bits
    assert half_log.losses == pytest.approx(log.losses, rel=0.01)


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
@pytest.mark.parametrize("noise", [None, NoiseSpec(0.5, 0.5)])
def test_every_optimizer_trains(optimizer, noise):
    rate = 0.5 if optimizer == "sgd" else 5e-3
    training = Training(steps=40, batch_size=12, optimizer=optimizer, learning_rate=rate, warmup_steps=3)
    _, log = train(gpt2(**STILL), noise, training=training)
    assert sum(log.losses[-5:]) < 0.95 * sum(log.losses[:5])


def test_a_parameter_that_never_gets_a_gradient_but_zero_is_an_error():
    """Noise alone would move it, and nobody would see that it was not trained."""
    model = gpt2(**STILL)
    torch.nn.init.zeros_(model.transformer.h[1].mlp.c_proj.weight)
    model.transformer.h[1].mlp.c_proj.weight.requires_grad_(False)  # cuts c_fc and ln_2 off
    with pytest.raises(
        TrainingError, match=r"4 of \d+ trainable parameters had a gradient of zero in all 4 steps"
    ) as e:
        train(model, NoiseSpec(1.0, 0.5))
    assert "transformer.h.1.ln_2.bias" in str(e.value)


def test_the_log_counts_what_was_trained():
    _, log = train(gpt2(**STILL))
    assert log.trained_tensors == len(weights(gpt2()))
    assert log.processes == 1
    assert math.isclose(log.sample_rate, 6 / len(corpus()))


def test_a_record_with_a_counterfactual_counts_no_more_than_one_without():
    unit = UnitViews("ann", ("he is good", "the city", "she is good"), records=2, sources=(0,))
    assert unit.shares == (0.25, 0.5, 0.25)
    assert UnitViews("one", ("he", "she", "it")).shares == pytest.approx((1 / 3,) * 3)
    encoded = encode_units(loaded(gpt2()), [unit], Training()).units[0]
    assert encoded.weights == pytest.approx((0.25 / 3, 0.5 / 2, 0.25 / 3))
