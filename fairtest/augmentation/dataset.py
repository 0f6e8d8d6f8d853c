"""Augmenting a Hugging Face dataset, in parallel processes where asked for."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

from fairtest.augmentation.fraction import NOT_CHOSEN, chosen
from fairtest.augmentation.views import RecordViews, View, record_views
from fairtest.errors import AugmentationError, CorpusError
from fairtest.specs import CDA

ADDED = ("view", "reason", "record")


def augment_dataset(dataset: Any, cda: CDA, *, text_field: str = "text", num_proc: int | None = None) -> Any:
    """A `datasets.Dataset` with one row a view: the record's other columns, the text, `view` (0 for the record itself,
    1.. for counterfactuals), `reason` (why there is none, else None) and `record` (its position in `dataset`).

    The views of a record belong to one privacy unit: read the result with unit_field="record", or with the column that
    names a person. Shuffle and split `dataset` before, so that no record is parted from its counterfactuals. With
    `cda.fraction` below 1 the share is one of the rows, drawn by their texts.

    Raises:
        CorpusError: there is no such column, or one of the columns to be added.
        AugmentationError: nothing could be swapped, and cda does not allow that.
    """
    columns = list(dataset.column_names)
    if text_field not in columns:
        raise CorpusError(
            f"there is no column {text_field!r}; columns here: {', '.join(map(repr, columns))}",
            where="augment_dataset(text_field=)",
            fix="name the column with the text",
        )
    taken = [name for name in ADDED if name in columns]
    if taken:
        raise CorpusError(
            f"the dataset already has a column {taken[0]!r}",
            where="augment_dataset(dataset)",
            fix="give the dataset as it was before augmentation, or rename the column",
        )
    function = functools.partial(_views_of_batch, cda=cda, text_field=text_field)
    augmented = dataset.map(
        function, batched=True, with_indices=True, remove_columns=columns, num_proc=num_proc, desc="counterfactuals"
    )
    # Of every record the view 0 is there, or a counterfactual that stands for it.
    if not cda.allow_unchanged and not any(augmented["view"]):
        raise AugmentationError(
            f"counterfactual augmentation changed none of {len(dataset)} records",
            where=f"augment_dataset, axes {', '.join(cda.axes)}",
            fix="give a corpus that mentions people, or set CDA(allow_unchanged=True)",
        )
    return augmented


def _views_of_batch(
    batch: Mapping[str, Sequence[Any]], positions: Sequence[int], cda: CDA, text_field: str
) -> dict[str, list[Any]]:
    rows: dict[str, list[Any]] = {name: [] for name in (*batch, *ADDED)}
    others = [name for name in batch if name != text_field]
    for index, position in enumerate(positions):
        text = batch[text_field][index]
        fields = {name: str(batch[name][index]) for name in others if batch[name][index] is not None}
        text = text if isinstance(text, str) else ""
        found = record_views(text, cda, fields) if chosen(cda, [text]) else RecordViews((View(0, text),), NOT_CHOSEN)
        for view in found.views:
            for name in others:
                rows[name].append(batch[name][index])
            rows[text_field].append(view.text)
            rows["view"].append(view.number)
            rows["reason"].append(found.reason)
            rows["record"].append(position)
    return rows
