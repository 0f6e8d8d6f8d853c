"""Optimizers and rates of a run, and Opacus' optimizer with our noise."""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fairtest.errors import TrainingError
from fairtest.specs import Training
from fairtest.training.noise import GaussianNoise
from fairtest.training.optimizers import NoisyOptimizer, learning_rate_at, plain_optimizer

KINDS = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam, "sgd": torch.optim.SGD}


@pytest.mark.parametrize("name", KINDS)
def test_each_optimizer_takes_the_steps_of_torchs_own(name):
    options = {"momentum": 0.9} if name == "sgd" else {}
    ours, theirs = (torch.nn.Parameter(torch.arange(6.0)) for _ in range(2))
    training = Training(optimizer=name, learning_rate=0.1, weight_decay=0.3, **options)
    optimizers = plain_optimizer([ours], training), KINDS[name]([theirs], lr=0.1, weight_decay=0.3, **options)
    for step in range(3):
        for parameter, optimizer in zip((ours, theirs), optimizers, strict=True):
            parameter.grad = torch.arange(6.0).sub(step).sin()
            optimizer.step()
    torch.testing.assert_close(ours, theirs)


@given(
    schedule=st.sampled_from(["linear", "cosine", "constant"]),
    warmup=st.integers(0, 30),
    steps=st.integers(1, 40),
)
def test_rates_rise_over_the_warm_up_then_never_rise_and_never_pass_the_largest(schedule, warmup, steps):
    training = Training(lr_schedule=schedule, warmup_steps=warmup, learning_rate=0.5)
    rates = [learning_rate_at(training, step, steps) for step in range(steps)]
    assert all(0 < rate <= 0.5 for rate in rates)
    assert all(later > earlier for earlier, later in itertools.pairwise(rates[:warmup]))
    assert all(later <= earlier for earlier, later in itertools.pairwise(rates[warmup:]))
    if warmup < steps:
        assert rates[warmup] == 0.5


def test_the_schedules_are_those_of_their_names():
    def rates(schedule, warmup=0):
        training = Training(lr_schedule=schedule, learning_rate=1.0, warmup_steps=warmup)
        return [learning_rate_at(training, step, 4) for step in range(4)]

    assert rates("linear") == [1, 0.75, 0.5, 0.25]
    assert rates("cosine") == pytest.approx([1, (1 + math.sqrt(0.5)) / 2, 0.5, (1 - math.sqrt(0.5)) / 2])
    assert rates("constant") == [1, 1, 1, 1]
    assert rates("linear", 2) == pytest.approx([1 / 3, 2 / 3, 1, 0.5])


def test_the_noisy_step_divides_sum_and_noise_by_the_expected_batch_size():
    parameters = [torch.nn.Parameter(torch.zeros(50_000)), torch.nn.Parameter(torch.zeros(3))]
    inner = plain_optimizer(parameters, Training(optimizer="sgd", learning_rate=1.0))
    optimizer = NoisyOptimizer(
        inner, noise_multiplier=2.0, max_grad_norm=0.5, expected_batch_size=10.0, noise=GaussianNoise(3)
    )
    parameters[0].grad = torch.full((50_000,), 20.0)
    optimizer.step()  # the second has no gradient: its noise is added all the same
    assert float(parameters[0].detach().mean()) == pytest.approx(-2.0, abs=0.002)
    assert float(parameters[0].detach().std()) == pytest.approx(0.1, rel=0.02)
    assert bool((parameters[1] != 0).all())
    before = parameters[0].detach().clone()
    optimizer.zero_grad(set_to_none=True)
    parameters[0].grad = torch.zeros(50_000)
    optimizer.step()
    first = torch.zeros(50_000)
    GaussianNoise(3).add([first], 1.0, 1, 10.0)
    torch.testing.assert_close(parameters[0].detach(), before - first)  # the noise of step 1, drawn once


def test_a_step_that_opacus_would_skip_is_refused():
    parameter = torch.nn.Parameter(torch.zeros(2))
    inner = torch.optim.SGD([parameter], lr=1.0)
    optimizer = NoisyOptimizer(
        inner, noise_multiplier=1.0, max_grad_norm=1.0, expected_batch_size=2.0, noise=GaussianNoise(0)
    )
    with pytest.raises(TrainingError, match="cannot be skipped"):
        optimizer.signal_skip_step()
