"""A large probe set is checked whole and scored block by block, with the scores that one block would have."""

import dataclasses

import pytest
from scoring.test_likelihood import byte_tokenizer, gpt2

from fairtest.errors import ProbeError
from fairtest.probes.probe import Probe, ProbeSet
from fairtest.scoring import likelihood, probe_rows
from fairtest.scoring.likelihood import score_probe_set
from fairtest.training.models import LoadedModel
from fairtest.training.sources import ModelSource

TEXTS = [("he sat", "she sat"), ("he ran", "she ran"), ("a man", "a woman"), ("his", "her"), ("he sat", "she sat")]


@pytest.fixture(scope="module")
def loaded():
    return LoadedModel(gpt2(), byte_tokenizer(), ModelSource("test", "directory", "test", "0" * 64))


def probe_set(texts=TEXTS, prompt=""):
    probes = tuple(
        Probe(id=str(i), axis="gender", cluster=str(i), texts={"more": a, "less": b}, prompt=prompt)
        for i, (a, b) in enumerate(texts)
    )
    return ProbeSet(name="some", version="1", licence="test", source="test", probes=probes)


@pytest.mark.parametrize("prompt", ["", "so "])
@pytest.mark.parametrize("at_once", [1, 2, 3])
def test_blocks_change_no_score(loaded, monkeypatch, prompt, at_once):
    whole = score_probe_set(loaded, probe_set(prompt=prompt))
    monkeypatch.setattr(probe_rows, "PROBES_AT_ONCE", at_once)
    blocks = score_probe_set(loaded, probe_set(prompt=prompt))
    assert blocks.tokens == whole.tokens
    assert blocks.ids == whole.ids
    for role, values in whole.log_probs.items():
        assert blocks.log_probs[role] == pytest.approx(values, abs=1e-4)


def test_progress_counts_the_texts_of_all_blocks(loaded, monkeypatch):
    monkeypatch.setattr(probe_rows, "PROBES_AT_ONCE", 2)
    seen = []
    score_probe_set(loaded, probe_set(), on_batch=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (10, 10)  # the last pair is in another block than its double
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert {total for _, total in seen} == {10}


def test_nothing_is_scored_before_the_last_block_is_checked(loaded, monkeypatch):
    monkeypatch.setattr(probe_rows, "PROBES_AT_ONCE", 2)
    monkeypatch.setattr(likelihood, "_score_rows", lambda *_, **__: pytest.fail("scored"))
    texts = [*TEXTS, ("x" * 60, "y")]
    with pytest.raises(ProbeError, match=r"probe '5' \(more\) has 61 tokens"):
        score_probe_set(loaded, probe_set(texts))


def test_unknown_words_are_counted_over_all_blocks(loaded, monkeypatch):
    """A block of nothing else is allowed where the set as a whole is known."""
    monkeypatch.setattr(probe_rows, "PROBES_AT_ONCE", 1)
    strange = dataclasses.replace(loaded, tokenizer=byte_tokenizer())
    strange.tokenizer.unk_token = "z"
    assert strange.tokenizer.unk_token_id is not None
    long = ("he sat on the old chair in the kitchen", "she sat on the old chair in the kitchen")
    score_probe_set(strange, probe_set([long, long, ("z", "zz"), long]))
    with pytest.raises(ProbeError, match="are unknown to the tokenizer"):
        score_probe_set(strange, probe_set([("zz", "zzz"), ("zzz a", "zzzz a")]))


def test_a_small_set_is_read_once(loaded, monkeypatch):
    read = []
    original = probe_rows.rows_of
    monkeypatch.setattr(probe_rows, "rows_of", lambda *args: read.append(len(args[1])) or original(*args))
    score_probe_set(loaded, probe_set())
    assert read == [10]
