"""Completions against a loop in plain Python: one prompt at a time, read from the start for each token."""

import dataclasses
import hashlib
import json
import math

import numpy as np
import pytest
import torch
import transformers as hf
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from fairtest.errors import MetricError, ModelError, ProbeError, SettingsError
from fairtest.probes.probe import ProbeSet
from fairtest.probes.prompts import occupation_prompts, prompt
from fairtest.scoring import generation
from fairtest.scoring.completions import Decoding, Generations
from fairtest.scoring.generation import generate
from fairtest.training.models import LoadedModel, load_model
from fairtest.training.sources import ModelSource, resolve_model

_TEXT = "he she was a nurse doctor in the town and ran"
WORDS = ("<s>", "</s>", "<unk>", *(f"▁{word}" for word in _TEXT.split()))
LONGEST = 40
_COMMON = {"vocab_size": len(WORDS), "bos_token_id": 0, "eos_token_id": 1, "initializer_range": 0.5}
_LLAMA = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": LONGEST,
    **_COMMON,
}


def tokenizer(words=WORDS, **special):
    raw = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.Metaspace()
    raw.decoder = decoders.Metaspace()
    names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", **special}
    return hf.PreTrainedTokenizerFast(tokenizer_object=raw, **names)


def gpt2(**options):
    torch.manual_seed(0)
    sizes = {"n_positions": LONGEST, "n_embd": 16, "n_layer": 2, "n_head": 2, "tie_word_embeddings": False}
    return hf.GPT2LMHeadModel(hf.GPT2Config(**{**_COMMON, **sizes, **options})).eval()


def llama():
    torch.manual_seed(0)
    return hf.LlamaForCausalLM(hf.LlamaConfig(**_LLAMA)).eval()


def mistral():
    torch.manual_seed(0)
    return hf.MistralForCausalLM(hf.MistralConfig(**_LLAMA, sliding_window=4)).eval()


def bloom():
    torch.manual_seed(0)
    return hf.BloomForCausalLM(hf.BloomConfig(**_COMMON, hidden_size=16, n_layer=2, n_head=2)).eval()


def mamba():
    torch.manual_seed(0)
    return hf.MambaForCausalLM(
        hf.MambaConfig(**_COMMON, hidden_size=16, state_size=4, num_hidden_layers=2, time_step_rank=4)
    ).eval()


FAMILIES = {"gpt2": gpt2, "llama": llama, "mistral": mistral, "bloom": bloom, "mamba": mamba}


def loaded(model=None, own_tokenizer=None):
    source = ModelSource("test", "directory", "nowhere", "0" * 64)
    return LoadedModel(model or gpt2(), own_tokenizer or tokenizer(), source)


def prompts(*texts):
    return ProbeSet(
        "own",
        "1",
        "Apache-2.0",
        "here",
        tuple(prompt(f"p{text}", "gender", "all", text, cluster=text) for text in texts),
    )


TEXTS = ("he was", "she was a nurse", "in the town", "he", "she ran and he ran")
GPT2 = loaded()


def alone(model, text, decoding, sample):
    """Token ids and whether the model ended them."""
    ids = [0, *(WORDS.index(f"▁{word}") for word in text.split())]
    key = hashlib.sha256(f"{decoding.seed}\0p{text}\0{sample}".encode()).digest()[:16]
    draws = np.random.Generator(np.random.Philox(key=int.from_bytes(key, "big"))).random(decoding.max_new_tokens)
    new = []
    for position in range(decoding.max_new_tokens):
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([ids + new])).logits[0, -1].tolist()
        if position < decoding.min_new_tokens:
            logits[0] = logits[1] = -math.inf
        if decoding.temperature == 0:
            token = logits.index(max(logits))
        else:
            top = max(logits)
            weights = [math.exp((logit - top) / decoding.temperature) for logit in logits]
            weights = [weight / math.fsum(weights) for weight in weights]
            kept, covered = set(), 0.0
            for index in sorted(range(len(weights)), key=lambda i: -weights[i]):
                if covered >= decoding.top_p:
                    break
                kept.add(index)
                covered += weights[index]
            passed = 0.0
            for token in sorted(kept):
                passed += weights[token]
                if passed > draws[position] * covered:
                    break
        if token in (0, 1):
            return new, True
        new.append(token)
    return new, False


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    "decoding",
    [
        Decoding(samples=4, max_new_tokens=9),
        Decoding(samples=4, max_new_tokens=9, min_new_tokens=0, temperature=0.7, top_p=0.8, seed=3),
        Decoding(samples=1, max_new_tokens=9, temperature=0),
    ],
    ids=["sampled", "nucleus", "greedy"],
)
def test_completions_are_those_of_a_loop_over_prompts_one_at_a_time(family, decoding):
    model = FAMILIES[family]()
    found = generate(loaded(model), prompts(*TEXTS), decoding)
    expected = [
        (text, sample, *alone(model, text, decoding, sample)) for text in TEXTS for sample in range(decoding.samples)
    ]
    for item, (text, sample, new, ended) in zip(found, expected, strict=True):
        assert (item.prompt_id, item.sample) == (f"p{text}", sample)
        assert item.text.split() == [WORDS[token][1:] for token in new if token > 2]
        assert (item.tokens, item.ended) == (len(new), ended)
    if decoding.temperature and family in ("gpt2", "llama"):
        assert {item.ended for item in found} == {True, False}


@pytest.mark.parametrize(("family", "cached"), [(name, name != "mamba") for name in FAMILIES])
def test_the_cache_is_used_where_padding_changes_nothing(family, cached):
    assert generation._cache_is_exact(loaded(FAMILIES[family]())) is cached


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_greedy_completions_are_those_of_transformers(family):
    model = FAMILIES[family]()
    for item in generate(loaded(model), prompts(*TEXTS), Decoding(samples=1, temperature=0, min_new_tokens=0)):
        ids = torch.tensor([[0, *(WORDS.index(f"▁{word}") for word in item.prompt_id[1:].split())]])
        (whole,) = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=20,
            eos_token_id=[0, 1],
            pad_token_id=1,
        ).tolist()
        assert item.text.split() == [WORDS[token][1:] for token in whole[ids.shape[1] :] if token > 2]


@settings(max_examples=15)
@given(st.lists(st.sampled_from(TEXTS), min_size=1, unique=True), st.sampled_from([1, 60, 150, 4096]), st.randoms())
def test_batch_size_order_and_company_change_no_text(texts, batch_tokens, random):
    decoding = Decoding(samples=3, max_new_tokens=6)
    whole = {(item.prompt_id, item.sample): item for item in generate(GPT2, prompts(*TEXTS), decoding)}
    random.shuffle(texts)
    found = generate(GPT2, prompts(*texts), decoding, batch_tokens=batch_tokens)
    assert [item.prompt_id for item in found] == [f"p{text}" for text in texts for _ in range(3)]
    assert all(item == whole[item.prompt_id, item.sample] for item in found)


def test_further_samples_and_tokens_leave_the_earlier_ones_as_they_are():
    few = generate(GPT2, prompts(*TEXTS), Decoding(samples=2, max_new_tokens=4))
    many = {(i.prompt_id, i.sample): i for i in generate(GPT2, prompts(*TEXTS), Decoding(samples=5, max_new_tokens=8))}
    for item in few:
        assert many[item.prompt_id, item.sample].text.startswith(item.text)


def test_the_seed_changes_texts_and_the_global_state_does_not():
    decoding = Decoding(samples=2)
    torch.manual_seed(1)
    first = generate(GPT2, prompts(*TEXTS), decoding)
    torch.manual_seed(2)
    assert generate(GPT2, prompts(*TEXTS), decoding) == first
    assert generate(GPT2, prompts(*TEXTS), dataclasses.replace(decoding, seed=1)).items != first.items


def test_draws_follow_the_models_probabilities():
    """Chi-squared of 6000 first tokens against the model's own probabilities."""
    model = gpt2()
    found = generate(loaded(model), prompts("he was"), Decoding(samples=6000, max_new_tokens=1, temperature=2.0))
    with torch.no_grad():
        ids = torch.tensor([[0, WORDS.index("▁he"), WORDS.index("▁was")]])
        logits = model(input_ids=ids).logits[0, -1].double() / 2.0
    logits[:2] = -math.inf
    weights = logits.softmax(-1).tolist()
    counts = dict.fromkeys(WORDS, 0)
    for item in found:
        counts[f"▁{item.text.strip()}" if item.text else "<unk>"] += 1
    expected = {word: 6000 * weight for word, weight in zip(WORDS, weights, strict=True) if weight}
    # 12 words can be drawn: 11 degrees of freedom, whose 99% point is 24.7.
    assert len(expected) == 12
    assert sum((counts[word] - mean) ** 2 / mean for word, mean in expected.items()) < 24.7


def test_a_nucleus_larger_than_the_first_look_is_found(monkeypatch):
    decoding = Decoding(samples=4, max_new_tokens=6, temperature=3.0, top_p=0.95)
    expected = generate(GPT2, prompts(*TEXTS), decoding)
    monkeypatch.setattr(generation, "_NUCLEUS", 1)
    assert generate(GPT2, prompts(*TEXTS), decoding) == expected


@pytest.mark.parametrize("tile", [1, 3 * len(WORDS)])
def test_choosing_a_few_rows_at_a_time_changes_no_text(monkeypatch, tile):
    expected = generate(GPT2, prompts(*TEXTS))
    monkeypatch.setattr(generation, "_TILE", tile)
    assert generate(GPT2, prompts(*TEXTS)) == expected


def test_a_draw_of_almost_one_takes_the_last_token_that_can_be():
    logits = torch.tensor([[0.0, 3.0, -math.inf]], dtype=torch.double)
    assert generation._choose(logits, np.array([1 - 2**-53]), 1.0, 1.0) == [1]
    assert generation._choose(logits, np.array([0.0]), 1.0, 1.0) == [0]
    assert generation._choose(logits, np.array([0.0]), 1.0, 0.5) == [1]


@pytest.mark.parametrize("special", [{}, {"pad_token": "</s>"}, {"pad_token": "▁he"}], ids=str)
def test_a_pad_token_is_not_needed_and_changes_nothing(special):
    found = generate(loaded(own_tokenizer=tokenizer(**special)), prompts(*TEXTS), Decoding(samples=2))
    plain = generate(GPT2, prompts(*TEXTS), Decoding(samples=2))
    # What is decoded drops special tokens, so only tokens are compared.
    assert [(i.tokens, i.ended) for i in found] == [(i.tokens, i.ended) for i in plain]


def test_the_models_own_end_tokens_end_a_text():
    model = gpt2()
    model.generation_config.eos_token_id = [1, WORDS.index("▁town")]
    found = generate(loaded(model), prompts(*TEXTS), Decoding(samples=5))
    assert not any("town" in item.text for item in found)
    assert any("town" in item.text for item in generate(GPT2, prompts(*TEXTS), Decoding(samples=5)))


def test_a_token_that_the_tokenizer_does_not_have_is_never_drawn():
    wide = gpt2(vocab_size=400)
    decoding = Decoding(samples=3, max_new_tokens=5)
    found = generate(loaded(wide), prompts(*TEXTS), decoding)
    assert all(len(item.text.split()) + 5 >= item.tokens for item in found)
    narrow = gpt2()
    narrow.load_state_dict(
        {
            k: v[: len(WORDS)] if k in ("transformer.wte.weight", "lm_head.weight") else v
            for k, v in wide.state_dict().items()
        }
    )
    assert generate(loaded(narrow), prompts(*TEXTS), decoding) == found


def test_a_completion_keeps_the_space_in_front_of_its_first_word():
    item = generate(GPT2, prompts("he was"), Decoding(samples=1, temperature=0)).items[0]
    assert item.text.startswith(" ")


def test_progress_counts_completions():
    calls = []
    decoding = Decoding(samples=2, max_new_tokens=3)
    generate(GPT2, prompts("he was", "she"), decoding, batch_tokens=12, on_batch=lambda *done: calls.append(done))
    assert calls == [(2, 4), (4, 4)]


def test_equal_prompts_are_read_once_for_all_their_samples():
    model = gpt2()
    seen = []
    model.transformer.wte.register_forward_pre_hook(lambda _module, inputs: seen.append(tuple(inputs[0].shape)))
    generate(loaded(model), prompts("he was", "she was"), Decoding(samples=5, max_new_tokens=2, min_new_tokens=2))
    assert seen[-2:] == [(2, 3), (10, 1)]


def test_a_model_in_training_mode_generates_without_dropout_and_is_left_as_it_was():
    model = gpt2().train()
    assert generate(loaded(model), prompts(*TEXTS)) == generate(GPT2, prompts(*TEXTS))
    assert model.training


def test_how_it_was_done_is_part_of_the_result_and_survives_json():
    decoding = Decoding(samples=2, top_p=0.9, seed=7)
    found = generate(GPT2, prompts(*TEXTS), decoding)
    assert (found.probe_set, found.probe_digest) == ("own", prompts(*TEXTS).digest)
    assert (found.model, found.model_digest, found.decoding) == ("test", "0" * 64, decoding)
    assert str(decoding) == "k=2,new=1..20,temperature=1,top_p=0.9,seed=7"
    assert len(found) == 2 * len(TEXTS)
    assert Generations.from_json(json.loads(json.dumps(found.to_json()))) == found


def test_the_embedded_model_continues_the_prompts_made_of_its_words():
    probes = occupation_prompts()
    few = dataclasses.replace(probes, probes=probes.probes[:24])
    found = generate(load_model(resolve_model("fairtest/tiny")), few, Decoding(samples=2, max_new_tokens=8))
    assert all(item.text.strip() for item in found)
    assert any("smiled" in item.text for item in found)


def test_a_prompt_that_leaves_no_room_is_named():
    text = " ".join(["he"] * (LONGEST - 6))
    exact = Decoding(samples=1, max_new_tokens=6, min_new_tokens=6)
    assert generate(GPT2, prompts(text), exact).items[0].tokens == 6
    with pytest.raises(ProbeError) as caught:
        generate(GPT2, prompts("he", text + " he"), exact)
    assert caught.value.what == (
        f"prompt 'p{text} he' has {LONGEST - 4} tokens, and with 6 new ones that is more than the {LONGEST} that model"
        " 'test' reads"
    )


def test_prompts_that_the_tokenizer_does_not_know_are_not_continued():
    with pytest.raises(ProbeError, match=r"67% of the tokens of probe set 'own' are unknown"):
        generate(GPT2, prompts("he sang loudly"))


def test_a_model_without_probabilities_names_the_prompt():
    model = gpt2()
    with torch.no_grad():
        model.transformer.wte.weight[WORDS.index("▁nurse")] = float("nan")
    with pytest.raises(MetricError, match="gives no probabilities for token 0 after prompt 'pa nurse'"):
        generate(loaded(model), prompts("he was", "a nurse"), Decoding(samples=2, max_new_tokens=1))
    with torch.no_grad():
        model.transformer.ln_f.weight.fill_(float("nan"))
    with pytest.raises(MetricError, match="gives no probabilities"):
        generate(loaded(model), prompts("he was"))


def test_a_tokenizer_without_bos_and_eos_is_an_error():
    bare = tokenizer(bos_token=None, eos_token=None)
    with pytest.raises(ModelError, match="neither a BOS nor an EOS token"):
        generate(loaded(own_tokenizer=bare), prompts("he was"))


def test_a_token_that_the_model_does_not_embed_is_named():
    with pytest.raises(ModelError, match="the model embeds 14 ids only"):
        generate(loaded(own_tokenizer=tokenizer((*WORDS, "▁more"))), prompts("he was more"))


def test_probes_of_another_kind_are_not_continued():
    pair = dataclasses.replace(prompts("he").probes[0], texts={"stereotype": "a", "anti_stereotype": "b"})
    with pytest.raises(ProbeError, match="is no prompt"):
        generate(GPT2, ProbeSet("pairs", "1", "", "here", (pair,)))


@pytest.mark.parametrize(
    ("values", "what"),
    [
        ({"samples": 0}, "samples is 0, and should be a whole number of at least 1"),
        ({"samples": True}, "samples is True"),
        ({"max_new_tokens": 1.5}, r"max_new_tokens is 1\.5"),
        ({"min_new_tokens": 21}, r"min_new_tokens is 21, and should be at most max_new_tokens \(20\)"),
        ({"temperature": -1.0}, r"temperature is -1\.0"),
        ({"temperature": math.inf}, "temperature is inf"),
        ({"temperature": 0}, "samples is 5, and should be 1 where temperature is 0"),
        ({"top_p": 0.0}, r"top_p is 0\.0, and should be a number above 0 and at most 1"),
        ({"top_p": "1"}, "top_p is '1'"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_a_setting_that_cannot_be_is_named(values, what):
    with pytest.raises(SettingsError, match=what):
        Decoding(**values)


def test_a_batch_of_nothing_is_an_error():
    with pytest.raises(SettingsError, match="batch_tokens is 0"):
        generate(GPT2, prompts("he"), batch_tokens=0)


def test_completions_that_lack_a_sample_are_an_error():
    found = generate(GPT2, prompts(*TEXTS), Decoding(samples=2))
    with pytest.raises(MetricError, match="not 2 of each prompt"):
        dataclasses.replace(found, items=found.items[:-1])
    with pytest.raises(MetricError, match="are none"):
        dataclasses.replace(found, items=())
