"""A Hugging Face text-classification model, as a scorer of texts uses it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from fairtest.errors import MetricError, ModelError
from fairtest.training.models import quiet_transformers
from fairtest.training.sources import resolve_model

DEFAULT_LABEL = "toxic"
_BATCH = 32


class TextClassifier:
    """Texts in, one row of numbers per text out, in the order of `labels`. `revision` is a digest of the model's files.

    Numbers are probabilities, by sigmoid where labels are not exclusive and by softmax where they are, or what a
    regression gives.

    Raises:
        ModelError: the model cannot be found or loaded, or lacks the weights of a classifier.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        source = resolve_model(name)
        self.revision = source.digest
        options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
        try:
            with quiet_transformers():
                self._tokenizer = AutoTokenizer.from_pretrained(source.location, **options)
                self._model, report = AutoModelForSequenceClassification.from_pretrained(
                    source.location, use_safetensors=True, dtype=torch.float32, output_loading_info=True, **options
                )
        except (OSError, ValueError, KeyError, TypeError, ImportError, RuntimeError) as error:
            reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
            raise ModelError(
                f"text classifier {name!r} cannot be loaded: {reason[:300]}",
                where=source.location,
                fix="give a text-classification model in Hugging Face format",
            ) from error
        if missing := sorted({*report["missing_keys"], *map(str, report["mismatched_keys"])}):
            raise ModelError(
                f"model {name!r} is no text classifier: {len(missing)} weights are missing, the first is {missing[0]}",
                where=source.location,
                fix="give a model with a classification head; transformers would have drawn these weights at random",
            )
        self._model.eval()
        config = self._model.config
        self.labels = tuple(str(config.id2label[index]) for index in range(config.num_labels))
        self._link = _link(config.problem_type, config.num_labels)
        read = (getattr(config, "max_position_embeddings", None), self._tokenizer.model_max_length)
        self._longest = min(length for length in read if length is not None)

    def place_of(self, label: str) -> int:
        """Which column is the label's, in any case; without a label the only column, or that of "toxic".

        Raises:
            MetricError: the model has no such label.
        """
        if not label and len(self.labels) == 1:
            return 0
        wanted = (label or DEFAULT_LABEL).casefold()
        for place, found in enumerate(self.labels):
            if found.casefold() == wanted:
                return place
        raise MetricError(
            f"text classifier {self.name!r} has no label {label or DEFAULT_LABEL!r}",
            where="text scorer",
            fix=f"write hf:{self.name}:LABEL with one of {', '.join(self.labels)}",
        )

    def __call__(self, texts: Sequence[str]) -> list[list[float]]:
        """One row per text.

        Raises:
            MetricError: a text has no token, or more than the model reads.
        """
        rows = self._tokenizer(list(texts), verbose=False)["input_ids"]
        for text, row in zip(texts, rows, strict=True):
            if not 1 <= len(row) <= self._longest:
                raise MetricError(
                    f"a text has {len(row)} tokens, and text classifier {self.name!r} reads 1 to {self._longest}:"
                    f" {text[:40]!r}",
                    where="text scorer",
                    fix="generate fewer tokens, or give another classifier; a part of a text would get another score",
                )
        order = sorted(range(len(texts)), key=lambda index: (len(rows[index]), texts[index]))
        # Without a padding token on both sides a batch cannot be read.
        pads = self._tokenizer.pad_token_id is not None and self._model.config.pad_token_id is not None
        size = _BATCH if pads else 1
        found: list[list[float]] = [[]] * len(texts)
        with torch.inference_mode():
            for start in range(0, len(order), size):
                batch = order[start : start + size]
                inputs = self._tokenizer(
                    [texts[index] for index in batch], padding=pads, padding_side="right", return_tensors="pt"
                )
                numbers = self._link(self._model(**inputs).logits.double()).tolist()
                for index, row in zip(batch, numbers, strict=True):
                    found[index] = row
        return found


def _link(problem_type: str | None, labels: int) -> Callable[[Tensor], Tensor]:
    """From logits [B, labels] to numbers, as the text-classification pipeline of transformers does it."""
    if problem_type == "regression":
        return lambda logits: logits
    if problem_type == "multi_label_classification" or labels == 1:
        return torch.sigmoid
    return lambda logits: logits.softmax(dim=-1)
