"""Loads a masked language model, and runs it so that only the masked position goes through its last parts."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from fairtest.errors import ModelError
from fairtest.scoring.masked_layers import PackedLayers, read_layers
from fairtest.specs import PRECISIONS
from fairtest.training.forward import TokenBatch
from fairtest.training.models import LoadedModel, decoder_layers, quiet_transformers
from fairtest.training.sources import ModelSource
from fairtest.training.tiled_head import ROWS, linear_log_probs

# Modules of a layer behind which positions no longer see each other: BERT's and its kin's, DistilBERT's.
_AFTER_ATTENTION = ("attention", "sa_layer_norm")
_EXACT = 1e-4
_SAME = 1e-6
_GIVE = (
    "give a masked language model (BERT, RoBERTa, DistilBERT, ALBERT, ...); a causal one is scored by score_probe_set"
)


def load_masked_model(source: ModelSource) -> LoadedModel:
    """Loads a model with its masked-language-modelling head, in float32 and evaluation mode; nothing is trained.

    Raises:
        ModelError: the files do not hold a complete masked language model.
    """
    from transformers import MODEL_FOR_MASKED_LM_MAPPING, AutoConfig, AutoModelForMaskedLM, AutoTokenizer

    if source.kind == "smollm2":
        raise ModelError(f"model {source.name!r} is a causal language model", where=source.location, fix=_GIVE)
    path = Path(source.location)
    options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    try:
        with quiet_transformers():
            config = AutoConfig.from_pretrained(path, **options)
            if type(config) not in MODEL_FOR_MASKED_LM_MAPPING:
                raise ModelError(
                    f"model {source.name!r} is of type {config.model_type!r}, and that is no masked language model",
                    where=source.location,
                    fix=_GIVE,
                )
            tokenizer = AutoTokenizer.from_pretrained(path, **options)
            model, report = AutoModelForMaskedLM.from_pretrained(
                path, use_safetensors=True, dtype=torch.float32, output_loading_info=True, **options
            )
    except (OSError, ValueError, KeyError, TypeError, ImportError, RuntimeError, SafetensorError) as error:
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ModelError(
            f"model {source.name!r} cannot be loaded: {reason[:300]}",
            where=source.location,
            fix="give a masked language model in Hugging Face format (config.json, tokenizer, *.safetensors)",
        ) from error
    lacking = sorted(report["missing_keys"]) + sorted(str(key) for key in report["mismatched_keys"])
    if lacking:
        raise ModelError(
            f"model {source.name!r} lacks {len(lacking)} weights of a masked language model, the first is {lacking[0]}",
            where=source.location,
            fix="give a model with a masked-language-modelling head; transformers would have drawn these at random",
        )
    model.eval()
    model.requires_grad_(False)
    return LoadedModel(model, tokenizer, source)


class MaskedForward:
    """A masked language model whose vocabulary head works on one position of each row.

    The head is the model's own: behind the last attention, or at the latest behind the body, the states are replaced
    by those of the wanted positions, so no family needs a rule. Each place is checked against all logits of a small
    padded batch; where none gives the same, the head is applied everywhere.

    On a CPU in float32 two more things are tried, and left out where they do not give the same: the layers run as in
    `fairtest.scoring.masked_layers`, which is checked once more on the first rows that are scored, and the last matrix
    of the head, with its log-sum-exp, runs tile by tile for many batches at once.

    Args:
        precision: "bfloat16" runs the matrix products in bfloat16 (autocast); weights stay as they are.

    Raises:
        ModelError: no logits over a vocabulary for each position, a model that is causal or encodes and decodes, a
            tokenizer without a mask token, or an unknown precision.
    """

    def __init__(self, loaded: LoadedModel, *, precision: str = "float32") -> None:
        if precision not in PRECISIONS:
            raise ModelError(
                f"unknown precision {precision!r}", where="precision", fix=f"known precisions: {', '.join(PRECISIONS)}"
            )
        self.loaded = loaded
        self.model = loaded.model
        self._half = precision == "bfloat16"
        self._types = "token_type_ids" in inspect.signature(self.model.forward).parameters
        self._pad = int(getattr(self.model.config, "pad_token_id", None) or 0)
        self._place: nn.Module | None = None
        self._layers: PackedLayers | None = None
        self._tried = False
        self._last: nn.Linear | None = None
        self.vocabulary = 0
        self._check()

    @property
    def splits(self) -> bool:
        """Whether the head can be applied to single positions."""
        return self._place is not None

    @property
    def packs(self) -> bool:
        """Whether the layers run without padding, the last one at single positions."""
        return self._layers is not None

    @property
    def at_once(self) -> int:
        """How many states are worth waiting for before `log_probs_of`; 1 where states are logits."""
        return 1 if self._last is None else ROWS

    @property
    def mask_id(self) -> int:
        """The id of the mask token."""
        return int(self.loaded.tokenizer.mask_token_id)

    @property
    def device(self) -> torch.device:
        """Where the model's parameters are."""
        device: torch.device = next(iter(self.model.parameters())).device
        return device

    @property
    def longest(self) -> int | None:
        """The number of tokens that the model reads at most, special ones included; None: no limit is known."""
        limit: int | None = getattr(self.model.config, "max_position_embeddings", None)
        for name, module in self.model.named_modules():
            # RoBERTa and its kin number positions from one past the padding position.
            if name.endswith("position_embeddings") and isinstance(module, nn.Embedding) and limit is not None:
                return limit if module.padding_idx is None else limit - module.padding_idx - 1
        return limit

    @torch.no_grad()
    def _check(self) -> None:
        where = self.loaded.source.location
        name = self.loaded.source.name
        if getattr(self.model.config, "is_encoder_decoder", False):
            raise ModelError(
                f"model {name!r} encodes and decodes, and masked models only encode", where=where, fix=_GIVE
            )
        known = int(self.model.get_input_embeddings().weight.shape[0])
        ids = torch.randint(known, (2, 6), generator=torch.Generator().manual_seed(0))
        # The padding id would change the positions of what follows it.
        ids = torch.where(ids == self._pad, (ids + 1) % known, ids)
        batch = TokenBatch(ids, torch.tensor([6, 4]))
        logits = self._all_logits(batch)
        if logits.dim() != 3 or logits.shape[1] != 6:
            raise ModelError(
                f"model {name!r} ({type(self.model).__name__}) does not predict tokens: its output has the shape"
                f" {list(logits.shape)} for 2 texts of 6 tokens",
                where=where,
                fix="load it with load_masked_model",
            )
        self.vocabulary = int(logits.shape[-1])
        changed = ids.clone()
        changed[:, -1] = ids[:, 0]
        earlier = self._all_logits(TokenBatch(changed, torch.tensor([6, 6])))[0, :-1]
        if (ids[0, -1] != ids[0, 0]) and (earlier - logits[0, :-1]).abs().max() <= _SAME * logits.abs().max():
            raise ModelError(
                f"model {name!r} is causal: its predictions do not change with tokens that come later",
                where=where,
                fix=_GIVE,
            )
        if self.loaded.tokenizer.mask_token_id is None:
            raise ModelError(
                f"the tokenizer of model {name!r} has no mask token, and a masked model is asked for what is masked",
                where=where,
                fix="set mask_token in tokenizer_config.json to the token that the model was trained with",
            )
        positions = torch.tensor([4, 1])
        wanted = logits[[0, 1], positions]
        self._place = next((place for place in self._places() if self._agrees(place, batch, positions, wanted)), None)
        if self._half or self.device.type != "cpu":
            return
        last = None
        with contextlib.suppress(AttributeError, NotImplementedError):
            last = self.model.get_output_embeddings()
        if type(last) is nn.Linear and last.weight.dtype == torch.float32 and not _watched(last):
            self._last = last
            if not self._same(lambda: last(self._states(batch, positions)), wanted):
                self._last = None
        if self.splits:
            self._layers = self._exact_layers(batch, positions)

    def _exact_layers(self, batch: TokenBatch, positions: Tensor) -> PackedLayers | None:
        """The model's layers in their packed form, if with them comes out what comes out without, for this batch."""
        self._layers = None
        plain, layers = self._states(batch, positions), read_layers(self.model)
        if layers is None:
            return None
        self._layers = layers
        return layers if self._same(lambda: self._states(batch, positions), plain) else None

    def _places(self) -> Iterator[nn.Module]:
        with contextlib.suppress(ModelError):
            _, layers = decoder_layers(self.model)
            yield from (module for name, module in layers[-1].named_children() if name in _AFTER_ATTENTION)
        if self.model.base_model is not self.model:
            yield self.model.base_model

    def _agrees(self, place: nn.Module, batch: TokenBatch, positions: Tensor, wanted: Tensor) -> bool:
        self._place = place
        return self._same(lambda: self._logits_at(batch, positions), wanted)

    def _same(self, compute: Callable[[], Tensor], wanted: Tensor) -> bool:
        try:
            found = compute()
        except (TypeError, ValueError, RuntimeError, IndexError, AttributeError):
            return False
        return found.shape == wanted.shape and torch.allclose(found, wanted, atol=_EXACT, rtol=_EXACT)

    def _inputs(self, batch: TokenBatch) -> dict[str, Tensor | bool]:
        inputs: dict[str, Tensor | bool] = {
            "input_ids": batch.input_ids.to(self.device),
            "attention_mask": batch.mask.to(self.device, torch.long),
            "return_dict": True,
        }
        if self._types:
            inputs["token_type_ids"] = torch.zeros_like(batch.input_ids, device=self.device)
        return inputs

    def _all_logits(self, batch: TokenBatch) -> Tensor:
        logits: Tensor = self.model(**self._inputs(batch)).logits
        return logits

    def _logits_at(self, batch: TokenBatch, positions: Tensor) -> Tensor:
        rows = torch.arange(len(positions), device=self.device)
        columns = positions.to(self.device)
        if self._place is None:
            return self._all_logits(batch)[rows, columns]
        width = batch.input_ids.shape[1]

        def keep_wanted(_module: nn.Module, _inputs: Any, output: Any) -> Any:
            states = output if isinstance(output, Tensor) else output[0]
            if states.shape[1] != width:  # a layer that runs more than once
                return output
            kept = states[rows, columns][:, None]
            if isinstance(output, Tensor):
                return kept
            return (kept, *output[1:]) if isinstance(output, tuple) else type(output)(last_hidden_state=kept)

        handle = self._place.register_forward_hook(keep_wanted)
        try:
            return self._all_logits(batch)[:, 0]
        finally:
            handle.remove()

    def logits_at(self, rows: Sequence[Sequence[int]], positions: Sequence[int]) -> Tensor:
        """Logits [rows, vocabulary] (float32) of one position of each row of ids."""
        batch = TokenBatch.from_ids(rows, self._pad)
        half = torch.autocast(self.device.type, torch.bfloat16) if self._half else contextlib.nullcontext()
        with half:
            return self._logits_at(batch, torch.tensor(positions)).float()

    def states_at(self, rows: Sequence[Sequence[int]], positions: Sequence[int]) -> Tensor:
        """What `log_probs_of` needs of one position of each row of ids: states [rows, d], or logits."""
        if self._layers is not None and not self._tried:
            # Random ids of two short rows were checked when this was made; these are some that are scored.
            few = [0, len(rows) // 2, len(rows) - 1]
            batch = TokenBatch.from_ids([rows[index] for index in few], self._pad)
            self._layers = self._exact_layers(batch, torch.tensor([positions[index] for index in few]))
            self._tried = True
        if self._last is None and self._layers is None:
            return self.logits_at(rows, positions)
        return self._states(TokenBatch.from_ids(rows, self._pad), torch.tensor(positions))

    def _states(self, batch: TokenBatch, positions: Tensor) -> Tensor:
        with contextlib.ExitStack() as changed:
            if self._last is not None:
                changed.enter_context(_passing_on(self._last))
            if self._layers is None:
                return self._logits_at(batch, positions)
            changed.enter_context(self._layers.instead(batch, positions))
            return self._all_logits(batch)[:, 0]

    def log_probs_of(self, states: Tensor, tokens: Tensor, of: Tensor) -> Tensor:
        """Log-probability (nats) [N] of `tokens` [N], each at the position that states[of] are those of."""
        if self._last is not None:
            return linear_log_probs(states, tokens, self._last.weight, self._last.bias, of)
        tokens, of = tokens.to(states.device), of.to(states.device)
        return states[of, tokens].double() - states.logsumexp(-1).double()[of]


def _watched(module: nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module))  # noqa: SLF001


@contextlib.contextmanager
def _passing_on(module: nn.Module) -> Iterator[None]:
    """Within it the module gives what it gets."""
    module.forward = lambda states: states
    try:
        yield
    finally:
        del module.forward
