"""One vector a sentence from a language model's last hidden states, for association tests.

Protocols, by name:
    causal-mean  mean over the tokens of the text. One BOS token in front is context and not counted: its state is the
                 same for every text, and often so much larger than all others that cosines would see little else.
    causal-last  the state of the text's last token, the only one that has read all of it (May et al. 2019 for GPT).
    masked-cls   the state of the [CLS] token (May et al. 2019 for BERT).
    masked-mean  mean over all tokens, [CLS] and [SEP] too.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fairtest.errors import MetricError, ModelError, ProbeError
from fairtest.training.forward import MOST_UNKNOWN, CausalForward, TokenBatch, encode, require_embedded, unknown_share
from fairtest.training.models import LoadedModel

CAUSAL_MEAN, CAUSAL_LAST, MASKED_CLS, MASKED_MEAN = "causal-mean", "causal-last", "masked-cls", "masked-mean"
PROTOCOLS = (CAUSAL_MEAN, CAUSAL_LAST, MASKED_CLS, MASKED_MEAN)
_EXACT = 1e-6
_Row = tuple[int, ...]
_Body = Callable[[TokenBatch], Tensor]  # last hidden states [B, T, d]


def sentence_embeddings(
    loaded: LoadedModel, texts: Sequence[str], *, protocol: str = CAUSAL_MEAN, batch_tokens: int = 4096
) -> npt.NDArray[np.float64]:
    """Embeddings [n, d] of n texts, in their order; `batch_tokens` (padding included) changes nothing beyond rounding.

    Raises:
        MetricError: an unknown protocol, or a weight or an embedding that is not finite.
        ProbeError: no text, a text without a token or too long for the model, or texts that the tokenizer does not
            know.
        ModelError: a masked protocol with a causal model, or the reverse; or a tokenizer that lacks what the protocol
            puts in front.
    """
    if protocol not in PROTOCOLS:
        raise MetricError(
            f"unknown embedding protocol {protocol!r}",
            where="protocol",
            fix=f"known protocols: {', '.join(PROTOCOLS)}",
        )
    masked = protocol in (MASKED_CLS, MASKED_MEAN)
    rows = _masked_rows(loaded, texts) if masked else [tuple(row) for row in encode(loaded.tokenizer, texts)]
    _require_readable(loaded, texts, rows, _added(loaded) if masked else 1)
    found: dict[_Row, npt.NDArray[np.float64]] = {}
    was_training = loaded.model.training
    loaded.model.eval()
    try:
        with torch.inference_mode():
            body = _masked_body(loaded, rows[0]) if masked else _causal_body(loaded)
            for batch in _batches(sorted(set(rows), key=lambda row: (len(row), row)), batch_tokens):
                states = body(TokenBatch.from_ids(batch)).double().cpu()
                for row, of_row in zip(batch, states, strict=True):
                    found[row] = _pooled(of_row[: len(row)], protocol).numpy()
    finally:
        loaded.model.train(was_training)
    embeddings = np.stack([found[row] for row in rows])
    for index in map(int, np.flatnonzero(~np.isfinite(embeddings).all(axis=1))):
        raise MetricError(
            f"the embedding of text {index} is not finite: {texts[index][:40]!r}",
            where=f"texts[{index}], model {loaded.source.name!r}",
            fix="check the model's weights (a diverged run gives NaN)",
        )
    return embeddings


def _pooled(states: Tensor, protocol: str) -> Tensor:
    """One vector [d] of the states [T, d] of a row, without its padding."""
    if protocol == MASKED_CLS:
        return states[0]
    if protocol == CAUSAL_LAST:
        return states[-1]
    return states[1:].mean(0) if protocol == CAUSAL_MEAN else states.mean(0)


def _batches(rows: Sequence[_Row], batch_tokens: int) -> Iterator[Sequence[_Row]]:
    """Cuts rows that are sorted by length, so that number x longest stays within the budget where it can."""
    start = 0
    for end in range(1, len(rows) + 1):
        if end == len(rows) or len(rows[end]) * (end + 1 - start) > batch_tokens:
            yield rows[start:end]
            start = end


def _require_readable(loaded: LoadedModel, texts: Sequence[str], rows: Sequence[_Row], added: int) -> None:
    if not rows:
        raise ProbeError("there is no text to embed", where="texts", fix="give at least one")
    positions = getattr(loaded.model.config.get_text_config(), "max_position_embeddings", None)
    longest = min(int(loaded.tokenizer.model_max_length), sys.maxsize if positions is None else positions)
    for index, row in enumerate(rows):
        if not added < len(row) <= longest:
            raise ProbeError(
                f"text {index} has {len(row) - added} tokens, and model {loaded.source.name!r} reads 1 to"
                f" {longest - added}: {texts[index][:40]!r}",
                where=f"texts[{index}]",
                fix="leave it out; a truncated text would get another one's embedding",
            )
    require_embedded(loaded, rows)
    if (share := unknown_share(loaded.tokenizer, rows)) > MOST_UNKNOWN:
        raise ProbeError(
            f"{share:.0%} of the tokens of {len(texts)} texts are unknown to the tokenizer of model"
            f" {loaded.source.name!r} ({loaded.tokenizer.unk_token}), so embeddings would compare that one token",
            where="texts",
            fix="use a model whose tokenizer knows these texts",
        )
    named = dict(loaded.model.named_parameters())
    finite = torch.stack([parameter.isfinite().all() for parameter in named.values()]).tolist()
    for name, sound in zip(named, finite, strict=True):
        if not sound:
            raise MetricError(
                f"no text can be embedded: weight {name!r} of model {loaded.source.name!r} is not finite",
                where=loaded.source.location,
                fix="train it again with a smaller learning rate; a diverged run gives NaN",
            )


def _added(loaded: LoadedModel) -> int:
    return int(loaded.tokenizer.num_special_tokens_to_add(pair=False))


def _masked_rows(loaded: LoadedModel, texts: Sequence[str]) -> list[_Row]:
    if not texts:
        return []
    tokenizer = loaded.tokenizer
    rows = tokenizer(
        list(texts),
        split_special_tokens=True,  # a text that spells [MASK] has no mask
        return_attention_mask=False,
        return_token_type_ids=False,
        verbose=False,
    )["input_ids"]
    if tokenizer.cls_token_id is None or any(row[:1] != [tokenizer.cls_token_id] for row in rows):
        raise ModelError(
            f"the tokenizer of model {loaded.source.name!r} puts no [CLS] token in front of a text",
            where=str(tokenizer.name_or_path),
            fix=f"use a masked language model (BERT, RoBERTa, ...), or the protocol {CAUSAL_MEAN!r}",
        )
    return [tuple(row) for row in rows]


def _causal_body(loaded: LoadedModel) -> _Body:
    forward = CausalForward(loaded)
    # Where head and body do not come apart, `hidden` gives logits; the body alone still has its states.
    return forward.hidden if forward.splits else _body(loaded)


def _masked_body(loaded: LoadedModel, row: _Row) -> _Body:
    """The body of a model whose first token sees those after it.

    Raises:
        ModelError: it does not.
    """
    body = _body(loaded)
    first, second = (body(TokenBatch.from_ids([ids]))[0, 0] for ids in (row, (*row[:-1], row[0])))
    if torch.allclose(first, second, rtol=0.0, atol=_EXACT):
        raise ModelError(
            f"model {loaded.source.name!r} reads from left to right: its first token has not seen the text",
            where=loaded.source.location,
            fix=f"use the protocol {CAUSAL_MEAN!r} or {CAUSAL_LAST!r} with this model",
        )
    return body


def _body(loaded: LoadedModel) -> _Body:
    model = loaded.model.base_model
    if model is loaded.model:
        raise ModelError(
            f"model {loaded.source.name!r} ({type(model).__name__}) has no body apart from its head",
            where=loaded.source.location,
            fix="give a language model of transformers that has a base model",
        )
    device = next(iter(model.parameters())).device

    def states(batch: TokenBatch) -> Tensor:
        inputs = {"input_ids": batch.input_ids.to(device), "attention_mask": batch.mask.to(device, torch.long)}
        found: Tensor = model(**inputs).last_hidden_state
        return found

    return states
