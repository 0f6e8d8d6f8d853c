"""Log-likelihoods of a causal model over texts, each distinct text once."""

from __future__ import annotations

import contextlib
import functools
import itertools
import math
from array import array
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from fairtest.errors import CorpusError, MetricError, ModelError
from fairtest.probes.probe import ProbeSet
from fairtest.scoring.activations import fused_activations
from fairtest.scoring.nadeem2021 import CAUSAL_NADEEM2021, score_nadeem2021
from fairtest.scoring.prefix_tree import NODES, Chunk, Row, agrees, chunks, hidden_states
from fairtest.scoring.probe_rows import check_probe_set, longest_row, rows_of
from fairtest.scoring.scores import CAUSAL_BOS, ProbeScores, TextScore
from fairtest.specs import PRECISIONS
from fairtest.training.blocks import blocks_of
from fairtest.training.forward import MOST_UNKNOWN, CausalForward, TokenBatch, unknown_share
from fairtest.training.models import LoadedModel

OnBatch = Callable[[int, int], None]
_Pass = tuple[Sequence[Row], Tensor, Sequence[Sequence[int]]]  # rows, states [P, d], and which states predict each row
T = TypeVar("T")
BATCH_TOKENS = 4096
_WORTH_A_TREE = 0.9


def score_probe_set(
    loaded: LoadedModel,
    probes: ProbeSet,
    *,
    protocol: str = CAUSAL_BOS,
    batch_tokens: int = BATCH_TOKENS,
    precision: str = "float32",
    on_batch: OnBatch | None = None,
) -> ProbeScores:
    """The log-probability of every text of every probe, log p(text | prompt) where the probe has a prompt.

    `precision` "bfloat16" runs the matrix products in bfloat16 (autocast), for a GPU that is fast at it; weights stay
    as they are, and scores differ by some hundredths of a nat a token.

    After a prompt the text's own tokens are scored and counted, and the prompt is computed once for its texts. Where a
    token holds the end of the prompt and the beginning of a text, all texts of the probe are scored from that token's
    first character on, so that their scores stay comparable (`fairtest.scoring.prompts`).

    Raises:
        ProbeError: a text is longer than the model reads, or has no token to score (the message names the item), or
            the tokenizer does not know the texts.
        MetricError: a score is not finite, or the protocol is unknown.
        ModelError: the model is a masked one, or the tokenizer has no token that could stand in front of a text, or
            more tokens than the model.
    """
    require_causal(loaded)
    if protocol == CAUSAL_NADEEM2021:
        return score_nadeem2021(loaded, probes, batch_tokens=batch_tokens, precision=precision, on_batch=on_batch)
    checked = check_probe_set(loaded, probes, protocol)
    log_probs, tokens = array("d"), array("q")  # a tenth of what a score an object would take
    done = 0
    for block in checked.blocks():
        told = None if on_batch is None else functools.partial(_tell, on_batch, done, checked.texts)
        scores = _score_rows(loaded, block.rows, batch_tokens, told, block.starts, precision=precision)
        log_probs.extend(score.log_prob for score in scores)
        tokens.extend(score.tokens for score in scores)
        done += block.texts
    roles = probes.roles
    return ProbeScores(
        probe_set=probes.name,
        probe_digest=probes.digest,
        protocol=protocol,
        ids=tuple(probe.id for probe in probes.probes),
        axes=tuple(probe.axis for probe in probes.probes),
        clusters=tuple(probe.cluster for probe in probes.probes),
        log_probs={role: tuple(log_probs[i :: len(roles)]) for i, role in enumerate(roles)},
        tokens={role: tuple(tokens[i :: len(roles)]) for i, role in enumerate(roles)},
        templates=probes.templates,
        fields=tuple(probe.fields for probe in probes.probes) if any(probe.fields for probe in probes.probes) else (),
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
    return _score_rows(loaded, rows_of(loaded, texts, protocol, max_length), batch_tokens, on_batch)


def score_records(
    loaded: LoadedModel,
    texts: Sequence[str],
    *,
    max_length: int | None = None,
    long_texts: str = "cut",
    batch_tokens: int = BATCH_TOKENS,
    on_batch: OnBatch | None = None,
) -> tuple[list[float], list[int]]:
    """(negative log-likelihood in nats, number of tokens) of each text, BOS in front: what perplexity is made of.

    A text with more than `max_length` tokens is "cut" off there, or scored in further "blocks", as training does
    (`fairtest.training.blocks`); its loss and its number of tokens are then sums over its blocks.

    Raises:
        CorpusError: a text has no token, or the tokenizer does not know the texts.
        MetricError: a loss is not finite.
    """
    whole = rows_of(loaded, texts, CAUSAL_BOS, max_length if long_texts == "cut" else None)
    blocks = [blocks_of(row, max_length, long_texts) for row in whole]
    rows = [tuple(block) for text_blocks in blocks for block in text_blocks]
    if (share := unknown_share(loaded.tokenizer, rows)) > MOST_UNKNOWN:
        raise CorpusError(
            f"{share:.0%} of the tokens of {len(texts)} texts are unknown to the tokenizer of model"
            f" {loaded.source.name!r} ({loaded.tokenizer.unk_token}), so a loss would say nothing of the texts",
            where=f"{len(texts)} texts, model {loaded.source.name!r}",
            fix="use a model whose tokenizer knows this text",
        )
    of_rows = iter(_score_rows(loaded, rows, batch_tokens, on_batch))
    scores = [_sum(list(itertools.islice(of_rows, len(text_blocks)))) for text_blocks in blocks]
    for index, score in enumerate(scores):
        if score.tokens == 0:
            raise CorpusError(
                f"text {index} has no token to score: {texts[index][:40]!r}",
                where=f"texts[{index}], max_length={max_length}",
                fix="leave empty texts out, and give a max_length of at least 2",
            )
        if not math.isfinite(score.log_prob):
            raise MetricError(
                f"the log-probability of text {index} is {score.log_prob}: {texts[index][:40]!r}",
                where=f"texts[{index}]",
                fix="check the model's weights (a diverged run gives NaN)",
            )
    return [-score.log_prob for score in scores], [score.tokens for score in scores]


def _sum(scores: Sequence[TextScore]) -> TextScore:
    return TextScore(sum(score.log_prob for score in scores), sum(score.tokens for score in scores))


def require_causal(loaded: LoadedModel) -> None:
    """Checks what the configuration says; a model that says nothing is tried out when it is split (CausalForward).

    Raises:
        ModelError: the model is a masked language model.
    """
    names = [name for name in loaded.model.config.architectures or () if name.endswith("ForMaskedLM")]
    if names:
        raise ModelError(
            f"model {loaded.source.name!r} is a masked language model ({names[0]}), which gives a text no probability",
            where=loaded.source.location,
            fix="score it with load_masked_model and score_masked_probe_set (fairtest.scoring), or `fairtest score`",
        )


def _tell(on_batch: OnBatch, before: int, total: int, done: int, _: int) -> None:
    on_batch(before + done, total)


def _score_rows(
    loaded: LoadedModel,
    rows: Sequence[Row],
    batch_tokens: int,
    on_batch: OnBatch | None,
    starts: Sequence[int] | None = None,
    *,
    precision: str = "float32",
) -> list[TextScore]:
    """The score of each row's tokens from `starts` on (at least 1, the default); what is before them is context."""
    asked = list(zip(rows, starts or [1] * len(rows), strict=True))
    found = {one: TextScore(0.0, 0) for one in asked}
    begins: dict[Row, list[int]] = {}
    for row, start in found:
        if len(row) > start:
            begins.setdefault(row, []).append(start)
    length, longest = max(map(len, begins), default=0), longest_row(loaded)
    if longest is not None and length > longest:
        raise ModelError(
            f"a text has {length} tokens, and model {loaded.source.name!r} reads at most {longest}",
            where=loaded.source.location,
            fix=f"set max_length to at most {longest}",
        )
    if not begins:
        return [found[one] for one in asked]
    # A chunk of the tree has to hold a prompt with its texts, else the prompt is computed again for some of them.
    prompted = max((len(row) for row, wanted in begins.items() if max(wanted) > 1), default=0)
    nodes = min(max(NODES, 2 * prompted), batch_tokens)
    was_training = loaded.model.training
    loaded.model.eval()
    try:
        with torch.inference_mode(), fused_activations(loaded.model):
            forward = _forward(loaded)
            done = 0
            passes = _passes(forward, list(begins), batch_tokens, nodes)
            for batch, states, paths in _in_precision(passes, forward.device, precision):
                firsts = [min(begins[row]) for row in batch]
                with _autocast(forward.device, precision):
                    log_probs = _log_probs(forward, states, batch, paths, firsts)
                for row, first, each in zip(batch, firsts, log_probs, strict=True):
                    for start in begins[row]:
                        found[row, start] = TextScore(float(each[start - first :].sum()), len(row) - start)
                done += len(batch)
                if on_batch is not None:
                    on_batch(done, len(begins))
    finally:
        loaded.model.train(was_training)
    return [found[one] for one in asked]


def _autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager[object]:
    if precision not in PRECISIONS:
        raise MetricError(
            f"unknown precision {precision!r}", where="precision", fix=f"give one of {', '.join(PRECISIONS)}"
        )
    return torch.autocast(device.type, torch.bfloat16) if precision == "bfloat16" else contextlib.nullcontext()


def _in_precision(passes: Iterator[_Pass], device: torch.device, precision: str) -> Iterator[_Pass]:
    while True:
        with _autocast(device, precision):
            one = next(passes, None)
        if one is None:
            return
        yield one


def _passes(
    forward: CausalForward, rows: Sequence[Row], batch_tokens: int, nodes_at_once: int = NODES
) -> Iterator[_Pass]:
    """All rows batch by batch: as trees where rows share much and the model allows it, else as padded rows.

    With a trunk, rows are the cheaper way: most layers are not run at all for a row that was seen before.
    """
    if forward.has_trunk:
        forward.warm(row[:-1] for row in rows)
        return _row_passes(forward, rows, batch_tokens)
    trees = list(chunks(rows, nodes_at_once))
    nodes = sum(len(tree.tokens) for tree in trees)
    if nodes < _WORTH_A_TREE * sum(len(row) - 1 for row in rows):
        deepest = max(trees, key=lambda tree: max(tree.depths))
        if agrees(forward, deepest):
            return _tree_passes(forward, trees, batch_tokens)
    return _row_passes(forward, rows, batch_tokens)


def _tree_passes(forward: CausalForward, trees: Sequence[Chunk], batch_tokens: int) -> Iterator[_Pass]:
    by_size = sorted(trees, key=lambda tree: len(tree.tokens))
    for batch in _batches(by_size, lambda tree: len(tree.tokens), batch_tokens):
        states = hidden_states(forward, batch)
        paths, first = [], 0
        for tree in batch:
            paths += [[first + node for node in path] for path in tree.nodes]
            first += len(tree.tokens)
        yield [row for tree in batch for row in tree.rows], torch.cat(states), paths


def _row_passes(forward: CausalForward, rows: Sequence[Row], batch_tokens: int) -> Iterator[_Pass]:
    by_length = sorted(rows, key=lambda row: (len(row), row))
    for batch in _batches(by_length, lambda row: len(row) - 1, batch_tokens):
        # The last token is predicted and predicts nothing.
        states = forward.hidden(TokenBatch.from_ids([row[:-1] for row in batch]))
        width = states.shape[1]
        paths = [list(range(index * width, index * width + len(row) - 1)) for index, row in enumerate(batch)]
        yield batch, states.flatten(0, 1), paths


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


def _batches(items: Sequence[T], size: Callable[[T], int], batch_tokens: int) -> Iterator[Sequence[T]]:
    """Cuts items that are sorted by size, so that number x largest size keeps within the budget where it can."""
    start = 0
    for end in range(1, len(items) + 1):
        if end == len(items) or size(items[end]) * (end + 1 - start) > batch_tokens:
            yield items[start:end]
            start = end


def _log_probs(
    forward: CausalForward,
    states: Tensor,
    rows: Sequence[Row],
    paths: Sequence[Sequence[int]],
    starts: Sequence[int],
) -> tuple[Tensor, ...]:
    """Log-probabilities of each row's tokens from `starts` on, [tokens] in float64; `paths` says which states [P, d]
    predict its tokens from the second on.

    Rows that begin alike predict the same token from the same prefix: each (prefix, next token) is looked up once. The
    vocabulary head, the largest matrix of a small model, is applied once to each distinct prefix, whatever tokens
    follow it, and not at all to what is context only.
    """
    nodes: dict[tuple[int, int], int] = {}
    places: dict[int, int] = {}
    prefixes: dict[int, int] = {}
    positions: list[int] = []
    wanted: list[int] = []
    of: list[int] = []
    members: list[int] = []
    for row, path, start in zip(rows, paths, starts, strict=True):
        prefix = -1 - row[0]
        for index, (state, token) in enumerate(zip(path, row[1:], strict=True), start=1):
            node = nodes.setdefault((prefix, token), len(nodes))
            if index >= start:
                if node not in places:
                    if prefix not in prefixes:
                        prefixes[prefix] = len(positions)
                        positions.append(state)
                    places[node] = len(wanted)
                    wanted.append(token)
                    of.append(prefixes[prefix])
                members.append(places[node])
            prefix = node
    chosen, device = states[torch.tensor(positions, device=states.device)], states.device
    found = forward.log_probs_of(chosen, torch.tensor(wanted, device=device), torch.tensor(of, device=device))
    each = found.double().cpu()[torch.tensor(members)]
    return torch.split(each, [len(row) - start for row, start in zip(rows, starts, strict=True)])
