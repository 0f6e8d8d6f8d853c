"""The texts of a probe set as rows of token ids: all are checked before the first forward pass, and then made again
block by block, so that memory does not grow with their number.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fairtest.errors import MetricError, ProbeError
from fairtest.probes.probe import Probe, ProbeSet
from fairtest.scoring.prefix_tree import Row
from fairtest.scoring.prompts import common_prefix, prompt_lengths
from fairtest.scoring.scores import CAUSAL_BOS, CAUSAL_NOBOS
from fairtest.training.forward import MOST_UNKNOWN, encode, require_embedded, unknown_share
from fairtest.training.models import LoadedModel

PROBES_AT_ONCE = 1024  # token rows take most of the memory


@dataclass(frozen=True)
class Block:
    """Rows of neighbouring probes, role by role, and the first position of each that is scored."""

    rows: Sequence[Row]
    starts: Sequence[int]

    @property
    def texts(self) -> int:
        """Distinct rows with something to score: what goes through the model."""
        return len({row for row, start in zip(self.rows, self.starts, strict=True) if len(row) > start})


@dataclass(frozen=True)
class CheckedProbes:
    """A probe set whose texts can all be scored; `texts` is how many of them go through the model, by block."""

    loaded: LoadedModel
    probes: ProbeSet
    protocol: str
    texts: int
    only: Block | None = None

    def blocks(self) -> Iterator[Block]:
        """All rows in order; of a small set those that were checked, of a large one made again."""
        if self.only is not None:
            yield self.only
            return
        for some in _parts(self.probes):
            yield _block(self.loaded, self.probes, some, self.protocol)


def check_probe_set(loaded: LoadedModel, probes: ProbeSet, protocol: str) -> CheckedProbes:
    """Reads every text once.

    Raises:
        ProbeError: a text is longer than the model reads, or has no token to score (the message names the item), or
            the tokenizer does not know the texts.
        MetricError: the protocol is unknown.
        ModelError: more tokens than the model, or none that could stand in front of a text.
    """
    texts = 0
    # Answers that a tokenizer does not know are few tokens after a long prompt: what is scored has its own share.
    whole, scored = _Share(loaded), _Share(loaded)
    parts = list(_parts(probes))
    block = None
    for some in parts:
        block = _block(loaded, probes, some, protocol)
        whole.add(block.rows)
        scored.add([row[start - 1 :] for row, start in zip(block.rows, block.starts, strict=True)])
        texts += block.texts
    if (share := max(whole.value, scored.value)) > MOST_UNKNOWN:
        raise ProbeError(
            f"{share:.0%} of the tokens of probe set {probes.name!r} are unknown to the tokenizer of model"
            f" {loaded.source.name!r} ({loaded.tokenizer.unk_token}), so scores would compare that one token",
            where=f"probe set {probes.name!r}",
            fix="use a model whose tokenizer knows this text",
        )
    return CheckedProbes(loaded, probes, protocol, texts, block if len(parts) == 1 else None)


class _Share:
    """The share of unknown tokens over all rows that were added."""

    def __init__(self, loaded: LoadedModel) -> None:
        self._tokenizer = loaded.tokenizer
        self._unknown = self._count = 0.0

    def add(self, rows: Sequence[Row]) -> None:
        count = sum(max(0, len(row) - 1) for row in rows)
        self._unknown += count * unknown_share(self._tokenizer, rows)
        self._count += count

    @property
    def value(self) -> float:
        return self._unknown / self._count if self._count else 0.0


def _parts(probes: ProbeSet) -> Iterator[Sequence[Probe]]:
    for first in range(0, len(probes), PROBES_AT_ONCE):
        yield probes.probes[first : first + PROBES_AT_ONCE]


def _block(loaded: LoadedModel, probes: ProbeSet, some: Sequence[Probe], protocol: str) -> Block:
    roles = probes.roles
    rows = rows_of(loaded, [probe.prompt + probe.texts[role] for probe in some for role in roles], protocol, None)
    own = _own_starts(loaded, some, roles, protocol)
    longest = longest_row(loaded)
    for index, row in enumerate(rows):
        probe, role = some[index // len(roles)], roles[index % len(roles)]
        if longest is not None and len(row) > longest:
            raise ProbeError(
                f"probe {probe.id!r} ({role}) has {len(row)} tokens, and model {loaded.source.name!r} reads at most"
                f" {longest}",
                where=f"probe set {probes.name!r}",
                fix="shorten the text or leave the item out; a truncated text would get another item's score",
            )
        if len(row) <= own[index]:
            raise ProbeError(
                f"probe {probe.id!r} ({role}) has no token to score under protocol {protocol!r}",
                where=f"probe set {probes.name!r}",
                fix="give it a text that is longer",
            )
    return Block(rows, _shared_starts(rows, own, len(roles)))


def longest_row(loaded: LoadedModel) -> int | None:
    """The most tokens the model reads; None where its configuration does not say."""
    longest: int | None = getattr(loaded.model.config.get_text_config(), "max_position_embeddings", None)
    return longest


def rows_of(loaded: LoadedModel, texts: Sequence[str], protocol: str, max_length: int | None) -> list[Row]:
    """Token ids of each text, with or without a BOS in front as the protocol says.

    Raises:
        MetricError: an unknown protocol.
        ModelError: as `encode` and `require_embedded`.
    """
    if protocol not in (CAUSAL_BOS, CAUSAL_NOBOS):
        raise MetricError(
            f"unknown scoring protocol {protocol!r}",
            where="protocol",
            fix=f"known protocols: {CAUSAL_BOS}, {CAUSAL_NOBOS}",
        )
    without = int(protocol == CAUSAL_NOBOS)
    rows = encode(loaded.tokenizer, texts, max_length)
    require_embedded(loaded, rows)
    return [tuple(row[without:]) for row in rows]


def _own_starts(loaded: LoadedModel, some: Sequence[Probe], roles: Sequence[str], protocol: str) -> list[int]:
    """Index in its row of the first token of every text that may be scored: one that is not the prompt's alone."""
    if not any(probe.prompt for probe in some):
        return [1] * (len(some) * len(roles))
    prompts = [probe.prompt for probe in some for _ in roles]
    texts = [probe.texts[role] for probe in some for role in roles]
    bos = int(protocol == CAUSAL_BOS)
    return [max(1, bos + count) for count in prompt_lengths(loaded.tokenizer, prompts, texts)]


def _shared_starts(rows: Sequence[Row], own: Sequence[int], roles: int) -> list[int]:
    """The same with all texts of a probe scored from the same character, that is after tokens that all of them have."""
    starts: list[int] = []
    for first in range(0, len(rows), roles):
        start = min(own[first : first + roles])
        if start > 1:
            start = max(1, min(start, common_prefix(rows[first : first + roles])))
        starts += [start] * roles
    return starts
