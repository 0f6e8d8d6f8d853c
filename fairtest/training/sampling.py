"""Which units are in a batch.

Poisson sampling, in every arm: in each step every unit is in the batch with the same probability, independently of all
others. Shuffled passes, in the arm that shows what this changes: as most training does it without privacy.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator

import numpy as np

from fairtest.errors import TrainingError

_SHUFFLED = 1  # tells a pass from the Poisson draw of a step


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


def poisson_batches(
    units: int, sample_rate: float, steps: int, seed: int | None, *, share: Callable[[bytes], bytes] | None = None
) -> Iterator[list[int]]:
    """Yields for each step the indices of its units, ascending; a batch can be empty.

    A step's draw depends on (seed, step) alone: a run can be taken up at any step, and arms with the same seed see the
    same units in the same order. A seed that is known makes a run repeatable and takes its secrecy: the amplification
    by sampling, like the noise, protects only against someone who cannot redraw it. With seed None each step's draw
    comes from the operating system's entropy; `share` then hands all processes of a group the same bytes.

    Raises:
        TrainingError: a sample rate outside (0, 1] or a negative seed.
    """
    if not 0 < sample_rate <= 1:
        raise TrainingError(
            f"a sample rate must be above 0 and at most 1, got {sample_rate!r}",
            where="poisson_batches(sample_rate=)",
            fix="it is batch_size / number of units",
        )
    if seed is not None:
        _require_seed(seed)
    return (_draw(units, sample_rate, _stream(seed, step, share)) for step in range(steps))


def shuffled_batches(units: int, batch_size: int, steps: int, seed: int) -> Iterator[list[int]]:
    """Yields for each step the indices of its `batch_size` units, ascending, from passes in which each unit comes once.

    Passes follow each other without a gap, each in an order of its own: a batch may hold the end of one and the
    beginning of the next, so that all are of one size and no unit is left out. A pass depends on (seed, pass) alone.

    Raises:
        TrainingError: a batch larger than the corpus, or a negative seed.
    """
    sample_rate_for(batch_size, units)
    _require_seed(seed)
    return _cut(units, batch_size, steps, seed)


def _cut(units: int, batch_size: int, steps: int, seed: int) -> Iterator[list[int]]:
    left: list[int] = []
    passes = 0
    for _ in range(steps):
        if len(left) < batch_size:
            stream = np.random.SeedSequence(entropy=seed, spawn_key=(passes, _SHUFFLED))
            order: list[int] = np.random.Generator(np.random.PCG64(stream)).permutation(units).tolist()
            left += order
            passes += 1
        yield sorted(left[:batch_size])
        del left[:batch_size]


def _require_seed(seed: int) -> None:
    if seed < 0:
        raise TrainingError(f"a seed must be at least 0, got {seed!r}", where="seed", fix="give a whole number >= 0")


def _stream(seed: int | None, step: int, share: Callable[[bytes], bytes] | None) -> np.random.SeedSequence:
    if seed is not None:
        return np.random.SeedSequence(entropy=seed, spawn_key=(step,))
    drawn = secrets.token_bytes(16)
    return np.random.SeedSequence(entropy=int.from_bytes(drawn if share is None else share(drawn), "big"))


def _draw(units: int, sample_rate: float, stream: np.random.SeedSequence) -> list[int]:
    generator = np.random.Generator(np.random.PCG64(stream))
    chosen: list[int] = np.flatnonzero(generator.random(units) < sample_rate).tolist()
    return chosen
