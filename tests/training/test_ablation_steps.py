"""What takes DP apart, at the level of steps: noise without clipping, shuffled passes, a run that stops early."""

import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from model_builders import WORDS, gpt2, loaded

from fairtest.augmentation import UnitViews
from fairtest.errors import TrainingError
from fairtest.scoring.likelihood import score_records
from fairtest.specs import Training
from fairtest.training.finetune import finetune
from fairtest.training.forward import CausalForward, TokenBatch, encode
from fairtest.training.noise import GaussianNoise
from fairtest.training.sampling import poisson_batches, shuffled_batches
from fairtest.training.steps import NoiseSpec

TRAINING = Training(steps=4, batch_size=6, learning_rate=1e-2, max_length=16)
STILL = {"embd_pdrop": 0.0, "attn_pdrop": 0.0, "resid_pdrop": 0.0}
DROPOUT = {"embd_pdrop": 0.2, "attn_pdrop": 0.2, "resid_pdrop": 0.2}


def corpus(units=20):
    draw = random.Random(0)
    texts = [" ".join(draw.choices(WORDS[3:], k=draw.randint(3, 9))) for _ in range(2 * units)]
    return [UnitViews(f"u{i}", tuple(texts[2 * i : 2 * i + 1 + i % 2])) for i in range(units)]


def weights(model):
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def train(noise=None, training=TRAINING, options=STILL, **more):
    model = gpt2(**options)
    return model, finetune(loaded(model), corpus(), training, noise, 3, **more)


def mean_gradient_step(model, units, training, batch, extra):
    """One step of plain SGD on the mean gradient plus `extra`, by autograd."""
    whole = loaded(model)
    forward = CausalForward(whole)
    total = [torch.zeros_like(p) for p in model.parameters()]
    for index in batch:
        views = encode(whole.tokenizer, list(units[index].views), training.max_length)
        losses = [-forward.token_log_probs(TokenBatch.from_ids([v])).sum() / (len(v) - 1) for v in views]
        for sum_, gradient in zip(
            total, torch.autograd.grad(torch.stack(losses).mean(), list(model.parameters())), strict=True
        ):
            sum_.add_(gradient)
    with torch.no_grad():
        for p, gradient, noise in zip(model.parameters(), total, extra, strict=True):
            p.sub_(training.learning_rate * (gradient + noise) / training.batch_size)


def test_noise_alone_is_the_plain_mean_gradient_with_the_dp_arms_noise():
    sigma, limit = 1.5, 0.05  # far below the gradients' norms: clipping would show
    training = Training(steps=1, batch_size=6, learning_rate=0.1, optimizer="sgd", max_length=16)
    found, log = train(NoiseSpec(sigma, limit, clips=False), training)
    expected = gpt2(**STILL)
    extra = [torch.zeros_like(p) for p in expected.parameters()]
    GaussianNoise(3).add(extra, sigma * limit, 0)
    (batch,) = poisson_batches(20, 6 / 20, 1, 3)
    mean_gradient_step(expected, corpus(), training, batch, extra)
    for name, value in weights(expected).items():
        torch.testing.assert_close(weights(found)[name], value, rtol=1e-5, atol=1e-6)
    assert log.clipped_share == log.median_norms == ()


def test_noise_alone_of_size_zero_is_plain_training():
    noise = NoiseSpec(0.0, 1.0, clips=False)
    plain, alone = weights(train()[0]), weights(train(noise)[0])
    assert all(torch.equal(plain[name], alone[name]) for name in plain)


def test_clipping_and_noise_alone_have_the_same_noise():
    one = Training(steps=1, batch_size=6, learning_rate=0.1, optimizer="sgd", max_length=16)
    clipped = [weights(train(NoiseSpec(sigma, 0.5), one)[0]) for sigma in (0.0, 2.0)]
    plain = [weights(train(noise, one)[0]) for noise in (None, NoiseSpec(2.0, 0.5, clips=False))]
    for name in clipped[0]:
        torch.testing.assert_close(
            clipped[1][name] - clipped[0][name], plain[1][name] - plain[0][name], rtol=0, atol=1e-6
        )


@given(st.integers(1, 40), st.data(), st.integers(0, 5))
def test_shuffled_passes_visit_every_unit_once_each(units, data, seed):
    size = data.draw(st.integers(1, units))
    batches = list(shuffled_batches(units, size, units, seed))
    assert {len(batch) for batch in batches} == {size}
    for end in range(1, units + 1):
        passes, begun = divmod(end * size, units)
        counts = torch.bincount(torch.tensor([i for batch in batches[:end] for i in batch]), minlength=units)
        assert (counts == passes + 1).sum() == begun
        assert (counts == passes).sum() == units - begun


def test_shuffled_passes_differ_and_follow_the_seed():
    def orders(seed):
        return list(shuffled_batches(12, 4, 6, seed))

    assert orders(1) == orders(1) != orders(2)
    assert orders(1)[:3] != orders(1)[3:]


def test_shuffled_training_counts_no_empty_batch_and_refuses_noise():
    _, log = train(shuffled=True)
    assert (log.steps, log.empty_batches, len(log.losses)) == (4, 0, 4)
    with pytest.raises(TrainingError, match="shuffled batches with noise"):
        train(NoiseSpec(1.0, 1.0), shuffled=True)
    with pytest.raises(TrainingError, match="cannot be sampled"):
        shuffled_batches(3, 4, 1, 0)
    with pytest.raises(TrainingError, match="at least 0"):
        shuffled_batches(4, 2, 1, -1)


def test_a_run_that_stops_is_the_whole_run_at_that_step_however_often_it_is_scored():
    states = []
    whole = gpt2(**DROPOUT)
    finetune(loaded(whole), corpus(), TRAINING, None, 3, on_step=lambda *_: states.append(weights(whole)))
    model = gpt2(**DROPOUT)
    scorer = loaded(model)
    texts = [unit.views[0] for unit in corpus()[:4]]

    def stop(taken):
        before = torch.random.get_rng_state()
        score_records(scorer, texts, max_length=16)
        assert torch.equal(torch.random.get_rng_state(), before)
        assert model.training
        return taken == 3

    log = finetune(scorer, corpus(), TRAINING, None, 3, stop=stop)
    assert (log.steps, len(log.losses) + log.empty_batches) == (3, 3)
    assert all(torch.equal(states[2][name], value) for name, value in weights(model).items())
    assert not model.training
    assert all(p.grad is None for p in model.parameters())
