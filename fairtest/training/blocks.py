"""Rows of tokens that a text is trained and scored in."""

from __future__ import annotations

from collections.abc import Sequence

from fairtest.errors import TrainingError
from fairtest.specs import LONG_TEXTS


def blocks_of(ids: Sequence[int], max_length: int | None, long_texts: str) -> list[list[int]]:
    """The rows, of at most `max_length` tokens each, of one text's ids, of which the first is the BOS token.

    "cut" gives one row, without what is beyond `max_length`. "blocks" gives consecutive rows, each with the BOS token
    in front, in which every token of the text stands once. Rows hold tokens of this text alone, so they belong to its
    privacy unit and to no other. A text without tokens is one row of the BOS token.

    Args:
        ids: the BOS token and the text's tokens.
        max_length: None: no limit, one row.
        long_texts: "cut" or "blocks".

    Raises:
        TrainingError: `long_texts` is unknown, or a block has no room for a token.
    """
    if long_texts not in LONG_TEXTS:
        raise TrainingError(
            f"long_texts must be one of {', '.join(LONG_TEXTS)}, got {long_texts!r}", where="long_texts", fix="give one"
        )
    if max_length is None or len(ids) <= max_length:
        return [list(ids)]
    if long_texts == "cut":
        return [list(ids[:max_length])]
    room = max_length - 1
    if room < 1:
        raise TrainingError(
            f"a block of max_length {max_length} has no room for a token after the one in front",
            where="max_length",
            fix="give at least 2, and rather 128",
        )
    return [[ids[0], *ids[start : start + room]] for start in range(1, len(ids), room)]
