"""WEAT against its definition in plain Python, and sentence embeddings against the model run text by text."""

import itertools
import math
from statistics import mean, pstdev, stdev

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertForMaskedLM, Gemma2Config, Gemma2ForCausalLM, PreTrainedTokenizerFast

from fairtest.errors import MetricError, ModelError, ProbeError
from fairtest.metrics.embedding import associations, seat, weat
from fairtest.probes.templates import gender_templates
from fairtest.scoring.embeddings import PROTOCOLS, sentence_embeddings
from fairtest.training.models import LoadedModel, load_model
from fairtest.training.sources import ModelSource, resolve_model

TEXTS = ("a b c", "c", "d e f g a", "b b", "a b c")
WORDS = ("<s>", "</s>", "<unk>", "<mask>", *"abcdefg")


def cosine(left, right):
    dot = math.fsum(p * q for p, q in zip(left, right, strict=True))
    return dot / math.sqrt(math.fsum(p * p for p in left) * math.fsum(q * q for q in right))


def plain_s(word, a, b):
    return mean(cosine(word, one) for one in a) - mean(cosine(word, one) for one in b)


def plain_weat(x, y, a, b, deviation):
    of_x, of_y = [plain_s(w, a, b) for w in x], [plain_s(w, a, b) for w in y]
    both = of_x + of_y
    at_least = [
        sum(both[i] for i in chosen) >= sum(of_x) - 1e-9
        for chosen in itertools.combinations(range(len(both)), len(of_x))
    ]
    return (mean(of_x) - mean(of_y)) / deviation(both), mean(at_least)


def vectors(n, seed, d=5):
    return np.random.default_rng(seed).normal(size=(n, d))


def sets(seed, m=4):
    return tuple(vectors(n, seed * 10 + i) for i, n in enumerate((m, m, 3, 2)))


seeds = st.integers(0, 10_000)


@pytest.mark.parametrize(("sd", "deviation"), [("sample", stdev), ("population", pstdev)])
@given(seed=seeds, m=st.integers(1, 4))
def test_weat_is_its_definition(sd, deviation, seed, m):
    found = weat(*sets(seed, m), sd=sd)
    effect, p_value = plain_weat(*(one.tolist() for one in sets(seed, m)), deviation)
    assert found.effect_size == pytest.approx(effect, abs=1e-9)
    assert found.p_value == pytest.approx(p_value, abs=1e-12)
    assert (found.exact, found.partitions) == (True, math.comb(2 * m, m))
    x, y, a, b = (one.tolist() for one in sets(seed, m))
    assert found.x_associations == pytest.approx([plain_s(w, a, b) for w in x], abs=1e-12)
    assert found.y_associations == pytest.approx([plain_s(w, a, b) for w in y], abs=1e-12)


def test_the_sample_formula_is_the_default():
    assert weat(*sets(1)) == weat(*sets(1), sd="sample")
    ratio = weat(*sets(1)).effect_size / weat(*sets(1), sd="population").effect_size
    assert ratio == pytest.approx(math.sqrt(7 / 8))


def test_the_sign_is_positive_where_x_goes_with_a_and_y_with_b():
    """Flowers (x) point where pleasant words (a) do, insects (y) where unpleasant ones (b) do."""
    flowers, insects = [[1.0, 0.1], [1.0, 0.2], [1.0, 0.0]], [[0.1, 1.0], [0.2, 1.0], [0.0, 1.0]]
    pleasant, unpleasant = [[2.0, 0.0]], [[0.0, 3.0]]
    found = weat(flowers, insects, pleasant, unpleasant)
    assert found.effect_size > 1.8
    assert found.p_value == 1 / 20
    assert associations([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], pleasant, unpleasant) == pytest.approx([1.0, -1.0, 0.0])


@given(seeds)
def test_exchanging_targets_or_attributes_turns_the_sign(seed):
    x, y, a, b = sets(seed)
    found = weat(x, y, a, b)
    assert weat(y, x, a, b).effect_size == pytest.approx(-found.effect_size, abs=1e-9)
    assert weat(x, y, b, a).effect_size == pytest.approx(-found.effect_size, abs=1e-9)
    assert weat(y, x, b, a).effect_size == pytest.approx(found.effect_size, abs=1e-9)
    # Every partition is at least as extreme in one direction, and ties (the observed one) in both.
    assert weat(y, x, a, b).p_value + found.p_value == pytest.approx(1 + 1 / 70)


@given(seeds, st.randoms())
def test_order_length_and_rotation_change_nothing(seed, random):
    found = weat(*sets(seed))
    rotation, _ = np.linalg.qr(vectors(5, seed + 1))
    changed = []
    for one in sets(seed):
        rows = [row * random.uniform(0.1, 9.0) for row in one @ rotation]
        random.shuffle(rows)
        changed.append(np.stack(rows))
    after = weat(*changed)
    assert after.effect_size == pytest.approx(found.effect_size, abs=1e-9)
    assert after.p_value == found.p_value


@pytest.mark.parametrize(("sd", "bound"), [("sample", 2 * math.sqrt(7 / 8)), ("population", 2.0)])
def test_the_largest_effect_is_reached_when_each_target_is_of_one_kind(sd, bound):
    x, y = np.tile([1.0, 0.0], (4, 1)), np.tile([0.0, 1.0], (4, 1))
    assert weat(x, y, x[:1], y[:1], sd=sd).effect_size == pytest.approx(bound)
    assert all(abs(weat(*sets(seed), sd=sd).effect_size) <= bound for seed in range(50))


def test_equal_partitions_count_whatever_their_rounding():
    """Words of X and Y in pairs that are alike: many partitions have the observed sum."""
    one = vectors(3, 5)
    x, y, a, b = one, one.copy(), vectors(2, 6), vectors(2, 7)
    found = weat(x, y, a, b)
    _, p_value = plain_weat(*(part.tolist() for part in (x, y, a, b)), stdev)
    assert found.p_value == pytest.approx(p_value)
    assert found.effect_size == pytest.approx(0.0, abs=1e-12)


def test_sampled_partitions_estimate_the_exact_share_and_depend_on_the_seed_alone():
    exact = weat(*sets(3, 6))
    assert (exact.exact, exact.partitions) == (True, 924)
    sampled = weat(*sets(3, 6), max_partitions=900, seed=1)
    assert (sampled.exact, sampled.partitions) == (False, 900)
    assert sampled.effect_size == exact.effect_size
    # Five standard errors of a share of 900.
    assert abs(sampled.p_value - exact.p_value) < 5 * math.sqrt(exact.p_value * (1 - exact.p_value) / 900)
    assert weat(*sets(3, 6), max_partitions=900, seed=1) == sampled
    assert weat(*sets(3, 6), max_partitions=900, seed=2).p_value != sampled.p_value


def test_a_sampled_p_value_is_never_zero():
    x, y = np.array([[1.0, i / 100] for i in range(12)]), np.array([[i / 100, 1.0] for i in range(12)])
    assert weat(x, y, x[:1], y[:1], max_partitions=50).p_value == 1 / 50


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"y": vectors(3, 0)}, "X has 4 vectors and Y has 3"),
        ({"x": np.zeros((4, 5))}, "vector 0 of words is zero or not finite"),
        ({"a": np.array([[1.0] * 5, [np.nan] * 5])}, "vector 1 of a is zero or not finite"),
        ({"b": vectors(2, 0, d=4)}, r"words \(4, 5\), a \(3, 5\), b \(2, 4\)"),
        ({"a": np.empty((0, 5))}, r"a \(0, 5\)"),
        ({"a": vectors(2, 0), "b": vectors(2, 0)}, "so d is 0 / 0"),
        ({"sd": "n-1"}, "unknown standard deviation 'n-1'"),
        ({"max_partitions": 1}, "a permutation test of 1 partitions"),
    ],
)
def test_what_has_no_effect_size_is_an_error(changes, what):
    with pytest.raises(MetricError, match=what):
        weat(**{**dict(zip("xyab", sets(0), strict=True)), **changes})


def tokenizer(*, masked=False, **options):
    raw = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if masked:
        ends = [("<s>", 0), ("</s>", 1)]
        raw.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=ends)
        options |= {"cls_token": "<s>", "sep_token": "</s>", "mask_token": "<mask>"}
    else:
        options |= {"bos_token": "<s>"}
    return PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="</s>", unk_token="<unk>", **options)


SIZES = {"vocab_size": 11, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}


def bert():
    torch.manual_seed(0)
    config = BertConfig(**SIZES, max_position_embeddings=16, initializer_range=0.4, hidden_dropout_prob=0.5)
    return loaded(BertForMaskedLM(config), tokenizer(masked=True))


def gemma2():
    """Its logits are soft-capped, so head and body do not come apart by a linear layer."""
    torch.manual_seed(0)
    config = Gemma2Config(
        **SIZES, num_key_value_heads=1, head_dim=8, max_position_embeddings=16, sliding_window=8,
        final_logit_softcapping=0.5, attn_implementation="eager", pad_token_id=1, bos_token_id=0, eos_token_id=1,
    )  # fmt: skip
    return loaded(Gemma2ForCausalLM(config), tokenizer())


def loaded(model, of_text):
    return LoadedModel(model.eval(), of_text, ModelSource("test", "directory", "nowhere", "0" * 64))


@pytest.fixture(scope="module")
def embedded():
    return load_model(resolve_model("fairtest/tiny"))


# Of several lengths: every 29th of the texts the embedded model knows.
SENTENCES = tuple(text for probe in gender_templates().probes[::29] for text in probe.texts.values())[:16]


@torch.no_grad()
def one_by_one(model, texts, protocol):
    """Each text alone, so that there is no padding, through the whole model."""
    rows = []
    for text in texts:
        ids = model.tokenizer(text, add_special_tokens=False)["input_ids"]
        if protocol.startswith("causal"):
            ids = [model.tokenizer.bos_token_id, *ids]
        else:
            ids = [model.tokenizer.cls_token_id, *ids, model.tokenizer.sep_token_id]
        states = model.model(torch.tensor([ids]), output_hidden_states=True).hidden_states[-1][0].double()
        mean_of = {"causal-mean": states[1:], "masked-mean": states, "masked-cls": states[:1]}
        rows.append(mean_of.get(protocol, states[-1:]).mean(0).numpy())
    return np.stack(rows)


@pytest.mark.parametrize("batch_tokens", [1, 7, 4096])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_embeddings_are_those_of_the_plain_model_whatever_the_batch(protocol, batch_tokens, embedded):
    model, texts = (embedded, SENTENCES) if protocol.startswith("causal") else (bert(), TEXTS)
    found = sentence_embeddings(model, texts, protocol=protocol, batch_tokens=batch_tokens)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, one_by_one(model, texts, protocol), atol=1e-5)


def test_a_text_that_is_given_twice_has_one_embedding():
    found = sentence_embeddings(bert(), TEXTS, protocol="masked-mean")
    assert (found[0] == found[4]).all()


def test_a_model_whose_head_is_more_than_linear_gives_states_and_not_logits():
    model = gemma2()
    found = sentence_embeddings(model, TEXTS)
    assert found.shape == (5, 16)
    np.testing.assert_allclose(found, one_by_one(model, TEXTS, "causal-mean"), atol=1e-5)


def test_dropout_is_off_while_embedding_and_on_again_afterwards():
    model = bert()
    expected = sentence_embeddings(model, TEXTS, protocol="masked-mean")
    model.model.train()
    assert (sentence_embeddings(model, TEXTS, protocol="masked-mean") == expected).all()
    assert model.model.training


def test_seat_is_weat_of_sentence_embeddings(embedded):
    x, y, a, b = SENTENCES[:4], SENTENCES[4:8], SENTENCES[8:10], SENTENCES[10:]
    for protocol in ("causal-mean", "causal-last"):
        parts = [sentence_embeddings(embedded, texts, protocol=protocol) for texts in (x, y, a, b)]
        found, expected = seat(embedded, x, y, a, b, protocol=protocol), weat(*parts)
        assert found.effect_size == pytest.approx(expected.effect_size, abs=1e-4)
        assert found.p_value == expected.p_value
    with pytest.raises(MetricError, match="y has no sentence"):
        seat(embedded, x, [], a, b)


def test_a_causal_model_has_no_cls_state():
    causal = gemma2()
    with pytest.raises(ModelError, match=r"puts no \[CLS\] token in front"):
        sentence_embeddings(causal, TEXTS, protocol="masked-cls")
    with pytest.raises(ModelError, match="its first token has not seen the text"):
        sentence_embeddings(loaded(causal.model, tokenizer(masked=True)), TEXTS, protocol="masked-cls")


def test_a_masked_model_has_no_causal_embeddings():
    with pytest.raises(ModelError, match="not causal"):
        sentence_embeddings(loaded(bert().model, tokenizer()), TEXTS, protocol="causal-last")


@pytest.mark.parametrize(
    ("texts", "protocol", "what"),
    [
        ([], "causal-mean", "there is no text to embed"),
        (["a", ""], "causal-mean", "text 1 has 0 tokens"),
        (["a", "a " * 16], "causal-last", "text 1 has 16 tokens, and model 'test' reads 1 to 15"),
        (["a x"], "causal-last", "50% of the tokens of 1 texts are unknown"),
    ],
)
def test_texts_that_cannot_be_embedded_are_named(texts, protocol, what):
    with pytest.raises(ProbeError, match=what):
        sentence_embeddings(gemma2(), texts, protocol=protocol)
    with pytest.raises(MetricError, match="unknown embedding protocol 'mean'"):
        sentence_embeddings(gemma2(), texts, protocol="mean")


def test_a_masked_text_is_as_long_as_the_model_allows_with_both_special_tokens():
    assert sentence_embeddings(bert(), ["a " * 14], protocol="masked-cls").shape == (1, 16)
    with pytest.raises(ProbeError, match="text 0 has 15 tokens, and model 'test' reads 1 to 14"):
        sentence_embeddings(bert(), ["a " * 15], protocol="masked-cls")


def test_a_diverged_model_is_named_and_its_weight_too():
    broken = gemma2()
    with torch.no_grad():
        broken.model.model.norm.weight[0] = float("nan")
    with pytest.raises(MetricError, match=r"weight 'model\.norm\.weight' of model 'test' is not finite"):
        sentence_embeddings(broken, TEXTS)
