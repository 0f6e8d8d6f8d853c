"""Scoring on a pretended GPU: nothing mixes devices, and scores are those of the CPU."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import transformers as hf
from masked_builders import FAMILIES, TRIPLE, bert, probe_set
from pretend_gpu import OnGpu, pretend_gpu

from fairtest.probes.probe import ProbeSet
from fairtest.probes.prompts import occupation_prompts
from fairtest.probes.templates import gender_templates
from fairtest.scoring import generation, likelihood, prefix_tree
from fairtest.scoring.completions import Decoding
from fairtest.scoring.embeddings import sentence_embeddings
from fairtest.scoring.generation import generate
from fairtest.scoring.likelihood import score_probe_set, score_records
from fairtest.scoring.masked import score_masked_probe_set
from fairtest.scoring.text_scorers import score_generations
from fairtest.training.models import load_model, move
from fairtest.training.sources import resolve_model
from fairtest.training.trunk import split_trunk

PAIRS = ProbeSet("templates", "1", "Apache-2.0", "here", gender_templates().probes[:24])
PROMPTS = ProbeSet("prompts", "1", "Apache-2.0", "here", occupation_prompts().probes[:8])
TEXTS = tuple(probe.texts["stereotype"] for probe in gender_templates().probes[40:400:40])


@pytest.fixture
def both():
    """What a measurement of the embedded model gives on the CPU and on the device."""

    def measure(measured, prepare=lambda loaded: None):
        host = load_model(resolve_model("fairtest/tiny"))
        prepare(host)
        expected = measured(host)
        with pretend_gpu() as gpu:
            there = move(load_model(resolve_model("fairtest/tiny")), "cuda")
            prepare(there)
            assert all(type(p) is OnGpu for p in there.model.parameters())
            gpu.waits.clear()
            found = measured(there)
            waits = gpu.waits.of("item", "size", "to the host")
        return found, expected, waits

    return measure


def close(found, expected, rel=1e-5):
    assert found.keys() == expected.keys()
    for role, values in expected.items():
        assert found[role] == pytest.approx(values, rel=rel)


@pytest.mark.parametrize("protocol", ["causal-bos", "causal-nobos"])
def test_likelihoods_of_trees_are_those_of_the_cpu(both, protocol, monkeypatch):
    used = []
    real = likelihood.hidden_states
    monkeypatch.setattr(likelihood, "hidden_states", lambda *given: used.append(1) or real(*given))
    found, expected, _ = both(lambda loaded: score_probe_set(loaded, PAIRS, protocol=protocol))
    assert len(used) >= 2
    close(found.log_probs, expected.log_probs)
    assert found.tokens == expected.tokens


def test_likelihoods_of_rows_are_those_of_the_cpu(both, monkeypatch):
    monkeypatch.setattr(likelihood, "agrees", lambda *_: False)
    monkeypatch.setattr(prefix_tree, "hidden_states", lambda *_: pytest.fail("a tree"))
    found, expected, waits = both(lambda loaded: score_probe_set(loaded, PAIRS))
    close(found.log_probs, expected.log_probs)
    assert waits < 40


def test_likelihoods_over_a_trunk_are_those_of_the_cpu(both):
    def cut(loaded):
        loaded.trunk = split_trunk(loaded, depth=1)
        assert loaded.trunk is not None

    found, expected, _ = both(lambda loaded: score_probe_set(loaded, PAIRS), cut)
    close(found.log_probs, expected.log_probs)


def test_half_precision_scores_are_near_those_of_the_cpu(both):
    found, expected, _ = both(lambda loaded: score_probe_set(loaded, PAIRS, precision="bfloat16"))
    close(found.log_probs, expected.log_probs, rel=0.02)


@pytest.mark.parametrize("long_texts", ["cut", "blocks"])
def test_losses_of_records_are_those_of_the_cpu(both, long_texts):
    found, expected, _ = both(lambda loaded: score_records(loaded, TEXTS, max_length=8, long_texts=long_texts))
    assert found[0] == pytest.approx(expected[0], rel=1e-5)
    assert found[1] == expected[1]


@pytest.mark.parametrize("protocol", ["causal-mean", "causal-last"])
def test_embeddings_are_those_of_the_cpu(both, protocol):
    found, expected, waits = both(lambda loaded: sentence_embeddings(loaded, TEXTS, protocol=protocol))
    assert type(found) is np.ndarray
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    assert waits < 25  # the embedded model has more parameters than that


@pytest.mark.parametrize(
    "decoding",
    [
        Decoding(samples=2, max_new_tokens=6),
        Decoding(samples=1, max_new_tokens=6, temperature=0),
        Decoding(samples=2, max_new_tokens=5, min_new_tokens=5, temperature=0.7, top_p=0.8, seed=4),
    ],
    ids=str,
)
@pytest.mark.parametrize("cached", [True, False])
def test_completions_and_their_scores_are_those_of_the_cpu(both, decoding, cached, monkeypatch):
    if not cached:
        monkeypatch.setattr(generation, "_cache_is_exact", lambda _: False)
    found, expected, _ = both(lambda loaded: generate(loaded, PROMPTS, decoding))
    assert found.items == expected.items
    scores = [score_generations(one, PROMPTS, lambda texts: [float(len(text)) for text in texts]).log_probs
              for one in (found, expected)]  # fmt: skip
    assert scores[0] == scores[1]


def test_a_token_of_many_completions_is_waited_for_once(both):
    waits = []
    for prompts in (2, 8):
        some = ProbeSet("prompts", "1", "Apache-2.0", "here", PROMPTS.probes[:prompts])
        decoding = Decoding(samples=2, max_new_tokens=6, min_new_tokens=6)
        waits.append(both(lambda loaded, some=some, decoding=decoding: generate(loaded, some, decoding))[2])
    assert waits[1] <= waits[0] + 2  # prompts of equal length are one batch, others are split off


MASKED_TEXTS = probe_set(
    ("The nurse was kind.", "The doctor was kind.", "The park was kind."),
    ("She works.", "He works.", "It works."),
    roles=TRIPLE,
)


@pytest.mark.parametrize("family", FAMILIES)
def test_pseudo_likelihoods_are_those_of_the_cpu(family):
    expected = score_masked_probe_set(FAMILIES[family](), MASKED_TEXTS, protocol="mlm-pll")
    with pretend_gpu():
        there = move(FAMILIES[family](), "cuda")
        found = score_masked_probe_set(there, MASKED_TEXTS, protocol="mlm-pll")
        near = score_masked_probe_set(there, MASKED_TEXTS, protocol="mlm-pll", precision="bfloat16")
    close(found.log_probs, expected.log_probs, rel=1e-4)
    close(near.log_probs, expected.log_probs, rel=0.05)
    assert found.tokens == expected.tokens


@pytest.mark.parametrize("protocol", ["masked-cls", "masked-mean"])
def test_embeddings_of_masked_models_are_those_of_the_cpu(protocol):
    texts = ("the nurse works", "a doctor was kind in the park")
    expected = sentence_embeddings(bert(), texts, protocol=protocol)
    with pretend_gpu():
        found = sentence_embeddings(move(bert(), "cuda"), texts, protocol=protocol)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_a_head_that_does_more_than_a_matrix_is_scored_on_a_device():
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    common = {"num_key_value_heads": 1, "head_dim": 8, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 0}
    tiny = load_model(resolve_model("fairtest/tiny"))
    config = hf.Gemma2Config(vocab_size=len(tiny.tokenizer), max_position_embeddings=64, **sizes, **common)
    tiny.model = hf.Gemma2ForCausalLM(config).eval()  # with soft-capped logits
    expected = score_probe_set(tiny, PAIRS)
    with pretend_gpu():
        found = score_probe_set(move(tiny, "cuda"), PAIRS)
    close(found.log_probs, expected.log_probs, rel=1e-4)
