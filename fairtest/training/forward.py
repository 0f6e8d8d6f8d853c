"""Token ids in, log-probabilities out: the one forward pass that training and scoring share."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedTokenizerBase

from fairtest.errors import ModelError
from fairtest.training.models import LoadedModel
from fairtest.training.tiled_head import linear_log_probs
from fairtest.training.token_loss import token_losses

if TYPE_CHECKING:
    from fairtest.training.trunk import Trunk

_DOCUMENT_SEPARATOR = "<|endoftext|>"
_CHAT_TURN = "<|im_start|>"
_EXACT = 1e-4


def bos_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """The token that stands in front of every text, as context of its first token.

    It is the tokenizer's BOS token, unless there is none or it opens a chat turn (`<|im_start|>`, as in
    SmolLM2-Instruct): then the document separator `<|endoftext|>`, with which such models were pretrained, else the
    EOS token.

    Raises:
        ModelError: the tokenizer has none of these.
    """
    if tokenizer.bos_token_id is not None and tokenizer.bos_token != _CHAT_TURN:
        return int(tokenizer.bos_token_id)
    separator = tokenizer.get_vocab().get(_DOCUMENT_SEPARATOR)
    for candidate in (separator, tokenizer.eos_token_id, tokenizer.bos_token_id):
        if candidate is not None:
            return int(candidate)
    raise ModelError(
        "the tokenizer has neither a BOS nor an EOS token, and the first token of a text needs one as its context",
        where=str(tokenizer.name_or_path),
        fix="set bos_token in the tokenizer's tokenizer_config.json",
    )


_TEXTS_AT_ONCE = 1024


def encode(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], max_length: int | None = None) -> list[list[int]]:
    """Token ids of each text with exactly one `bos_id` in front and nothing appended, at most `max_length` ids in all.

    A text that spells a special token gets the pieces of its spelling, where the tokenizer can do so.
    """
    if not texts:
        return []
    bos = bos_id(tokenizer)
    rows: list[list[int]] = []
    # Slice by slice: what a tokenizer returns takes a hundred times the memory of the ids.
    for first in range(0, len(texts), _TEXTS_AT_ONCE):
        encoded = tokenizer(
            list(texts[first : first + _TEXTS_AT_ONCE]),
            add_special_tokens=False,
            split_special_tokens=True,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,
        )["input_ids"]
        for ids in encoded:
            start = 0
            while start < len(ids) and ids[start] == bos:
                start += 1
            rows.append([bos, *ids[start:]][:max_length])
    return rows


MOST_UNKNOWN = 0.05


def unknown_share(tokenizer: PreTrainedTokenizerBase, rows: Iterable[Sequence[int]]) -> float:
    """Share, in [0, 1], of unknown tokens among all ids after the first of each row; 0 where there are none.

    The first is the BOS token, which in GPT-2 has the id of the unknown token.
    """
    unknown = tokenizer.unk_token_id
    if unknown is None:
        return 0.0
    found = total = 0
    for row in rows:
        found += sum(token == unknown for token in row[1:])
        total += max(0, len(row) - 1)
    return found / total if total else 0.0


def require_embedded(loaded: LoadedModel, rows: Iterable[Sequence[int]]) -> None:
    """Checks that the model has an embedding for each id of the rows.

    Raises:
        ModelError: a token was added to the tokenizer and not to the model.
    """
    known = int(loaded.model.get_input_embeddings().weight.shape[0])
    largest = max((max(row) for row in rows if row), default=0)
    if largest >= known:
        token = loaded.tokenizer.convert_ids_to_tokens(largest)
        raise ModelError(
            f"the tokenizer of model {loaded.source.name!r} gives the id {largest} (token {token!r}), and the model"
            f" embeds {known} ids only",
            where=loaded.source.location,
            fix="call model.resize_token_embeddings(len(tokenizer)) after adding a token, train it and save both, or"
            " save the tokenizer that the model was trained with",
        )


@dataclass(frozen=True)
class TokenBatch:
    """Right-padded rows: `input_ids` [B, T] and `lengths` [B].

    What is padding follows from the length, never from an id, because the padding id is often a real token too.
    """

    input_ids: Tensor
    lengths: Tensor
    _moved: dict[torch.device, TokenBatch] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_ids(cls, rows: Sequence[Sequence[int]], pad_id: int = 0) -> TokenBatch:
        """Pads rows of ids (at least one row, each with at least one id) to the longest."""
        lengths = torch.tensor([len(row) for row in rows], dtype=torch.long)
        input_ids = torch.full((len(rows), int(lengths.max())), pad_id, dtype=torch.long)
        for index, row in enumerate(rows):
            input_ids[index, : len(row)] = torch.tensor(row, dtype=torch.long)
        return cls(input_ids, lengths)

    @property
    def mask(self) -> Tensor:
        """Bool [B, T], true where there is a token."""
        return torch.arange(self.input_ids.shape[1], device=self.lengths.device) < self.lengths[:, None]

    def on(self, device: torch.device) -> TokenBatch:
        """The same on a device, copied there once: the device has to finish its work before a copy begins."""
        if device == self.input_ids.device:
            return self
        if device not in self._moved:
            self._moved[device] = TokenBatch(self.input_ids.to(device), self.lengths.to(device))
        return self._moved[device]


class CausalForward:
    """A causal language model split into its body and its head, so that not all logits need to exist at once.

    The split is checked once against the whole model on a small random batch; where the family does more than apply a
    linear head (soft-capped or scaled logits), the whole model is used instead. With gradients the head sees
    [B, T - 1, d], rows first, as per-unit clipping needs it; under `torch.no_grad` or `inference_mode` it works in
    tiles of positions so that at most `tile_elements` logits exist. A trunk (by default the loaded model's own) saves
    running the frozen lower layers again.

    Raises:
        ModelError: a token's logits depend on tokens after it, so the model is not causal.
    """

    def __init__(self, loaded: LoadedModel, *, trunk: Trunk | None = None, tile_elements: int = 1 << 24) -> None:
        self.loaded = loaded
        self.model = loaded.model
        self.tile_elements = tile_elements
        self._head = self.model.get_output_embeddings()
        self._vocabulary = int(self.model.config.get_text_config().vocab_size)
        self._longest: int | None = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        accepted = inspect.signature(self.model.base_model.forward).parameters
        self._positions = "position_ids" in accepted
        self._whole = self._head is None or self.model.base_model is self.model
        self._trunk: Trunk | None = None
        self._check()
        if self.splits:
            self._trunk = trunk if trunk is not None else loaded.trunk

    @torch.no_grad()
    def _check(self) -> None:
        generator = torch.Generator().manual_seed(0)
        ids = torch.randint(self._vocabulary, (2, 6), generator=generator)
        batch = TokenBatch(ids, torch.tensor([6, 4]))
        logits = self._whole_logits(batch)
        changed = ids.clone()
        changed[:, -1] = (changed[:, -1] + 1) % self._vocabulary
        earlier = self._whole_logits(TokenBatch(changed, torch.tensor([6, 6])))[0, :-1]
        if not torch.allclose(earlier, logits[0, :-1], atol=1e-3, rtol=1e-3):
            raise ModelError(
                f"model {self.loaded.source.name!r} is not causal: its predictions change with tokens that come later",
                where=self.loaded.source.location,
                fix="give a left-to-right language model (GPT-2, Llama, ...); `fairtest score` takes masked ones too",
            )
        if not self._whole:
            hidden = self.hidden(batch)
            real = batch.on(hidden.device).mask
            if (self._head(hidden)[real] - logits[real]).abs().max() > _EXACT:
                self._whole = True

    @property
    def splits(self) -> bool:
        """Whether body and head can run apart."""
        return not self._whole

    @property
    def has_trunk(self) -> bool:
        """Whether frozen lower layers are taken from a cache of whole rows."""
        return self._trunk is not None

    def warm(self, rows: Iterable[Sequence[int]]) -> None:
        """With a trunk: has what the frozen layers put out for these rows kept in the store."""
        if self._trunk is not None:
            self._trunk.warm(map(tuple, rows))

    @property
    def device(self) -> torch.device:
        """Where the model's parameters are."""
        device: torch.device = next(iter(self.model.parameters())).device
        return device

    def _inputs(self, batch: TokenBatch) -> dict[str, Tensor | bool]:
        length = batch.input_ids.shape[1]
        if self._longest is not None and length > self._longest:
            raise ModelError(
                f"a text has {length} tokens, and model {self.loaded.source.name!r} reads at most {self._longest}",
                where=self.loaded.source.location,
                fix=f"set max_length to at most {self._longest}",
            )
        batch = batch.on(self.device)
        inputs: dict[str, Tensor | bool] = {
            "input_ids": batch.input_ids,
            "attention_mask": batch.mask.to(torch.long),
            "use_cache": False,
        }
        if self._positions:
            # One row of positions per row of tokens: [1, T] would hide which unit a position gradient belongs to.
            positions = torch.arange(length, device=self.device)
            inputs["position_ids"] = positions.expand(batch.input_ids.shape).contiguous()
        return inputs

    def _whole_logits(self, batch: TokenBatch) -> Tensor:
        logits: Tensor = self.model(**self._inputs(batch)).logits
        return logits

    def hidden(self, batch: TokenBatch) -> Tensor:
        """Final hidden states [B, T, d], or logits [B, T, V] where the model cannot be split: for `log_probs_at`."""
        if self._whole:
            return self._whole_logits(batch)
        inputs = self._inputs(batch)
        if self._trunk is not None:
            return self._trunk.hidden(batch, inputs)
        states: Tensor = self.model.base_model(**inputs).last_hidden_state
        return states

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits [..., V] of hidden states [..., d]."""
        found: Tensor = hidden if self._whole else self._head(hidden)
        return found

    def log_probs_at(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """Log-probability (nats, float32) [...] of `targets` [...] as the next token after `hidden` [..., d]."""
        if torch.is_grad_enabled():
            return self._log_probs(hidden, targets)
        flat, wanted = hidden.reshape(-1, hidden.shape[-1]), targets.reshape(-1)
        if self._plain_head(flat):
            return linear_log_probs(flat, wanted, self._head.weight, self._head.bias).reshape(targets.shape)
        tile = self._tile
        parts = [self._log_probs(flat[i : i + tile], wanted[i : i + tile]) for i in range(0, len(wanted), tile)]
        found = torch.cat(parts) if parts else torch.zeros(0, device=hidden.device)
        return found.reshape(targets.shape)

    @torch.no_grad()
    def log_probs_of(self, hidden: Tensor, targets: Tensor, of: Tensor) -> Tensor:
        """Log-probability (nats, float32) [N] of `targets` [N], each as the next token after the state hidden[of].

        The head runs once for each of the states `hidden` [S, d], however many targets a state has; no gradient.
        """
        if self._plain_head(hidden):
            return linear_log_probs(hidden, targets, self._head.weight, self._head.bias, of)
        found = torch.zeros(len(targets), device=hidden.device)
        for first in range(0, len(hidden), self._tile):
            logits = self.logits(hidden[first : first + self._tile]).float()
            (here,) = torch.where((of >= first) & (of < first + len(logits)))
            rows = of[here] - first
            found[here] = logits[rows, targets[here]] - logits.logsumexp(-1)[rows]
        return found

    @property
    def _tile(self) -> int:
        """The states whose logits are in memory at once."""
        return max(1, self.tile_elements // self._vocabulary)

    def _plain_head(self, hidden: Tensor) -> bool:
        """Whether the head is a matrix product in float32 on the CPU and nothing else."""
        if not self.splits or type(self._head) is not nn.Linear or torch.is_autocast_enabled("cpu"):
            return False
        if self._head._forward_hooks or self._head._forward_pre_hooks:  # noqa: SLF001 - somebody wants to see it run
            return False
        return hidden.device.type == "cpu" and hidden.dtype == self._head.weight.dtype == torch.float32

    def _log_probs(self, hidden: Tensor, targets: Tensor) -> Tensor:
        logits = self.logits(hidden)
        if self.splits and torch.is_grad_enabled():
            # The head is the last thing that happened, and nobody else has seen these logits.
            flat = logits.float().reshape(-1, logits.shape[-1])
            return -token_losses(flat, targets.reshape(-1)).reshape(targets.shape)
        losses = functional.cross_entropy(
            logits.float().reshape(-1, logits.shape[-1]), targets.reshape(-1), reduction="none"
        )
        return -losses.reshape(targets.shape)

    def token_log_probs(self, batch: TokenBatch) -> Tensor:
        """Log p(token_t | tokens before t) as [B, T]; 0 at position 0 and where there is padding."""
        hidden = self.hidden(batch)[:, :-1]
        there = batch.on(hidden.device)
        targets, real = there.input_ids[:, 1:], there.mask[:, 1:]
        if torch.is_grad_enabled():
            # Padding is looked up too, to keep rows together, and then dropped.
            found = self.log_probs_at(hidden, targets)
            found = torch.where(real, found, torch.zeros_like(found))
        else:
            found = torch.zeros(targets.shape, device=hidden.device)
            found[real] = self.log_probs_at(hidden[real], targets[real])
        return functional.pad(found, (1, 0))
