"""One run on several processes (`torchrun`): each takes a part of every batch, all end with the same weights.

Every process draws the same batches and the same noise, so nothing but clipped sums (and, for the log, norms) is sent.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fairtest.errors import TrainingError


@dataclass(frozen=True)
class Processes:
    """The place of a process (`rank`, from 0) among `size`; of a single one all methods are free."""

    rank: int = 0
    size: int = 1

    @classmethod
    def current(cls) -> Processes:
        """The default group of torch.distributed if it was initialised, else this process alone."""
        distributed = torch.distributed
        if not distributed.is_available() or not distributed.is_initialized():
            return cls()
        return cls(distributed.get_rank(), distributed.get_world_size())

    def add_up(self, tensors: Iterable[Tensor]) -> None:
        """Replaces each tensor by its sum over all processes."""
        if self.size == 1:
            return
        pending: list[Any] = [torch.distributed.all_reduce(tensor, async_op=True) for tensor in tensors]
        for work in pending:
            work.wait()

    def gather(self, value: Any) -> list[Any]:
        """Every process's value, in the order of ranks."""
        if self.size == 1:
            return [value]
        found: list[Any] = [None] * self.size
        torch.distributed.all_gather_object(found, value)
        return found

    def first(self, value: bytes) -> bytes:
        """The first process's bytes, in every process."""
        if self.size == 1:
            return value
        holder = [value]
        torch.distributed.broadcast_object_list(holder, src=0)
        return holder[0]

    def require_equal(self, parameters: Iterable[nn.Parameter], when: str) -> None:
        """Checks that all processes hold the same values, bit by bit.

        Raises:
            TrainingError: they do not, in every process.
        """
        if self.size == 1:
            return
        digest = hashlib.sha256()
        for parameter in parameters:
            digest.update(parameter.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
        found = self.gather(digest.hexdigest())
        if len(set(found)) > 1:
            differ = [rank for rank, value in enumerate(found) if value != found[0]]
            raise TrainingError(
                f"processes {differ} hold other weights than process 0 {when}",
                where=f"torch.distributed, {self.size} processes",
                fix="start every process from the same model, corpus, settings and seed, on machines of one kind",
            )
