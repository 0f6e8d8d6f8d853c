"""Scores of masked models against the slow way: one masked row at a time, all logits, no padding."""

import csv
import json
import math
import random

import pytest
import torch
from masked_builders import (
    FAMILIES,
    PAIR,
    bert,
    plain_blank,
    plain_pll,
    plain_unmodified,
    probe_set,
    roberta,
    wordpiece_tokenizer,
)
from torch import nn

from fairtest.metrics.crows_pairs import nangia2020_items, nangia2020_score
from fairtest.probes.crows_pairs import read_crows_pairs
from fairtest.probes.probe import ProbeSet
from fairtest.probes.stereoset import read_stereoset
from fairtest.scoring import masked
from fairtest.scoring.masked import encode_masked, score_masked_probe_set
from fairtest.scoring.masked_models import MaskedForward
from fairtest.scoring.masked_protocols import MASKED_PROTOCOLS, MLM_PLL, MLM_STEREOSET, MLM_UNMODIFIED, blanks
from fairtest.scoring.scores import ProbeScores

# Sub-words (grandkindly, unkindly), several edited spans, other numbers of tokens, a first word, a repeated sentence.
PAIRS = [
    ("The nurse was kind.", "The doctor was kind."),
    ("He is kind and she was not.", "She is kind and he was not."),
    ("A grandkindly nurse works in the park.", "A doctor works in the park."),
    ("He is so unkindly!", "She is so unkindly!"),
    ("The nurse was kind.", "The doctor was kind."),
    ("people", "people work"),
]
CONTEXTS = [
    ("The nurse was BLANK.", ("kind", "unkindly", "park")),
    ("BLANK work in the park", ("people", "doctors", "kinds")),
    ("He is a 'BLANK' nurse, not a doctor.", ("grandkindly", "very", "the")),
    ("So the doctor is very BLANK", ("unkindly", "kind", "nurse")),
]


def filled(contexts=CONTEXTS):
    return probe_set(*(tuple(context.replace("BLANK", word) for word in words) for context, words in contexts))


@pytest.mark.parametrize("build", FAMILIES.values(), ids=FAMILIES)
def test_pll_is_that_of_every_position_masked_alone(build):
    model = build()
    scores = score_masked_probe_set(model, probe_set(*PAIRS, roles=PAIR), protocol=MLM_PLL)
    for role, index in zip(PAIR, (0, 1), strict=True):
        for pair, log_prob, tokens in zip(PAIRS, scores.log_probs[role], scores.tokens[role], strict=True):
            expected, count = plain_pll(model, pair[index])
            assert log_prob == pytest.approx(expected, abs=1e-4)
            assert tokens == count


@pytest.mark.parametrize("build", FAMILIES.values(), ids=FAMILIES)
def test_unmodified_is_the_algorithm_of_crows_pairs(build):
    model = build()
    scores = score_masked_probe_set(model, probe_set(*PAIRS, roles=PAIR), protocol=MLM_UNMODIFIED)
    for index, pair in enumerate(PAIRS):
        for role, (expected, count) in zip(PAIR, plain_unmodified(model, *pair), strict=True):
            assert scores.log_probs[role][index] == pytest.approx(expected, abs=1e-4)
            assert scores.tokens[role][index] == count


@pytest.mark.parametrize("name", ["bert", "distilbert", "albert", "electra"])
def test_blanks_are_scored_by_the_algorithm_of_stereoset(name):
    model = FAMILIES[name]()
    scores = score_masked_probe_set(model, filled(), protocol=MLM_STEREOSET)
    for index, (context, words) in enumerate(CONTEXTS):
        for role, word in zip(("stereotype", "anti_stereotype", "unrelated"), words, strict=True):
            expected, count = plain_blank(model, context, word)
            assert scores.log_probs[role][index] == pytest.approx(expected, abs=1e-4)
            assert scores.tokens[role][index] == count


def test_a_blank_after_a_space_is_asked_for_the_word_with_its_space():
    # RoBERTa's tokens for " kind" and "kind" differ, and the former is what stands in the sentence.
    model = roberta()
    tokenizer = model.tokenizer
    scores = score_masked_probe_set(
        model, filled([("He is BLANK in a park", ("kind", "so", "x"))]), protocol=MLM_STEREOSET
    )
    left, right = tokenizer.encode("He is")[:-1], tokenizer.encode(" in a park")[1:]
    for role, pieces in (("stereotype", ["Ġkind"]), ("anti_stereotype", ["Ġ", "s", "o"]), ("unrelated", ["Ġ", "x"])):
        ids = tokenizer.convert_tokens_to_ids(pieces)
        chances = []
        for count, token in enumerate(ids):
            row = torch.tensor([[*left, *ids[:count], tokenizer.mask_token_id, *right]])
            with torch.no_grad():
                logits = model.model(input_ids=row).logits[0, len(left) + count]
            chances.append(float(logits.double().softmax(-1)[token]))
        assert scores.log_probs[role][0] == pytest.approx(math.log(sum(chances) / len(chances)), abs=1e-4)
        assert scores.tokens[role][0] == len(ids)


def test_a_blank_that_occurs_twice_is_masked_twice_and_scored_where_it_comes_first():
    model = bert()
    scores = score_masked_probe_set(
        model, filled([("He is BLANK and so BLANK.", ("kind", "unkindly", "the"))]), protocol=MLM_STEREOSET
    )
    for role, word in zip(("stereotype", "anti_stereotype", "unrelated"), ("kind", "unkindly", "the"), strict=True):
        expected, count = plain_blank(model, "He is BLANK and so BLANK.", word)
        assert scores.log_probs[role][0] == pytest.approx(expected, abs=1e-4)
        assert scores.tokens[role][0] == count


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["He is kind.", "He is bad.", "He is a."], ["kind", "bad", "a"]),
        (["kind", "bad"], ["kind", "bad"]),
        (["so very kind people", "so bad people"], ["very kind", "bad"]),
        (["so kind people", "so very kind people"], ["kind", "very kind"]),
        (["It is 'kind', so", "It is 'bad', so"], ["kind", "bad"]),
        (["the doctor's park", "the nurse's park"], ["doctor", "nurse"]),
        (["so.kind", "so.bad"], ["kind", "bad"]),
        (["a very good man", "a so good boy"], ["very good man", "so good boy"]),
        (["x kind y kind", "x bad y bad"], ["kind|kind", "bad|bad"]),
        (["the same", "the same"], ["", ""]),
        (["", "a word"], ["", ""]),
    ],
)
def test_the_blank_is_where_texts_differ(texts, expected):
    found = ["|".join(text[a:b] for a, b in spans) for text, spans in zip(texts, blanks(texts), strict=True)]
    assert found == expected


@pytest.mark.parametrize("build", [bert, roberta], ids=["bert", "roberta"])
@pytest.mark.parametrize("protocol", MASKED_PROTOCOLS)
def test_batches_order_and_company_change_no_score(build, protocol):
    model = build()
    texts = [tuple(c.replace("BLANK", w) for w in words[:2]) for c, words in CONTEXTS]
    roles = PAIR
    alone = [
        score_masked_probe_set(model, probe_set(pair, roles=roles), protocol=protocol, batch_tokens=1) for pair in texts
    ]
    order = [2, 0, 3, 1]
    five = 5 * max(len(text.ids) for text in encode_masked(model, [t for pair in texts for t in pair]))
    for batch_tokens in (1, five, 4096):
        scores = score_masked_probe_set(
            model, probe_set(*(texts[i] for i in order), roles=roles), protocol=protocol, batch_tokens=batch_tokens
        )
        for place, index in enumerate(order):
            for role in roles:
                assert scores.log_probs[role][place] == pytest.approx(alone[index].log_probs[role][0], abs=1e-4)
                assert scores.tokens[role][place] == alone[index].tokens[role][0]


def test_special_tokens_are_never_scored_not_even_spelled_ones():
    model = bert()
    texts = ("The nurse [SEP] is kind.", "The nurse [MASK] is kind.")
    scores = score_masked_probe_set(model, probe_set(texts, roles=PAIR), protocol=MLM_PLL)
    special = set(model.tokenizer.all_special_ids)
    for text, encoded in zip(texts, encode_masked(model, texts), strict=True):
        assert [encoded.ids[0], encoded.ids[-1]] == [2, 3]
        assert not special & set(encoded.ids[1:-1])
        assert encoded.content == tuple(range(1, len(encoded.ids) - 1)), text
    assert scores.tokens["stereotype"][0] == len(encode_masked(model, texts)[0].content)


def test_each_distinct_masked_row_goes_through_the_model_once():
    steps = []
    model = bert()
    probes = probe_set(PAIRS[0], PAIRS[4], roles=PAIR)
    score_masked_probe_set(model, probes, protocol=MLM_PLL, batch_tokens=16, on_batch=lambda *step: steps.append(step))
    # Five tokens a sentence; the masked word leaves the same row behind, and the pair is there twice.
    assert steps[-1] == (9, 9)
    assert [done for done, _ in steps] == sorted({done for done, _ in steps})
    steps.clear()
    contexts = [("The nurse was BLANK.", ("kind", "park", "the"))]
    score_masked_probe_set(model, filled(contexts), protocol=MLM_STEREOSET, on_batch=lambda *step: steps.append(step))
    assert steps == [(1, 1)]


def test_blocks_of_probes_change_no_score_and_are_told_as_one_work(monkeypatch):
    model = bert()
    probes = probe_set(*PAIRS, roles=PAIR)
    whole = score_masked_probe_set(model, probes, protocol=MLM_PLL)
    steps = []
    monkeypatch.setattr(masked, "_BLOCK", 2)
    cut = score_masked_probe_set(model, probes, protocol=MLM_PLL, on_batch=lambda *step: steps.append(step))
    for role in PAIR:
        assert cut.log_probs[role] == pytest.approx(whole.log_probs[role], abs=1e-5)
    assert cut.tokens == whole.tokens
    assert len({total for _, total in steps}) == 1
    assert steps[-1][0] == steps[-1][1]
    assert [done for done, _ in steps] == sorted({done for done, _ in steps})


# What comes first behind the last attention; ALBERT runs one layer several times, so only its head is behind it.
BEHIND = {
    "bert": ("bert.encoder.layer.1.intermediate", "cls"),
    "roberta": ("roberta.encoder.layer.1.intermediate", "lm_head"),
    "distilbert": ("distilbert.transformer.layer.1.ffn", "vocab_transform"),
    "electra": ("electra.encoder.layer.1.intermediate", "generator_predictions"),
    "albert": ("predictions",),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_what_lies_behind_the_last_attention_sees_the_masked_position_only(name):
    model, shapes = FAMILIES[name](), []
    forward = MaskedForward(model)
    for module in map(model.model.get_submodule, BEHIND[name]):
        module.register_forward_hook(lambda _module, inputs, _output: shapes.append(tuple(inputs[0].shape)))
    forward.logits_at([[2, 4, 3], [2, 4, 9, 10, 3]], [1, 3])
    assert forward.splits
    assert shapes == [(2, 1, 16)] * len(BEHIND[name])


class _LooksAround(nn.Module):
    """A head that needs all positions."""

    def __init__(self, head):
        super().__init__()
        self.head = head

    def forward(self, states):
        return self.head(states + states[:, :1])


def test_a_head_that_needs_all_positions_gets_them():
    model = bert()
    model.model.cls = _LooksAround(model.model.cls)
    assert not MaskedForward(model).splits
    scores = score_masked_probe_set(model, probe_set(PAIRS[2], roles=PAIR), protocol=MLM_PLL)
    for role, text in zip(PAIR, PAIRS[2], strict=True):
        assert scores.log_probs[role][0] == pytest.approx(plain_pll(model, text)[0], abs=1e-4)


def test_bfloat16_is_close_and_leaves_the_weights_alone():
    model = bert(initializer_range=0.1)
    before = {name: value.clone() for name, value in model.model.state_dict().items()}
    probes = probe_set(*PAIRS, roles=PAIR)
    exact = score_masked_probe_set(model, probes, protocol=MLM_PLL)
    half = score_masked_probe_set(model, probes, protocol=MLM_PLL, precision="bfloat16")
    for role in PAIR:
        assert half.log_probs[role] != exact.log_probs[role]
        for one, other, tokens in zip(half.log_probs[role], exact.log_probs[role], exact.tokens[role], strict=True):
            assert one == pytest.approx(other, abs=0.02 * tokens)
    assert all(torch.equal(value, before[name]) for name, value in model.model.state_dict().items())


def test_a_model_in_training_is_scored_without_dropout_and_goes_on_training():
    model = bert(hidden_dropout_prob=0.5)
    expected = score_masked_probe_set(model, probe_set(*PAIRS, roles=PAIR), protocol=MLM_PLL)
    model.model.train()
    assert score_masked_probe_set(model, probe_set(*PAIRS, roles=PAIR), protocol=MLM_PLL) == expected
    assert model.model.training


def test_scores_carry_what_metrics_read_and_come_back_from_json():
    probes = probe_set(*PAIRS, roles=PAIR, template="frame", fields={"group": "a"})
    scores = score_masked_probe_set(bert(), probes, protocol=MLM_PLL)
    assert (scores.probe_set, scores.probe_digest, scores.protocol) == ("own", probes.digest, "mlm-pll")
    assert scores.ids == tuple(f"p{index}" for index in range(len(PAIRS)))
    assert scores.templates == ("frame",) * len(PAIRS)
    assert scores.fields == ({"group": "a"},) * len(PAIRS)
    assert ProbeScores.from_json(scores.to_json()) == scores


def test_protocols_are_named_and_versioned():
    assert {name: protocol.version for name, protocol in MASKED_PROTOCOLS.items()} == {
        "mlm-unmodified": "1",
        "mlm-pll": "1",
        "mlm-stereoset": "1",
    }
    assert all(name == protocol.name and protocol.source for name, protocol in MASKED_PROTOCOLS.items())


def _some(probes, count):
    chosen = random.Random(0).sample(probes.probes, count)
    return ProbeSet(probes.name, probes.version, probes.licence, probes.source, tuple(chosen))


def _texts(probes):
    return [text for probe in probes.probes for text in probe.texts.values()]


def test_real_crows_pairs_score_as_the_published_algorithm_says(data_dir):
    probes = _some(read_crows_pairs(data_dir), 60)
    model = bert(wordpiece_tokenizer(_texts(probes)), max_position_embeddings=128)
    scores = score_masked_probe_set(model, probes, protocol=MLM_UNMODIFIED)
    with (data_dir / "crows-pairs" / "crows_pairs_anonymized.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    preferred = 0
    for index, probe in enumerate(probes.probes):
        row = rows[int(probe.id)]
        stereo = row["stereo_antistereo"] == "stereo"
        # The authors hand their matcher sent_less first where the direction is antistereo.
        texts = (row["sent_more"], row["sent_less"]) if stereo else (row["sent_less"], row["sent_more"])
        found = plain_unmodified(model, *texts)
        more, less = found if stereo else found[::-1]
        preferred += round(more[0], 3) > round(less[0], 3)
        for role, (expected, count) in zip(PAIR, (more, less), strict=True):
            assert scores.log_probs[role][index] == pytest.approx(expected, abs=1e-3)
            assert scores.tokens[role][index] == count
    assert nangia2020_items(scores).estimate == nangia2020_score(scores) == pytest.approx(100 * preferred / 60)


def _contexts(data_dir):
    content = json.loads((data_dir / "stereoset" / "dev.json").read_text(encoding="utf-8"))
    return {item["id"]: item["context"] for item in content["data"]["intrasentence"]}


def _blanked(text, spans):
    begins = [0, *(end for _, end in spans)]
    ends = [*(begin for begin, _ in spans), len(text)]
    return "BLANK".join(text[a:b] for a, b in zip(begins, ends, strict=True))


def test_the_blanks_of_stereoset_are_found_without_its_contexts(data_dir):
    contexts, found = _contexts(data_dir), 0
    for probe in read_stereoset(data_dir).probes:
        texts = list(probe.texts.values())
        rebuilt = {_blanked(text, spans).lower() for text, spans in zip(texts, blanks(texts), strict=True)}
        found += rebuilt == {contexts[probe.id].lower()}
    # In the one that is left the blank is the stem of a word: "BLANKed".
    assert found == 2105


def test_real_stereoset_scores_as_the_published_algorithm_says(data_dir):
    contexts = _contexts(data_dir)
    probes = _some(read_stereoset(data_dir), 30)
    model = bert(wordpiece_tokenizer(_texts(probes), 1500), max_position_embeddings=64)
    scores = score_masked_probe_set(model, probes, protocol=MLM_STEREOSET)
    compared = 0
    for index, probe in enumerate(probes.probes):
        texts = list(probe.texts.values())
        for role, text, spans in zip(probe.texts, texts, blanks(texts), strict=True):
            (a, b), *_ = spans
            pieces = model.tokenizer.encode(text[a:b], add_special_tokens=False)
            starts = [model.tokenizer.decode(pieces[:count]) for count in range(1, len(pieces))]
            if all(
                model.tokenizer.encode(start, add_special_tokens=False) == pieces[: count + 1]
                for count, start in enumerate(starts)
            ):
                expected, count = plain_blank(model, contexts[probe.id], text[a:b])
                assert scores.log_probs[role][index] == pytest.approx(expected, abs=1e-4)
                assert scores.tokens[role][index] == count
                compared += 1
    assert compared >= 80
