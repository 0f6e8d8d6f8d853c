"""Held-out texts in a row, and what of them is evidence of its own."""

from __future__ import annotations

import numpy as np
import pytest

from fairtest.corpora.readers import read_corpus
from fairtest.experiments.held_out import flat
from fairtest.statistics.intervals import perplexity_ratio_interval

ROWS = [
    *({"text": f"Report {number} was read.", "author": f"a{number}"} for number in range(12)),
    *({"text": "Terms apply.", "author": f"b{number}"} for number in range(60)),
]


def test_a_text_that_stands_there_many_times_is_one_piece_of_evidence():
    texts, units, _ = flat(read_corpus(ROWS), None)
    assert (len(texts), len(set(units))) == (72, 13)
    losses = np.array([[3.0 + 0.1 * (number % 4) for number in range(12)] + [4.0] * 60])
    tokens = np.full(72, 5.0)
    alone = perplexity_ratio_interval(losses, losses - 0.2 * (losses > 3.9), tokens)
    linked = perplexity_ratio_interval(losses, losses - 0.2 * (losses > 3.9), tokens, units)
    assert linked.estimate == pytest.approx(alone.estimate)
    assert linked.high - linked.low > 5 * (alone.high - alone.low)


def test_named_units_are_those_that_are_named_whatever_they_wrote():
    _, units, _ = flat(read_corpus(ROWS, unit_field="author"), None)
    assert len(set(units)) == 72
    _, named, _ = flat(read_corpus(ROWS), None, "author")
    assert named == units
