"""What the gradient of a layer's own parameters is, for the layers of torch and transformers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from fairtest.training.clipping.registry import register_flattened, register_refusal, register_rule
from fairtest.training.clipping.terms import OneHot, Outer, PerUnit, Term


@register_rule(nn.Linear)
def linear(module: nn.Module, inputs: Tensor, gradient: Tensor) -> Mapping[str, Term]:
    """y_n = W a_n + b with W [out, in]: dL/dW = sum_n g_n a_n' and dL/db = sum_n g_n, where g_n = dL/dy_n."""
    return _with_bias(module, Outer(gradient, inputs), gradient)


@register_rule(Conv1D)
def transposed_linear(module: nn.Module, inputs: Tensor, gradient: Tensor) -> Mapping[str, Term]:
    """GPT-2's linear layer, y_n = W' a_n + b with W [in, out]: dL/dW = sum_n a_n g_n'."""
    return _with_bias(module, Outer(inputs, gradient), gradient)


def _with_bias(module: nn.Module, weight: Term, gradient: Tensor) -> Mapping[str, Term]:
    if getattr(module, "bias", None) is None:
        return {"weight": weight}
    return {"weight": weight, "bias": PerUnit(gradient.sum(1))}


def _embedding_refuses(module: nn.Module) -> str:
    if getattr(module, "scale_grad_by_freq", False):
        return "scale_grad_by_freq divides a unit's gradient by counts over all units"
    if getattr(module, "max_norm", None) is not None:
        return "max_norm changes weights during the forward pass"
    return ""


@register_rule(nn.Embedding, refuses=_embedding_refuses)
def embedding(module: nn.Module, ids: Tensor, gradient: Tensor) -> Mapping[str, Term]:
    """y_n = W[id_n] = W' e_(id_n): dL/dW = sum_n e_(id_n) g_n', without the row `padding_idx`, which stays."""
    assert isinstance(module, nn.Embedding)  # noqa: S101 - what it is registered for
    if module.padding_idx is not None:
        gradient = gradient * (ids != module.padding_idx).unsqueeze(-1)
    return {"weight": Outer(OneHot(ids, module.num_embeddings), gradient)}


def _is_scaled_embedding(module: nn.Module) -> bool:
    return isinstance(module, nn.Embedding) and type(module).__name__.endswith("ScaledWordEmbedding")


@torch.no_grad()
def _scaled_embedding_refuses(module: nn.Module) -> str:
    assert isinstance(module, nn.Embedding)  # noqa: S101 - what it is registered for
    ids = torch.arange(min(4, module.num_embeddings), device=module.weight.device)[None]
    expected = nn.functional.embedding(ids, module.weight) * _scale(module)
    agrees = torch.allclose(module(ids), expected, rtol=1e-2, atol=1e-6)
    return _embedding_refuses(module) or ("" if agrees else "it is no embedding times its embed_scale")


def _scale(module: nn.Module) -> Tensor:
    weight: Tensor = module.weight  # type: ignore[assignment] # see _is_scaled_embedding
    scale: Any = module.embed_scale  # a number or a buffer
    return torch.as_tensor(scale, device=weight.device, dtype=weight.dtype)


@register_rule(_is_scaled_embedding, refuses=_scaled_embedding_refuses)
def scaled_embedding(module: nn.Module, ids: Tensor, gradient: Tensor) -> Mapping[str, Term]:
    """y_n = s W[id_n], as in Gemma and BART: an embedding with the gradient s g_n."""
    return embedding(module, ids, gradient * _scale(module))


def _offset_ids(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    names = ("attention_mask", "past_length", "position_ids")
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    positions: Tensor | None = given.pop("position_ids", None)
    mask: Tensor = given.pop("attention_mask")
    if positions is None:
        positions = (mask.cumsum(1) * mask - 1).long()
        positions = positions[:, int(next(iter(given.values()), 0)) :]
    offset: Any = module.offset
    return positions + int(offset)


@register_rule(lambda module: type(module).__name__ == "OPTLearnedPositionalEmbedding", inputs=_offset_ids)
def offset_embedding(module: nn.Module, ids: Tensor, gradient: Tensor) -> Mapping[str, Term]:
    """OPT's positions, y_n = W[p_n + offset], with p_n as given or counted by the attention mask."""
    return embedding(module, ids, gradient)


@register_flattened
def opt_feed_forward(module: nn.Module) -> Iterable[nn.Module]:
    """OPT's feed-forward layers work on [rows * tokens, features]."""
    names = ("final_layer_norm", "fc1", "fc2") if type(module).__name__ == "OPTDecoderLayer" else ()
    return [module.get_submodule(name) for name in names]


@register_refusal
def tables_shared_by_rows(module: nn.Module) -> Mapping[nn.Module, str]:
    """T5's relative positions are looked up once, [T, T], and added to every row's attention."""
    table = getattr(module, "relative_attention_bias", None)
    if not isinstance(table, nn.Module):
        return {}
    return {table: "its biases are looked up once for all rows, so no unit's share of the gradient is known"}


def _layer_norm_refuses(module: nn.Module) -> str:
    shape = getattr(module, "normalized_shape", ())
    return "" if len(shape) == 1 else f"it normalises over {len(shape)} dimensions, and the rule is for the last one"


@register_rule(nn.LayerNorm, refuses=_layer_norm_refuses)
def layer_norm(module: nn.Module, inputs: Tensor, gradient: Tensor) -> Mapping[str, Term]:
    """y_n = w * z_n + b with z_n = (a_n - mean) / sqrt(var + eps): dL/dw = sum_n g_n * z_n and dL/db = sum_n g_n."""
    assert isinstance(module, nn.LayerNorm)  # noqa: S101 - what it is registered for
    normalised = nn.functional.layer_norm(inputs, module.normalized_shape, eps=module.eps)
    return _with_bias(module, PerUnit((gradient * normalised).sum(1)), gradient)


_EPSILON_NAMES = ("variance_epsilon", "eps", "epsilon", "norm_eps")


def _epsilon(module: nn.Module) -> float | None:
    if isinstance(module, nn.RMSNorm) and module.eps is None:
        return torch.finfo(module.weight.dtype).eps
    values = (getattr(module, name, None) for name in _EPSILON_NAMES)
    return next((float(value) for value in values if isinstance(value, (int, float))), None)


def _is_rms_norm(module: nn.Module) -> bool:
    weight = getattr(module, "weight", None)
    named = type(module).__name__.endswith(("RMSNorm", "T5LayerNorm"))
    return named and isinstance(weight, Tensor) and weight.dim() == 1 and _epsilon(module) is not None


@torch.no_grad()
def _rms_norm_refuses(module: nn.Module) -> str:
    weight: Tensor = module.weight  # type: ignore[assignment] # see _is_rms_norm
    inputs = torch.linspace(-1, 2, 2 * len(weight), device=weight.device, dtype=weight.dtype).view(1, 2, -1)
    found = module(inputs)
    normalised = inputs * _rms_scale(module, inputs)
    agrees = (torch.allclose(found, w * normalised, rtol=2e-2, atol=1e-4) for w in (weight, 1 + weight))
    return "" if any(agrees) else "it computes neither w * z nor (1 + w) * z, with z = a / sqrt(mean(a^2) + eps)"


def _rms_scale(module: nn.Module, inputs: Tensor) -> Tensor:
    return torch.rsqrt(inputs.square().mean(-1, keepdim=True) + (_epsilon(module) or 0.0))


@register_rule(_is_rms_norm, refuses=_rms_norm_refuses)
def rms_norm(module: nn.Module, inputs: Tensor, gradient: Tensor) -> Mapping[str, Term]:
    """y_n = w * z_n with z_n = a_n / sqrt(mean(a_n^2) + eps): dL/dw = sum_n g_n * z_n; (1 + w) * z_n has the same.

    Every model family brings a class of its own, so it is known by its shape: a name that ends in RMSNorm, a vector
    `weight`, an epsilon; what it computes is tried on one input before training.
    """
    return {"weight": PerUnit((gradient * inputs * _rms_scale(module, inputs)).sum(1))}
