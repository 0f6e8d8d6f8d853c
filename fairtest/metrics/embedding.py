"""Association tests of embeddings: WEAT (words) and SEAT (the same test on sentences).

Sources: Caliskan, Bryson and Narayanan 2017 (arXiv 1608.07187); May, Wang, Bordia, Bowman and Rudinger 2019 (arXiv
1903.10561). The first paper divides by a standard deviation and does not say which one. The code published with the
second uses the sample formula (n - 1), the library WEFE the population formula (n); for 2m words d differs by the
factor sqrt((2m - 1) / 2m). The sample formula is the default here.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from fairtest.errors import MetricError

if TYPE_CHECKING:
    from fairtest.training.models import LoadedModel

Vectors = npt.NDArray[np.float64]
_SAME = 1e-12


@dataclass(frozen=True)
class AssociationTest:
    """Effect size and permutation test of a WEAT or SEAT.

    Args:
        effect_size: d; positive where X is closer to A, and Y to B.
        p_value: share of partitions of X and Y together whose statistic is at least the one observed.
        partitions: how many were looked at.
        exact: whether those are all there are.
        x_associations: s(x, A, B) of every x, the test's item values.
        y_associations: s(y, A, B) of every y.
    """

    effect_size: float
    p_value: float
    partitions: int
    exact: bool
    x_associations: tuple[float, ...]
    y_associations: tuple[float, ...]


def associations(words: npt.ArrayLike, a: npt.ArrayLike, b: npt.ArrayLike) -> Vectors:
    """s(w, A, B) = mean cos(w, a) over A - mean cos(w, b) over B, for each row of `words` [n, d]: an array [n].

    Range -2 to 2, target 0; positive where w is closer to A ([k, d]) than to B ([l, d]).

    Raises:
        MetricError: an array that is not [n, d] with n > 0 and one d for all, or a vector that is zero or not finite.
    """
    rows, of_a, of_b = _directions(words=words, a=a, b=b)
    difference: Vectors = (rows @ of_a.T).mean(axis=1) - (rows @ of_b.T).mean(axis=1)
    return difference


def weat(
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    a: npt.ArrayLike,
    b: npt.ArrayLike,
    *,
    sd: Literal["sample", "population"] = "sample",
    max_partitions: int = 100_000,
    seed: int = 0,
) -> AssociationTest:
    """Word-embedding association test of targets X, Y [m, d] (equally many) and attributes A, B [k, d], [l, d].

    Effect size d = (mean of s(x, A, B) over X - mean of s(y, A, B) over Y) / sd of s over X and Y together. Range
    -2 sqrt((2m - 1) / 2m) to 2 sqrt((2m - 1) / 2m) with the sample sd, -2 to 2 with the population sd; target 0;
    positive where X goes with A and Y with B (flowers with pleasant, insects with unpleasant).

    The test is one-sided, for d > 0: p = share of the C(2m, m) partitions into equal halves X', Y' whose sum of s over
    X' is at least the one observed. The paper counts strictly greater ones; here, as in the code of SEAT, equal ones
    count too, so that p is never 0. It is exact when there are at most `max_partitions`; else the observed partition
    and `max_partitions - 1` drawn with `seed` are looked at. It says how unlikely such a split of these words is, and
    nothing of other words.

    Raises:
        MetricError: as `associations`; X and Y of different size; all words with one association (d is 0 / 0); an
            unknown sd; or fewer than 2 partitions allowed.
    """
    if sd not in ("sample", "population"):
        raise MetricError(f"unknown standard deviation {sd!r}", where="sd", fix="known: sample, population")
    if max_partitions < 2:
        raise MetricError(
            f"a permutation test of {max_partitions} partitions", where="max_partitions", fix="give at least 2"
        )
    of_x, of_y = associations(x, a, b), associations(y, a, b)
    both, size = np.concatenate([of_x, of_y]), len(of_x)
    if len(of_y) != size:
        raise MetricError(
            f"X has {size} vectors and Y has {len(of_y)}: the test splits their union into equal halves",
            where="x, y",
            fix="give equally many",
        )
    if np.ptp(both) <= _SAME:
        raise MetricError(
            f"all {len(both)} vectors of X and Y have the association {both[0]:.4g}, so d is 0 / 0",
            where="x, y",
            fix="check that the embeddings differ, and that A and B are not the same",
        )
    effect = (of_x.mean() - of_y.mean()) / both.std(ddof=1 if sd == "sample" else 0)
    possible = math.comb(2 * size, size)
    exact = possible <= max_partitions
    sums = _all_sums(both, size) if exact else _drawn_sums(both, size, max_partitions - 1, seed)
    # The sum of the same numbers in another order differs by rounding, and is a tie all the same.
    extreme = int((sums >= of_x.sum() - _SAME * np.abs(both).sum()).sum())
    p_value = extreme / possible if exact else (1 + extreme) / max_partitions
    return AssociationTest(
        effect_size=float(effect),
        p_value=p_value,
        partitions=min(possible, max_partitions),
        exact=exact,
        x_associations=tuple(of_x.tolist()),
        y_associations=tuple(of_y.tolist()),
    )


def seat(
    loaded: LoadedModel,
    x: Sequence[str],
    y: Sequence[str],
    a: Sequence[str],
    b: Sequence[str],
    *,
    protocol: str = "causal-mean",
    sd: Literal["sample", "population"] = "sample",
    max_partitions: int = 100_000,
    seed: int = 0,
) -> AssociationTest:
    """Sentence-encoder association test: `weat` of a model's sentence embeddings (`fairtest.scoring.embeddings`).

    Range, target and direction as `weat`. Sentences are words in templates that say little of their own, or words
    alone. A positive result is evidence of an association; none is no evidence of its absence (May et al. 2019).

    Raises:
        MetricError, ProbeError, ModelError: as `weat` and `sentence_embeddings`.
    """
    from fairtest.scoring.embeddings import sentence_embeddings

    sets = (list(x), list(y), list(a), list(b))
    for name, texts in zip("xyab", sets, strict=True):
        if not texts:
            raise MetricError(f"{name} has no sentence", where=name, fix="give at least one")
    found = sentence_embeddings(loaded, [text for texts in sets for text in texts], protocol=protocol)
    parts = np.split(found, np.cumsum([len(texts) for texts in sets])[:-1])
    return weat(*parts, sd=sd, max_partitions=max_partitions, seed=seed)


def _all_sums(values: Vectors, size: int) -> Vectors:
    """Sum of every choice of `size` values."""
    chosen = itertools.chain.from_iterable(itertools.combinations(range(len(values)), size))
    sums: Vectors = values[np.fromiter(chosen, dtype=np.intp).reshape(-1, size)].sum(axis=1)
    return sums


def _drawn_sums(values: Vectors, size: int, draws: int, seed: int) -> Vectors:
    """Sums of `draws` random choices of `size` values."""
    generator = np.random.default_rng(seed)
    rows = 10_000  # at a time, which bounds the memory
    parts = [
        generator.permuted(np.tile(values, (min(rows, draws - start), 1)), axis=1)[:, :size].sum(axis=1)
        for start in range(0, draws, rows)
    ]
    return np.concatenate(parts)


def _directions(**sets: npt.ArrayLike) -> list[Vectors]:
    """The vectors scaled to length 1."""
    arrays = {name: np.asarray(vectors, dtype=np.float64) for name, vectors in sets.items()}
    shapes = {name: array.shape for name, array in arrays.items()}
    if any(array.ndim != 2 or array.size == 0 for array in arrays.values()) or len({s[1] for s in shapes.values()}) > 1:
        raise MetricError(
            "embeddings have the shapes " + ", ".join(f"{name} {shape}" for name, shape in shapes.items()),
            where=", ".join(arrays),
            fix="give [n, d] arrays with at least one vector each and the same d",
        )
    for name, array in arrays.items():
        for index in np.flatnonzero(~np.isfinite(array).all(axis=1) | ~array.any(axis=1)):
            raise MetricError(
                f"vector {index} of {name} is zero or not finite, so it has no direction",
                where=f"{name}[{index}]",
                fix="leave the word out, or check the model's weights",
            )
    return [array / np.linalg.norm(array, axis=1, keepdims=True) for array in arrays.values()]
