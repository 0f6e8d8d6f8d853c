"""Poisson sampling: in each step every unit is in the batch with the same probability, independently of all others."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from fairtest.errors import TrainingError


def sample_rate_for(batch_size: int, units: int) -> float:
    """The probability q = batch_size / units of a unit to be in a batch of expected size `batch_size`.

    Raises:
        TrainingError: more units wanted in a batch than there are.
    """
    if units < 1 or not 1 <= batch_size <= units:
        raise TrainingError(
            f"a batch of {batch_size} units cannot be sampled from {units}",
            where="Training(batch_size=)",
            fix=f"give a batch_size between 1 and {units}, or a larger corpus"
            if units
            else "give a corpus with records",
        )
    return batch_size / units


def poisson_batches(units: int, sample_rate: float, steps: int, seed: int) -> Iterator[list[int]]:
    """Yields for each step the indices of its units, ascending; a batch can be empty.

    A step's draw depends on (seed, step) alone: a run can be taken up at any step, and arms with the same seed see the
    same units in the same order. A seed that is known makes a run repeatable and takes its secrecy: the amplification
    by sampling, like the noise, protects only against someone who cannot redraw it. So models that are released need a
    secret seed.

    Raises:
        TrainingError: a sample rate outside (0, 1] or a negative seed.
    """
    if not 0 < sample_rate <= 1:
        raise TrainingError(
            f"a sample rate must be above 0 and at most 1, got {sample_rate!r}",
            where="poisson_batches(sample_rate=)",
            fix="it is batch_size / number of units",
        )
    if seed < 0:
        raise TrainingError(f"a seed must be at least 0, got {seed!r}", where="seed", fix="give a whole number >= 0")
    return (_draw(units, sample_rate, seed, step) for step in range(steps))


def _draw(units: int, sample_rate: float, seed: int, step: int) -> list[int]:
    stream = np.random.PCG64(np.random.SeedSequence(entropy=seed, spawn_key=(step,)))
    chosen: list[int] = np.flatnonzero(np.random.Generator(stream).random(units) < sample_rate).tolist()
    return chosen
