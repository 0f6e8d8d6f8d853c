"""A unit's gradient of one parameter, in the form its layer leaves it, with inner products and weighted sums.

Reverse-mode differentiation gives the gradient of a weight matrix as a sum over positions n of outer products

    G_u = sum_n  l_un r_un'          [R, C],  l_un in R^R,  r_un in R^C

and never needs G_u itself: for two such sums over positions n and m,

    <G_u, H_u> = sum_nm <l_un, l'_um> <r_un, r'_um>

is the sum over the elementwise product of two small Gram matrices [N, M], and the sum of units weighted by c_u is the
one matrix product sum_un (c_u l_un) r_un' (book-keeping and ghost norm: Li et al. 2022, Bu et al. 2023).

An embedding is the same with l_un the unit vector of token n, because G_u gets r_un added to the row of that token.
So a matrix that serves as embedding and as output layer, or twice as anything else, has as its gradient the sum of
its terms over all uses, and |sum_i G_i|^2 = sum_i |G_i|^2 + 2 sum_{i<j} <G_i, G_j> with every product as above.

Shapes: U units, N positions of a unit (those of all its views), R x C the parameter.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

# A unit's gradient is formed in full only where that takes less arithmetic than its Gram matrices and all units'
# gradients together stay below this many values.
MAX_FORMED_VALUES = 1 << 26
# A unit of very many positions has Gram matrices that fit no memory: they are gone through in blocks of this size.
MAX_GRAM_VALUES = 1 << 24
# Smaller blocks would spare more of a symmetric matrix, but are multiplied less efficiently.
MIN_BLOCK = 64
_PIECE = 4096


@dataclass(frozen=True)
class OneHot:
    """Unit vectors of R^`size`, kept as the indices [U, N] of their ones."""

    index: Tensor
    size: int


@dataclass(frozen=True)
class Outer:
    """G_u = sum_n left_un right_un': `left` [U, N, R] or one-hot, `right` [U, N, C], parameter [R, C]."""

    left: Tensor | OneHot
    right: Tensor

    @property
    def rows(self) -> int:
        """R."""
        return self.left.size if isinstance(self.left, OneHot) else self.left.shape[2]


@dataclass(frozen=True)
class PerUnit:
    """The gradients themselves, [U, *parameter.shape]: for vectors, and where a matrix is smaller than its factors."""

    gradient: Tensor


Term = Outer | PerUnit


def squared_norms(terms: Sequence[Term]) -> Tensor:
    """Squared norm [U] of the sum of the terms, which all belong to one parameter."""
    total = sum(inner(term, term) for term in terms)
    for index, term in enumerate(terms):
        for other in terms[:index]:
            total = total + 2 * inner(term, other)
    assert isinstance(total, Tensor)  # noqa: S101 - terms is never empty
    return total


def inner(x: Term, y: Term) -> Tensor:
    """<x_u, y_u> as [U]."""
    if isinstance(x, Outer) and isinstance(y, Outer):
        return _inner_by_blocks(x, y)
    product: Tensor
    if x is y:
        product = squared_lengths(formed(x).gradient.flatten(1))
    else:
        product = torch.linalg.vecdot(formed(x).gradient.flatten(1), formed(y).gradient.flatten(1))
    return product


def squared_lengths(vectors: Tensor) -> Tensor:
    """Squared norm [U] of each of the vectors [U, n], to the last digits for any n.

    torch's own norm adds the squares up one by one: in float32, ten million of them come out short by 7e-4, and thirty
    million by 3e-3. The squares of short pieces are added in pairs.
    """
    whole = vectors.shape[1] // _PIECE * _PIECE
    pieces: Tensor = torch.linalg.vector_norm(vectors[:, :whole].reshape(len(vectors), -1, _PIECE), dim=2)
    rest: Tensor = torch.linalg.vector_norm(vectors[:, whole:], dim=1)
    return pieces.square_().sum(1) + rest.square_()


def _inner_by_blocks(x: Outer, y: Outer) -> Tensor:
    """The sum over n and m, a block of n at a time; <x, x> is symmetric, so m < n of it need not be computed."""
    units, positions, _ = x.right.shape
    size = max(1, MAX_GRAM_VALUES // (units * y.right.shape[1]))
    if x is y:
        size = min(size, max(MIN_BLOCK, math.ceil(positions / 4)))
    total = x.right.new_zeros(units)
    for start in range(0, positions, size):
        end = min(start + size, positions)
        block = _positions(x, start, end)
        if x is not y:
            total += _inner(block, y)
            continue
        total += _inner(block, block)
        if end < positions:
            total += 2 * _inner(block, _positions(x, end, positions))
    return total


def _inner(x: Outer, y: Outer) -> Tensor:
    return _gram(x.right, y.right).mul_(_gram(x.left, y.left)).sum((1, 2))


def _positions(term: Outer, start: int, end: int) -> Outer:
    left = term.left
    part = OneHot(left.index[:, start:end], left.size) if isinstance(left, OneHot) else left[:, start:end]
    return Outer(part, term.right[:, start:end])


def _gram(x: Tensor | OneHot, y: Tensor | OneHot) -> Tensor:
    """<x_un, y_um> as [U, N, M]."""
    if isinstance(x, OneHot):
        if isinstance(y, OneHot):
            return x.index[:, :, None] == y.index[:, None, :]
        return _gram(y, x).transpose(1, 2)
    if isinstance(y, OneHot):
        return torch.gather(x, 2, y.index[:, None, :].expand(-1, x.shape[1], -1))
    return torch.bmm(x, y.transpose(1, 2))


def formed(term: Term) -> PerUnit:
    """The same term with every unit's gradient written out."""
    if isinstance(term, PerUnit):
        return term
    if isinstance(term.left, OneHot):
        units, _, columns = term.right.shape
        whole = term.right.new_zeros(units, term.left.size, columns)
        return PerUnit(_add_formed(term, whole))
    return PerUnit(torch.bmm(term.left.transpose(1, 2), term.right))


def cheapest(terms: list[Term]) -> list[Term]:
    """The same terms of one parameter, in the form in which norm and weighted sum take the least time.

    All terms together have sum N (R + C) values. A gradient written out with no more than that, R C, costs no
    memory, and spares the Gram matrices of every pair of terms: the more uses and positions, the sooner it pays.
    """
    outer = [term for term in terms if isinstance(term, Outer)]
    if not outer or len(outer) < len(terms):
        return [PerUnit(_formed_sum(terms))] if len(terms) > 1 else terms
    units, _, columns = outer[0].right.shape
    size = outer[0].rows * columns
    factors = sum(x.right.shape[1] * (columns + (0 if isinstance(x.left, OneHot) else x.rows)) for x in outer)
    return [PerUnit(_formed_sum(terms))] if size <= factors and units * size <= MAX_FORMED_VALUES else terms


def _formed_sum(terms: Sequence[Term]) -> Tensor:
    total = formed(terms[0]).gradient
    for term in terms[1:]:
        total = _add_formed(term, total)
    return total


def _add_formed(term: Term, total: Tensor) -> Tensor:
    if isinstance(term, PerUnit):
        return total + term.gradient
    if isinstance(term.left, OneHot):
        return total.scatter_add_(1, term.left.index[:, :, None].expand(term.right.shape), term.right)
    return total.baddbmm_(term.left.transpose(1, 2), term.right)


class Scratch:
    """Room for one intermediate result after the other: fresh memory costs more than the product that goes there."""

    def __init__(self) -> None:
        self._room: Tensor | None = None

    def scaled(self, x: Tensor, weights: Tensor) -> Tensor:
        """weights_u x_u, which stays until the next call."""
        if self._room is None or self._room.numel() < x.numel() or self._room.dtype != x.dtype:
            self._room = x.new_empty(x.numel())
        return torch.mul(x, weights[:, None, None], out=self._room[: x.numel()].view(x.shape))


def weighted_sum(terms: Sequence[Term], weights: Tensor, parameter: Tensor, scratch: Scratch) -> Tensor:
    """The parameter's `grad` plus sum_u weights_u sum_i x_iu over the terms x_i; `weights` is [U].

    Computed in the precision of the weights; the result has the parameter's.
    """
    before = parameter.grad
    total = before if before is not None and before.dtype == weights.dtype else None
    for term in sorted(terms, key=lambda term: isinstance(term, Outer) and isinstance(term.left, OneHot)):
        total = _add_weighted(term, weights, total, parameter.shape, scratch)
    assert total is not None  # noqa: S101 - terms is never empty
    if total is before or total.dtype == parameter.dtype:
        return total
    return total.to(parameter.dtype) if before is None else before.add_(total)


def _add_weighted(term: Term, weights: Tensor, total: Tensor | None, shape: torch.Size, scratch: Scratch) -> Tensor:
    if isinstance(term, PerUnit):
        added = torch.mv(term.gradient.flatten(1).t(), weights).view(shape)
        return added if total is None else total.add_(added)
    left, right = term.left, term.right
    if isinstance(left, OneHot):
        total = right.new_zeros(shape) if total is None else total
        return total.index_add_(0, left.index.reshape(-1), scratch.scaled(right, weights).flatten(0, 1))
    # The narrower factor is cheaper to scale.
    if left.shape[2] < right.shape[2]:
        left = scratch.scaled(left, weights)
    else:
        right = scratch.scaled(right, weights)
    left, right = left.flatten(0, 1).t(), right.flatten(0, 1)
    return left @ right if total is None else total.addmm_(left, right)
