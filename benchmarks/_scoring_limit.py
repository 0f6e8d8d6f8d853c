"""The time that no program can beat: the products that cannot be left out, at this machine's rate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from _scoring_models import texts_of
from torch import Tensor

from fairtest.probes.probe import ProbeSet
from fairtest.training.forward import encode
from fairtest.training.models import LoadedModel

Clock = Callable[[], float]
_ROWS = (256, 1024, 4096)
_LARGEST = 1 << 26  # elements of a product that is timed
_REPEATS = 3


@dataclass(frozen=True)
class Work:
    """Floating-point operations by the size (inner, outer) of the matrix that they multiply with."""

    operations: dict[tuple[int, int], float]

    def seconds(self, clock: Clock) -> float:
        """The least time that all of it takes now: each size at the fastest that it goes, over some numbers of rows."""
        return sum(count / rate_of(size, clock) for size, count in self.operations.items())


def causal_work(loaded: LoadedModel, probes: ProbeSet) -> Work:
    """Each distinct beginning of a text once: through all layers, and through the head, since a token follows it."""
    beginnings = {
        tuple(row[: end + 1]) for row in encode(loaded.tokenizer, texts_of(probes)) for end in range(len(row) - 1)
    }
    config = loaded.model.config
    width, vocabulary = config.n_embd, config.vocab_size
    count = len(beginnings)
    attention = sum(4 * width * len(beginning) for beginning in beginnings)
    layer = {(width, 3 * width): 1, (width, width): 1, (width, 4 * width): 1, (4 * width, width): 1}
    operations = {size: 2.0 * count * config.n_layer * size[0] * size[1] * times for size, times in layer.items()}
    operations[width, width] += config.n_layer * attention  # at the rate of the nearest size
    operations[width, vocabulary] = 2.0 * count * width * vocabulary
    return Work(operations)


def rate_of(size: tuple[int, int], clock: Clock) -> float:
    """Operations a second of a product with a matrix of this size, the output's memory at hand."""
    inner, outer = size
    matrix = torch.randn(inner, outer)
    best = 0.0
    for rows in _ROWS:
        if rows * outer > _LARGEST and rows != _ROWS[0]:
            continue
        given, out = torch.randn(rows, inner), torch.empty(rows, outer)
        spent = min(_seconds(given, matrix, out, clock) for _ in range(_REPEATS))
        best = max(best, 2 * rows * inner * outer / spent)
    return best


def _seconds(given: Tensor, matrix: Tensor, out: Tensor, clock: Clock) -> float:
    began = clock()
    torch.mm(given, matrix, out=out)
    return clock() - began
