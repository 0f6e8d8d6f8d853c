"""Layers run without padding, the last one at the mask only, give what the model's own code gives, or are not used."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from masked_builders import FAMILIES, PAIR, bert, distilbert, log_prob_of, plain_pll, probe_set, roberta
from torch import nn

from fairtest.scoring.masked import score_masked_probe_set
from fairtest.scoring.masked_layers import read_layers
from fairtest.scoring.masked_models import MaskedForward
from fairtest.scoring.masked_protocols import MLM_PLL

KNOWN = ("bert", "roberta", "distilbert", "electra")
# Rows of several lengths, unsorted and the same more than once, with masks (4) at several places.
ROWS = [[2, 4, 3], [2, 20, 21, 4, 22, 3], [2, 4, 21, 20, 22, 3], [2, 20, 4, 3], [2, 4, 3], [2, 20, 21, 4, 22, 3]]
POSITIONS = [1, 3, 1, 2, 2, 0]
BERT = bert()


def forward_of(build):
    model = build() if callable(build) else build
    with torch.inference_mode():
        forward = MaskedForward(model)
        forward.states_at(ROWS, POSITIONS)
    return forward


def log_probs(forward, rows, positions, tokens, of):
    with torch.inference_mode():
        states = forward.states_at(rows, positions)
        return forward.log_probs_of(states, torch.tensor(tokens), torch.tensor(of)).tolist()


@pytest.mark.parametrize("name", FAMILIES)
def test_each_position_gets_what_the_plain_model_says_of_it(name):
    forward = forward_of(FAMILIES[name])
    assert forward.packs == (name in KNOWN)
    tokens, of = [7, 8, 9, 7, 30, 7, 8], [0, 0, 1, 2, 3, 4, 5]
    found = log_probs(forward, ROWS, POSITIONS, tokens, of)
    expected = [
        log_prob_of(forward.loaded.model, ROWS[i], POSITIONS[i], token) for token, i in zip(tokens, of, strict=True)
    ]
    assert found == pytest.approx(expected, abs=1e-4)


READY = forward_of(BERT)
rows_of_ids = st.lists(st.lists(st.integers(5, 9), min_size=1, max_size=6), min_size=1, max_size=8)


@settings(max_examples=25, deadline=None)
@given(rows_of_ids, st.randoms(use_true_random=False))
def test_any_rows_and_places_do(rows, random):
    forward = READY
    positions = [random.randrange(len(row)) for row in rows]
    found = log_probs(forward, rows, positions, [6] * len(rows), list(range(len(rows))))
    assert forward.packs
    expected = [log_prob_of(BERT.model, row, at, 6) for row, at in zip(rows, positions, strict=True)]
    assert found == pytest.approx(expected, abs=1e-4)


def test_memory_that_is_used_again_does_not_change_what_was_given_out():
    forward = forward_of(BERT)
    with torch.inference_mode():
        first = forward.states_at(ROWS, POSITIONS)
        kept = first.clone()
        forward.states_at(ROWS[::-1], POSITIONS[::-1])
    assert torch.equal(first, kept)


def test_one_layer_is_the_first_and_the_last():
    forward = forward_of(lambda: bert(num_hidden_layers=1))
    assert forward.packs
    expected = [log_prob_of(forward.loaded.model, row, at, 7) for row, at in zip(ROWS, POSITIONS, strict=True)]
    assert log_probs(forward, ROWS, POSITIONS, [7] * 6, list(range(6))) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("build", [bert, roberta, distilbert], ids=["bert", "roberta", "distilbert"])
def test_the_first_layer_sees_each_distinct_token_at_a_place_once(build, monkeypatch):
    model, rows = build(), []
    own = nn.functional.linear
    forward = forward_of(model)
    monkeypatch.setattr(nn.functional, "linear", lambda x, *rest: rows.append(len(x)) or own(x, *rest))
    text = [2, 20, 21, 22, 23, 24, 25, 3]
    masked = [[*text[:at], 4, *text[at + 1 :]] for at in range(1, 7)]
    with torch.inference_mode():
        forward.states_at(masked, list(range(1, 7)))
    # Eight tokens and six masks, of 48: keys, then values, then queries.
    assert rows[:3] == [14, 14, 14]


def test_states_that_token_and_place_do_not_decide_are_not_taken_for_the_same():
    # RoBERTa counts positions without padding tokens: one inside a text shifts all that follow.
    forward, pad = forward_of(roberta), 1
    rows = [[0, pad, 20, 21, 2], [0, 20, 20, 21, 2], [0, pad, 20, 21, 2], [0, 20, 20, 21, 2]]
    expected = [log_prob_of(forward.loaded.model, row, 3, 21) for row in rows]
    assert expected[0] != pytest.approx(expected[1], abs=1e-2)
    assert log_probs(forward, rows, [3] * 4, [21] * 4, [0, 1, 2, 3]) == pytest.approx(expected, abs=1e-4)


class _Doubled(nn.Linear):
    def forward(self, states):
        return 2 * super().forward(states)


def _scaled_attention(model):
    for layer in model.model.bert.encoder.layer:
        attention = layer.attention.self
        attention.forward = lambda states, *rest, own=attention.forward, **named: own(1.5 * states, *rest, **named)


def _other_linear(model):
    inner = model.model.bert.encoder.layer[0].intermediate
    inner.dense.__class__ = _Doubled


def _watched(model):
    model.model.bert.encoder.layer[1].attention.register_forward_hook(lambda *_: None)


@pytest.mark.parametrize("change", [_scaled_attention, _other_linear, _watched])
def test_a_model_that_is_not_what_its_names_say_is_run_by_its_own_code(change):
    model = bert()
    change(model)
    assert not forward_of(model).packs
    texts = ("The nurse was kind.", "He is so unkindly!")
    scores = score_masked_probe_set(model, probe_set(texts, roles=PAIR), protocol=MLM_PLL)
    for role, text in zip(PAIR, texts, strict=True):
        assert scores.log_probs[role][0] == pytest.approx(plain_pll(model, text)[0], abs=1e-4)


def test_a_difference_that_only_the_first_real_rows_show_is_found():
    model = bert()
    forward = MaskedForward(model)
    assert forward.packs
    own = model.model.bert.encoder.layer[1].attention.self
    plain = own.forward
    own.forward = lambda states, *rest, **named: plain(2 * states, *rest, **named)
    with torch.inference_mode():
        forward.states_at(ROWS, POSITIONS)
    assert not forward.packs


def test_a_model_in_training_mode_is_not_read():
    assert read_layers(bert().model.train()) is None


def test_the_model_is_left_as_it_was():
    model = bert()
    forward_of(model)
    assert not any("forward" in vars(module) for module in model.model.modules())
