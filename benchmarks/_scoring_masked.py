"""The ways to score a text with a masked model that are compared, and what cannot be left out of them."""

from __future__ import annotations

import difflib
import functools
from collections import defaultdict

import torch
from _scoring_limit import Work
from _scoring_methods import FAIRTEST, LOOP, Method, Score, batches, silence
from _scoring_models import texts_of

from fairtest.probes.probe import ProbeSet
from fairtest.scoring.masked import encode_masked, score_masked_probe_set
from fairtest.scoring.masked_protocols import MLM_PLL, MLM_UNMODIFIED, masked_protocol
from fairtest.training.models import LoadedModel

BATCH = 4  # texts, not rows: a text of 20 tokens is 20 rows, with logits of 50,257 ids at each of their 20 positions


def fairtest(loaded: LoadedModel, probes: ProbeSet, *, protocol: str) -> Score:
    """This library."""

    def score() -> list[float]:
        scores = score_masked_probe_set(loaded, probes, protocol=protocol)
        return [
            value for item in zip(*(scores.log_probs[role] for role in probes.roles), strict=True) for value in item
        ]

    return score


def published_loop(loaded: LoadedModel, probes: ProbeSet) -> Score:
    """As Nangia et al. (2020) do it: each token that two sentences share, one forward pass for each, all logits."""
    mask = loaded.tokenizer.mask_token_id

    def shared(one: torch.Tensor, other: torch.Tensor) -> tuple[list[int], list[int]]:
        matcher = difflib.SequenceMatcher(None, [str(i) for i in one.tolist()], [str(i) for i in other.tolist()])
        same = [code for code in matcher.get_opcodes() if code[0] == "equal"]
        left = [at for _, begin, end, _, _ in same for at in range(begin, end)]
        right = [at for _, _, _, begin, end in same for at in range(begin, end)]
        return left[1:-1], right[1:-1]  # [CLS] and [SEP]

    @torch.inference_mode()
    def score() -> list[float]:
        found = []
        for probe in probes.probes:
            pair = [loaded.tokenizer.encode(probe.texts[role], return_tensors="pt")[0] for role in probes.roles]
            for ids, positions in zip(pair, shared(*pair), strict=True):
                found.append(sum(_masked_at(loaded, ids, at, mask) for at in positions))
        return found

    return score


def every_token_loop(loaded: LoadedModel, probes: ProbeSet) -> Score:
    """Pseudo-log-likelihood by definition: each token of a text, one forward pass for each, all logits."""
    texts, mask = texts_of(probes), loaded.tokenizer.mask_token_id

    @torch.inference_mode()
    def score() -> list[float]:
        rows = [loaded.tokenizer.encode(text, return_tensors="pt")[0] for text in texts]
        return [sum(_masked_at(loaded, ids, at, mask) for at in range(1, len(ids) - 1)) for ids in rows]

    return score


def _masked_at(loaded: LoadedModel, ids: torch.Tensor, position: int, mask: int) -> float:
    masked = ids.clone()
    masked[position] = mask
    logits = loaded.model(masked[None]).logits[0]
    return float(logits[position].log_softmax(-1)[ids[position]])


def minicons(loaded: LoadedModel, probes: ProbeSet) -> Score:
    """MaskedLMScorer, pseudo-log-likelihood over all tokens, batch by batch in the order of the texts.

    It is given encodings, which it takes as well as texts: to encode, it calls what transformers 5 no longer has.
    """
    from minicons.scorer import MaskedLMScorer

    with silence():
        scorer = MaskedLMScorer(loaded.model, "cpu", tokenizer=loaded.tokenizer)
    texts = texts_of(probes)

    def score() -> list[float]:
        return [
            value
            for batch in batches(texts, BATCH)
            for value in scorer.sequence_score(
                loaded.tokenizer(batch, padding=True), reduction=lambda each: each.sum(0).item()
            )
        ]

    return score


PROTOCOLS: dict[str, dict[str, tuple[str, Method]]] = {  # by protocol: the module that must be there, and the method
    MLM_UNMODIFIED: {
        FAIRTEST: ("fairtest", functools.partial(fairtest, protocol=MLM_UNMODIFIED)),
        LOOP: ("fairtest", published_loop),
    },
    MLM_PLL: {
        FAIRTEST: ("fairtest", functools.partial(fairtest, protocol=MLM_PLL)),
        LOOP: ("fairtest", every_token_loop),
        f"minicons, batch {BATCH}": ("minicons", minicons),
    },
}


def masked_work(loaded: LoadedModel, probes: ProbeSet, protocol: str) -> Work:
    """Each distinct masked row once: the last layer needs keys and values of all its tokens, the rest at the mask, and
    the first layer's queries, keys and values are those of the distinct tokens at a place. (At least two layers.)
    """
    texts = iter(encode_masked(loaded, texts_of(probes)))
    mask = loaded.tokenizer.mask_token_id
    rows = set()
    for probe in probes.probes:
        asked = masked_protocol(protocol).ask(probe, {role: next(texts) for role in probes.roles}, mask)
        rows |= {(prediction.row, prediction.position) for each in asked.values() for prediction in each}
    config = loaded.model.config
    width, layers = config.hidden_size, config.num_hidden_layers
    tokens = sum(len(row) for row, _ in rows)
    squares = sum(len(row) ** 2 for row, _ in rows)
    below = (layers - 1) * tokens  # pairs of layer and token
    distinct = len({(token, place) for row, _ in rows for place, token in enumerate(row)})
    times = defaultdict(float)
    times[width, width] = 4 * below - 3 * (tokens - distinct)
    times[width, width] += 2 * tokens + 3 * len(rows)  # the head transforms its state once more
    times[width, 4 * width] = times[4 * width, width] = below + len(rows)
    times[width, config.vocab_size] = len(rows)
    operations = {size: 2.0 * size[0] * size[1] * count for size, count in times.items()}
    operations[width, width] += 4.0 * width * ((layers - 1) * squares + tokens)  # attention
    return Work(operations)
