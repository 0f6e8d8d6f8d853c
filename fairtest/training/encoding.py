"""From the texts of units to rows of token ids with a weight each, and from those to micro-batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fairtest.errors import TrainingError
from fairtest.specs import Training
from fairtest.training.blocks import blocks_of
from fairtest.training.forward import MOST_UNKNOWN, TokenBatch, encode, require_embedded, unknown_share
from fairtest.training.models import LoadedModel

if TYPE_CHECKING:
    from fairtest.augmentation import UnitViews


@dataclass(frozen=True)
class EncodedUnit:
    """A unit's rows of token ids, and what each row's summed negative log-likelihood counts in the unit's loss.

    The unit's loss is the mean over its records of the mean over a record's views of the mean over a view's scored
    tokens, whatever rows a view has.
    """

    index: int
    id: str
    rows: tuple[list[int], ...]
    weights: tuple[float, ...]

    @property
    def longest(self) -> int:
        """Tokens of its longest row."""
        return max(map(len, self.rows))


@dataclass(frozen=True)
class EncodedCorpus:
    """Encoded units, with how many distinct texts were cut and how many counterfactuals changed no token."""

    units: tuple[EncodedUnit, ...]
    cut_texts: int
    identical_views: int


def encode_units(loaded: LoadedModel, units: Sequence[UnitViews], training: Training) -> EncodedCorpus:
    """Token ids of every view, cut or in blocks as `training.long_texts` says.

    Raises:
        TrainingError: a view has no token to learn from, the tokenizer does not know the texts, or no counterfactual
            differs from its record.
        ModelError: the tokenizer has tokens that the model does not know.
    """
    trained = dict.fromkeys(text for unit in units for text in unit.views)
    replaced = dict.fromkeys(text for unit in units for text in unit.replaced if text is not None)
    texts = list(trained | replaced)
    whole = encode(loaded.tokenizer, texts)
    require_embedded(loaded, whole)
    blocks = {
        text: blocks_of(row, training.max_length, training.long_texts) for text, row in zip(texts, whole, strict=True)
    }
    encoded = [_encoded(index, unit, blocks, training.max_length) for index, unit in enumerate(units)]
    share = unknown_share(loaded.tokenizer, (row for rows in blocks.values() for row in rows))
    if share > MOST_UNKNOWN:
        raise TrainingError(
            f"{share:.0%} of the corpus' tokens are unknown to the tokenizer of model {loaded.source.name!r}"
            f" ({loaded.tokenizer.unk_token}), so training would learn that one token",
            where=f"{len(units)} training units, model {loaded.source.name!r}",
            fix="use a model whose tokenizer knows this text",
        )
    lengths = [len(row) for text, row in zip(texts, whole, strict=True) if text in trained]
    cut = sum(length > training.max_length for length in lengths) if training.long_texts == "cut" else 0
    return EncodedCorpus(tuple(encoded), cut, _identical_views(units, blocks, training.max_length))


def _encoded(index: int, unit: UnitViews, blocks: dict[str, list[list[int]]], max_length: int) -> EncodedUnit:
    rows: list[list[int]] = []
    weights: list[float] = []
    for text, share in zip(unit.views, unit.shares, strict=True):
        scored = sum(len(row) - 1 for row in blocks[text])
        if scored < 1 or min(map(len, blocks[text])) < 2:
            rows.clear()
            break
        rows += blocks[text]
        weights += [share / scored] * len(blocks[text])
    if not rows:
        raise TrainingError(
            f"unit {unit.id!r} has a view without a token to learn from",
            where=f"unit {unit.id!r}, max_length={max_length}",
            fix="leave empty records out of the corpus; max_length must be at least 2",
        )
    return EncodedUnit(index, unit.id, tuple(rows), tuple(weights))


def _identical_views(units: Sequence[UnitViews], blocks: dict[str, list[list[int]]], max_length: int) -> int:
    """How many counterfactuals equal a record of their unit in all tokens; an error where all of them do."""
    counterfactuals = identical = 0
    for unit in units:
        originals = [blocks[text] for text in unit.views[: unit.records]]
        added = [blocks[text] for text in unit.views[unit.records :]]
        counterfactuals += len(added)
        identical += sum(rows in originals for rows in added)
        for text, original in zip(unit.views, unit.replaced, strict=False):
            if original is not None:
                counterfactuals += 1
                identical += blocks[text] == blocks[original]
    if counterfactuals and identical == counterfactuals:
        raise TrainingError(
            f"none of {counterfactuals} counterfactuals differs from its record in the tokens that are trained on, so"
            " augmentation would change nothing",
            where=f"Training(max_length={max_length})",
            fix="raise max_length so that the swapped words are not cut off, or use a model whose tokenizer knows them",
        )
    return identical


@dataclass(frozen=True)
class MicroBatch:
    """Units that go through the model at once, those of equally many rows next to each other.

    `rows_per_unit` has an entry for each unit; `weights` is [rows].
    """

    units: tuple[EncodedUnit, ...]
    tokens: TokenBatch
    weights: Tensor
    rows_per_unit: tuple[int, ...]

    @classmethod
    def of(cls, units: Sequence[EncodedUnit]) -> MicroBatch:
        """Pads the units' rows to the longest."""
        ordered = sorted(units, key=lambda unit: len(unit.rows))
        tokens = TokenBatch.from_ids([row for unit in ordered for row in unit.rows])
        weights = torch.tensor([weight for unit in ordered for weight in unit.weights])
        return cls(tuple(ordered), tokens, weights, tuple(len(unit.rows) for unit in ordered))


def micro_batches(units: Sequence[EncodedUnit], max_tokens: int) -> Iterator[list[EncodedUnit]]:
    """Splits a logical batch: units of close lengths together, at most `max_tokens` tokens with padding, except that a
    unit which alone has more still stays in one piece. The clipped sum does not care for the order.
    """
    pending: list[EncodedUnit] = []
    rows = 0
    for unit in sorted(units, key=lambda unit: (unit.longest, len(unit.rows), unit.index), reverse=True):
        if pending and (rows + len(unit.rows)) * pending[0].longest > max_tokens:
            yield pending
            pending, rows = [], 0
        pending.append(unit)
        rows += len(unit.rows)
    if pending:
        yield pending
