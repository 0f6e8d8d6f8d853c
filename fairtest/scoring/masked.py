"""Scores of a masked language model over probes: each distinct masked row goes through the model once."""

from __future__ import annotations

import functools
from array import array
from collections.abc import Iterator, Mapping, Sequence

import torch

from fairtest.errors import ProbeError
from fairtest.probes.probe import Probe, ProbeSet
from fairtest.scoring.likelihood import OnBatch
from fairtest.scoring.masked_models import MaskedForward
from fairtest.scoring.masked_protocols import EncodedText, MaskedProtocol, Prediction, Row, masked_protocol
from fairtest.scoring.scores import ProbeScores
from fairtest.training.forward import MOST_UNKNOWN, require_embedded, unknown_share
from fairtest.training.models import LoadedModel

_Context = tuple[Row, int]
# Logits of a batch: 64 MiB in float32.
_MOST_LOGITS = 1 << 24
_BLOCK = 512  # probes whose masked rows are in memory at once
BATCH_TOKENS = 2048  # shorter batches keep more of a small model in the cache than those of causal scoring


def score_masked_probe_set(
    loaded: LoadedModel,
    probes: ProbeSet,
    *,
    protocol: str,
    batch_tokens: int = BATCH_TOKENS,
    precision: str = "float32",
    on_batch: OnBatch | None = None,
) -> ProbeScores:
    """The score of every text of every probe under a protocol of `fairtest.scoring.masked_protocols`.

    `tokens` of the result counts predictions. `batch_tokens` (padding included) bounds a batch and changes no score
    beyond rounding. `on_batch` is called with (distinct masked rows done, distinct masked rows in all).

    Raises:
        ProbeError: a text is longer than the model reads, has no token to score, or has a prompt (the message names
            the item), the roles do not fit the protocol, or the tokenizer does not know the texts.
        MetricError: a score is not finite (the message names the item), or the protocol is unknown.
        ModelError: not a masked language model, or its tokenizer has no mask token or more tokens than the model.
    """
    wanted = masked_protocol(protocol)
    was_training = loaded.model.training
    loaded.model.eval()
    try:
        with torch.inference_mode():
            forward = MaskedForward(loaded, precision=precision)
            blocks = [probes.probes[first : first + _BLOCK] for first in range(0, len(probes), _BLOCK)]
            # All is checked and counted before the first forward pass, and read again block by block: what masked rows
            # there are takes far more memory than their scores.
            _require_known(forward, probes)
            total = sum(_distinct(asked) for block in blocks for asked in (_asked(forward, probes, block, wanted),))
            scores = {role: array("d") for role in probes.roles}
            counts = {role: array("q") for role in probes.roles}
            done = 0
            for block in blocks:
                asked = _asked(forward, probes, block, wanted)
                told = None if on_batch is None else functools.partial(_tell, on_batch, done, total)
                answers = iter(
                    _log_probs(
                        forward, [p for by in asked for role in probes.roles for p in by[role]], batch_tokens, told
                    )
                )
                for by_role in asked:
                    for role in probes.roles:
                        counts[role].append(len(by_role[role]))
                        scores[role].append(wanted.combine([next(answers) for _ in by_role[role]]))
                done += _distinct(asked)
    finally:
        loaded.model.train(was_training)
    return ProbeScores(
        probe_set=probes.name,
        probe_digest=probes.digest,
        protocol=protocol,
        ids=tuple(probe.id for probe in probes.probes),
        axes=tuple(probe.axis for probe in probes.probes),
        clusters=tuple(probe.cluster for probe in probes.probes),
        log_probs={role: tuple(found) for role, found in scores.items()},
        tokens={role: tuple(found) for role, found in counts.items()},
        templates=probes.templates,
        fields=tuple(probe.fields for probe in probes.probes) if any(probe.fields for probe in probes.probes) else (),
    )


def _tell(on_batch: OnBatch, before: int, total: int, done: int, _: int) -> None:
    on_batch(before + done, total)


def _distinct(asked: Sequence[Mapping[str, Sequence[Prediction]]]) -> int:
    return len({(row, position) for by_role in asked for found in by_role.values() for row, position, _ in found})


def _asked(
    forward: MaskedForward, probes: ProbeSet, block: Sequence[Probe], protocol: MaskedProtocol
) -> list[dict[str, list[Prediction]]]:
    """The predictions of each role of some probes, whose texts are checked."""
    asked = []
    for probe, texts in zip(block, _encoded(forward, probes, block), strict=True):
        by_role = protocol.ask(probe, texts, forward.mask_id)
        for role in probes.roles:
            if not by_role[role]:
                raise ProbeError(
                    f"probe {probe.id!r} ({role}) has no token to score under protocol {protocol.name!r}",
                    where=f"probe set {probes.name!r}",
                    fix="give it a longer text, or leave the item out",
                )
        asked.append(by_role)
    return asked


def _encoded(forward: MaskedForward, probes: ProbeSet, block: Sequence[Probe]) -> list[dict[str, EncodedText]]:
    loaded, roles = forward.loaded, probes.roles
    found = encode_masked(loaded, [probe.texts[role] for probe in block for role in roles])
    for index, text in enumerate(found):
        if forward.longest is not None and len(text.ids) > forward.longest:
            probe, role = block[index // len(roles)], roles[index % len(roles)]
            raise ProbeError(
                f"probe {probe.id!r} ({role}) has {len(text.ids)} tokens, special ones included, and model"
                f" {loaded.source.name!r} reads at most {forward.longest}",
                where=f"probe set {probes.name!r}",
                fix="shorten the text or leave the item out; a truncated text would get another item's score",
            )
    require_embedded(loaded, [*(text.ids for text in found), (forward.mask_id,)])
    width = len(roles)
    return [dict(zip(roles, found[i * width : (i + 1) * width], strict=True)) for i in range(len(block))]


def _require_known(forward: MaskedForward, probes: ProbeSet) -> None:
    """Checks that there is no prompt, and that the tokenizer knows most of the words of all texts."""
    loaded = forward.loaded
    prompted = next((probe for probe in probes.probes if probe.prompt), None)
    if prompted is not None:
        raise ProbeError(
            f"probe {prompted.id!r} has a prompt, and protocols of masked models score whole texts",
            where=f"probe set {probes.name!r}",
            fix="score it with a causal model, or write the prompt into the texts",
        )
    unknown = count = 0.0
    for first in range(0, len(probes), _BLOCK):
        texts = [text for probe in probes.probes[first : first + _BLOCK] for text in probe.texts.values()]
        # The first id of a row is not counted, so one is put there that is no token of the text.
        found = encode_masked(loaded, texts)
        rows = [(forward.mask_id, *(text.ids[at] for at in text.content)) for text in found]
        own = sum(len(row) - 1 for row in rows)
        unknown += own * unknown_share(loaded.tokenizer, rows)
        count += own
    if count and unknown / count > MOST_UNKNOWN:
        raise ProbeError(
            f"{unknown / count:.0%} of the tokens of probe set {probes.name!r} are unknown to the tokenizer of model"
            f" {loaded.source.name!r} ({loaded.tokenizer.unk_token}), so scores would compare that one token",
            where=f"probe set {probes.name!r}",
            fix="use a model whose tokenizer knows this text",
        )


def encode_masked(loaded: LoadedModel, texts: Sequence[str]) -> list[EncodedText]:
    """Texts as the model reads them, with the special tokens that its tokenizer puts around them.

    A text that spells a special token gets the pieces of its spelling, where the tokenizer can do so.
    """
    tokenizer = loaded.tokenizer
    output = tokenizer(
        list(texts),
        add_special_tokens=True,
        split_special_tokens=True,
        return_special_tokens_mask=True,
        return_attention_mask=False,
        return_token_type_ids=False,
        return_offsets_mapping=bool(tokenizer.is_fast),
        verbose=False,
    )
    spans = output["offset_mapping"] if tokenizer.is_fast else [()] * len(texts)
    return [
        EncodedText(
            text=text,
            ids=tuple(ids),
            content=tuple(at for at, is_special in enumerate(special) if not is_special),
            spans=tuple((int(first), int(end)) for first, end in of_text),
        )
        for text, ids, special, of_text in zip(
            texts, output["input_ids"], output["special_tokens_mask"], spans, strict=True
        )
    ]


def _log_probs(
    forward: MaskedForward, asked: Sequence[Prediction], batch_tokens: int, on_batch: OnBatch | None
) -> list[float]:
    """The log-probability of each prediction, in the order given."""
    # Texts of one probe differ in a word: where that is masked, one row answers for all of them.
    targets: dict[_Context, dict[int, float]] = {}
    for row, position, token in asked:
        targets.setdefault((row, position), {})[token] = 0.0
    done = 0
    most_rows = max(1, _MOST_LOGITS // forward.vocabulary)
    waiting: list[_Context] = []
    states: list[torch.Tensor] = []
    for batch in _batches(sorted(targets, key=lambda context: len(context[0])), batch_tokens, most_rows):
        states.append(forward.states_at([row for row, _ in batch], [position for _, position in batch]))
        waiting += batch
        done += len(batch)
        # The head is a large matrix, and reading it once for many rows is cheaper.
        if len(waiting) >= forward.at_once or done == len(targets):
            of = [index for index, context in enumerate(waiting) for _ in targets[context]]
            tokens = [token for context in waiting for token in targets[context]]
            found = forward.log_probs_of(torch.cat(states), torch.tensor(tokens), torch.tensor(of))
            answers = iter(found.tolist())
            for context in waiting:
                for token in targets[context]:
                    targets[context][token] = next(answers)
            waiting, states = [], []
        if on_batch is not None:
            on_batch(done, len(targets))
    return [targets[row, position][token] for row, position, token in asked]


def _batches(contexts: Sequence[_Context], batch_tokens: int, most_rows: int) -> Iterator[Sequence[_Context]]:
    """Cuts contexts that are sorted by length, so that rows x longest row keeps within the budget where it can."""
    start = 0
    for end in range(1, len(contexts) + 1):
        count = end + 1 - start
        if end == len(contexts) or len(contexts[end][0]) * count > batch_tokens or count > most_rows:
            yield contexts[start:end]
            start = end
