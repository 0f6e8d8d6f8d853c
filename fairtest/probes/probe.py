"""One probe, a probe set, and what filtering a set means."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from fairtest.digests import digest_of_lists
from fairtest.errors import ProbeError

STEREOTYPE, ANTI_STEREOTYPE, UNRELATED = "stereotype", "anti_stereotype", "unrelated"


@dataclass(frozen=True, slots=True)
class Probe:
    """One item: texts by role (`stereotype`, `anti_stereotype`, perhaps `unrelated`), its axis (gender, race, ...)
    and the cluster it is not independent of (target term, template, category).

    Args:
        template: a second cluster, crossed with the first (items that share a sentence frame are not independent
            either); "" where there is none.
        prompt: what stands before each of the texts and is not scored itself (a question before its answers).
        fields: what a metric needs to know of the item (the right answer, a group, an occupation); never scored.
    """

    id: str
    axis: str
    cluster: str
    texts: Mapping[str, str]
    template: str = ""
    prompt: str = ""
    fields: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ProbeSet:
    """A named, versioned set of probes that share their roles.

    Args:
        use: what the set may be used for, in a few words, beside its licence; no part of the digest.

    Raises:
        ProbeError: no probe, a duplicate id, probes with different roles, or a template on some probes only.
    """

    name: str
    version: str
    licence: str
    source: str
    probes: tuple[Probe, ...]
    use: str = ""

    def __post_init__(self) -> None:
        if not self.probes:
            raise ProbeError(f"probe set {self.name!r} has no items", where=self.source, fix="check the file or filter")
        twice = [probe_id for probe_id, count in Counter(p.id for p in self.probes).items() if count > 1]
        if twice:
            raise ProbeError(
                f"probe set {self.name!r} has {len(twice)} ids more than once, the first is {twice[0]!r}",
                where=self.source,
                fix="give every item an id of its own",
            )
        roles = set(self.probes[0].texts)
        for probe in self.probes:
            if set(probe.texts) != roles:
                raise ProbeError(
                    f"probe {probe.id!r} has roles {sorted(probe.texts)}, the first probe has {sorted(roles)}",
                    where=self.source,
                    fix="give every item the same roles",
                )
        without = [probe.id for probe in self.probes if not probe.template]
        if 0 < len(without) < len(self.probes):
            raise ProbeError(
                f"probe {without[0]!r} has no template, and other probes of {self.name!r} have one",
                where=self.source,
                fix="give every item a template, or none",
            )

    def __len__(self) -> int:
        return len(self.probes)

    @property
    def roles(self) -> tuple[str, ...]:
        """Role names, sorted."""
        return tuple(sorted(self.probes[0].texts))

    @property
    def axes(self) -> tuple[str, ...]:
        """Axes that occur, sorted."""
        return tuple(sorted({probe.axis for probe in self.probes}))

    @property
    def templates(self) -> tuple[str, ...]:
        """The template of every item, empty where the set has none."""
        return tuple(probe.template for probe in self.probes if probe.template)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of name, version and every item."""
        lists: list[Iterable[Any]] = [([p.id, p.axis, p.cluster, dict(p.texts)] for p in self.probes)]
        # What a set does not have is no part of its digest, so that it is the same before and after there were such.
        if self.templates:
            lists.append(self.templates)
        if any(p.prompt or p.fields for p in self.probes):
            lists.append([p.prompt, dict(p.fields)] for p in self.probes)
        return digest_of_lists([self.name, self.version], *lists)

    def only(self, axis: str) -> ProbeSet:
        """The items of one axis.

        Raises:
            ProbeError: no item has it.
        """
        kept = tuple(probe for probe in self.probes if probe.axis == axis)
        if not kept:
            raise ProbeError(
                f"probe set {self.name!r} has no item with axis {axis!r}",
                where=self.source,
                fix=f"axes it has: {', '.join(self.axes)}",
            )
        return ProbeSet(self.name, self.version, self.licence, self.source, kept, self.use)
