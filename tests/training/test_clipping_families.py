"""Per-unit clipping of every family against autograd, unit by unit.

`pytest -s` on this file prints the relative error of the clipped sum and of the norms, a line for each test.
"""

import importlib.util
import itertools
import math

import pytest
import torch
from family_builders import FAMILIES, batch_of, row_losses, rows_of

from fairtest.errors import TrainingError
from fairtest.training.clipping import HALF_TOLERANCE, PerUnitClipping, terms, verify_against_autograd

EXACT = 1e-5
UNITS = {"one row": (1,) * 6, "two rows": (2,) * 3, "ragged": (1, 1, 2, 5, 1)}
MIXED = UNITS["ragged"]
SOME = ("gpt2", "opt", "gemma3", "bert", "albert", "t5")  # tied and not, causal, masked and both in one


def trainable(model):
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def norm_of(gradients):
    return math.sqrt(sum(float(g.double().square().sum()) for g in gradients.values()))


def unit_slices(counts):
    return [slice(stop - count, stop) for count, stop in zip(counts, itertools.accumulate(counts), strict=True)]


def taken_gradients(model):
    found = {name: p.grad.float() for name, p in trainable(model).items() if p.grad is not None}
    model.zero_grad(set_to_none=True)
    return found


def unit_gradients(family, model, batch, counts, *, alone, losses_of):
    """Each unit's gradient by autograd: from a batch of its own rows, or from one batch and so with its dropout."""
    torch.manual_seed(5)
    whole = None if alone else losses_of(family, model, batch)
    for unit in unit_slices(counts):
        losses = losses_of(family, model, rows_of(batch, unit)) if alone else whole[unit]
        losses.sum().backward(retain_graph=not alone)
        yield taken_gradients(model)


def errors_of(family, model, batch, counts, *, alone=True, parts=None, losses_of=row_losses):
    """Relative errors (clipped sum over all parameters, norms) with a limit that clips about half of the units."""
    exact = list(unit_gradients(family, model, batch, counts, alone=alone, losses_of=losses_of))
    norms = [norm_of(gradients) for gradients in exact]
    limit = sorted(norms)[len(norms) // 2]
    expected = {name: torch.zeros_like(p, dtype=torch.float64) for name, p in trainable(model).items()}
    for gradients, norm in zip(exact, norms, strict=True):
        for name, gradient in gradients.items():
            expected[name] += gradient.double() * min(1.0, limit / norm)
    clipping = PerUnitClipping(model, limit)
    found_norms = []
    torch.manual_seed(5)
    units = list(zip(counts, unit_slices(counts), strict=True))
    for part in parts or [range(len(counts))]:
        rows = torch.cat([torch.arange(len(batch[1]))[units[u][1]] for u in part])
        with clipping:
            losses = losses_of(family, model, rows_of(batch, rows))
            found_norms += clipping.backward(losses, [counts[u] for u in part]).norms.tolist()
    clipping.close()
    found = taken_gradients(model)
    order = list(itertools.chain(*parts)) if parts else range(len(norms))
    sums = norm_of({name: found[name] - expected[name] for name in expected}) / norm_of(expected)
    return sums, max(abs(f - norms[u]) / norms[u] for f, u in zip(found_norms, order, strict=True))


def checkpoint_activations(model, **options):
    # The name before transformers 5.
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable(options)


def assert_within(tolerance, errors, what):
    print(f"\n{what:<52} sum {errors[0]:.1e}  norms {errors[1]:.1e}", end="")  # noqa: T201 - seen with -s
    assert max(errors) <= tolerance


def family_and_attention():
    return [(name, attention) for name, family in FAMILIES.items() for attention in family.attention]


@pytest.mark.parametrize("units", UNITS)
@pytest.mark.parametrize(("name", "attention"), family_and_attention())
def test_every_parameter_is_exact_with_padding_and_ignored_labels(name, attention, units):
    family, counts = FAMILIES[name], UNITS[units]
    model = family.build(attention=attention)
    errors = errors_of(family, model, batch_of(family, sum(counts)), counts)
    assert_within(EXACT, errors, f"{name}, {attention}, {units}")


@pytest.mark.parametrize("name", FAMILIES)
def test_dropout_is_part_of_the_gradient(name):
    family = FAMILIES[name]
    model = family.build(dropout=0.3)
    errors = errors_of(family, model, batch_of(family, sum(MIXED)), MIXED, alone=False)
    assert_within(EXACT, errors, f"{name}, dropout")


@pytest.mark.parametrize("reentrant", [False, True], ids=["non-reentrant", "reentrant"])
@pytest.mark.parametrize("name", [name for name in FAMILIES if name != "albert"])  # which does not support it
def test_gradient_checkpointing_is_exact(name, reentrant):
    family = FAMILIES[name]
    model = family.build(dropout=0.3)
    checkpoint_activations(model, use_reentrant=reentrant)
    errors = errors_of(family, model, batch_of(family, sum(MIXED)), MIXED, alone=False)
    assert_within(EXACT, errors, f"{name}, dropout, {'re-entrant ' * reentrant}checkpoints")


@pytest.mark.parametrize("name", SOME)
def test_micro_batches_add_up(name):
    family = FAMILIES[name]
    errors = errors_of(family, family.build(), batch_of(family, sum(MIXED)), MIXED, parts=[[3], [0, 2], [4, 1]])
    assert_within(EXACT, errors, f"{name}, micro-batches")


@pytest.mark.parametrize("frozen", ["lower half", "every other"])
@pytest.mark.parametrize("name", FAMILIES)
def test_partly_frozen_models_are_exact(name, frozen):
    family = FAMILIES[name]
    model = family.build()
    parameters = list(model.parameters())
    for parameter in parameters[: len(parameters) // 2] if frozen == "lower half" else parameters[::2]:
        parameter.requires_grad_(False)
    errors = errors_of(family, model, batch_of(family, sum(MIXED)), MIXED)
    assert_within(EXACT, errors, f"{name}, {frozen} frozen")


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")  # peft asks for it
@pytest.mark.skipif(importlib.util.find_spec("peft") is None, reason="peft is not installed")
@pytest.mark.parametrize("name", FAMILIES)
def test_lora_is_exact(name):
    import peft

    family = FAMILIES[name]
    config = peft.LoraConfig(
        r=2,
        target_modules=family.lora if isinstance(family.lora, str) else list(family.lora),
        lora_dropout=0.2,
        fan_in_fan_out=name.startswith("gpt2"),
    )
    model = peft.get_peft_model(family.build(dropout=0.1), config)
    for parameter in trainable(model).values():
        torch.nn.init.normal_(parameter, std=0.1)  # adapters start at zero, where half of the gradients vanish
    errors = errors_of(family, model, batch_of(family, sum(MIXED)), MIXED, alone=False)
    assert_within(EXACT, errors, f"{name}, LoRA")


@pytest.mark.parametrize("name", SOME)
@pytest.mark.parametrize("most_formed", [0, 1 << 26], ids=["factors", "written out"])
def test_both_forms_of_the_terms_are_exact(name, most_formed, monkeypatch):
    monkeypatch.setattr(terms, "MAX_FORMED_VALUES", most_formed)
    family, counts = FAMILIES[name], (6, 6)
    model = family.build()
    errors = errors_of(family, model, batch_of(family, 12, length=16), counts)
    assert_within(EXACT, errors, f"{name}, {most_formed} values written out")


def losses_in_bfloat16(family, model, batch):
    with torch.autocast("cpu", torch.bfloat16):
        return row_losses(family, model, batch)


@pytest.mark.parametrize("name", FAMILIES)
def test_under_bfloat16_autocast_gradients_differ_by_what_autograd_rounds(name):
    family, batch = FAMILIES[name], batch_of(FAMILIES[name], sum(MIXED))
    model = family.build()
    errors = errors_of(family, model, batch, MIXED, losses_of=losses_in_bfloat16)
    # Autograd rounds each value of a weight's gradient to 8 bits, a relative error of up to 2^-9 = 0.2%.
    assert_within(5e-3, errors, f"{name}, bfloat16 autocast")
    verify_against_autograd(model, lambda: losses_in_bfloat16(family, model, batch), MIXED, tolerance=HALF_TOLERANCE)


def test_norms_under_autocast_are_those_of_the_gradients_in_single_precision(monkeypatch):
    dtypes = []
    gram = terms._gram

    def seen(x, y):
        found = gram(x, y)
        dtypes.append(found.dtype)
        return found

    monkeypatch.setattr(terms, "_gram", seen)
    family = FAMILIES["gpt2"]
    model = family.build()
    batch = batch_of(family, 4, length=5)
    clipping = PerUnitClipping(model, 1.0)
    with clipping, torch.autocast("cpu", torch.bfloat16):
        found = clipping.backward(row_losses(family, model, batch))
    clipped = norm_of(taken_gradients(model))
    assert set(dtypes) <= {torch.float32, torch.bool}
    assert torch.float32 in dtypes
    # With one unit the clipped sum has the limit as its norm, to single precision, whatever the forward pass lost.
    clipping.max_grad_norm = float(found.norms[0]) / 3
    with clipping, torch.autocast("cpu", torch.bfloat16):
        clipping.backward(row_losses(family, model, rows_of(batch, slice(0, 1))))
    assert norm_of(taken_gradients(model)) == pytest.approx(clipping.max_grad_norm, rel=1e-5)
    assert clipped <= 4


def test_a_bias_table_that_rows_share_is_refused_by_name():
    model = FAMILIES["t5"].build().requires_grad_(True)
    with pytest.raises(TrainingError, match=r"relative_attention_bias\.weight \(Embedding: its biases") as caught:
        PerUnitClipping(model, 1.0)
    assert "freeze" in caught.value.fix


def test_checkpointed_layers_keep_no_inputs_until_the_backward_pass():
    family = FAMILIES["llama"]
    kept = {}
    for checkpoints in (False, True):
        model = family.build(dropout=0.1)
        if checkpoints:
            checkpoint_activations(model, use_reentrant=False)
        clipping = PerUnitClipping(model, 1.0)
        held = []

        def pack(tensor, held=held):
            held.append(tensor.numel())
            return tensor

        with clipping, torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            losses = row_losses(family, model, batch_of(family, 4))
            kept[checkpoints] = sum(held)
            assert clipping._uses == []
            clipping.backward(losses)
        clipping.close()
    assert kept[True] < 0.5 * kept[False]
