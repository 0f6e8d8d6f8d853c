"""Texts that begin alike go through the model as one tree, so that each distinct prefix is computed once.

The items of a bias benchmark share most of their words: StereoSet's 6318 sentences have 64,000 positions with
SmolLM2's tokenizer, and 27,000 distinct prefixes. A chunk of the tree is one row of tokens in which each token attends
to its ancestors only and has its depth as its position; the hidden states are those of the plain rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fairtest.training.forward import CausalForward, TokenBatch

NODES = 128
_EXACT = 1e-4
Row = tuple[int, ...]


@dataclass(frozen=True)
class Chunk:
    """A part of the tree, depth first: `tokens`, `parents` (index in the chunk, -1 for a root) and `depths` by node.

    For each of `rows`, `nodes` names those whose hidden states predict its tokens, from the second on.
    """

    tokens: tuple[int, ...]
    parents: tuple[int, ...]
    depths: tuple[int, ...]
    rows: tuple[Row, ...]
    nodes: tuple[tuple[int, ...], ...]


def chunks(rows: Sequence[Row], nodes: int = NODES) -> Iterator[Chunk]:
    """Cuts distinct rows (of at least two ids) into chunks of at most `nodes` nodes; a longer row is its own chunk."""
    tokens: list[int] = []
    parents: list[int] = []
    depths: list[int] = []
    taken: list[Row] = []
    paths: list[tuple[int, ...]] = []
    for row in sorted(rows):
        path = _shared(paths[-1], taken[-1], row) if taken else []
        if taken and len(tokens) + len(row) - 1 - len(path) > nodes:
            yield Chunk(tuple(tokens), tuple(parents), tuple(depths), tuple(taken), tuple(paths))
            tokens, parents, depths, taken, paths, path = [], [], [], [], [], []
        # The last token is predicted and predicts nothing: it needs no node.
        for depth in range(len(path), len(row) - 1):
            parents.append(path[-1] if path else -1)
            path.append(len(tokens))
            tokens.append(row[depth])
            depths.append(depth)
        taken.append(row)
        paths.append(tuple(path))
    if taken:
        yield Chunk(tuple(tokens), tuple(parents), tuple(depths), tuple(taken), tuple(paths))


def _shared(path: Sequence[int], row: Row, following: Row) -> list[int]:
    """The nodes of `row` that lie on the path of `following` too."""
    limit = min(len(path), len(following) - 1)
    count = next((i for i in range(limit) if row[i] != following[i]), limit)
    return list(path[:count])


def hidden_states(forward: CausalForward, batch: Sequence[Chunk]) -> list[Tensor]:
    """Final hidden states [nodes, d] of each chunk."""
    width = max(len(chunk.tokens) for chunk in batch)
    ids = torch.zeros(len(batch), width, dtype=torch.long)
    depths = torch.zeros(len(batch), width, dtype=torch.long)
    ends = torch.arange(1, width + 1).repeat(len(batch), 1)
    for index, chunk in enumerate(batch):
        ids[index, : len(chunk.tokens)] = torch.tensor(chunk.tokens)
        depths[index, : len(chunk.tokens)] = torch.tensor(chunk.depths)
        ends[index, : len(chunk.tokens)] = torch.tensor(_ends(chunk))
    # Depth first, a node and all below it are a run of nodes: these are the ones that see it.
    places = torch.arange(width)[:, None]
    seen = (places >= places.t()) & (places < ends[:, None, :])
    states = forward.model.base_model(
        input_ids=ids.to(forward.device),
        position_ids=depths.to(forward.device),
        attention_mask=torch.where(seen, 0.0, torch.finfo(torch.float32).min)[:, None].to(forward.device),
        use_cache=False,
    ).last_hidden_state
    return [states[index, : len(chunk.tokens)] for index, chunk in enumerate(batch)]


def _ends(chunk: Chunk) -> list[int]:
    """For each node, the index behind the last node below it."""
    ends = list(range(1, len(chunk.parents) + 1))
    for node in range(len(ends) - 1, -1, -1):
        parent = chunk.parents[node]
        if parent >= 0:
            ends[parent] = max(ends[parent], ends[node])
    return ends


def agrees(forward: CausalForward, chunk: Chunk) -> bool:
    """Does the model compute a chunk as it computes the chunk's rows one below the other?

    Models without position ids, with another attention than a full one, or with a head that cannot be split off do not.
    """
    with torch.autocast(forward.device.type, enabled=False):
        plain = forward.hidden(TokenBatch.from_ids([row[:-1] for row in chunk.rows]))
        try:
            (states,) = hidden_states(forward, [chunk])
        except (TypeError, ValueError, RuntimeError, IndexError):
            return False
    if states.shape[-1] != plain.shape[-1]:
        return False
    return all(
        torch.allclose(states[list(path)], plain[index, : len(path)], atol=_EXACT, rtol=_EXACT)
        for index, path in enumerate(chunk.nodes)
    )
