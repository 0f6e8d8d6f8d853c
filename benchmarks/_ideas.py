"""Ways to make per-unit clipping cheaper still, each against what is done without it: gradients only, no optimizer.

- Head only at labelled positions: where a loss counts a quarter of the tokens (a prompt is masked), the output layer
  need not see the others.
- Length buckets: the micro-batches of one logical batch, sorted by length or in the order they were drawn; the clipped
  sum does not depend on it.
- Shared prefix: the two views of a unit are equal up to the first swapped word, so one row holds the prefix once and
  both continuations, which do not see each other.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from _cases import copy_of, gpt2
from _measure import Row, fill_times, paired, progress
from _methods import MAX_GRAD_NORM, relative_difference, trained
from torch import Tensor

from fairtest.training.clipping import PerUnitClipping
from fairtest.training.forward import CausalForward, TokenBatch
from fairtest.training.models import LoadedModel
from fairtest.training.token_loss import token_losses

Losses = Callable[[], Tensor]


@dataclass(frozen=True)
class Idea:
    """`usual` and `cheaper` make, from a model, passes whose row losses give the same clipped sum."""

    case: str
    usual: str
    cheaper: str
    passes: Callable[[LoadedModel, bool], Sequence[Losses]]
    rows_per_unit: tuple[int, int] = (1, 1)


def measure_ideas(rounds: int, *, quick: bool) -> list[Row]:
    """Two rows for each idea, the usual way first."""
    layers, width, vocabulary = (2, 128, 2048) if quick else (6, 384, 8192)
    pristine = gpt2(layers=layers, width=width, heads=4, vocabulary=vocabulary, tokens=256, tied=True)
    rows: list[Row] = []
    for idea in _ideas(8 if quick else 16, 64 if quick else 128):
        progress(f"{idea.case}: {idea.cheaper}")
        usual = _Gradients(copy_of(pristine), idea, cheaper=False)
        cheaper = _Gradients(copy_of(pristine), idea, cheaper=True)
        error = relative_difference(cheaper(), usual())
        pairs = paired(usual, cheaper, rounds)
        rows += [Row(idea.case, idea.usual), Row(idea.case, idea.cheaper, error=error)]
        fill_times(rows[-2], [(first, first) for first, _ in pairs])
        fill_times(rows[-1], pairs)
    return rows


class _Gradients:
    def __init__(self, loaded: LoadedModel, idea: Idea, *, cheaper: bool) -> None:
        self.parameters = trained(loaded.model)
        self.clipping = PerUnitClipping(loaded.model, MAX_GRAD_NORM)
        self.passes = idea.passes(loaded, cheaper)
        self.rows_per_unit = idea.rows_per_unit[cheaper]

    def __call__(self) -> list[Tensor]:
        for parameter in self.parameters:
            parameter.grad = None
        for losses in self.passes:
            with self.clipping as clipping:
                clipping.backward(losses(), self.rows_per_unit)
        return [p.grad for p in self.parameters]


def _ideas(batch: int, tokens: int) -> list[Idea]:
    half, quarter = tokens // 2, tokens // 4
    found = [
        Idea(
            f"a quarter of {tokens} tokens labelled",
            "head everywhere",
            "head where labelled",
            functools.partial(_labelled, batch=batch, tokens=tokens),
        ),
        Idea(
            f"{2 * batch} texts of {tokens // 8}-{tokens} tokens",
            "in the order drawn",
            "sorted by length",
            functools.partial(_buckets, batch=batch, tokens=tokens),
        ),
    ]
    found += [
        Idea(
            f"two views, {shared} of {tokens} tokens shared",
            "two rows",
            "prefix once",
            functools.partial(_views, batch=batch // 2, tokens=tokens, shared=shared),
            (2, 1),
        )
        for shared in (quarter, half, half + quarter)
    ]
    return found


def _random_ids(rows: int, tokens: int, vocabulary: int, seed: int = 1) -> Tensor:
    return torch.randint(vocabulary, (rows, tokens), generator=torch.Generator().manual_seed(seed))


def _nll(loaded: LoadedModel, hidden: Tensor, targets: Tensor) -> Tensor:
    logits = loaded.model.lm_head(hidden)
    return token_losses(logits.reshape(-1, logits.shape[-1]), targets.reshape(-1)).reshape(targets.shape)


def _labelled(loaded: LoadedModel, cheaper: bool, *, batch: int, tokens: int) -> list[Losses]:
    ids = _random_ids(batch, tokens, loaded.model.config.vocab_size)
    start = tokens - tokens // 4

    def losses() -> Tensor:
        hidden = loaded.model.transformer(input_ids=ids, use_cache=False).last_hidden_state
        if cheaper:
            return _nll(loaded, hidden[:, start - 1 : -1].contiguous(), ids[:, start:]).mean(1)
        return _nll(loaded, hidden[:, :-1], ids[:, 1:])[:, start - 1 :].mean(1)

    return [losses]


def _buckets(loaded: LoadedModel, cheaper: bool, *, batch: int, tokens: int) -> list[Losses]:
    generator = torch.Generator().manual_seed(2)
    lengths = torch.randint(tokens // 8, tokens + 1, (2 * batch,), generator=generator).tolist()
    rows = [_random_ids(1, n, loaded.model.config.vocab_size, i)[0].tolist() for i, n in enumerate(lengths)]
    if cheaper:
        rows.sort(key=len)
    forward = CausalForward(loaded)

    def losses(batch: TokenBatch) -> Tensor:
        return -forward.token_log_probs(batch).sum(1) / (batch.lengths - 1)

    size = max(1, batch // 4)
    parts = [rows[start : start + size] for start in range(0, len(rows), size)]
    return [functools.partial(losses, TokenBatch.from_ids(part)) for part in parts]


def _views(loaded: LoadedModel, cheaper: bool, *, batch: int, tokens: int, shared: int) -> list[Losses]:
    first, second = (_random_ids(batch, tokens, loaded.model.config.vocab_size, seed) for seed in (1, 2))
    second[:, :shared] = first[:, :shared]
    own = tokens - shared
    if not cheaper:
        ids = torch.stack([first, second], 1).flatten(0, 1)

        def two_rows() -> Tensor:
            hidden = loaded.model.transformer(input_ids=ids, use_cache=False).last_hidden_state
            return _nll(loaded, hidden[:, :-1], ids[:, 1:]).mean(1) / 2

        return [two_rows]
    ids = torch.cat([first, second[:, shared:]], 1)
    positions = torch.cat([torch.arange(tokens), torch.arange(shared, tokens)]).expand(ids.shape).contiguous()
    seen = torch.ones(ids.shape[1], ids.shape[1]).tril().bool()
    seen[tokens:, shared:tokens] = False
    mask = seen.expand(batch, 1, *seen.shape)
    # The last token of the prefix predicts twice: where each view goes on.
    predicting = torch.cat(
        [torch.arange(tokens - 1), torch.tensor([shared - 1]), torch.arange(tokens, tokens + own - 1)]
    )
    targets = torch.cat([first[:, 1:], second[:, shared:]], 1)
    weights = torch.ones(targets.shape[1])
    weights[: shared - 1] = 2
    weights /= 2 * (tokens - 1)

    def one_row() -> Tensor:
        hidden = loaded.model.transformer(
            input_ids=ids, position_ids=positions, attention_mask=mask, use_cache=False
        ).last_hidden_state
        return (_nll(loaded, hidden[:, predicting], targets) * weights).sum(1)

    return [one_row]
