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
def test_a_loss_that_a_step_has_is_the_baseline_at_that_step(baseline, wanted):
    losses, states = baseline
    assert losses[: STEPS + 1] == sorted(losses, reverse=True)  # so that one step is the first, and all can be listed
    model, found = matched(losses[wanted])
    assert (found.step, found.share, found.reached, found.loss) == (wanted, 1.0, True, losses[wanted])
    assert_same(model, states[found.step])
    assert (found.log.steps, len(found.log.losses) + found.log.empty_batches) == (found.step, found.step)
    assert all(found.losses[step] == losses[step] for step in found.losses)


@pytest.mark.parametrize("wanted", [1, 2, 9, 15, 21])
@pytest.mark.parametrize("between", [0.2, 0.7])
def test_of_the_step_that_crosses_the_target_a_share_is_taken(baseline, wanted, between):
    losses, states = baseline
    target = losses[wanted] + between * (losses[wanted - 1] - losses[wanted])
    model, found = matched(target)
    assert found.step == wanted
    assert found.loss == pytest.approx(target, abs=0.005 * (losses[0] - target))
    assert found.loss == loss_of(loaded(model))
    expected = {name: torch.lerp(p, states[wanted][name], found.share) for name, p in states[wanted - 1].items()}
    assert_same(model, expected)
    assert found.log.steps == len(found.log.losses) + found.log.empty_batches == wanted


def test_a_share_of_a_step_is_that_step_with_so_much_of_its_learning_rate():
    """What makes the share of an update a run of its own, and no mixture of two: checked with the optimizer itself."""
    torch.manual_seed(0)
    gradients = torch.randn(3, 5)

    def after(last_rate, decay):
        value = torch.nn.Parameter(torch.linspace(-1, 1, 5))
        optimizer = torch.optim.AdamW([value], lr=0.1, weight_decay=decay)
        for index, gradient in enumerate(gradients):
            value.grad = gradient.clone()
            optimizer.param_groups[0]["lr"] = 0.1 if index < len(gradients) - 1 else last_rate
            optimizer.step()
        return value.detach()

    for decay in (0.0, 0.3):
        mixed = torch.lerp(after(0.0, decay), after(0.1, decay), 0.3)
        assert torch.allclose(mixed, after(0.03, decay), atol=1e-6)


def test_few_steps_are_looked_at_and_all_of_the_last_ones(baseline):
    losses, _ = baseline
    _, found = matched(losses[19])
    assert sorted(found.losses) == [*range(15), 16, 18, 19, 20][: len(found.losses)]
    assert max(found.losses) in {19, 20}


def test_a_target_that_the_start_has_is_step_zero_and_nothing_is_trained(baseline):
    losses, states = baseline
    steps = []
    model, found = matched(losses[0] + 0.5, on_step=lambda step, loss: steps.append((step, loss)))
    assert (found.step, found.reached, found.loss, steps) == (0, True, losses[0], [])
    assert (found.log.steps, found.log.losses, found.log.trained_tensors) == (0, (), 0)
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
