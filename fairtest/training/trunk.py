"""Runs frozen lower layers once per text: their output never changes, whatever arm, seed or step asks for it.

With only the upper decoder layers trained, a forward pass is frozen(text) followed by tuned(...). The first part is
kept per row of token ids, unpadded, and shared by everything that starts from the same pretrained files: in memory,
and in the store for rows that were named before they were needed (`Trunk.warm`).
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fairtest.training.forward import CausalForward, TokenBatch
from fairtest.training.models import LoadedModel, decoder_layers
from fairtest.training.trunk_cache import Row, TrunkCache

__all__ = ["Trunk", "TrunkCache", "split_trunk"]

# Of the largest logit. On a CPU both ways gave the same bits wherever they were compared.
_EXACT = 1e-6
_BATCH_TOKENS = 4096


class Trunk:
    """A base model cut below decoder layer `depth`; made by `split_trunk`, which checks that the cut is exact."""

    def __init__(self, loaded: LoadedModel, depth: int, layers_name: str, cache: TrunkCache) -> None:
        self.depth = depth
        self.cache = cache
        self._digest = loaded.source.digest
        self._width = int(loaded.model.config.get_text_config().hidden_size)
        body = loaded.model.base_model
        self._body = body
        self._positions = "position_ids" in inspect.signature(body.forward).parameters
        layers: nn.ModuleList = getattr(body, layers_name)
        self._last_frozen: nn.Module = layers[depth - 1]
        self._lower = _with_children(body, {layers_name: layers[:depth]})
        replaced: dict[str, nn.Module] = {layers_name: layers[depth:]}
        if hasattr(
            body, "wpe"
        ):  # GPT-2 adds position embeddings to whatever it is given; they are in the trunk already
            replaced["wpe"] = _NoPositions()
        self._upper = _with_children(body, replaced)

    def hidden(self, batch: TokenBatch, inputs: dict[str, Any]) -> Tensor:
        """Final hidden states [B, T, d] of a batch; `inputs` are the body's other arguments."""
        rows = [tuple(row[:n]) for row, n in zip(batch.input_ids.tolist(), batch.lengths.tolist(), strict=True)]
        found = {row: self.cache.find(self._digest, self.depth, row) for row in dict.fromkeys(rows)}
        fresh = self._compute([row for row, states in found.items() if states is None], keep=True)
        parts = [fresh[row] if (part := found[row]) is None else part for row in rows]
        # Rows are padded with zeros: no later layer of a causal model looks at what follows a token.
        states = torch.zeros(*batch.input_ids.shape, parts[0].shape[-1])
        for index, part in enumerate(parts):
            states[index, : len(part)] = part
        others = {name: value for name, value in inputs.items() if name != "input_ids"}
        last: Tensor = self._upper(inputs_embeds=states.to(inputs["input_ids"].device), **others).last_hidden_state
        return last

    def warm(self, rows: Iterable[Row]) -> None:
        """Has what the frozen layers put out for these rows in the store, for all processes and sessions to come.

        Without a store, for a few rows, or for more than it takes, nothing happens: rows are then computed when they
        are asked for.

        Raises:
            StoreError: the store is damaged or cannot be written.
        """
        self.cache.fill(self._digest, self.depth, self._width, rows, self._compute)

    def _compute(self, rows: Sequence[Row], *, keep: bool = False) -> dict[Row, Tensor]:
        found: dict[Row, Tensor] = {}
        pending: list[Row] = []
        for row in sorted(rows, key=len, reverse=True):
            if pending and len(pending[0]) * (len(pending) + 1) > _BATCH_TOKENS:
                found.update(self._run(pending))
                pending = []
            pending.append(row)
        if pending:
            found.update(self._run(pending))
        for row, states in found.items() if keep else ():
            self.cache.keep(self._digest, self.depth, row, states)
        return found

    def _run(self, rows: Sequence[Row]) -> dict[Row, Tensor]:
        device = next(self._body.parameters()).device
        seen: list[Tensor] = []

        def see(_module: nn.Module, _args: Any, output: Any) -> None:
            seen.append(output[0] if isinstance(output, tuple) else output)

        # Scoring runs in inference mode, whose tensors training could not use later; and what a step in half precision
        # leaves is read by others in single precision.
        with (
            torch.inference_mode(mode=False),
            torch.no_grad(),
            torch.autocast(device.type, enabled=False),
        ):
            batch = TokenBatch.from_ids(rows)
            arguments: dict[str, Any] = {
                "input_ids": batch.input_ids.to(device),
                "attention_mask": batch.mask.to(device, torch.long),
                "use_cache": False,
            }
            if self._positions:
                positions = torch.arange(batch.input_ids.shape[1], device=device)
                arguments["position_ids"] = positions.expand(batch.input_ids.shape).contiguous()
            handle = self._last_frozen.register_forward_hook(see)
            try:
                self._lower(**arguments)
            finally:
                handle.remove()
            states = seen[0].float().cpu()
            return {row: states[index, : len(row)].clone() for index, row in enumerate(rows)}


def split_trunk(loaded: LoadedModel, cache: TrunkCache | None = None, *, depth: int | None = None) -> Trunk | None:
    """The part of a model below its lowest trainable layer, or None where it cannot be computed once and for all.

    None where something below the cut is trained, anything drops out at random, layers differ in kind, the family is
    not a stack of layers, or cut and whole model differ in a logit by more than 1e-6 of the largest. A model that
    trains nothing needs `depth`, the number of layers to cut off.
    """
    model = loaded.model
    name, layers = decoder_layers(model)
    parent, _, layers_name = name.rpartition(".")
    trained = [parameter for parameter, value in model.named_parameters() if value.requires_grad]
    if parent != model.base_model_prefix or any(not parameter.startswith(f"{name}.") for parameter in trained):
        return None
    lowest = min((int(parameter[len(name) + 1 :].split(".")[0]) for parameter in trained), default=len(layers))
    cut = lowest if depth is None else depth
    kinds = getattr(model.config.get_text_config(), "layer_types", None)
    if not 1 <= cut < len(layers) or cut > lowest or _drops_out(model) or len(set(kinds or [])) > 1:
        return None
    if not _is_exact(loaded, Trunk(loaded, cut, layers_name, TrunkCache())):
        return None
    return Trunk(loaded, cut, layers_name, TrunkCache() if cache is None else cache)


def _drops_out(model: Any) -> bool:
    if any(isinstance(module, nn.Dropout) and module.p > 0 for module in model.modules()):
        return True
    settings = model.config.get_text_config().to_dict()
    # Attention drops out by a number in the configuration, not by a module.
    return any(
        isinstance(value, float) and value > 0
        for name, value in settings.items()
        if "drop" in name and not name.startswith(("summary", "classifier"))
    )


@torch.no_grad()
def _is_exact(loaded: LoadedModel, trunk: Trunk) -> bool:
    plain, cut = CausalForward(loaded), CausalForward(loaded, trunk=trunk)
    if not plain.splits:
        return False
    generator = torch.Generator().manual_seed(1)
    vocabulary = int(loaded.model.config.get_text_config().vocab_size)
    rows = [torch.randint(vocabulary, (length,), generator=generator).tolist() for length in (12, 7, 1)]
    batch = TokenBatch.from_ids(rows)
    real = batch.mask.to(plain.device)
    expected = plain.logits(plain.hidden(batch))[real]
    difference = (cut.logits(cut.hidden(batch))[real] - expected).abs().max()
    return bool(difference <= _EXACT * expected.abs().max().clamp_min(1.0))


class _NoPositions(nn.Module):
    def forward(self, positions: Tensor) -> Tensor:
        return torch.zeros(*positions.shape, 1, device=positions.device)


def _with_children(module: nn.Module, children: dict[str, nn.Module]) -> nn.Module:
    """The same module with some children replaced; parameters, buffers and hooks of all others are shared."""
    clone = copy.copy(module)
    clone._modules = {**module._modules, **children}  # noqa: SLF001 - copying a module shares this dictionary
    return clone
