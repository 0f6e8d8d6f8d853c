from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairtest.errors import TrainingError
from fairtest.training.blocks import blocks_of

BOS = 0
texts = st.lists(st.integers(0, 9), min_size=1, max_size=60).map(lambda tokens: [BOS, *tokens])


@given(texts, st.integers(2, 20))
def test_blocks_hold_every_token_once_in_order_each_behind_a_bos(ids, max_length):
    blocks = blocks_of(ids, max_length, "blocks")
    assert [token for block in blocks for token in block[1:]] == ids[1:]
    assert all(block[0] == BOS for block in blocks)
    assert all(2 <= len(block) <= max_length for block in blocks)


@given(texts, st.integers(2, 20))
def test_there_are_as_few_blocks_as_can_be_and_all_but_the_last_are_full(ids, max_length):
    blocks = blocks_of(ids, max_length, "blocks")
    assert len(blocks) == -(-(len(ids) - 1) // (max_length - 1))
    assert all(len(block) == max_length for block in blocks[:-1])


@given(texts, st.integers(1, 80))
def test_a_cut_text_is_one_row_and_the_beginning_of_it(ids, max_length):
    assert blocks_of(ids, max_length, "cut") == [ids[:max_length]]


@given(texts, st.sampled_from(["cut", "blocks"]))
def test_a_text_that_fits_is_one_row_either_way(ids, long_texts):
    assert blocks_of(ids, len(ids), long_texts) == blocks_of(ids, None, long_texts) == [ids]


@given(texts, st.integers(2, 20), st.sampled_from(["cut", "blocks"]))
def test_the_ids_are_left_as_they_were_and_shared_with_no_row(ids, max_length, long_texts):
    before = list(ids)
    for block in blocks_of(ids, max_length, long_texts):
        block.clear()
    assert ids == before


def test_blocks_by_hand():
    assert blocks_of([0, 1, 2, 3, 4, 5], 3, "blocks") == [[0, 1, 2], [0, 3, 4], [0, 5]]
    assert blocks_of((0, 1, 2, 3), 3, "cut") == [[0, 1, 2]]
    assert blocks_of([0], 3, "blocks") == blocks_of([0], 1, "blocks") == [[0]]


def test_a_block_without_room_and_an_unknown_way_are_errors():
    with pytest.raises(TrainingError, match="a block of max_length 1 has no room for a token"):
        blocks_of([0, 1], 1, "blocks")
    with pytest.raises(TrainingError, match="long_texts must be one of cut, blocks, got 'drop'"):
        blocks_of([0, 1], 8, "drop")
