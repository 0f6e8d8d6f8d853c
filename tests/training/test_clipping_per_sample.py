"""The fallback for layers without a rule, against its definition: autograd one unit at a time, clipped, added up."""

import copy
import math

import pytest
import torch
from model_builders import gpt2, llama
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers import BertConfig, BertForMaskedLM, GemmaConfig, GemmaForCausalLM, OPTConfig, OPTForCausalLM

from fairtest.errors import NotFiniteError, TrainingError
from fairtest.training.clipping import PerUnitClipping, terms
from fairtest.training.clipping.per_sample import PerSampleClipping

ROWS, LENGTH = 6, 7


class Scale(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.scale = nn.Parameter(torch.randn(width))
        self.shift = nn.ParameterList([nn.Parameter(torch.randn(width))])

    def forward(self, x, *, factor):
        return x * self.scale * factor + self.shift[0]


class Mixed(nn.Module):
    """A model of its own: layers without a rule, called by keyword, and a weight shared by three of them."""

    def __init__(self, width=8, vocabulary=40):
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Embedding(vocabulary, width, padding_idx=3)
        self.positions = nn.Embedding(LENGTH, width)
        self.scale = Scale(width)
        self.norm = nn.LayerNorm(width, bias=False)
        self.conv = nn.Conv1d(width, width, 3, padding=1)
        self.attention = nn.MultiheadAttention(width, 2, batch_first=True)
        self.head = nn.Linear(width, vocabulary, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, input_ids):
        h = self.embed(input_ids) + self.positions(torch.arange(input_ids.shape[1])[None])
        h = self.scale(self.norm(h), factor=torch.linspace(0.5, 2, len(input_ids))[:, None, None].to(h))
        h = h + self.conv(h.transpose(1, 2)).transpose(1, 2)
        return self.head(h + self.attention(h, h, h, need_weights=False)[0])


def bert():
    torch.manual_seed(0)
    return BertForMaskedLM(
        BertConfig(vocab_size=40, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=24)
    ).eval()


def gemma():
    torch.manual_seed(0)
    return GemmaForCausalLM(
        GemmaConfig(
            vocab_size=40,
            hidden_size=16,
            intermediate_size=24,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=1,
            head_dim=8,
        )
    ).eval()


def opt():
    torch.manual_seed(0)
    return OPTForCausalLM(
        OPTConfig(
            vocab_size=40,
            hidden_size=16,
            word_embed_proj_dim=16,
            ffn_dim=24,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=16,
        )
    ).eval()


MODELS = {
    "gpt2-tied": gpt2,
    "gpt2-untied": lambda: gpt2(tied=False),
    "llama-tied": llama,
    "no-rules": Mixed,
    "bert-tied-bias": bert,
    "gemma-scaled-embedding": gemma,
    "opt-padding-row": opt,
}


def ids_of(rows=ROWS, seed=1):
    return torch.randint(2, 40, (rows, LENGTH), generator=torch.Generator().manual_seed(seed))


def row_losses(model, ids):
    output = model(input_ids=ids)
    logits = (output if isinstance(output, torch.Tensor) else output.logits)[:, :-1]
    return nn.functional.cross_entropy(logits.float().transpose(1, 2), ids[:, 1:], reduction="none").mean(1)


def trainable(model):
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def brute_force(model, ids, sizes, max_grad_norm):
    parameters = trainable(model)
    total = {name: torch.zeros_like(p) for name, p in parameters.items()}
    norms = []
    losses = row_losses(model, ids)
    for unit in losses.split(sizes):
        gradients = torch.autograd.grad(unit.sum(), list(parameters.values()), retain_graph=True)
        norms.append(math.sqrt(sum(float(g.double().square().sum()) for g in gradients)))
        for name, gradient in zip(parameters, gradients, strict=True):
            total[name] += gradient * min(1.0, max_grad_norm / norms[-1])
    return total, torch.tensor(norms)


def clipped(model, ids, rows_per_unit, max_grad_norm, engine=PerSampleClipping):
    clipping = engine(model, max_grad_norm)
    with clipping:
        found = clipping.backward(row_losses(model, ids), rows_per_unit)
    clipping.close()
    gradients = {name: p.grad.clone() for name, p in trainable(model).items()}
    model.zero_grad(set_to_none=True)
    return gradients, found


def relative_error(found, expected):
    assert found.keys() == expected.keys()
    difference = torch.stack([(found[name] - expected[name]).norm() for name in expected]).norm()
    return float(difference / torch.stack([expected[name].norm() for name in expected]).norm())


@pytest.mark.parametrize("sizes", [[1] * 6, [2, 2, 2], [3, 1, 2]])
@pytest.mark.parametrize("name", MODELS)
def test_clipped_sum_equals_autograd_unit_by_unit(name, sizes):
    model, ids = MODELS[name](), ids_of()
    _, norms = brute_force(model, ids, sizes, math.inf)
    limit = float(norms.median())
    expected, _ = brute_force(model, ids, sizes, limit)
    found, report = clipped(model, ids, sizes if len(set(sizes)) > 1 else sizes[0], limit)
    assert relative_error(found, expected) <= 1e-5
    torch.testing.assert_close(report.norms, norms, rtol=1e-5, atol=0)
    torch.testing.assert_close(report.factors, (limit / norms).clamp(max=1), rtol=1e-5, atol=0)


@pytest.mark.parametrize("name", ["gpt2-tied", "llama-tied"])
def test_both_ways_of_clipping_give_the_same_sum(name):
    model, ids = MODELS[name](), ids_of()
    expected, _ = clipped(model, ids, 2, 0.5, engine=PerUnitClipping)
    found, _ = clipped(model, ids, 2, 0.5)
    assert relative_error(found, expected) <= 1e-5


def test_only_what_is_trainable_at_entry_is_clipped():
    model, ids = gpt2(), ids_of()
    clipping = PerSampleClipping(model, 0.5)
    model.transformer.wte.requires_grad_(False)
    expected, _ = brute_force(model, ids, [1] * ROWS, 0.5)
    with clipping:
        clipping.backward(row_losses(model, ids))
    assert relative_error({name: p.grad for name, p in trainable(model).items()}, expected) <= 1e-5
    assert model.transformer.wte.weight.grad is None


def test_under_autocast_norms_are_those_of_the_16_bit_forward_pass():
    model, ids = gpt2(), ids_of()
    expected, norms = brute_force(model, ids, [1] * ROWS, 0.5)
    clipping = PerSampleClipping(model, 0.5)
    with clipping, torch.autocast("cpu", dtype=torch.bfloat16):
        report = clipping.backward(row_losses(model, ids))
    assert report.norms.dtype == torch.float32
    torch.testing.assert_close(report.norms, norms, rtol=3e-2, atol=0)
    assert relative_error({name: p.grad for name, p in trainable(model).items()}, expected) <= 3e-2


@pytest.mark.parametrize("engine", [PerSampleClipping, PerUnitClipping])
@pytest.mark.parametrize("positions", [1, 60])  # of many the engine writes out each unit's gradient, of one it does not
def test_norms_of_large_matrices_are_exact_too(engine, positions):
    torch.manual_seed(0)
    model = nn.Linear(50, 60_000)
    inputs, weights = torch.randn(2, positions, 50), torch.randn(60_000)
    with engine(model, 1.0) as clipping:
        report = clipping.backward((model(inputs) @ weights).sum(1))
    seen = torch.cat([inputs, torch.ones(2, positions, 1)], 2).sum(1)  # the bias is a weight of an input of one
    expected = seen.double().norm(dim=1) * weights.double().norm()
    torch.testing.assert_close(report.norms.double(), expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("length", [1, 4095, 4096, 4097, 10_000_001])
def test_squared_lengths_are_exact_for_any_length(length):
    vectors = torch.randn(2, length, generator=torch.Generator().manual_seed(0))
    expected = vectors.double().square().sum(1)
    torch.testing.assert_close(terms.squared_lengths(vectors).double(), expected, rtol=1e-6, atol=0)


def test_calls_add_up():
    model, ids = gpt2(), ids_of()
    expected, _ = brute_force(model, ids, [1] * ROWS, 0.5)
    clipping = PerSampleClipping(model, 0.5)
    for part in ids.split([2, 4]):
        with clipping:
            clipping.backward(row_losses(model, part))
    assert relative_error({name: p.grad for name, p in trainable(model).items()}, expected) <= 1e-5


def test_the_model_is_left_as_it_was():
    model, ids = Mixed(), ids_of()
    untouched = copy.deepcopy(model)
    clipped(model, ids, 1, 0.5)
    for module, before in zip(model.modules(), untouched.modules(), strict=True):
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
        assert not module._backward_hooks
        assert module.__dict__.keys() == before.__dict__.keys()
    for p in model.parameters():
        assert p.requires_grad
        assert p.grad is None
        assert not vars(p)


def test_outside_of_the_context_nothing_is_computed():
    model, ids = gpt2(), ids_of()
    clipping = PerSampleClipping(model, 0.5)
    row_losses(model, ids).sum().backward()
    with pytest.raises(TrainingError, match="outside its context"):
        clipping.backward(row_losses(model, ids))


class Uses(nn.Module):
    """`extra` of a language model, used in a way that a test says."""

    def __init__(self, extra, use):
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Embedding(40, 8)
        self.extra = extra
        self.use = use
        self.head = nn.Linear(8, 40)

    def forward(self, input_ids):
        return self.head(self.use(self.extra, self.embed(input_ids)))


def through(layer, h):
    return layer(h)


def by_token(layer, h):
    return layer(h.transpose(0, 1).flatten(0, 1)).view(LENGTH, ROWS, 8).transpose(0, 1)


@pytest.mark.parametrize("reentrant", [True, False])
def test_gradient_checkpointing_changes_nothing(reentrant):
    model, ids = Uses(nn.Linear(8, 8), through), ids_of()
    expected, _ = brute_force(model, ids, [2, 2, 2], 0.5)
    model.use = lambda layer, h: checkpoint(layer, h, use_reentrant=reentrant)
    found, _ = clipped(model, ids, 2, 0.5)
    assert relative_error(found, expected) <= 1e-5


@pytest.mark.parametrize(
    ("extra", "use", "message"),
    [
        (nn.Linear(8, 8), lambda f, h: f(h) + h @ f.weight, r"do not add up .* the first is extra\.weight"),
        (nn.Linear(8, 8), lambda f, h: h @ f.weight, r"got no gradient, the first is extra\.bias"),
        (nn.Linear(8, 8), lambda f, h: f(h.mean(0, keepdim=True)).expand(h.shape), r"weight .* rows are mixed"),
        (nn.Linear(8, 8), by_token, r"weight .* rows are mixed"),
        (nn.Linear(8, 8), lambda f, h: f(h + h.mean(0)), r"weight .* rows are mixed"),
        (nn.Linear(8, 8), lambda f, h: f(h[:1]) + h, r"weight \(Linear\).* on 1 rows where the batch has 6"),
        (nn.LSTM(8, 8, batch_first=True), lambda f, h: f(h)[0], r"extra\.weight_ih_l0 \(LSTM\) cannot be computed"),
    ],
)  # fmt: skip
def test_a_parameter_whose_row_gradients_are_unknown_is_refused_by_name(extra, use, message):
    model, ids = Uses(extra, use), ids_of()
    clipping = PerSampleClipping(model, 0.5)
    with clipping, pytest.raises(TrainingError, match=message):
        clipping.backward(row_losses(model, ids))
    assert all(p.grad is None for p in model.parameters())


def test_batch_normalisation_is_refused():
    with pytest.raises(TrainingError, match=r"1 \(BatchNorm1d\) mixes the rows"):
        PerSampleClipping(nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)), 1.0)


def test_a_frozen_model_is_refused():
    with pytest.raises(TrainingError, match="no trainable parameter"):
        PerSampleClipping(gpt2().requires_grad_(False), 1.0)


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan])
def test_a_clipping_norm_that_is_not_positive_is_refused(value):
    with pytest.raises(TrainingError, match="max_grad_norm must be above 0"):
        PerSampleClipping(gpt2(), value)


@pytest.mark.parametrize("sizes", [0, 4, [1, 2], [6, 0], []])
def test_rows_that_do_not_divide_into_units_are_refused(sizes):
    model = gpt2()
    with PerSampleClipping(model, 1.0) as clipping, pytest.raises(TrainingError, match=r"losses of shape \(6,\)"):
        clipping.backward(row_losses(model, ids_of()), sizes)


def test_a_loss_that_is_not_finite_is_refused_with_its_unit_and_leaves_no_gradient():
    model = gpt2()
    weights = torch.ones(ROWS)
    weights[3] = math.nan
    with PerSampleClipping(model, 1.0) as clipping, pytest.raises(NotFiniteError, match="loss of 1 of 3") as raised:
        clipping.backward(row_losses(model, ids_of()) * weights, [2, 2, 2])
    assert raised.value.unit == 1
    assert all(p.grad is None for p in model.parameters())
