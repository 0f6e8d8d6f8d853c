"""Completions of prompts by a causal model, many at a time, each as if it were alone.

A draw is made by inverting the cumulated probabilities, in the order of token ids, at a uniform number that belongs to
(seed, prompt id, sample, position). So neither batch size nor order nor company of prompts changes a text, except where
such a number falls within the rounding of a sum of probabilities, about one draw in a million.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from fairtest.errors import MetricError, ProbeError, SettingsError
from fairtest.probes.probe import ProbeSet
from fairtest.probes.prompts import PROMPT, require_prompts
from fairtest.scoring.completions import Decoding, Generation, Generations
from fairtest.training.forward import MOST_UNKNOWN, bos_id, encode, require_embedded, unknown_share
from fairtest.training.models import LoadedModel

OnBatch = Callable[[int, int], None]
Row = tuple[int, ...]
BATCH_TOKENS = 8192
_DEFAULT = Decoding()
_NUCLEUS = 256  # of how many most likely tokens a nucleus is sought first; sorting a whole vocabulary is slow
_TILE = 1 << 21  # probabilities that exist at once
_EXACT = 1e-3


def generate(
    loaded: LoadedModel,
    prompts: ProbeSet,
    decoding: Decoding = _DEFAULT,
    *,
    batch_tokens: int = BATCH_TOKENS,
    on_batch: OnBatch | None = None,
) -> Generations:
    """`decoding.samples` completions of every prompt.

    One BOS token stands in front of a prompt, as when texts are scored. A completion ends before the first end token
    (the model's and the tokenizer's EOS, and BOS, which begins another text) or after `max_new_tokens`. Tokens that the
    tokenizer does not have are not drawn. `batch_tokens` (padding and new tokens included) bounds a batch; `on_batch`
    is called with (completions done, completions in all).

    Raises:
        ProbeError: no prompts, a prompt that leaves no room for `max_new_tokens` (the message names it), or the
            tokenizer does not know the prompts.
        MetricError: the model gives no probabilities after a prompt (the message names it).
        ModelError: the tokenizer has neither BOS nor EOS, or more tokens than the model.
        SettingsError: `batch_tokens` below 1.
    """
    if batch_tokens < 1:
        raise SettingsError(f"batch_tokens is {batch_tokens}", where="generate(batch_tokens=)", fix="give at least 1")
    rows = _rows(loaded, prompts, decoding)
    tasks = [(index, sample) for index in range(len(rows)) for sample in range(decoding.samples)]
    found: dict[tuple[int, int], Generation] = {}
    was_training = loaded.model.training
    loaded.model.eval()
    try:
        with torch.inference_mode():
            decoder = _Decoder(loaded, decoding)
            for batch in _batches(tasks, rows, decoding.max_new_tokens, batch_tokens, padded=decoder.cached):
                ids = [prompts.probes[index].id for index, _ in batch]
                draws = np.stack([_draws(decoding, ids[i], sample) for i, (_, sample) in enumerate(batch)])
                completed = decoder.complete([rows[index] for index, _ in batch], draws, ids)
                for task, prompt_id, (new, ended) in zip(batch, ids, completed, strict=True):
                    text = _text(loaded, rows[task[0]], new)
                    found[task] = Generation(prompt_id, task[1], text, len(new), ended)
                if on_batch is not None:
                    on_batch(len(found), len(tasks))
    finally:
        loaded.model.train(was_training)
    return Generations(
        probe_set=prompts.name,
        probe_digest=prompts.digest,
        model=loaded.source.name,
        model_digest=loaded.source.digest,
        decoding=decoding,
        items=tuple(found[task] for task in tasks),
    )


def _rows(loaded: LoadedModel, prompts: ProbeSet, decoding: Decoding) -> list[Row]:
    require_prompts(prompts)
    rows = encode(loaded.tokenizer, [probe.texts[PROMPT] for probe in prompts.probes])
    require_embedded(loaded, rows)
    longest: int | None = getattr(loaded.model.config.get_text_config(), "max_position_embeddings", None)
    for probe, row in zip(prompts.probes, rows, strict=True):
        # The last new token is read by nobody.
        if longest is not None and len(row) + decoding.max_new_tokens - 1 > longest:
            raise ProbeError(
                f"prompt {probe.id!r} has {len(row)} tokens, and with {decoding.max_new_tokens} new ones that is more"
                f" than the {longest} that model {loaded.source.name!r} reads",
                where=f"probe set {prompts.name!r}",
                fix="leave the prompt out, or lower max_new_tokens",
            )
    if (share := unknown_share(loaded.tokenizer, rows)) > MOST_UNKNOWN:
        raise ProbeError(
            f"{share:.0%} of the tokens of probe set {prompts.name!r} are unknown to the tokenizer of model"
            f" {loaded.source.name!r} ({loaded.tokenizer.unk_token}), so it would continue other prompts",
            where=f"probe set {prompts.name!r}",
            fix="use a model whose tokenizer knows this text; the embedded model knows the set occupation_prompts",
        )
    return [tuple(row) for row in rows]


def _draws(decoding: Decoding, prompt_id: str, sample: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Uniform numbers in [0, 1), one for every new token."""
    key = hashlib.sha256(f"{decoding.seed}\0{prompt_id}\0{sample}".encode()).digest()[:16]
    return np.random.Generator(np.random.Philox(key=int.from_bytes(key, "big"))).random(decoding.max_new_tokens)


def _batches(
    tasks: Sequence[tuple[int, int]], rows: Sequence[Row], new: int, batch_tokens: int, *, padded: bool
) -> Iterator[list[tuple[int, int]]]:
    """Tasks by length of their prompts, so that equal prompts are neighbours; without padding of one length each."""
    batch: list[tuple[int, int]] = []
    for task in sorted(tasks, key=lambda task: (len(rows[task[0]]), rows[task[0]], task)):
        length = len(rows[task[0]])
        full = (length + new) * (len(batch) + 1) > batch_tokens
        if batch and (full or (not padded and length != len(rows[batch[0][0]]))):
            yield batch
            batch = []
        batch.append(task)
    yield batch


def _text(loaded: LoadedModel, row: Row, new: Sequence[int]) -> str:
    """The completion as it stands in the whole text: some tokenizers drop a space in front of what is decoded alone."""
    options = {"skip_special_tokens": True, "clean_up_tokenization_spaces": False}
    before = str(loaded.tokenizer.decode(list(row[1:]), **options))
    whole = str(loaded.tokenizer.decode([*row[1:], *new], **options))
    if whole.startswith(before):
        return whole[len(before) :]
    return str(loaded.tokenizer.decode(list(new), **options))


class _State(Protocol):
    """Texts so far; `step` goes on with those in `keep`, each longer by one token, and gives their next logits."""

    def step(self, keep: Sequence[int], tokens: Sequence[int]) -> Tensor: ...


class _Decoder:
    """A model that continues batches of rows: with a cache and left padding if that is exact, else from the start."""

    def __init__(self, loaded: LoadedModel, decoding: Decoding) -> None:
        self._model, self._decoding = loaded.model, decoding
        self._name = loaded.source.name
        self._tokens = max(loaded.tokenizer.get_vocab().values()) + 1
        of_model = loaded.model.generation_config.eos_token_id if loaded.model.generation_config else None
        ends = of_model if isinstance(of_model, (list, tuple)) else [of_model]
        wanted = {*ends, loaded.tokenizer.eos_token_id, bos_id(loaded.tokenizer)}
        self._ends = sorted(int(token) for token in wanted if token is not None)
        self.cached = _cache_is_exact(loaded)

    def complete(
        self, rows: Sequence[Row], draws: np.ndarray[Any, np.dtype[np.float64]], ids: Sequence[str]
    ) -> list[tuple[list[int], bool]]:
        """New tokens of each row, and whether the model ended it."""
        decoding = self._decoding
        new: list[list[int]] = [[] for _ in rows]
        ended = [False] * len(rows)
        alive = list(range(len(rows)))
        state, logits = _cached(self._model, rows) if self.cached else _uncached(self._model, rows)
        for position in range(decoding.max_new_tokens):
            chosen = self._next(logits, position, draws[alive, position], [ids[index] for index in alive])
            keep: list[int] = []
            for place, (index, token) in enumerate(zip(alive, chosen, strict=True)):
                if token in self._ends:
                    ended[index] = True
                else:
                    new[index].append(token)
                    keep.append(place)
            if not keep or position + 1 == decoding.max_new_tokens:
                break
            alive = [alive[place] for place in keep]
            logits = state.step(keep, [chosen[place] for place in keep])
        return list(zip(new, ended, strict=True))

    def _next(
        self, logits: Tensor, position: int, draws: np.ndarray[Any, np.dtype[np.float64]], ids: Sequence[str]
    ) -> list[int]:
        """One token for each row of logits [B, V]; a few rows at a time, as cumulated sums need double precision."""
        decoding, chosen = self._decoding, list[int]()
        size = max(1, _TILE // logits.shape[1])
        for start in range(0, len(ids), size):
            rows = slice(start, start + size)
            allowed = self._allowed(logits[rows], position, ids[rows])
            chosen += _choose(allowed, draws[rows], decoding.temperature, decoding.top_p)
        return chosen

    def _allowed(self, logits: Tensor, position: int, ids: Sequence[str]) -> Tensor:
        logits = logits[:, : self._tokens].double()
        if position < self._decoding.min_new_tokens:
            logits[:, [token for token in self._ends if token < logits.shape[1]]] = -torch.inf
        sound = logits.amax(dim=-1).isfinite()  # the largest is NaN where any is
        if not sound.all():
            first = ids[int((~sound).nonzero()[0])]
            raise MetricError(
                f"model {self._name!r} gives no probabilities for token {position} after prompt {first!r}",
                where=f"prompt {first!r}",
                fix="check the model's weights (a diverged run gives NaN)",
            )
        return logits


def _choose(
    logits: Tensor, draws: np.ndarray[Any, np.dtype[np.float64]], temperature: float, top_p: float
) -> list[int]:
    """One token for each row of logits [B, V]; `draws` [B] are uniform."""
    if temperature == 0:
        likeliest: list[int] = logits.argmax(dim=-1).tolist()
        return likeliest
    weights = torch.softmax((logits - logits.amax(dim=-1, keepdim=True)) / temperature, dim=-1)
    if top_p < 1:
        weights = torch.where(weights >= _least_of_nucleus(weights, top_p), weights, 0.0)
    sums = weights.cumsum(dim=-1)
    total = sums[:, -1:]
    wanted = torch.from_numpy(draws).to(sums.device)[:, None] * total
    # A draw close to one may round up to the total, behind which there is no token.
    wanted = torch.minimum(wanted, torch.nextafter(total, torch.zeros_like(total)))
    chosen: list[int] = torch.searchsorted(sums, wanted, right=True)[:, 0].tolist()
    return chosen


def _least_of_nucleus(weights: Tensor, top_p: float) -> Tensor:
    """Of each row [B, V] the smallest probability in the smallest set of likely tokens that sums to `top_p`: [B, 1]."""
    size = min(_NUCLEUS, weights.shape[-1])
    least = torch.empty_like(weights[:, :1])
    rows = torch.arange(len(weights), device=weights.device)
    while len(rows):
        likely = weights[rows].topk(size, dim=-1).values
        inside = likely.cumsum(dim=-1) - likely < top_p
        least[rows] = torch.where(inside, likely, torch.inf).amin(dim=-1, keepdim=True)
        # Rows whose last look is still inside may go on behind it; they are few, and their whole vocabulary is sorted.
        rows = rows[inside[:, -1]] if size < weights.shape[-1] else rows[:0]
        size = weights.shape[-1]
    return least


def _name_of_cache(model: Any) -> str:
    # transformers 5 renamed it, for what goes in and for what comes out.
    return "cache" if "cache" in inspect.signature(model.forward).parameters else "past_key_values"


def _forward(model: Any, **inputs: Any) -> Any:
    accepted = inspect.signature(model.forward).parameters
    if "logits_to_keep" in accepted:
        inputs["logits_to_keep"] = 1
    if "position_ids" not in accepted:
        inputs.pop("position_ids", None)
    if "cache" in inputs:
        inputs[_name_of_cache(model)] = inputs.pop("cache")
    device = next(iter(model.parameters())).device
    return model(**{k: v.to(device) if isinstance(v, Tensor) else v for k, v in inputs.items()})


@dataclass
class _Cached:
    """Left-padded rows, so that all of them go on at the same column; `mask` [B, T] is 1 where there is a token."""

    model: Any
    cache: Any
    mask: Tensor

    def step(self, keep: Sequence[int], tokens: Sequence[int]) -> Tensor:
        chosen = torch.tensor(keep)
        if list(keep) != list(range(len(self.mask))):
            self.cache.batch_select_indices(chosen.to(next(iter(self.model.parameters())).device))
            self.mask = self.mask[chosen]
        places = self.mask.sum(dim=-1, keepdim=True)
        self.mask = torch.cat([self.mask, torch.ones_like(places)], dim=-1)
        found = _forward(
            self.model,
            input_ids=torch.tensor(tokens)[:, None],
            attention_mask=self.mask,
            position_ids=places,
            cache=self.cache,
            use_cache=True,
        )
        logits: Tensor = found.logits[:, -1]
        return logits


def _cached(model: Any, rows: Sequence[Row]) -> tuple[_State, Tensor]:
    """Reads the rows, equal ones once, and gives the logits [B, V] of what follows each."""
    places = {row: place for place, row in enumerate(dict.fromkeys(rows))}
    width = max(map(len, places))
    ids = torch.zeros(len(places), width, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, place in places.items():
        ids[place, width - len(row) :] = torch.tensor(row)
        mask[place, width - len(row) :] = 1
    positions = (mask.cumsum(dim=-1) - 1).clamp(min=0)
    found = _forward(model, input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=True)
    wanted = torch.tensor([places[row] for row in rows])
    logits: Tensor = found.logits[:, -1]
    wanted_there = wanted.to(logits.device)
    cache = getattr(found, _name_of_cache(model))
    cache.batch_select_indices(wanted_there)
    return _Cached(model, cache, mask[wanted]), logits[wanted_there]


@dataclass
class _Uncached:
    """Rows of one length, read from the start for each token."""

    model: Any
    rows: list[Row]

    def step(self, keep: Sequence[int], tokens: Sequence[int]) -> Tensor:
        self.rows = [(*self.rows[place], token) for place, token in zip(keep, tokens, strict=True)]
        return self.logits()

    def logits(self) -> Tensor:
        logits: Tensor = _forward(self.model, input_ids=torch.tensor(self.rows), use_cache=False).logits[:, -1]
        return logits


def _uncached(model: Any, rows: Sequence[Row]) -> tuple[_State, Tensor]:
    state = _Uncached(model, list(rows))
    return state, state.logits()


def _cache_is_exact(loaded: LoadedModel) -> bool:
    """Does the model go on from padded rows and its cache as it does from whole rows, each alone?

    Recurrent models read padding as text, some models have no positions to give or another kind of cache.
    """
    vocabulary = int(loaded.model.config.get_text_config().vocab_size)
    ids = torch.randint(vocabulary, (2, 6), generator=torch.Generator().manual_seed(0)).tolist()
    rows = [tuple(ids[0][:2]), tuple(ids[1][:4])]
    try:
        state, first = _cached(loaded.model, rows)
        second = state.step([0, 1], [ids[0][4], ids[1][4]])
        third = state.step([1], [ids[1][5]])
        alone = [_uncached(loaded.model, [row])[1][0] for row in rows]
        alone += [_uncached(loaded.model, [(*row, ids[i][4])])[1][0] for i, row in enumerate(rows)]
        alone.append(_uncached(loaded.model, [(*rows[1], *ids[1][4:])])[1][0])
    except (TypeError, ValueError, RuntimeError, IndexError, AttributeError):
        return False
    return torch.allclose(torch.cat([first, second, third]), torch.stack(alone), atol=_EXACT, rtol=_EXACT)
