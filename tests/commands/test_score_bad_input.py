"""What `fairtest score` is given and cannot use: exit status 2 and one message that names the item."""

from __future__ import annotations

import json
import re

import pytest
import torch
import transformers as hf
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from fairtest.experiments import completion_statistics, generation_scores
from fairtest.scoring.text_scorers import ClassScorer, TextScorer

PAIRS = "id,sent_more,sent_less,category\n"
GOOD = "The nurse came. She was happy.,The nurse came. He was happy."
LONG = " ".join(["The nurse came."] * 40)
PROMPTS = "prompt,group\nThe nurse came. He,masculine\nThe nurse came. She,feminine\n"
ITEM = {
    "id": "i1",
    "target": "nurse",
    "bias_type": "profession",
    "sentences": [
        {"gold_label": "unrelated", "sentence": "The nurse was fox."},
        {"gold_label": "stereotype", "sentence": "The nurse was kind."},
        {"sentence": "The nurse was rude."},
    ],
}
QUESTION = {
    "example_id": 7,
    "question_index": "3",
    "question_polarity": "neg",
    "context_condition": "ambig",
    "category": "Age",
    "answer_info": {"ans0": ["grandpa", "old"], "ans1": ["Unknown", "unknown"], "ans2": ["grandson", "nonOld"]},
    "additional_metadata": {"stereotyped_groups": ["old"]},
    "context": "My grandpa and my grandson came by.",
    "question": "Who forgot the way?",
    "ans0": "The grandpa",
    "ans1": "Unknown",
    "ans2": "The grandson",
}


@pytest.fixture
def refused(run, tmp_path, monkeypatch):
    """What the command writes to standard error about a file of the given text, or about a named set."""
    monkeypatch.chdir(tmp_path)

    def call(text, *arguments, model="fairtest/tiny", name="mine.csv"):
        if text:
            (tmp_path / name).write_text(text, encoding="utf-8")
        found = run("score", model, name, "--threads", 1, *arguments)
        assert (found.status, found.out) == (2, "")
        told = [line for line in found.err.splitlines() if line.startswith("fairtest: ")]
        assert len([line for line in told if not re.search(r"\d s(, stopped after|$)", line)]) == 1
        assert "Traceback" not in found.err
        return found.err

    return call


def tokenizer(**named):
    """Bytes, and the special tokens that are named."""
    special = ["<s>", "<m>"]
    vocabulary = {token: place for place, token in enumerate([*special, *sorted(pre_tokenizers.ByteLevel.alphabet())])}
    raw = Tokenizer(models.BPE(vocabulary, []))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    return hf.PreTrainedTokenizerFast(tokenizer_object=raw, **named)


def saved(path, kind, **named):
    """A small model of that kind with random weights."""
    words = tokenizer(**named)
    torch.manual_seed(0)
    if kind == "causal":
        config = hf.GPT2Config(vocab_size=len(words), n_positions=96, n_embd=8, n_layer=1, n_head=1, eos_token_id=None)
        model = hf.GPT2LMHeadModel(config)
    else:
        sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
        model = hf.BertForMaskedLM(hf.BertConfig(vocab_size=len(words), max_position_embeddings=96, **sizes))
    model.save_pretrained(path)
    words.save_pretrained(path)
    return path


@pytest.mark.parametrize(
    ("text", "arguments", "messages"),
    [
        ("", (), ["there is no such probe file", "mine.csv"]),
        (PAIRS, (), ["the file has no items, only a header", "mine.csv"]),
        (f"{PAIRS}a,{GOOD},x\na,{GOOD},x\n", (), ["id 'a' is there twice, in lines 2 and 3", "mine.csv:3"]),
        (f"{PAIRS}a,{GOOD},\n", (), ["'category' is empty", "mine.csv:2"]),
        (PROMPTS, (), ["'mine.csv' is a set of prompts", "fairtest score MODEL mine.csv --scorer vader"]),
        ("prompt,group\n,m\n", (), ["'mine.csv' is a set of prompts", "--scorer"]),
        (
            f"{PAIRS}a,{GOOD[:-1]},x\n",
            ("--without", "final_character"),
            ["every one of the 1 items", "final_character"],
        ),
        (
            f"{PAIRS}a,{GOOD},x\n",
            ("--without", "duplicates"),
            ["'duplicates'", "--without", "did you mean 'duplicate'"],
        ),
        (f"{PAIRS}a,{GOOD},x\n", ("--metric", "mine.csv:log_ratio[y]"), ["no item with axis 'y'", "axes it has: x"]),
        (f"{PAIRS}a,{GOOD},x\n", ("--metric", "mine.csv:ratio"), ["ratio"]),
        (
            f"{PAIRS}a,{GOOD},x\n",
            ("--metric", "mine.csv:mlm_preference"),
            ["mlm_preference", "of a causal language model"],
        ),
        (f'{PAIRS}a,"{LONG}",{LONG[:-6]},x\n', (), ["probe 'a'", "tokens, and model 'fairtest/tiny' reads at most"]),
        (f"{PAIRS}a,{GOOD},x\n", ("--items", "x.parquet"), ["a table of items is that of one metric, and 0 are named"]),
        (
            f"{PAIRS}a,{GOOD},x\n",
            ("--metric", "stereoset.ss"),
            ["metric 'stereoset.ss' is none of probe set 'mine.csv'"],
        ),
    ],
)
def test_a_file_that_cannot_be_measured(refused, text, arguments, messages):
    err = refused(text, *arguments)
    assert all(message in err for message in messages), err


@pytest.mark.parametrize(
    ("name", "model", "message"),
    [
        ("templatse", "fairtest/tiny", "unknown probe set 'templatse'"),
        ("templates", "no such model", "model 'no such model' does not exist"),
        ("bbq", "fairtest/tiny", "probe set 'bbq' needs its published data, and no directory is set"),
    ],
)
def test_a_name_that_is_nothing(refused, monkeypatch, name, model, message):
    monkeypatch.delenv("FAIRTEST_DATA_DIR", raising=False)
    assert message in refused("", model=model, name=name)


def test_a_sentence_without_its_label_is_named(refused, tmp_path):
    (tmp_path / "dev.json").write_text(json.dumps({"data": {"intrasentence": [ITEM]}}), encoding="utf-8")
    err = refused("", "--data", tmp_path, name="stereoset")
    assert "field 'gold_label' is missing" in err
    assert "dev.json, data.intrasentence[0].sentences[2]" in err


def test_a_question_without_its_label_is_named(refused, tmp_path):
    (tmp_path / "Age.jsonl").write_text(json.dumps(QUESTION), encoding="utf-8")
    err = refused("", "--data", tmp_path, name="bbq")
    assert "field 'label' is missing, and should be 0, 1 or 2" in err
    assert "Age.jsonl:1" in err


def test_a_metric_of_causal_models_on_a_masked_one_and_the_reverse(refused, tmp_path):
    masked = saved(tmp_path / "masked", "masked", mask_token="<m>", pad_token="<s>")
    err = refused(f"{PAIRS}a,{GOOD},x\n", "--metric", "mine.csv:preference", model=masked)
    assert "reads scores of a masked language model" in err
    assert "mine.csv:preference" in err
    err = refused("", "--metric", "templates.mlm_preference", name="templates")
    assert "reads scores of a causal language model, as 'fairtest/tiny' is" in err
    assert "templates.mlm_preference" in err


def test_a_tokenizer_without_a_mask_token(refused, tmp_path):
    model = saved(tmp_path / "masked", "masked", pad_token="<s>")
    assert "mask token" in refused(f"{PAIRS}a,{GOOD},x\n", model=model)


def test_a_tokenizer_without_a_token_to_begin_with(refused, tmp_path):
    model = saved(tmp_path / "causal", "causal", pad_token="<m>")
    assert "BOS" in refused(f"{PAIRS}a,{GOOD},x\n", model=model)


@pytest.mark.parametrize("kind", ["causal", "masked"])
def test_a_text_that_is_longer_than_the_model_reads_is_named(refused, tmp_path, kind):
    model = saved(tmp_path / kind, kind, bos_token="<s>", mask_token="<m>", pad_token="<s>")
    err = refused(f"{PAIRS}short,{GOOD},x\nlong,{LONG},{GOOD.partition(',')[0]},x\n", model=model)
    assert "probe 'long'" in err
    assert "reads at most 96" in err


def test_weights_that_are_no_numbers_name_what_cannot_be_scored(refused, tmp_path):
    path = saved(tmp_path / "causal", "causal", bos_token="<s>")
    broken = hf.GPT2LMHeadModel.from_pretrained(path)
    with torch.no_grad():
        broken.transformer.h[0].mlp.c_fc.weight[0, 0] = float("nan")
    broken.save_pretrained(path)
    err = refused(f"{PAIRS}a,{GOOD},x\n", model=path)
    assert "'a'" in err or "c_fc" in err, err


@pytest.fixture
def scorers(monkeypatch):
    """Scorers that return what they should not."""
    numbers = {"few": lambda t: [0.0] * (len(t) - 1), "nan": lambda t: [float("nan")] * len(t), "none": lambda t: None}
    classes = {
        "few": lambda t: [{"good": 1.0}] * (len(t) if len(t) == 1 else len(t) - 1),
        "other": lambda t: [{"good" if len(t) == 1 else "bad": 1.0}] * len(t),
        "empty": lambda t: [{}] * len(t),
    }
    monkeypatch.setattr(
        generation_scores,
        "resolve_scorer",
        lambda one: one if isinstance(one, TextScorer) else TextScorer(one, "1", numbers[one]),
    )
    monkeypatch.setattr(completion_statistics, "resolve_class_scorer", lambda one: ClassScorer(one, "1", classes[one]))


@pytest.mark.parametrize(
    ("arguments", "messages"),
    [
        (("--scorer", "few"), ["scorer 'few' returned 1 values for 2 texts", "prompt '0', sample 1"]),
        (("--scorer", "nan"), ["scorer 'nan' gives prompt '0', sample 0 the value nan"]),
        (("--scorer", "none"), ["scorer 'none' returned a NoneType for 2 texts"]),
        (("--scorer", "few", "--statistic", "regard"), ["scorer 'few:good' returned 1 values for 2 texts"]),
        (
            ("--scorer", "other", "--statistic", "regard"),
            ["scorer 'other:good' gives prompt '0', sample 0 the value nan"],
        ),
        (("--scorer", "empty", "--statistic", "regard"), ["scorer 'empty' gives [{}] for one text"]),
    ],
)
@pytest.mark.usefixtures("scorers")
def test_a_scorer_that_does_not_answer_is_told_with_the_item(refused, arguments, messages):
    err = refused(PROMPTS, *arguments, "--samples", 2, "--max-new-tokens", 4)
    assert all(message in err for message in messages), err


def test_a_prompt_that_leaves_no_room_is_named(refused):
    err = refused(f"prompt,group\n{LONG},masculine\nThe nurse came. She,feminine\n", "--scorer", "vader")
    assert "prompt '0' has 161 tokens, and with 20 new ones that is more than the 128" in err
