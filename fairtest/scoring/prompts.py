"""Where scoring begins in a text that stands after a prompt.

Prompt and text are one string to the tokenizer, as they would be to a reader, so a token may hold the end of the one
and the beginning of the other. The texts of an item are compared with each other, so they are all scored from the same
character: the first one of the earliest token that holds a character of its text. Where no token spans the boundary
that is the text itself; where one does, what it holds of the prompt counts for every text of the item alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile

from transformers import PreTrainedTokenizerBase

from fairtest.training.forward import bos_id, encode

_AT_ONCE = 512


def prompt_lengths(tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str], texts: Sequence[str]) -> list[int]:
    """How many tokens of each prompt + text, as `encode` gives them and without its BOS token, are the prompt's alone.

    A fast tokenizer says which characters a token is made of: the prompt's are those before the first token that ends
    after the prompt. A slow one does not, and its tokens are the prompt's as long as the prompt alone has the same.
    """
    counts: list[int] = []
    # The places of all tokens of a large set would fill the memory.
    for first in range(0, len(texts), _AT_ONCE):
        some = slice(first, first + _AT_ONCE)
        count = _by_characters if tokenizer.is_fast else _by_prefix
        counts += count(tokenizer, prompts[some], [p + t for p, t in zip(prompts[some], texts[some], strict=True)])
    return counts


def _by_characters(tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str], wholes: Sequence[str]) -> list[int]:
    bos = bos_id(tokenizer)
    encoded = tokenizer(
        list(wholes),
        add_special_tokens=False,
        split_special_tokens=True,
        return_attention_mask=False,
        return_token_type_ids=False,
        return_offsets_mapping=True,
        verbose=False,
    )
    counts = []
    for prompt, ids, places in zip(prompts, encoded["input_ids"], encoded["offset_mapping"], strict=True):
        before = next((index for index, (_, end) in enumerate(places) if end > len(prompt)), len(places))
        stripped = next((index for index, token in enumerate(ids) if token != bos), len(ids))  # as `encode` does
        counts.append(max(0, before - stripped))
    return counts


def _by_prefix(tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str], wholes: Sequence[str]) -> list[int]:
    alone, together = encode(tokenizer, prompts), encode(tokenizer, wholes)
    return [common_prefix(pair) - 1 for pair in zip(alone, together, strict=True)]


def common_prefix(rows: Sequence[Sequence[int]]) -> int:
    """With how many of the same ids all rows (at least one) begin."""
    columns = zip(*rows, strict=False)
    return sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, columns))
