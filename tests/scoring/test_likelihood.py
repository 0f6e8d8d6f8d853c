"""Scores against the plain model: one text at a time, no padding, all logits."""

import copy
import dataclasses
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from fairtest.errors import CorpusError, MetricError, ModelError, ProbeError
from fairtest.probes.probe import Probe, ProbeSet
from fairtest.scoring import likelihood
from fairtest.scoring.likelihood import score_probe_set, score_records, score_texts
from fairtest.training import forward
from fairtest.training.forward import unknown_share
from fairtest.training.models import LoadedModel
from fairtest.training.sources import ModelSource

BOS, EOS = "<s>", "</s>"
LONGEST = 48


def byte_tokenizer(bos=BOS, eos=EOS, *, adds_bos=False):
    """One token a byte, in GPT-2's alphabet, where a space in front of a word belongs to the word."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {symbol: index for index, symbol in enumerate((BOS, EOS, *alphabet))}
    raw = Tokenizer(models.BPE(vocabulary, []))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    if adds_bos:
        raw.post_processor = processors.TemplateProcessing(single=f"{BOS} $A", special_tokens=[(BOS, 0)])
    return PreTrainedTokenizerFast(tokenizer_object=raw, bos_token=bos, eos_token=eos)


def gpt2(*, tied=True):
    torch.manual_seed(0)
    # A wide start makes scores differ far more than rounding does.
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=258,
            n_positions=LONGEST,
            n_embd=16,
            n_layer=2,
            n_head=2,
            initializer_range=0.4,
            bos_token_id=0,
            eos_token_id=1,
            tie_word_embeddings=tied,
        )
    ).eval()


def llama():
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=258,
            hidden_size=16,
            intermediate_size=24,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            max_position_embeddings=LONGEST,
            initializer_range=0.4,
            bos_token_id=0,
            eos_token_id=1,
        )
    ).eval()


def loaded(model=None, tokenizer=None):
    source = ModelSource("test", "directory", "nowhere", "0" * 64)
    return LoadedModel(model or gpt2(), tokenizer or byte_tokenizer(), source)


def plain(model, ids):
    """Sum of log p(id | ids before it), without the first: one row, no mask, no padding."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([ids])).logits[0, :-1]
    found = logits.double().log_softmax(-1)[torch.arange(len(ids) - 1), torch.tensor(ids[1:])]
    return float(found.sum())


def ids_of(text):
    symbols = byte_tokenizer().get_vocab()
    return [symbols[piece] for piece in byte_tokenizer().tokenize(text)]


def probe_set(*texts, roles=("stereotype", "anti_stereotype", "unrelated")):
    probes = tuple(
        Probe(f"p{index}", "gender", f"t{index}", dict(zip(roles, triple, strict=True)))
        for index, triple in enumerate(texts)
    )
    return ProbeSet("own", "1", "Apache-2.0", "here", probes)


TEXTS = ["He was a nurse.", "She was a nurse.", "He was", "", "x", "He was a nurse in the old town.", "He was a nurse."]
GPT2 = loaded()


@pytest.mark.parametrize("model", [gpt2(), gpt2(tied=False), llama()], ids=["tied gpt2", "untied gpt2", "llama"])
def test_scores_are_those_of_the_plain_model_one_text_at_a_time(model):
    for text, score in zip(TEXTS, score_texts(loaded(model), TEXTS), strict=True):
        assert score.tokens == len(text)
        assert score.log_prob == pytest.approx(plain(model, [0, *ids_of(text)]) if text else 0.0, abs=1e-4)


words = st.lists(st.sampled_from(["he", " was", " a", " Banana", "s", " in", "."]), max_size=7).map("".join)


@settings(max_examples=25, deadline=None)
@given(st.lists(words, min_size=1, max_size=8), st.sampled_from([1, 30, 64, 4096]), st.randoms())
def test_batch_size_order_and_company_change_no_score(texts, batch_tokens, random):
    alone = {text: score_texts(GPT2, [text])[0] for text in texts}
    random.shuffle(texts)
    for text, score in zip(texts, score_texts(GPT2, texts, batch_tokens=batch_tokens), strict=True):
        assert score.tokens == alone[text].tokens
        assert score.log_prob == pytest.approx(alone[text].log_prob, abs=1e-4)


def test_padding_with_a_token_of_the_text_changes_no_score():
    tokenizer = byte_tokenizer()
    tokenizer.pad_token = "e"
    texts = ["eeee", "a much longer text than that one"]
    together = score_texts(loaded(tokenizer=tokenizer), texts)
    assert together[0].log_prob == pytest.approx(plain(gpt2(), [0, *ids_of("eeee")]), abs=1e-4)
    assert together[0].tokens == 4


def test_the_first_token_is_scored_after_one_bos():
    first, second = (score_texts(GPT2, [text])[0] for text in ("He", "Se"))
    assert first.tokens == second.tokens == 2
    assert first.log_prob - second.log_prob == pytest.approx(
        plain(gpt2(), [0, *ids_of("He")]) - plain(gpt2(), [0, *ids_of("Se")]), abs=1e-4
    )
    assert abs(first.log_prob - second.log_prob) > 1e-2


def test_a_tokenizer_that_adds_bos_itself_gives_the_same_scores():
    twice = score_texts(loaded(tokenizer=byte_tokenizer(adds_bos=True)), TEXTS)
    assert twice == score_texts(GPT2, TEXTS)


def test_without_bos_the_first_token_is_context_only():
    (score,) = score_texts(GPT2, ["He was"], protocol="causal-nobos")
    assert score.tokens == 5
    assert score.log_prob == pytest.approx(plain(gpt2(), ids_of("He was")), abs=1e-4)


def test_eos_stands_in_for_a_missing_bos():
    (score,) = score_texts(loaded(tokenizer=byte_tokenizer(bos=None)), ["He was"])
    assert score.log_prob == pytest.approx(plain(gpt2(), [1, *ids_of("He was")]), abs=1e-4)


def test_a_tokenizer_without_bos_and_eos_is_an_error():
    with pytest.raises(ModelError, match="neither a BOS nor an EOS token"):
        score_texts(loaded(tokenizer=byte_tokenizer(bos=None, eos=None)), ["He was"])


def test_a_word_in_mid_sentence_keeps_its_space():
    spaced, joined, alone = score_texts(GPT2, ["a Banana", "aBanana", "Banana"])
    assert (spaced.tokens, joined.tokens, alone.tokens) == (8, 7, 6)
    space = byte_tokenizer().get_vocab()["Ġ"]
    assert spaced.log_prob == pytest.approx(plain(gpt2(), [0, *ids_of("a"), space, *ids_of("Banana")]), abs=1e-4)


def test_each_distinct_text_goes_through_the_model_once():
    model = gpt2()
    seen = []
    model.transformer.wte.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0].clone()))
    calls = []
    texts = ["abcd", "efgh", "abcd", "abcd", "ijkl"]
    score_texts(loaded(model), texts, on_batch=lambda *done: calls.append(done))
    # One tree: BOS once, and no place for last tokens, from which nothing is predicted.
    assert seen[-1].tolist() == [[0, *ids_of("abc"), *ids_of("efg"), *ids_of("ijk")]]
    assert calls == [(3, 3)]


class _CountingHead(torch.nn.Linear):
    def forward(self, states):
        self.seen = [*getattr(self, "seen", []), states.shape[0]]
        return super().forward(states)


@pytest.mark.parametrize("counted", [False, True], ids=["tiles", "whole head"])
def test_the_head_sees_each_distinct_beginning_once_whatever_follows(counted, monkeypatch):
    model, tiles = gpt2(tied=False), []
    if counted:
        model.lm_head.__class__ = _CountingHead
    own = forward.linear_log_probs
    monkeypatch.setattr(
        forward, "linear_log_probs", lambda states, *rest: tiles.append(len(states)) or own(states, *rest)
    )
    texts = ["abc", "abd", "abe", "xbc"]
    scores = score_texts(loaded(model), texts)
    # BOS, a, ab, x, xb: three tokens follow "ab", and two BOS.
    assert (model.lm_head.seen[-1] if counted else tiles[-1]) == 5
    for text, score in zip(texts, scores, strict=True):
        assert score.log_prob == pytest.approx(plain(model, [0, *ids_of(text)]), abs=1e-4)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.text("ab", min_size=1, max_size=5), min_size=1, max_size=12))
def test_texts_that_share_beginnings_score_as_alone(texts):
    for text, score in zip(texts, score_texts(GPT2, texts), strict=True):
        assert score.log_prob == pytest.approx(plain(GPT2.model, [0, *ids_of(text)]), abs=1e-4)


@pytest.mark.parametrize("tile", [3, 5, 1 << 22])
def test_many_targets_of_one_state_are_looked_up_in_any_order(tile, monkeypatch):
    made = forward.CausalForward(GPT2)
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(7, 16, generator=generator)
    of, targets = torch.randint(7, (30,), generator=generator), torch.randint(258, (30,), generator=generator)
    expected = made.logits(states).detach().double().log_softmax(-1)[of, targets]
    for plain_head in (True, False):
        monkeypatch.setattr(made, "_plain_head", lambda _states, head=plain_head: head)
        monkeypatch.setattr(made, "tile_elements", tile * 258, raising=False)
        assert torch.allclose(made.log_probs_of(states, targets, of).double(), expected, atol=1e-4)


def test_progress_counts_distinct_texts():
    calls = []
    score_texts(GPT2, ["aa", "bb", "cc", "aa"], batch_tokens=2, on_batch=lambda *done: calls.append(done))
    assert calls == [(1, 3), (2, 3), (3, 3)]


def test_a_model_in_training_mode_is_scored_without_dropout_and_left_as_it_was():
    model = gpt2().train()
    assert score_texts(loaded(model), TEXTS) == score_texts(GPT2, TEXTS)
    assert model.training


def test_a_probe_set_is_scored_role_by_role_in_its_order():
    probes = probe_set(("he ran", "she ran", "fox ran"), ("he is", "she is", "fox is"))
    scores = score_probe_set(GPT2, probes)
    assert (scores.probe_set, scores.probe_digest, scores.protocol) == ("own", probes.digest, "causal-bos")
    assert (scores.ids, scores.axes, scores.clusters) == (("p0", "p1"), ("gender", "gender"), ("t0", "t1"))
    for index, probe in enumerate(probes.probes):
        for role, text in probe.texts.items():
            assert scores.tokens[role][index] == len(text)
            assert scores.log_probs[role][index] == pytest.approx(plain(gpt2(), [0, *ids_of(text)]), abs=1e-4)


def test_templates_go_with_their_probes():
    probes = probe_set(("he ran", "she ran", "fox ran"), ("he is", "she is", "fox is"))
    assert score_probe_set(GPT2, probes).templates == ()
    framed = (dataclasses.replace(probe, template=f"f{i}") for i, probe in enumerate(probes.probes))
    assert score_probe_set(GPT2, dataclasses.replace(probes, probes=tuple(framed))).templates == ("f0", "f1")


def test_permuting_probes_permutes_scores():
    triples = [("he ran", "she ran", "fox ran"), ("he is", "she is", "fox is"), ("a", "bb", "ccc")]
    forward, backward = (score_probe_set(GPT2, probe_set(*order)) for order in (triples, triples[::-1]))
    for role, values in forward.log_probs.items():
        assert values == backward.log_probs[role][::-1]


def test_a_text_longer_than_the_model_reads_names_the_item():
    probes = probe_set(("a", "b", "c"), ("a", "b" * LONGEST, "c"))
    with pytest.raises(ProbeError) as caught:
        score_probe_set(GPT2, probes)
    assert caught.value.what == (
        f"probe 'p1' (anti_stereotype) has {LONGEST + 1} tokens, and model 'test' reads at most {LONGEST}"
    )
    assert caught.value.where == "probe set 'own'"


def test_a_text_with_nothing_to_score_names_the_item():
    with pytest.raises(ProbeError, match=r"probe 'p0' \(unrelated\) has no token to score"):
        score_probe_set(GPT2, probe_set(("aa", "bb", "c")), protocol="causal-nobos")


def test_a_nan_for_one_text_names_the_item():
    model = gpt2(tied=False)
    with torch.no_grad():
        model.transformer.wte.weight[ids_of("z")[0]] = float("nan")
    with pytest.raises(MetricError, match=r"score of probe 'p1' \(stereotype\) is nan"):
        score_probe_set(loaded(model), probe_set(("a", "b", "c"), ("zz", "b", "c")))


def test_a_diverged_model_is_called_that_and_names_the_weight():
    model = gpt2()
    with torch.no_grad():
        model.transformer.ln_f.weight.fill_(float("nan"))
    with pytest.raises(MetricError) as caught:
        score_probe_set(loaded(model), probe_set(("a", "b", "c")))
    assert caught.value.what == (
        "no item can be scored: weight 'transformer.ln_f.weight' of model 'test' is not finite"
    )
    assert "diverged" in caught.value.fix


def test_a_model_that_sees_later_tokens_keeps_its_own_error(monkeypatch):
    def refuse(_loaded):
        raise ModelError("model 'test' is not causal")

    monkeypatch.setattr(likelihood, "CausalForward", refuse)
    with pytest.raises(ModelError, match="not causal"):
        score_texts(GPT2, ["a"])


def test_an_unknown_protocol_is_named():
    with pytest.raises(MetricError, match="unknown scoring protocol 'causal'"):
        score_texts(GPT2, ["a"], protocol="causal")


def test_records_give_losses_and_token_counts_for_perplexity():
    nll, tokens = score_records(GPT2, ["He was", "He was a nurse."], max_length=5)
    assert tokens == [4, 4]
    assert nll[0] == nll[1] == pytest.approx(-plain(gpt2(), [0, *ids_of("He w")]), abs=1e-4)
    whole, counts = score_records(GPT2, ["He was"])
    assert counts == [6]
    assert whole[0] == pytest.approx(-plain(gpt2(), [0, *ids_of("He was")]), abs=1e-4)


@pytest.mark.parametrize("model", [gpt2(), llama()], ids=["gpt2", "llama"])
def test_the_loss_of_a_record_in_blocks_is_the_sum_over_blocks_scored_alone(model):
    texts = ["He was a nurse.", "a", "He was", "He was a nurse."]
    nll, tokens = score_records(loaded(model), texts, max_length=5, long_texts="blocks")
    assert tokens == [len(text) for text in texts]
    expected = [
        -sum(plain(model, [0, *ids_of(text[start : start + 4])]) for start in range(0, len(text), 4)) for text in texts
    ]
    assert nll == pytest.approx(expected, abs=2e-4)
    assert nll[0] == nll[3]


@given(st.lists(st.text("abc ", min_size=1, max_size=14), min_size=1, max_size=4), st.integers(2, 9))
@settings(max_examples=20)
def test_in_blocks_every_token_of_every_record_is_scored_once(texts, max_length):
    nll, tokens = score_records(GPT2, texts, max_length=max_length, long_texts="blocks")
    assert tokens == [len(text) for text in texts]
    cut, few = score_records(GPT2, texts, max_length=max_length)
    for text, in_blocks, count, beginning, scored in zip(texts, nll, tokens, cut, few, strict=True):
        rest = in_blocks - beginning
        assert rest == pytest.approx(0, abs=1e-4) if count == scored else rest > 1e-4, text


def test_records_longer_than_the_model_reads_are_scored_in_blocks():
    text = "He was a nurse. " * 8
    assert score_records(GPT2, [text], max_length=LONGEST, long_texts="blocks")[1] == [len(text)]
    with pytest.raises(ModelError, match=f"reads at most {LONGEST}"):
        score_records(GPT2, [text], max_length=LONGEST + 1, long_texts="blocks")


def test_a_loss_that_is_nan_in_a_later_block_names_its_record():
    model = copy.deepcopy(gpt2(tied=False))
    with torch.no_grad():
        model.transformer.wte.weight[ids_of("z")[0]] = float("nan")
    with pytest.raises(MetricError, match="log-probability of text 1 is nan: 'aaaazz'"):
        score_records(loaded(model), ["aaaa", "aaaazz"], max_length=4, long_texts="blocks")


@pytest.mark.parametrize(("texts", "max_length"), [(["ab", ""], None), (["ab"], 1)])
def test_a_record_without_a_token_is_an_error(texts, max_length):
    with pytest.raises(CorpusError, match="has no token to score"):
        score_records(GPT2, texts, max_length=max_length)
    with pytest.raises(CorpusError, match="has no token to score"):
        score_records(GPT2, ["ab", ""], max_length=2, long_texts="blocks")


def test_a_record_whose_loss_is_nan_is_named():
    model = copy.deepcopy(gpt2(tied=False))
    with torch.no_grad():
        model.transformer.wte.weight[ids_of("z")[0]] = float("nan")
    with pytest.raises(MetricError, match="log-probability of text 1 is nan: 'zz'"):
        score_records(loaded(model), ["ab", "zz"])


def test_a_text_longer_than_the_model_reads_is_an_error_where_it_is_not_cut():
    with pytest.raises(ModelError, match=f"a text has {LONGEST + 1} tokens, and model 'test' reads at most {LONGEST}"):
        score_texts(GPT2, ["a" * LONGEST])
    assert score_texts(GPT2, ["a" * LONGEST], max_length=LONGEST)[0].tokens == LONGEST - 1


def test_no_texts_give_no_scores():
    assert score_texts(GPT2, []) == []
    assert score_records(GPT2, []) == ([], [])


def test_a_uniform_model_gives_every_token_the_same():
    model = gpt2()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    (score,) = score_texts(loaded(model), ["Banana"])
    assert score.log_prob == pytest.approx(-6 * math.log(258), abs=1e-4)


def forgetful_tokenizer():
    """Knows each byte but z."""
    whole = byte_tokenizer()
    vocabulary = {token: index for token, index in whole.get_vocab().items() if token != "z"}
    vocabulary["<unk>"] = whole.get_vocab()["z"]
    raw = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return PreTrainedTokenizerFast(tokenizer_object=raw, bos_token=BOS, eos_token=EOS, unk_token="<unk>")


def test_texts_the_tokenizer_does_not_know_are_not_scored():
    forgetful = loaded(tokenizer=forgetful_tokenizer())
    fine = "a" * 19 + "z"
    assert score_records(forgetful, [fine])[1] == [20]
    with pytest.raises(CorpusError, match=r"10% of the tokens of 2 texts are unknown") as caught:
        score_records(forgetful, [fine, "z" + "a" * 8 + "z" + "a" * 9 + "z"])
    assert caught.value.fix == "use a model whose tokenizer knows this text"
    score_probe_set(forgetful, probe_set((fine, fine, fine)))
    with pytest.raises(ProbeError, match=r"46% of the tokens of probe set 'own' are unknown"):
        score_probe_set(forgetful, probe_set(("he zzz", "she zz", "z")))


def test_an_unknown_token_that_is_also_bos_counts_only_inside_a_text():
    tokenizer = byte_tokenizer()
    tokenizer.unk_token = BOS
    assert unknown_share(tokenizer, [[0, 5], [0, 0, 5, 6]]) == 0.25
    assert unknown_share(tokenizer, [[0], []]) == 0
    assert unknown_share(byte_tokenizer(), [[0, 0]]) == 0


def test_a_token_that_the_model_does_not_embed_is_named():
    tokenizer = byte_tokenizer()
    tokenizer.add_special_tokens({"bos_token": "<new>"})
    with pytest.raises(ModelError, match=r"gives the id 258 \(token '<new>'\), and the model embeds 258 ids only"):
        score_texts(loaded(tokenizer=tokenizer), ["a"])


@pytest.mark.parametrize("build", [gpt2, llama])
def test_bfloat16_gives_nearly_the_same_scores(build):
    model = build()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.5)  # logits of a usual size
    texts = [{"stereotype": f"the nurse {verb} her", "anti_stereotype": f"the nurse {verb} him"} for verb in "abcdef"]
    probes = ProbeSet("p", "1", "l", "s", tuple(Probe(str(i), "gender", "c", text) for i, text in enumerate(texts)))
    whole, half = (score_probe_set(loaded(model), probes, precision=kind) for kind in ("float32", "bfloat16"))
    for role in probes.roles:
        for exact, near, count in zip(whole.log_probs[role], half.log_probs[role], whole.tokens[role], strict=True):
            assert near == pytest.approx(exact, abs=0.03 * count)
    assert whole.log_probs != half.log_probs
    assert half.tokens == whole.tokens


def test_a_precision_that_is_none_is_refused():
    probes = ProbeSet("p", "1", "l", "s", (Probe("0", "gender", "c", {"stereotype": "a b"}),))
    with pytest.raises(MetricError, match="unknown precision 'float8'"):
        score_probe_set(loaded(), probes, precision="float8")
