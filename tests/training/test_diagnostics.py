"""What an observer measures of groups of units is what autograd gives unit by unit, and leaves no trace in a run."""

from __future__ import annotations

import math

import pytest
import torch
from model_builders import gpt2, loaded

from fairtest.augmentation import UnitViews
from fairtest.errors import TrainingError
from fairtest.specs import Training
from fairtest.training.diagnostics import BatchDiagnostics, HeldOutDiagnostics, observed_steps
from fairtest.training.encoding import MicroBatch, encode_units
from fairtest.training.finetune import finetune
from fairtest.training.forward import CausalForward
from fairtest.training.steps import NoiseSpec

TEXTS = ("he is a doctor", "she was the nurse who works", "he works in the city park and", "she is good")
UNITS = [UnitViews(f"u{i}", (TEXTS[i % 4],)) for i in range(24)]
GROUPS = {
    "few": [UnitViews(f"a{i}", (text,)) for i, text in enumerate(("he is bad", "was a good", "the park", "he and he"))],
    "many": [UnitViews(f"b{i}", (text, "she is a nurse"), 2) for i, text in enumerate(TEXTS)],
}
TRAINING = Training(steps=5, batch_size=12, max_length=16, learning_rate=1e-2)
NOISE = NoiseSpec(noise_multiplier=0.7, max_grad_norm=2.5)
DROPOUT = {"resid_pdrop": 0.2, "embd_pdrop": 0.1, "attn_pdrop": 0.1}


def trained(observer=None, noise=NOISE, training=TRAINING, **options):
    model = gpt2(**(DROPOUT | options))
    log = finetune(loaded(model), UNITS, training, noise, seed=3, observer=observer)
    return model, log


class Oracle(HeldOutDiagnostics):
    """Recomputes with plain autograd what was measured, at every observed step."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.expected = []
        self.batches = []

    def micro_batch(self, batch, row_losses, norms):
        super().micro_batch(batch, row_losses, norms)
        self.batches += batch.units

    def before_update(self, steps):
        clipped = self._clipped
        self.batches.clear()
        update = [p.grad.clone() for p in steps.parameters.values()]
        super().before_update(steps)
        after = [p.grad for p in steps.parameters.values()]
        assert all(torch.equal(x, y) for x, y in zip(update, after, strict=True))
        if clipped is not None:
            self.clipped = flat(clipped)
            self.expected.append(
                {name: by_autograd(steps, units, self.clipped, flat(update)) for name, units in self._encoded.items()}
            )


def flat(tensors):
    return torch.cat([x.reshape(-1).double() for x in tensors])


def unit_gradients(steps, units):
    """(losses [U], gradients [U, d]) of one unit after the other."""
    steps.model.eval()
    losses, rows = [], []
    kept = [p.grad for p in steps.parameters.values()]
    for unit in units:
        batch = MicroBatch.of([unit])
        loss = (-steps.scorer.token_log_probs(batch.tokens).sum(1) * batch.weights).sum()
        rows.append(flat(torch.autograd.grad(loss, list(steps.parameters.values()))))
        losses.append(float(loss.detach()))
    steps.model.train()
    for p, gradient in zip(steps.parameters.values(), kept, strict=True):
        p.grad = gradient
    return torch.tensor(losses), torch.stack(rows)


def by_autograd(steps, units, clipped_mean, update):
    losses, rows = unit_gradients(steps, units)
    norms = rows.norm(dim=1)
    c = math.inf if steps.noise is None else steps.noise.max_grad_norm
    factors = (c / norms).clamp(max=1)
    mean, clipped = rows.mean(0), (rows * factors[:, None]).mean(0)
    found = {
        "loss": losses.mean(),
        "norm_low": norms.quantile(0.1),
        "norm_median": norms.quantile(0.5),
        "norm_high": norms.quantile(0.9),
        "clipped_share": (norms > c).double().mean(),
        "clip_factor": factors.mean(),
        "cosine_clipped": torch.cosine_similarity(mean, clipped_mean, 0),
        "cosine_update": torch.cosine_similarity(mean, update, 0),
    }
    if steps.noise is not None and steps.noise.std:
        scale = steps.noise.std * math.sqrt(rows.shape[1]) / steps.expected_batch_size
        found["signal_to_noise"] = clipped.norm() / scale
    return {name: float(value) for name, value in found.items()}


@pytest.mark.parametrize("noise", [NOISE, None])
@pytest.mark.parametrize(("tied", "engine"), [(True, "fairtest"), (False, "fairtest"), (True, "opacus")])
def test_every_quantity_is_what_autograd_gives_unit_by_unit(tied, engine, noise):
    training = Training(**{**TRAINING.__dict__, "micro_batch_tokens": 24})
    observer = Oracle(GROUPS, engine=engine)
    trained(observer, noise, training, tied=tied)
    seen = observer.observations
    assert seen.steps == [0, 2, 4]
    assert len(observer.expected) == 3
    quantities = set(observer.expected[0]["few"])
    assert set(seen.values) == quantities
    for quantity in quantities:
        for name in GROUPS:
            expected = [one[name][quantity] for one in observer.expected]
            assert seen.values[quantity][name] == pytest.approx(expected, rel=1e-4, abs=1e-6), quantity
    if noise is None:
        assert seen.values["clipped_share"]["few"] == [0, 0, 0]
        assert seen.values["clip_factor"]["few"] == [1, 1, 1]
        assert "signal_to_noise" not in seen.values
    else:
        shares = [x for name in GROUPS for x in seen.values["clipped_share"][name]]
        assert 0 < sum(shares) < len(shares)  # some are clipped and some are not


def test_the_random_state_of_the_caller_is_left_alone():
    model = loaded(gpt2(**DROPOUT))
    before = torch.random.get_rng_state()
    finetune(model, UNITS, TRAINING, NOISE, seed=3, observer=HeldOutDiagnostics(GROUPS, decompose=True, probes=2))
    assert torch.equal(torch.random.get_rng_state(), before)


def weights(model):
    return [p.detach().clone() for p in model.parameters()]


@pytest.mark.parametrize("noise", [NOISE, None, NoiseSpec(0.7, 2.5, clips=False), NoiseSpec(0.0, 2.5)])
def test_a_run_that_is_looked_at_ends_with_the_same_weights_bit_by_bit(noise):
    alone, log = trained(None, noise)
    observer = HeldOutDiagnostics(GROUPS, decompose=noise is not None, probes=2)
    watched, watched_log = trained(observer, noise)
    assert all(torch.equal(x, y) for x, y in zip(weights(alone), weights(watched), strict=True))
    assert log.losses == watched_log.losses
    assert log.median_norms == watched_log.median_norms
    assert all(p.grad is None for p in watched.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in watched.modules())


def hessian(steps, units):
    """The Hessian of the units' mean loss, column by column, from the definition."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    from fairtest.training.token_loss import kept_logits

    parameters = list(steps.parameters.values())
    with kept_logits(), sdpa_kernel(SDPBackend.MATH):
        batch = MicroBatch.of(units)
        loss = (-steps.scorer.token_log_probs(batch.tokens).sum(1) * batch.weights).sum() / len(units)
        first = torch.cat([g.reshape(-1) for g in torch.autograd.grad(loss, parameters, create_graph=True)])
        rows = [flat(torch.autograd.grad(value, parameters, retain_graph=True)) for value in first]
    return torch.stack(rows)


class DecompositionOracle(Oracle):
    """Parts of the excess loss with the whole Hessian, at the first observed step."""

    found = None

    def before_update(self, steps):
        batch, first = list(self.batches), not self.expected
        super().before_update(steps)
        if not first:
            return
        _, rows = unit_gradients(steps, batch)
        size = steps.expected_batch_size
        factors = (steps.noise.max_grad_norm / rows.norm(dim=1)).clamp(max=1)
        g, c = rows.sum(0) / size, (rows * factors[:, None]).sum(0) / size
        assert torch.allclose(self.clipped, c, atol=1e-6)  # what cosines are taken with
        steps.model.eval()
        units = self._encoded["few"]
        h = hessian(steps, units)
        steps.model.train()
        _, own = unit_gradients(steps, units)
        self.found = (steps.learning_rate, g, c, own.mean(0), h, steps.noise.std / size)


def test_parts_of_the_excess_loss_are_those_of_the_whole_hessian():
    training = Training(steps=3, batch_size=12, max_length=16, learning_rate=0.05, optimizer="sgd")
    observer = DecompositionOracle(GROUPS, decompose=True, probes=100)
    model = gpt2(layers=1, **dict.fromkeys(DROPOUT, 0.0))
    model.requires_grad_(False)
    for name, p in model.named_parameters():
        if "ln_" in name or "attn.c_proj" in name or "mlp.c_proj.bias" in name:
            p.requires_grad_(True)
    finetune(loaded(model), UNITS, training, NoiseSpec(0.7, 0.2), seed=3, observer=observer)
    eta, g, c, own, h, std = observer.found
    s = c.norm() / g.norm()
    values = {name: of["few"][0] for name, of in observer.observations.values.items() if name.startswith("excess")}
    direction = eta * own @ (s * g - c) + eta**2 / 2 * (c @ h @ c - s**2 * g @ h @ g)
    magnitude = eta * (1 - s) * own @ g + eta**2 / 2 * (s**2 - 1) * g @ h @ g
    whole = eta * own @ (g - c) + eta**2 / 2 * (c @ h @ c - g @ h @ g)
    assert s < 0.9  # the batch was clipped
    assert values["excess_direction"] == pytest.approx(float(direction), rel=1e-3, abs=1e-7)
    assert values["excess_magnitude"] == pytest.approx(float(magnitude), rel=1e-3, abs=1e-7)
    assert values["excess_direction"] + values["excess_magnitude"] == pytest.approx(float(whole), rel=1e-3)
    # Of random signs, tr(H) has the variance 2 sum of squares off the diagonal.
    off = h - torch.diag(h.diagonal())
    spread = eta**2 / 2 * std**2 * math.sqrt(2 * float((off**2).sum()) / 100)
    assert abs(values["excess_noise"] - float(eta**2 / 2 * std**2 * h.trace())) < 4 * spread


def test_norms_of_the_training_units_come_from_what_clipping_computes():
    groups = {unit.id: "first" if i % 4 < 2 else "second" for i, unit in enumerate(UNITS[:20])}
    observer = BatchDiagnostics(groups)
    alone, _ = trained(None)
    watched, log = trained(observer)
    assert all(torch.equal(x, y) for x, y in zip(weights(alone), weights(watched), strict=True))
    seen = observer.observations
    assert seen.steps == [0, 1, 2, 3, 4]
    assert not seen.items  # no value of a single private unit is kept
    everyone = BatchDiagnostics({unit.id: "all" for unit in UNITS})
    trained(everyone)
    assert everyone.observations.values["clipped_share"]["all"] == pytest.approx(log.clipped_share)
    assert everyone.observations.values["norm_median"]["all"] == pytest.approx(log.median_norms, rel=1e-5)
    assert everyone.observations.values["loss"]["all"] == pytest.approx(log.losses, rel=1e-5)


def test_a_group_that_a_window_of_batches_does_not_meet_has_no_value_there():
    observer = BatchDiagnostics({"u0": "one", "elsewhere": "nobody"})
    trained(observer)
    values = observer.observations.values
    assert values["loss"]["nobody"] == [None] * 5
    assert {len(of[group]) for of in values.values() for group in of} == {5}
    met = [value is not None for value in values["loss"]["one"]]
    assert any(met)
    assert [value is not None for value in values["norm_median"]["one"]] == met


def test_a_run_that_clips_nothing_has_no_norms_of_its_own_units():
    with pytest.raises(TrainingError, match="norms of training units are known where one process clips"):
        trained(BatchDiagnostics({"u0": "a"}), None)


def test_an_empty_group_is_named():
    with pytest.raises(TrainingError, match="group 'none' has no units"):
        trained(HeldOutDiagnostics({**GROUPS, "none": []}))


def test_an_empty_batch_has_no_direction():
    observer = HeldOutDiagnostics(GROUPS, decompose=True)
    units = UNITS[:4]
    training = Training(steps=30, batch_size=1, max_length=16)
    finetune(loaded(gpt2()), units, training, NOISE, seed=0, observer=observer)
    seen = observer.observations
    assert len(seen.steps) == 3
    empty = [value is None for value in seen.values["cosine_clipped"]["few"]]
    assert all(
        (value is None) == none for value, none in zip(seen.values["excess_direction"]["few"], empty, strict=True)
    )
    assert None not in seen.values["cosine_update"]["few"]  # there is noise all the same


@pytest.mark.parametrize(
    ("count", "cost", "expected"),
    [
        (1, 1.0, [0]),
        (2, 1.0, [0, 1]),
        (20, 5.0, [0, 10, 19]),  # the budget has room for none, and 3 are the fewest
        (100, 2.0, [0, 25, 50, 74, 99]),
        (50, 1.0, [0, 12, 24, 37, 49]),
    ],
)
def test_first_and_last_step_are_looked_at_and_as_many_between_as_the_budget_allows(count, cost, expected):
    assert observed_steps(count, cost) == expected


def test_never_more_than_forty_steps_are_looked_at():
    assert len(observed_steps(10_000, 0.01)) == 40


def test_the_expected_cost_is_within_the_budget_where_it_can_be():
    for cost in (0.3, 1.0, 2.5):
        for count in (30, 100, 300):
            steps = observed_steps(count, cost)
            assert len(steps) == 3 or len(steps) * cost <= 0.1 * count


def test_measuring_is_done_in_the_model_as_it_is_without_dropout():
    observer = HeldOutDiagnostics(GROUPS)
    model = gpt2(**DROPOUT)
    start = loaded(model)
    training = Training(steps=1, batch_size=12, max_length=16)
    encoded = encode_units(start, GROUPS["many"], training).units
    batch = MicroBatch.of(encoded)
    with torch.no_grad():
        log_probs = CausalForward(start).token_log_probs(batch.tokens)
    expected = float((-log_probs.sum(1) * batch.weights).sum() / len(encoded))
    finetune(start, UNITS, training, NOISE, seed=1, observer=observer)
    assert observer.observations.values["loss"]["many"] == pytest.approx([expected], rel=1e-5)
