"""Clipping by its definition, autograd one unit at a time, and the models and rows it is shown on."""

import itertools
import math

import torch
from model_builders import gpt2, llama
from torch import nn

from fairtest.training.clipping import PerUnitClipping

MODELS = {
    "gpt2-tied": lambda: gpt2(tied=True),
    "gpt2-untied": lambda: gpt2(tied=False),
    "llama-tied": lambda: llama(tied=True),
    "llama-untied": lambda: llama(tied=False),
}


def rows_of(model, rows, *, length=7, seed=1):
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(2, model.config.vocab_size, (rows, length), generator=generator)
    lengths = torch.randint(2, length + 1, (rows,), generator=generator)
    lengths[0] = length
    return ids, lengths


def row_losses(model, ids, lengths, **options):
    real = torch.arange(ids.shape[1]) < lengths[:, None]
    logits = model(input_ids=ids, attention_mask=real.long(), use_cache=False, **options).logits[:, :-1]
    nll = nn.functional.cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none")
    return (nll * real[:, 1:]).sum(1) / real[:, 1:].sum(1)


def trainable(model):
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def units_of(rows, views):
    """Slices of `rows` rows, `views` for each unit: one number for all, or one for each."""
    counts = [views] * (rows // views) if isinstance(views, int) else views
    return [slice(stop - count, stop) for count, stop in zip(counts, itertools.accumulate(counts), strict=True)]


def brute_force(model, ids, lengths, views, max_grad_norm):
    parameters = trainable(model)
    total = {name: torch.zeros_like(p) for name, p in parameters.items()}
    norms = []
    for unit in units_of(len(ids), views):
        loss = row_losses(model, ids[unit], lengths[unit]).sum()
        gradients = torch.autograd.grad(loss, list(parameters.values()))
        norm = math.sqrt(sum(float(g.double().square().sum()) for g in gradients))
        norms.append(norm)
        for name, gradient in zip(parameters, gradients, strict=True):
            total[name] += gradient * min(1.0, max_grad_norm / norm)
    return total, torch.tensor(norms)


def clipped(model, ids, lengths, views, max_grad_norm, **options):
    clipping = PerUnitClipping(model, max_grad_norm)
    with clipping:
        found = clipping.backward(row_losses(model, ids, lengths, **options), views)
    clipping.close()
    gradients = {name: p.grad.clone() for name, p in trainable(model).items()}
    model.zero_grad(set_to_none=True)
    return gradients, found


def relative_error(found, expected):
    assert found.keys() == expected.keys()
    difference = torch.stack([(found[name] - expected[name]).norm() for name in expected]).norm()
    return float(difference / torch.stack([expected[name].norm() for name in expected]).norm())


def assert_exact(model, ids, lengths, views, *, tolerance=1e-5):
    _, norms = brute_force(model, ids, lengths, views, math.inf)
    limit = float(norms.median())  # clips about half of the units
    expected, _ = brute_force(model, ids, lengths, views, limit)
    found, report = clipped(model, ids, lengths, views, limit)
    assert relative_error(found, expected) <= tolerance
    torch.testing.assert_close(report.norms, norms, rtol=tolerance, atol=0)
    torch.testing.assert_close(report.factors, (limit / norms).clamp(max=1), rtol=tolerance, atol=0)
    for name, gradient in expected.items():
        assert (found[name] - gradient).norm() <= 1e-4 * gradient.norm() + 1e-6, name


class Scaled(nn.Linear):
    def forward(self, x):
        return 3 * super().forward(x)
