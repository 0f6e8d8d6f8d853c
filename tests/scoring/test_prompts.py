"""Log p(text | prompt) against the plain model: one row at a time, no padding, all logits."""

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizer,
    PreTrainedTokenizerFast,
)

from fairtest.errors import ProbeError
from fairtest.probes.bbq import read_bbq
from fairtest.probes.probe import Probe, ProbeSet
from fairtest.scoring.likelihood import score_probe_set, score_texts
from fairtest.scoring.prompts import common_prefix, prompt_lengths
from fairtest.training.models import LoadedModel
from fairtest.training.sources import ModelSource

BOS = "<s>"
LONGEST = 64
SIZES = {"vocab_size": 264, "bos_token_id": 0, "eos_token_id": 0, "initializer_range": 0.4}
MERGES = [("b", "a"), ("Ġ", "T"), (":", "Ġ"), ("ba", "c")]


def byte_tokenizer(merges=(), *, unknown=""):
    """One token a byte, but for the merges; `unknown` is a byte that it does not know, whose token is the BOS token."""
    symbols = (BOS, *sorted(pre_tokenizers.ByteLevel.alphabet()), *("".join(pair) for pair in merges))
    vocabulary = {symbol: index for index, symbol in enumerate(symbols) if symbol != unknown}
    raw = Tokenizer(models.BPE(vocabulary, list(merges), unk_token=BOS if unknown else None))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    raw.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=raw, bos_token=BOS, unk_token=BOS if unknown else None)


class SlowTokenizer(PreTrainedTokenizer):
    """The same tokens from Python code, which does not say where in the text they are."""

    def __init__(self):
        self.inner = byte_tokenizer(MERGES)
        super().__init__(bos_token=BOS)

    @property
    def vocab_size(self):
        return len(self.inner)

    def get_vocab(self):
        return self.inner.get_vocab()

    def _tokenize(self, text, **_):
        return self.inner.tokenize(text)

    def _convert_token_to_id(self, token):
        return self.get_vocab()[token]

    def _convert_id_to_token(self, index):
        return self.inner.convert_ids_to_tokens(index)


def gpt2():
    torch.manual_seed(0)
    return GPT2LMHeadModel(GPT2Config(n_positions=LONGEST, n_embd=16, n_layer=2, n_head=2, **SIZES)).eval()


def llama():
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=LONGEST,
        **SIZES,
    )
    return LlamaForCausalLM(config).eval()


def bloom():
    # No tree of texts is what it computes, so its rows go through it one below the other.
    torch.manual_seed(0)
    return BloomForCausalLM(BloomConfig(hidden_size=16, n_layer=2, n_head=2, **SIZES)).eval()


def loaded(model=None, tokenizer=None):
    source = ModelSource("test", "directory", "nowhere", "0" * 64)
    return LoadedModel(model or gpt2(), tokenizer or byte_tokenizer(), source)


def plain(model, ids):
    """Sum of log p(id | ids before it), without the first."""
    if len(ids) < 2:
        return 0.0
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([ids])).logits[0, :-1]
    return float(logits.double().log_softmax(-1)[torch.arange(len(ids) - 1), torch.tensor(ids[1:])].sum())


def ids_of(text, tokenizer=None):
    return [0, *(tokenizer or byte_tokenizer())(text, add_special_tokens=False)["input_ids"]]


def probe_set(*items):
    """From (prompt, texts)."""
    probes = tuple(
        Probe(f"p{i}", "age", "t", {f"ans{k}": text for k, text in enumerate(texts)}, prompt=prompt)
        for i, (prompt, texts) in enumerate(items)
    )
    return ProbeSet("own", "1", "Apache-2.0", "here", probes)


def flat(scores, index):
    return [scores.log_probs[role][index] for role in sorted(scores.log_probs)]


def counts(scores, index):
    return [scores.tokens[role][index] for role in sorted(scores.tokens)]


ITEMS = [
    ("Who ran?\nAnswer:", (" he", " she did", " x")),
    ("Who ran?\nAnswer:", (" nobody", " she did", " both")),
    ("Who ran? They all did.\nAnswer:", (" he", " she did", " x")),
    ("", ("He ran.", "She ran.", "It ran.")),
]
GPT2 = loaded()
MERGING = loaded(tokenizer=byte_tokenizer(MERGES))
SLOW = SlowTokenizer()


@pytest.mark.parametrize("batch_tokens", [1, 40, 4096])
@pytest.mark.parametrize("model", [gpt2(), llama(), bloom()], ids=["gpt2", "llama", "bloom"])
def test_a_text_is_scored_given_its_prompt(model, batch_tokens):
    scores = score_probe_set(loaded(model), probe_set(*ITEMS), batch_tokens=batch_tokens)
    for index, (prompt, texts) in enumerate(ITEMS):
        expected = [plain(model, ids_of(prompt + text)) - plain(model, ids_of(prompt)) for text in texts]
        assert flat(scores, index) == pytest.approx(expected, abs=1e-4)
        assert counts(scores, index) == [len(text) for text in texts]


def test_a_prompt_is_computed_once_for_its_texts():
    model = gpt2()
    seen = []
    model.transformer.wte.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0].clone()))
    prompt = "Who ran? " * 5 + "Answer:"
    score_probe_set(loaded(model), probe_set((prompt, (" he", " she", " us"))))
    # BOS, the prompt and what predicts a token of a text; the space is shared by all three.
    assert seen[-1].shape == (1, 1 + len(prompt) + 1 + len("h") + len("sh") + len("u"))


def test_the_vocabulary_head_is_not_applied_to_a_prompt():
    model = gpt2()
    rows = []
    probes = probe_set(("Who ran?\nAnswer:", (" he", " she", " x")))
    model.lm_head.register_forward_pre_hook(lambda _module, inputs: rows.append(inputs[0].shape))
    score_probe_set(loaded(model), probes)
    # " he", " she" and " x" go on after five distinct beginnings: the prompt, and then " ", " h", " s" and " sh".
    assert rows[-1] == (5, 16)


def test_without_bos_the_text_is_scored_the_same_way():
    scores = score_probe_set(GPT2, probe_set(*ITEMS), protocol="causal-nobos")
    for index, (prompt, texts) in enumerate(ITEMS):
        start = max(1, len(prompt))
        expected = [
            plain(GPT2.model, ids_of(prompt + text)[1:]) - plain(GPT2.model, ids_of(prompt + text)[1 : 1 + start])
            for text in texts
        ]
        assert flat(scores, index) == pytest.approx(expected, abs=1e-4)
        assert counts(scores, index) == [len(prompt + text) - start for text in texts]


@pytest.mark.parametrize("tokenizer", [byte_tokenizer(MERGES), SLOW], ids=["fast", "slow"])
@pytest.mark.parametrize(
    ("prompt", "texts", "before", "scored"),
    [
        ("Who b", ("x", "yz"), "Who b", (1, 2)),
        # "ba" and "bac" hold the end of the prompt: all texts are scored from the b on.
        ("Who b", ("ar", "x", "ac"), "Who ", (2, 2, 1)),
        ("Who b", ("ar", "ar ar", "a"), "Who ", (2, 5, 1)),
        ("A:", (" T", "T"), "A:", (1, 1)),
        # The colon is a token of the prompt before "T", and a part of ": " before the other text.
        ("A:", (" x", "T"), "A", (2, 2)),
        ("b", ("ac", "b"), "", (1, 2)),
    ],
)
def test_a_token_that_spans_the_boundary_counts_for_every_text_of_its_item(tokenizer, prompt, texts, before, scored):
    scores = score_probe_set(loaded(tokenizer=tokenizer), probe_set((prompt, texts)))
    rows = [ids_of(prompt + text, byte_tokenizer(MERGES)) for text in texts]
    context = ids_of(before, byte_tokenizer(MERGES))
    assert all(row[: len(context)] == context for row in rows)
    assert tuple(counts(scores, 0)) == scored == tuple(len(row) - len(context) for row in rows)
    expected = [plain(GPT2.model, row) - plain(GPT2.model, context) for row in rows]
    assert flat(scores, 0) == pytest.approx(expected, abs=1e-4)


pieces = st.text("abcT: ", min_size=1, max_size=6)


@given(st.text("abcT: ", max_size=8), st.lists(pieces, min_size=2, max_size=3))
@settings(max_examples=60)
def test_texts_of_an_item_differ_as_the_whole_strings_do(prompt, texts):
    scores = score_probe_set(MERGING, probe_set((prompt, texts)))
    whole = [plain(MERGING.model, ids_of(prompt + text, MERGING.tokenizer)) for text in texts]
    found = flat(scores, 0)
    assert [one - found[0] for one in found] == pytest.approx([one - whole[0] for one in whole], abs=2e-4)
    lengths = [
        len(ids_of(prompt + text, MERGING.tokenizer)) - n for text, n in zip(texts, counts(scores, 0), strict=True)
    ]
    # Scored from the same place, which is never after the prompt.
    assert len(set(lengths)) == 1
    assert lengths[0] <= len(ids_of(prompt, MERGING.tokenizer))


@given(st.text("abcT: ", max_size=8), pieces)
def test_a_slow_tokenizer_finds_the_boundary_that_a_fast_one_says(prompt, text):
    whole = ids_of(prompt + text, MERGING.tokenizer)
    fast, slow = (prompt_lengths(one, [prompt], [text])[0] for one in (MERGING.tokenizer, SLOW))
    assert slow <= fast
    assert fast <= len(whole) - 1
    if ids_of(prompt, MERGING.tokenizer) == whole[: len(ids_of(prompt, MERGING.tokenizer))]:
        assert slow == fast


def test_a_prompt_that_reads_otherwise_before_a_text_is_told_from_it_by_characters_where_they_are_known():
    # Alone the prompt ends with the token ": ", before a T with ":" and the space belongs to " T".
    assert prompt_lengths(byte_tokenizer(MERGES), ["A: "], ["T."]) == [2]
    assert prompt_lengths(SLOW, ["A: "], ["T."]) == [1]


def test_many_texts_are_looked_at_in_parts():
    prompts = ["a" * (i % 7) for i in range(1100)]
    texts = ["b"] * len(prompts)
    assert prompt_lengths(byte_tokenizer(), prompts, texts) == [len(prompt) for prompt in prompts]


def test_one_string_may_be_cut_in_two_places():
    scores = score_probe_set(GPT2, probe_set(("he ", ("ran far", "sat")), ("he ran", (" far", "!"))))
    far = ids_of("he ran far")
    assert flat(scores, 0)[0] == pytest.approx(plain(GPT2.model, far) - plain(GPT2.model, far[:4]), abs=1e-4)
    assert flat(scores, 1)[0] == pytest.approx(plain(GPT2.model, far) - plain(GPT2.model, far[:7]), abs=1e-4)
    assert (counts(scores, 0), counts(scores, 1)) == ([7, 3], [4, 1])


def test_a_prompt_that_begins_with_what_reads_as_bos_keeps_its_boundary():
    tokenizer = byte_tokenizer(unknown="z")
    assert tokenizer("zzab")["input_ids"][:2] == [0, 0]
    assert prompt_lengths(tokenizer, ["zza", "zz", ""], ["b", "b", "zzb"]) == [1, 0, 0]


def test_probes_without_a_prompt_score_as_texts_do_to_the_last_bit():
    texts = [text for _, some in ITEMS for text in some]
    scores = score_probe_set(GPT2, probe_set(*(("", some) for _, some in ITEMS)))
    assert [one for index in range(len(ITEMS)) for one in flat(scores, index)] == [
        score.log_prob for score in score_texts(GPT2, texts)
    ]


def test_a_text_with_no_token_of_its_own_is_named():
    with pytest.raises(ProbeError, match=r"probe 'p1' \(ans1\) has no token to score"):
        score_probe_set(GPT2, probe_set(("who:", ("a", "b")), ("who:", ("a", ""))))
    # That the other text's token reaches into the prompt gives the empty one nothing of its own.
    with pytest.raises(ProbeError, match=r"probe 'p0' \(ans1\) has no token to score"):
        score_probe_set(MERGING, probe_set(("who b", ("a", ""))))


def test_a_prompt_and_a_text_that_are_too_long_together_are_named():
    probes = probe_set(("w" * 40, ("a", "b" * 30)))
    with pytest.raises(ProbeError) as caught:
        score_probe_set(GPT2, probes)
    assert caught.value.what == f"probe 'p0' (ans1) has 71 tokens, and model 'test' reads at most {LONGEST}"


def test_texts_of_unknown_tokens_are_not_scored_however_long_their_known_prompt_is():
    unknowing = loaded(tokenizer=byte_tokenizer(unknown="z"))
    prompt = "a" * 60
    score_probe_set(unknowing, probe_set((prompt, ("b", "c"))))
    with pytest.raises(ProbeError, match=r"50% of the tokens of probe set 'own' are unknown"):
        score_probe_set(unknowing, probe_set((prompt, ("z", "c"))))


def test_the_prompt_is_part_of_what_a_score_belongs_to():
    first, second = probe_set(("who:", ("a", "b"))), probe_set(("why:", ("a", "b")))
    assert first.digest != second.digest
    one, other = (score_probe_set(GPT2, probes) for probes in (first, second))
    assert one.probe_digest == first.digest
    assert flat(one, 0) != flat(other, 0)
    plainly = dataclasses.replace(first, probes=tuple(dataclasses.replace(p, prompt="") for p in first.probes))
    assert flat(score_probe_set(GPT2, plainly), 0) != flat(one, 0)


def test_published_questions_are_scored_as_the_plain_model_does(data_dir):
    longest = 700
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(n_positions=longest, n_embd=16, n_layer=2, n_head=2, **SIZES)).eval()
    probes = read_bbq(data_dir).only("Religion")
    some = dataclasses.replace(probes, probes=probes.probes[:4] + probes.probes[-4:])
    scores = score_probe_set(loaded(model), some)
    for index, probe in enumerate(some.probes):
        before = ids_of(probe.prompt)
        for role, text in probe.texts.items():
            whole = ids_of(probe.prompt + text)
            assert len(whole) < longest
            assert scores.tokens[role][index] == len(whole) - len(before) == len(text.encode())
            expected = plain(model, whole) - plain(model, before)
            assert scores.log_probs[role][index] == pytest.approx(expected, abs=2e-4)
    assert scores.fields == tuple(probe.fields for probe in some.probes)


@pytest.mark.parametrize(("rows", "length"), [([[0, 1]], 2), ([[0, 1], [0, 1, 2]], 2), ([[0], [1]], 0), ([[], [1]], 0)])
def test_the_common_prefix_of_rows(rows, length):
    assert common_prefix(rows) == length
