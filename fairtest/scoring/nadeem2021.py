"""Scores of a causal model as StereoSet's authors make them for GPT-2: protocol "causal-nadeem2021".

The first token has its probability after the BOS token alone, the others have theirs after the tokens before them
without a BOS, and the score is the geometric mean over all tokens. In "causal-bos" the BOS stays in front throughout.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from fairtest.errors import ProbeError
from fairtest.probes.probe import ProbeSet
from fairtest.scoring.scores import CAUSAL_NOBOS, ProbeScores

if TYPE_CHECKING:
    from fairtest.training.models import LoadedModel

CAUSAL_NADEEM2021 = "causal-nadeem2021"


def score_nadeem2021(loaded: LoadedModel, probes: ProbeSet, **options: Any) -> ProbeScores:
    """The mean log-probability per token (nats) of every text, as a `ProbeScores` of protocol "causal-nadeem2021".

    For tokens t_1 ... t_n: (log p(t_1 | BOS) + sum over i > 1 of log p(t_i | t_1 ... t_(i-1))) / n. The number is
    already per token: metrics of the authors' protocol compare it as it is. `tokens` has n. `options` are those of
    `score_probe_set` (`batch_tokens`, `precision`, `on_batch`). The first tokens, one forward pass over the BOS, are
    always scored in float32. Source: the evaluation script of Nadeem et al. 2021 (arXiv 2004.09456).

    Raises:
        ProbeError: a text is a single token or has a prompt, or as `score_probe_set`.
        MetricError, ModelError: as `score_probe_set`.
    """
    from fairtest.scoring.likelihood import score_probe_set, score_texts
    from fairtest.training.forward import encode

    roles = probes.roles
    texts = [probe.texts[role] for probe in probes.probes for role in roles]
    for probe in probes.probes:
        if probe.prompt:
            raise ProbeError(
                f"probe {probe.id!r} has a prompt, and protocol {CAUSAL_NADEEM2021!r} scores whole texts",
                where=f"probe set {probes.name!r}",
                fix="give texts without a prompt, or score under another protocol",
            )
    for index, row in enumerate(encode(loaded.tokenizer, texts, 3)):
        if len(row) < 3:
            raise ProbeError(
                f"probe {probes.probes[index // len(roles)].id!r} ({roles[index % len(roles)]}) has fewer than two"
                f" tokens, and protocol {CAUSAL_NADEEM2021!r} scores sentences",
                where=f"probe set {probes.name!r}",
                fix="give it a text that is longer",
            )
    later = score_probe_set(loaded, probes, protocol=CAUSAL_NOBOS, **options)
    # BOS and one token: texts that begin alike are one row.
    first = score_texts(loaded, texts, max_length=2)
    log_probs: dict[str, tuple[float, ...]] = {}
    tokens: dict[str, tuple[int, ...]] = {}
    for place, role in enumerate(roles):
        counts = tuple(count + 1 for count in later.tokens[role])
        log_probs[role] = tuple(
            (start.log_prob + rest) / count
            for start, rest, count in zip(first[place :: len(roles)], later.log_probs[role], counts, strict=True)
        )
        tokens[role] = counts
    return dataclasses.replace(later, protocol=CAUSAL_NADEEM2021, log_probs=log_probs, tokens=tokens)
