"""What scoring hands on: one number per text of every probe, as plain data."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fairtest.errors import MetricError
from fairtest.probes.probe import ProbeSet

CAUSAL_BOS, CAUSAL_NOBOS = "causal-bos", "causal-nobos"


@dataclass(frozen=True, slots=True)
class TextScore:
    """Summed log-probability (nats) of a text's scored tokens, and how many tokens were scored."""

    log_prob: float
    tokens: int


@dataclass(frozen=True)
class ProbeScores:
    """Scores of one model on one probe set, item by item, in the probe set's order.

    `protocol` names how texts were scored ("causal-bos": every token of the text, with one BOS token in front as
    context; "causal-nobos": the first token has no context and is not scored). `log_probs` and `tokens` map each role
    to one value per item. `templates` are labels of a second factor, crossed with `clusters`; empty: there is none.
    `fields` are the probes' own, one mapping an item; empty: there are none.

    Raises:
        MetricError: a score is not finite (the message names the item), or columns differ in length.
    """

    probe_set: str
    probe_digest: str
    protocol: str
    ids: tuple[str, ...]
    axes: tuple[str, ...]
    clusters: tuple[str, ...]
    log_probs: Mapping[str, tuple[float, ...]]
    tokens: Mapping[str, tuple[int, ...]]
    templates: tuple[str, ...] = ()
    fields: tuple[Mapping[str, str], ...] = ()

    def __post_init__(self) -> None:
        n = len(self.ids)
        columns = [self.axes, self.clusters, *self.log_probs.values(), *self.tokens.values()]
        optional = (self.templates, self.fields)
        if n == 0 or any(len(column) != n for column in columns) or any(len(one) not in (0, n) for one in optional):
            raise MetricError(
                f"scores of {self.probe_set!r} are empty or ragged", where=self.probe_set, fix="score it again"
            )
        for role, values in self.log_probs.items():
            for probe_id, value in zip(self.ids, values, strict=True):
                if not math.isfinite(value):
                    raise MetricError(
                        f"score of probe {probe_id!r} ({role}) is {value}",
                        where=f"probe set {self.probe_set!r}",
                        fix="check the model's weights (a diverged run gives NaN) and the item's text",
                    )

    def to_json(self) -> dict[str, Any]:
        """Plain data; `from_json` gives an equal object back."""
        return {
            "probe_set": self.probe_set,
            "probe_digest": self.probe_digest,
            "protocol": self.protocol,
            "ids": list(self.ids),
            "axes": list(self.axes),
            "clusters": list(self.clusters),
            "log_probs": {role: list(values) for role, values in self.log_probs.items()},
            "tokens": {role: list(values) for role, values in self.tokens.items()},
            "templates": list(self.templates),
            "fields": [dict(fields) for fields in self.fields],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ProbeScores:
        """The inverse of `to_json`."""
        return cls(
            probe_set=data["probe_set"],
            probe_digest=data["probe_digest"],
            protocol=data["protocol"],
            ids=tuple(data["ids"]),
            axes=tuple(data["axes"]),
            clusters=tuple(data["clusters"]),
            log_probs={role: tuple(values) for role, values in data["log_probs"].items()},
            tokens={role: tuple(values) for role, values in data["tokens"].items()},
            templates=tuple(data.get("templates", ())),
            fields=tuple(dict(fields) for fields in data.get("fields", ())),
        )


def join_scores(probes: ProbeSet, parts: Sequence[ProbeScores]) -> ProbeScores:
    """One set of scores from the scores of its axes, in the order of `probes`' own items (those of the axes given).

    Raises:
        MetricError: the parts were scored with different protocols, or some have templates and others none.
    """
    protocols = {part.protocol for part in parts}
    if len(protocols) != 1:
        raise MetricError(
            f"scores with different protocols cannot be joined: {', '.join(sorted(protocols))}",
            where=f"probe set {probes.name!r}",
            fix="score all axes with one protocol",
        )
    if len(parts) == 1:
        return parts[0]
    if len({bool(part.templates) for part in parts}) != 1:
        raise MetricError(
            "scores with templates and scores without cannot be joined",
            where=f"probe set {probes.name!r}",
            fix="score all axes of one version of the probe set",
        )
    place = {item: (part, index) for part in parts for index, item in enumerate(part.ids)}
    order = [place[probe.id] for probe in probes.probes if probe.id in place]
    roles = parts[0].log_probs.keys()
    return ProbeScores(
        probe_set=probes.name,
        probe_digest=probes.digest,
        protocol=protocols.pop(),
        ids=tuple(part.ids[i] for part, i in order),
        axes=tuple(part.axes[i] for part, i in order),
        clusters=tuple(part.clusters[i] for part, i in order),
        log_probs={role: tuple(part.log_probs[role][i] for part, i in order) for role in roles},
        tokens={role: tuple(part.tokens[role][i] for part, i in order) for role in roles},
        templates=tuple(part.templates[i] for part, i in order) if parts[0].templates else (),
        fields=tuple(part.fields[i] if part.fields else {} for part, i in order)
        if any(p.fields for p in parts)
        else (),
    )
