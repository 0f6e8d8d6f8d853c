"""A run stopped at another's loss is the plain run at one of its steps, and of all near it the nearest."""

import random

import pytest
import torch
from model_builders import WORDS, gpt2, loaded

from fairtest.augmentation import UnitViews
from fairtest.scoring.likelihood import score_records
from fairtest.specs import Training
from fairtest.training.finetune import finetune
from fairtest.training.matching import train_to_loss

STEPS = 24
TRAINING = Training(steps=STEPS, batch_size=8, learning_rate=3e-3, max_length=16)
DROPOUT = {"embd_pdrop": 0.1, "attn_pdrop": 0.1, "resid_pdrop": 0.1}


def units_and_texts():
    draw = random.Random(4)
    words = WORDS[3:9]  # few of the model's words: something to learn
    texts = [" ".join(draw.choices(words, k=draw.randint(3, 9))) for _ in range(40)]
    return [UnitViews(f"u{i}", (text,)) for i, text in enumerate(texts[:30])], texts[30:]


UNITS, TEXTS = units_and_texts()


def loss_of(whole):
    nll, tokens = score_records(whole, TEXTS, max_length=16)
    return sum(nll) / sum(tokens)


def weights(model):
    return {name: p.detach().clone() for name, p in model.named_parameters()}


@pytest.fixture(scope="module")
def baseline():
    """(loss, weights) of the plain run after each number of steps, from 0, by a plain hook."""
    model = gpt2(**DROPOUT)
    whole = loaded(model)
    states = [weights(model)]
    finetune(whole, UNITS, TRAINING, None, 1, on_step=lambda *_: states.append(weights(model)))
    losses = []
    for state in states:
        model.load_state_dict(state, strict=False)
        losses.append(loss_of(whole))
    return losses, states


def matched(target, **options):
    model = gpt2(**DROPOUT)
    return model, train_to_loss(loaded(model), UNITS, TRAINING, 1, target=target, loss_of=loss_of, **options)


def assert_same(model, state):
    assert all(torch.equal(value, state[name]) for name, value in weights(model).items())


@pytest.mark.parametrize("wanted", [1, 8, 15, 21])
@pytest.mark.parametrize("share", [0.0, 0.7])
def test_it_is_the_baseline_at_the_step_whose_loss_is_nearest(baseline, wanted, share):
    losses, states = baseline
    assert losses[: STEPS + 1] == sorted(losses, reverse=True)  # so that one step is nearest, and all can be listed
    target = losses[wanted] + share * (losses[wanted - 1] - losses[wanted])
    model, found = matched(target)
    assert found.step == min(range(STEPS + 1), key=lambda step: abs(losses[step] - target))
    assert found.step == (wanted if share < 0.5 else wanted - 1)
    assert found.reached
    assert found.loss == losses[found.step]
    assert_same(model, states[found.step])
    assert (found.log.steps, len(found.log.losses) + found.log.empty_batches) == (found.step, found.step)
    assert all(found.losses[step] == losses[step] for step in found.losses)


def test_few_steps_are_looked_at_and_all_of_the_last_ones(baseline):
    losses, _ = baseline
    _, found = matched(losses[19])
    assert sorted(found.losses) == [*range(15), 16, 18, 19, 20]


def test_a_target_that_the_start_has_is_step_zero_and_nothing_is_trained(baseline):
    losses, states = baseline
    steps = []
    model, found = matched(losses[0] + 0.5, on_step=lambda step, loss: steps.append((step, loss)))
    assert (found.step, found.reached, found.loss, steps) == (0, True, losses[0], [])
    assert (found.log.steps, found.log.losses, found.log.trained_tensors) == (0, (), 0)
    assert_same(model, states[0])
    # Nearer to the start than to the first step: steps were taken, and none is left.
    model, found = matched(losses[0] - 0.1 * (losses[0] - losses[1]))
    assert (found.step, found.log.steps, found.log.losses) == (0, 0, ())
    assert_same(model, states[0])


def test_a_target_that_is_never_reached_gives_the_last_step(baseline):
    losses, states = baseline
    model, found = matched(losses[-1] - 1.0)
    assert (found.step, found.reached, found.loss) == (STEPS, False, losses[-1])
    assert_same(model, states[-1])


def test_the_model_is_left_as_a_finished_run_leaves_it(baseline):
    losses, _ = baseline
    model, _ = matched(losses[12])
    assert not model.training
    assert all(p.grad is None for p in model.parameters())
