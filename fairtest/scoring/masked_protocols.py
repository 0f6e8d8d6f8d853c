"""Which tokens a masked language model is asked for, and what becomes of its answers. Plain Python, no torch.

A protocol turns a probe into single predictions (a row of token ids with a mask, the position of the mask, the token
that stood there) and the log-probabilities of these into one score per text.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from fairtest.errors import MetricError, ModelError, ProbeError
from fairtest.probes.probe import ANTI_STEREOTYPE, STEREOTYPE, Probe
from fairtest.scoring.scores import ProbeScores

MLM_UNMODIFIED, MLM_PLL, MLM_STEREOSET = "mlm-unmodified", "mlm-pll", "mlm-stereoset"

Row = tuple[int, ...]
Span = tuple[int, int]


class Prediction(NamedTuple):
    """What is the probability of `token` at `position` of `row`, where the mask is?"""

    row: Row
    position: int
    token: int


@dataclass(frozen=True, slots=True)
class EncodedText:
    """A text as the model reads it.

    Args:
        content: positions in `ids` of the text's own tokens; the others are special ([CLS], [SEP]).
        spans: characters of each token, as (first, one past the last); empty where the tokenizer cannot say.
    """

    text: str
    ids: Row
    content: tuple[int, ...]
    spans: tuple[Span, ...]


Asked = dict[str, list[Prediction]]


@dataclass(frozen=True)
class MaskedProtocol:
    """A named way to score texts with a masked language model; a changed one gets another version.

    Args:
        ask: the predictions of each role of a probe, from its encoded texts by role and the id of the mask.
        combine: the score of a text (nats) from the log-probabilities of its predictions.
    """

    name: str
    version: str
    description: str
    source: str
    ask: Callable[[Probe, Mapping[str, EncodedText], int], Asked]
    combine: Callable[[Sequence[float]], float]


def masked_protocol(name: str) -> MaskedProtocol:
    """The protocol of that name.

    Raises:
        MetricError: there is none.
    """
    if name not in MASKED_PROTOCOLS:
        raise MetricError(
            f"unknown scoring protocol {name!r} for a masked language model",
            where="protocol",
            fix=f"known protocols: {', '.join(MASKED_PROTOCOLS)}",
        )
    return MASKED_PROTOCOLS[name]


def require_protocol(scores: ProbeScores, protocol: str) -> None:
    """Checks that scores are those a definition was published for.

    Raises:
        MetricError: texts were scored in another way.
    """
    if scores.protocol != protocol:
        raise MetricError(
            f"this metric reads scores of protocol {protocol!r}, and got those of {scores.protocol!r}",
            where=f"probe set {scores.probe_set!r}",
            fix=f"score a masked language model with score_masked_probe_set(..., protocol={protocol!r})",
        )


def _hidden_at(text: EncodedText, position: int, mask_id: int) -> Prediction:
    row = (*text.ids[:position], mask_id, *text.ids[position + 1 :])
    return Prediction(row, position, text.ids[position])


def ask_every_token(_probe: Probe, texts: Mapping[str, EncodedText], mask_id: int) -> Asked:
    """Every token of the text, sub-tokens too, each masked alone."""
    return {role: [_hidden_at(text, at, mask_id) for at in text.content] for role, text in texts.items()}


def ask_shared_tokens(probe: Probe, texts: Mapping[str, EncodedText], mask_id: int) -> Asked:
    """Every token that two texts share, each masked alone.

    What is shared is what `difflib.SequenceMatcher` calls equal, on token ids, the stereotypical text first: it is the
    authors' matcher, and another one would share other tokens where several alignments are as long.

    Raises:
        ProbeError: a probe without exactly two roles.
    """
    if len(texts) != 2:
        raise ProbeError(
            f"protocol {MLM_UNMODIFIED!r} compares two texts, and probe {probe.id!r} has {len(texts)}:"
            f" {', '.join(sorted(texts))}",
            where=f"probe {probe.id!r}",
            fix=f"score it under {MLM_PLL!r}, or under {MLM_STEREOSET!r} where the texts differ in one word",
        )
    first, second = (STEREOTYPE, ANTI_STEREOTYPE) if set(texts) == {STEREOTYPE, ANTI_STEREOTYPE} else sorted(texts)
    left, right = texts[first], texts[second]
    own = set(left.content), set(right.content)
    asked: Asked = {first: [], second: []}
    for match in difflib.SequenceMatcher(None, left.ids, right.ids).get_matching_blocks():
        for at_left in range(match.a, match.a + match.size):
            at_right = at_left - match.a + match.b
            if at_left in own[0] and at_right in own[1]:
                asked[first].append(_hidden_at(left, at_left, mask_id))
                asked[second].append(_hidden_at(right, at_right, mask_id))
    return asked


def ask_blank(probe: Probe, texts: Mapping[str, EncodedText], mask_id: int) -> Asked:
    """The sub-tokens of the word in the blank from left to right.

    For each, the row has the sub-tokens before it, one mask, and none of those after it: the model does not learn from
    the number of masks how long the word is. The same context serves the first sub-token of all texts.

    Raises:
        ProbeError: the texts do not differ in a blank.
        ModelError: the tokenizer does not say which characters a token stands for.
    """
    asked: Asked = {}
    for (role, text), spans in zip(texts.items(), blanks([text.text for text in texts.values()]), strict=True):
        if len(text.spans) != len(text.ids):
            raise ModelError(
                f"protocol {MLM_STEREOSET!r} needs to know which tokens fill the blank, and this tokenizer does not say"
                " which characters a token stands for",
                where="tokenizer",
                fix="save the model with a fast tokenizer (tokenizer.json)",
            )
        ranges = [_tokens_of(text, span) for span in spans]
        if not spans or any(not found for found in ranges):
            raise ProbeError(
                f"the texts of probe {probe.id!r} do not differ in a word that has tokens of its own ({role})",
                where=f"probe {probe.id!r}",
                fix=f"give texts that fill one blank differently, or score them under {MLM_PLL!r}",
            )
        pieces = [text.ids[at] for at in ranges[0]]
        asked[role] = []
        for count, token in enumerate(pieces):
            row: list[int] = []
            end = 0
            for found in ranges:
                row += [*text.ids[end : found.start], *pieces[:count], mask_id]
                end = found.stop
            asked[role].append(Prediction((*row, *text.ids[end:]), ranges[0].start + count, token))
    return asked


def blanks(texts: Sequence[str]) -> list[list[Span]]:
    """For each text the characters in which it differs from the others: the blank that they fill differently.

    Whole words differ or not; punctuation around them that all texts have is outside. Almost always that is one span.
    A blank that occurs twice, filled with the same word both times, is two spans. No span: the texts are the same.
    """
    words = [[found.span() for found in re.finditer(r"\S+", text)] for text in texts]
    spelled = [[text[a:b] for a, b in found] for text, found in zip(texts, words, strict=True)]
    shortest = min(map(len, words))
    if max(map(len, words)) == shortest:
        differing = [index for index in range(shortest) if len({found[index] for found in spelled}) > 1]
        starts = [index for index in differing if index - 1 not in differing]
        ends = [index for index in differing if index + 1 not in differing]
        runs = [_trimmed(texts, [(w[i][0], w[j][1]) for w in words]) for i, j in zip(starts, ends, strict=True)]
        of_texts = [[run[index] for run in runs] for index in range(len(texts))]
        if all(len({text[a:b] for a, b in spans}) <= 1 for text, spans in zip(texts, of_texts, strict=True)):
            return of_texts
    if shortest == 0:
        return [[] for _ in texts]
    before = min(_alike(spelled), shortest - 1)
    after = min(_alike([found[::-1] for found in spelled]), shortest - 1 - before)
    whole = [(found[before][0], found[len(found) - 1 - after][1]) for found in words]
    return [[span] for span in _trimmed(texts, whole)]


def _alike(sequences: Sequence[Sequence[str]]) -> int:
    """How many elements all sequences have in common at their start."""
    columns = enumerate(zip(*sequences, strict=False))
    return next((index for index, column in columns if len(set(column)) > 1), min(map(len, sequences)))


def _trimmed(texts: Sequence[str], spans: Sequence[Span]) -> list[Span]:
    """The spans without what all of them begin with up to a punctuation mark, and end with from one on."""
    fills = [text[a:b] for text, (a, b) in zip(texts, spans, strict=True)]
    cut = []
    for written in (fills, [fill[::-1] for fill in fills]):
        same = written[0][: _alike(written)]
        cut.append(max((mark.end() for mark in re.finditer(r"\W", same)), default=0))
    if any(len(fill) <= sum(cut) for fill in fills):
        return list(spans)
    return [(a + cut[0], b - cut[1]) for a, b in spans]


def _tokens_of(text: EncodedText, span: Span) -> range:
    """Positions of the tokens between those of the text before the span and those of the text after it.

    The white space in front of the span is the span's own: where a tokenizer makes a token of it, that begins the word.
    """
    begin, end = span
    before = len(text.text[:begin].rstrip())
    left = [at for at in text.content if text.spans[at][0] < before and text.spans[at][1] <= begin]
    right = [at for at in text.content if text.spans[at][0] >= end]
    first = left[-1] + 1 if left else text.content[0]
    return range(first, right[0] if right else text.content[-1] + 1)


def _log_of_mean(log_probs: Sequence[float]) -> float:
    highest = max(log_probs)
    if not math.isfinite(highest):
        return highest
    return highest + math.log(math.fsum(math.exp(one - highest) for one in log_probs) / len(log_probs))


MASKED_PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        MaskedProtocol(
            name=MLM_UNMODIFIED,
            version="1",
            description="Sum over the tokens that both texts share of log p(token | all others), that token masked.",
            source="Nangia et al. 2020 (arXiv 2010.00133), section 3",
            ask=ask_shared_tokens,
            combine=math.fsum,
        ),
        MaskedProtocol(
            name=MLM_PLL,
            version="1",
            description="Pseudo-log-likelihood: sum over all tokens of log p(token | all others), that token masked.",
            source="Salazar et al. 2020 (arXiv 1910.14659), section 2",
            ask=ask_every_token,
            combine=math.fsum,
        ),
        MaskedProtocol(
            name=MLM_STEREOSET,
            version="1",
            description="Log of the mean probability of the blank's sub-tokens, each from the text around the blank and"
            " the sub-tokens before it.",
            source="Nadeem et al. 2021 (arXiv 2004.09456) and its evaluation script, intrasentence",
            ask=ask_blank,
            combine=_log_of_mean,
        ),
    )
}
