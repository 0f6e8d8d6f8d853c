"""Trees of texts give the hidden states of the texts one by one, or are not used."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import BloomConfig, BloomForCausalLM, GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from fairtest.scoring import likelihood
from fairtest.scoring.likelihood import _passes, _row_passes
from fairtest.scoring.prefix_tree import agrees, chunks, hidden_states
from fairtest.training.forward import CausalForward, TokenBatch
from fairtest.training.models import LoadedModel
from fairtest.training.sources import ModelSource

SIZES = {"vocab_size": 9, "bos_token_id": 0, "eos_token_id": 1}


def gpt2(**options):
    return GPT2LMHeadModel(
        GPT2Config(n_positions=16, n_embd=16, n_layer=2, n_head=2, initializer_range=0.4, **SIZES, **options)
    )


def llama(**options):
    return LlamaForCausalLM(
        LlamaConfig(
            hidden_size=16,
            intermediate_size=24,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            max_position_embeddings=16,
            initializer_range=0.4,
            **SIZES,
            **options,
        )
    )


def bloom():
    # Distance enters its attention by the place in the row, so a tree is not what it computes.
    return BloomForCausalLM(BloomConfig(hidden_size=16, n_layer=2, n_head=2, initializer_range=0.4, **SIZES))


def forward_of(build):
    torch.manual_seed(0)
    return CausalForward(LoadedModel(build().eval(), None, ModelSource("test", "directory", "nowhere", "0" * 64)))


rows_of_ids = st.sets(
    st.lists(st.integers(1, 3), min_size=1, max_size=7).map(lambda ids: (0, *ids)), min_size=1, max_size=30
)
SHARING = [(0, 1, 2, 3, *rest) for rest in ((4,), (5,), (4, 6), (4, 7, 8), (2, 2, 2, 2, 1))] + [(0, 8, 8, 1), (0, 5)]


@given(rows_of_ids, st.integers(1, 40))
def test_every_row_is_a_path_from_a_root_through_its_own_tokens(rows, nodes):
    found = {}
    for chunk in chunks(list(rows), nodes):
        assert len(chunk.tokens) <= max(nodes, *(len(row) - 1 for row in chunk.rows))
        for row, path in zip(chunk.rows, chunk.nodes, strict=True):
            assert [chunk.parents[node] for node in path] == [-1, *path[:-1]]
            assert [chunk.depths[node] for node in path] == list(range(len(path)))
            assert row not in found
            found[row] = (*(chunk.tokens[node] for node in path), row[-1])
    assert found == {row: row for row in rows}


@given(rows_of_ids)
def test_a_tree_that_fits_one_chunk_has_each_prefix_once(rows):
    (chunk,) = chunks(list(rows), 10_000)
    assert len(chunk.tokens) == len({row[:size] for row in rows for size in range(1, len(row))})


@pytest.mark.parametrize("build", [gpt2, llama])
@pytest.mark.parametrize("nodes", [4, 128])
def test_hidden_states_of_a_tree_are_those_of_its_rows(build, nodes):
    forward = forward_of(build)
    with torch.inference_mode():
        parts = list(chunks(SHARING, nodes))
        for chunk, states in zip(parts, hidden_states(forward, parts), strict=True):
            assert agrees(forward, chunk)
            for row, path in zip(chunk.rows, chunk.nodes, strict=True):
                alone = forward.hidden(TokenBatch.from_ids([row[:-1]]))[0]
                assert torch.allclose(states[list(path)], alone, atol=1e-5)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("build", [gpt2, llama])
def test_trees_are_used_with_either_attention(build, attention):
    forward = forward_of(lambda: build(attn_implementation=attention))
    with torch.inference_mode():
        assert all(agrees(forward, chunk) for chunk in chunks(SHARING))


def test_a_model_that_cannot_compute_trees_is_given_rows():
    forward = forward_of(bloom)
    with torch.inference_mode():
        assert not any(agrees(forward, chunk) for chunk in chunks(SHARING))
        ((rows, states, paths),) = _passes(forward, SHARING, 4096)
        ((same, expected, places),) = _row_passes(forward, SHARING, 4096)
    assert (list(rows), paths) == (list(same), places)
    assert torch.equal(states, expected)


def test_texts_that_share_nothing_are_given_as_rows(monkeypatch):
    monkeypatch.setattr(likelihood, "agrees", None)
    with torch.inference_mode():
        ((rows, _, _),) = _passes(forward_of(gpt2), [(0, 1, 2), (3, 1, 2)], 4096)
    assert sorted(rows) == [(0, 1, 2), (3, 1, 2)]
