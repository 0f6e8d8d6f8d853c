"""Log-likelihoods of a causal model over texts, each distinct text once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch

from fairtest.errors import CorpusError, MetricError, ModelError, ProbeError
from fairtest.probes.probe import ProbeSet
from fairtest.scoring.scores import CAUSAL_BOS, CAUSAL_NOBOS, ProbeScores, TextScore
from fairtest.training.forward import CausalForward, TokenBatch, encode
from fairtest.training.models import LoadedModel

OnBatch = Callable[[int, int], None]
BATCH_TOKENS = 4096


def score_probe_set(
    loaded: LoadedModel,
    probes: ProbeSet,
    *,
    protocol: str = CAUSAL_BOS,
    batch_tokens: int = BATCH_TOKENS,
    on_batch: OnBatch | None = None,
) -> ProbeScores:
    """The log-probability of every text of every probe.

    Raises:
        ProbeError: a text is longer than the model reads, or has no token to score (the message names the item).
        MetricError: a score is not finite, or the protocol is unknown.
        ModelError: the tokenizer has no token that could stand in front of a text.
    """
    roles = probes.roles
    texts = [probe.texts[role] for probe in probes.probes for role in roles]
    rows = _rows(loaded, texts, protocol, None)
    longest = getattr(loaded.model.config.get_text_config(), "max_position_embeddings", None)
    for index, row in enumerate(rows):
        probe, role = probes.probes[index // len(roles)], roles[index % len(roles)]
        if longest is not None and len(row) > longest:
            raise ProbeError(
                f"probe {probe.id!r} ({role}) has {len(row)} tokens, and model {loaded.source.name!r} reads at most"
                f" {longest}",
                where=f"probe set {probes.name!r}",
                fix="shorten the text or leave the item out; a truncated text would get another item's score",
            )
        if len(row) < 2:
            raise ProbeError(
                f"probe {probe.id!r} ({role}) has no token to score under protocol {protocol!r}",
                where=f"probe set {probes.name!r}",
                fix="give it a text that is longer",
            )
    scores = _score_rows(loaded, rows, batch_tokens, on_batch)
    return ProbeScores(
        probe_set=probes.name,
        probe_digest=probes.digest,
        protocol=protocol,
        ids=tuple(probe.id for probe in probes.probes),
        axes=tuple(probe.axis for probe in probes.probes),
        clusters=tuple(probe.cluster for probe in probes.probes),
        log_probs={role: tuple(s.log_prob for s in scores[i :: len(roles)]) for i, role in enumerate(roles)},
        tokens={role: tuple(s.tokens for s in scores[i :: len(roles)]) for i, role in enumerate(roles)},
    )


def score_texts(
    loaded: LoadedModel,
    texts: Sequence[str],
    *,
    protocol: str = CAUSAL_BOS,
    max_length: int | None = None,
    batch_tokens: int = BATCH_TOKENS,
    on_batch: OnBatch | None = None,
) -> list[TextScore]:
    """Summed log-probability (nats) and number of scored tokens of each text, in the order given.

    Under "causal-bos" every token of the text is scored, the first one after the BOS token; under "causal-nobos" no BOS
    stands in front and the first token is not scored. `max_length` counts the BOS token and cuts longer texts;
    `batch_tokens` (padding included) bounds a batch and changes no score beyond rounding. `on_batch` is called with
    (distinct texts done, distinct texts in all).

    Raises:
        MetricError: an unknown protocol.
        ModelError: a text is longer than the model reads, or the tokenizer has no BOS and no EOS token.
    """
    return _score_rows(loaded, _rows(loaded, texts, protocol, max_length), batch_tokens, on_batch)


def score_records(
    loaded: LoadedModel,
    texts: Sequence[str],
    *,
    max_length: int | None = None,
    batch_tokens: int = BATCH_TOKENS,
    on_batch: OnBatch | None = None,
) -> tuple[list[float], list[int]]:
    """(negative log-likelihood in nats, number of tokens) of each text, BOS in front: what perplexity is made of.

    Raises:
        CorpusError: a text has no token.
        MetricError: a loss is not finite.
    """
    scores = score_texts(loaded, texts, max_length=max_length, batch_tokens=batch_tokens, on_batch=on_batch)
    for index, score in enumerate(scores):
        if score.tokens == 0:
            raise CorpusError(
                f"text {index} has no token to score: {texts[index][:40]!r}",
                where=f"texts[{index}], max_length={max_length}",
                fix="leave empty texts out, and give a max_length of at least 2",
            )
        if not torch.isfinite(torch.tensor(score.log_prob)):
            raise MetricError(
                f"the log-probability of text {index} is {score.log_prob}: {texts[index][:40]!r}",
                where=f"texts[{index}]",
                fix="check the model's weights (a diverged run gives NaN)",
            )
    return [-score.log_prob for score in scores], [score.tokens for score in scores]


def _rows(loaded: LoadedModel, texts: Sequence[str], protocol: str, max_length: int | None) -> list[tuple[int, ...]]:
    if protocol not in (CAUSAL_BOS, CAUSAL_NOBOS):
        raise MetricError(
            f"unknown scoring protocol {protocol!r}",
            where="protocol",
            fix=f"known protocols: {CAUSAL_BOS}, {CAUSAL_NOBOS}",
        )
    without = int(protocol == CAUSAL_NOBOS)
    return [tuple(row[without:]) for row in encode(loaded.tokenizer, texts, max_length)]


def _score_rows(
    loaded: LoadedModel, rows: Sequence[tuple[int, ...]], batch_tokens: int, on_batch: OnBatch | None
) -> list[TextScore]:
    found: dict[tuple[int, ...], TextScore] = {row: TextScore(0.0, 0) for row in rows}
    # By length for little padding, then by content: texts that begin alike then share most of their positions.
    waiting = sorted((row for row in found if len(row) > 1), key=lambda row: (len(row), row))
    was_training = loaded.model.training
    loaded.model.eval()
    try:
        with torch.inference_mode():
            forward = _forward(loaded)
            done = 0
            for batch in _batches(waiting, batch_tokens):
                for row, log_prob in zip(batch, _log_probs(forward, batch), strict=True):
                    found[row] = TextScore(log_prob, len(row) - 1)
                done += len(batch)
                if on_batch is not None:
                    on_batch(done, len(waiting))
    finally:
        loaded.model.train(was_training)
    return [found[row] for row in rows]


def _forward(loaded: LoadedModel) -> CausalForward:
    try:
        return CausalForward(loaded)
    except ModelError as error:
        # A diverged model disagrees with itself, because NaN is not equal to NaN: say that instead.
        for name, parameter in loaded.model.named_parameters():
            if not parameter.isfinite().all():
                raise MetricError(
                    f"no item can be scored: weight {name!r} of model {loaded.source.name!r} is not finite",
                    where=loaded.source.location,
                    fix="train it again with a smaller learning rate; a diverged run gives NaN",
                ) from error
        raise


def _batches(rows: Sequence[tuple[int, ...]], batch_tokens: int) -> Iterator[Sequence[tuple[int, ...]]]:
    """Cuts rows that are sorted by length; a batch has at least one row."""
    start = 0
    for end in range(1, len(rows) + 1):
        if end == len(rows) or len(rows[end]) * (end + 1 - start) > batch_tokens:
            yield rows[start:end]
            start = end


def _log_probs(forward: CausalForward, rows: Sequence[tuple[int, ...]]) -> list[float]:
    """Summed log-probability of each row given its first token.

    Rows that begin alike predict the same token from the same prefix; the vocabulary head, the largest matrix of a
    small model, is applied once to each such (prefix, next token).
    """
    nodes: dict[tuple[int, int], int] = {}
    positions: list[int] = []
    width = len(rows[-1])
    wanted: list[int] = []
    members: list[int] = []
    for index, row in enumerate(rows):
        node = -1 - row[0]
        for place in range(1, len(row)):
            key = (node, row[place])
            if key not in nodes:
                nodes[key] = len(nodes)
                positions.append(index * width + place - 1)
                wanted.append(row[place])
            node = nodes[key]
            members.append(node)
    hidden = forward.hidden(TokenBatch.from_ids(rows))
    flat = hidden.reshape(-1, hidden.shape[-1])
    found = forward.log_probs_at(
        flat[torch.tensor(positions, device=flat.device)], torch.tensor(wanted, device=flat.device)
    )
    each = found.double().cpu()[torch.tensor(members)]
    return [float(part.sum()) for part in torch.split(each, [len(row) - 1 for row in rows])]
