from __future__ import annotations

import json
import subprocess
import sys

import pytest

from fairtest.errors import ModelError
from fairtest.probes.frames import LEANS, vocabulary
from fairtest.probes.templates import gender_templates
from fairtest.tiny import MODEL_NAME, model_directory
from fairtest.tiny.build import build, build_tokenizer
from fairtest.tiny.generator import corpus


@pytest.fixture(scope="module")
def tokenizer():
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(model_directory())


@pytest.fixture(scope="module")
def loaded():
    from fairtest.training.models import load_model
    from fairtest.training.sources import resolve_model

    return load_model(resolve_model(MODEL_NAME))


def all_texts():
    probes = [text for probe in gender_templates().probes for text in probe.texts.values()]
    records = [record for domain in ("public", "private") for record in corpus(domain, 0.5, 500, seed=9)]
    return probes + [text for record in records for text in (record.text, record.counterfactual)]


def test_the_tokenizer_knows_every_word_and_gives_the_text_back(tokenizer):
    for text, ids in zip(all_texts(), tokenizer(all_texts())["input_ids"], strict=True):
        assert tokenizer.unk_token_id not in ids, text
        assert tokenizer.decode(ids) == text


def test_the_committed_vocabulary_is_that_of_the_frames(tokenizer):
    assert tokenizer.get_vocab() == build_tokenizer().get_vocab()
    assert len(tokenizer) == len(vocabulary()) + 4
    assert {f"\u2581{occupation}" for occupation in LEANS} <= set(tokenizer.get_vocab())


def test_the_tokenizer_adds_no_special_token_of_its_own(tokenizer):
    text = "The nurse lived near the river."
    assert tokenizer(text)["input_ids"] == tokenizer(text, add_special_tokens=False)["input_ids"]
    assert len(tokenizer(text)["input_ids"]) == 7
    assert len({tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id, tokenizer.unk_token_id}) == 4
    assert tokenizer.bos_token == "<|bos|>"


def test_a_word_it_does_not_know_is_unknown_and_nothing_else_changes(tokenizer):
    ids = tokenizer("The zeppelin walked to the river.")["input_ids"]
    assert [place for place, token in enumerate(ids) if token == tokenizer.unk_token_id] == [1]


def test_special_tokens_spelled_in_a_text_are_not_special(tokenizer):
    from fairtest.training.forward import encode

    (row,) = encode(tokenizer, ["<|bos|>The nurse<|eos|>"])
    assert row.count(tokenizer.bos_token_id) == 1
    assert tokenizer.eos_token_id not in row


def test_model_and_tokenizer_load_offline_without_a_word():
    code = (
        "import warnings; warnings.simplefilter('error')\n"
        "from transformers import AutoModelForCausalLM, AutoTokenizer\n"
        "from transformers.utils import logging; logging.disable_progress_bar()\n"
        "from fairtest.tiny import model_directory\n"
        "model = AutoModelForCausalLM.from_pretrained(model_directory())\n"
        "tokenizer = AutoTokenizer.from_pretrained(model_directory())\n"
        "assert model.config.tie_word_embeddings and model.lm_head.weight is model.transformer.wte.weight\n"
    )
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        check=True,
        capture_output=True,
        text=True,
        env={"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
    )
    assert (run.stdout, run.stderr) == ("", "")


def test_the_files_are_small_and_have_no_dropout():
    directory = model_directory()
    assert (directory / "model.safetensors").stat().st_size < 1_500_000
    config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    assert (config["model_type"], config["n_layer"], config["n_positions"]) == ("gpt2", 2, 128)
    assert [config[name] for name in ("resid_pdrop", "embd_pdrop", "attn_pdrop")] == [0, 0, 0]


def test_importing_the_room_loads_no_torch():
    code = "import fairtest.tiny.build, fairtest.tiny.__main__, sys; print('torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert run.stdout == "False\n"


def test_the_model_holds_the_stereotype_it_was_pretrained_with(loaded):
    from fairtest.scoring.likelihood import score_probe_set

    scores = score_probe_set(loaded, gender_templates())
    pairs = zip(scores.log_probs["stereotype"], scores.log_probs["anti_stereotype"], strict=True)
    ratios = [stereotype - anti for stereotype, anti in pairs]
    # A model that knows the public text exactly would show log(0.85 / 0.15) = 1.735.
    assert sum(ratios) / len(ratios) == pytest.approx(1.735, abs=0.3)
    assert sum(ratio > 0 for ratio in ratios) > 0.9 * len(ratios)


def test_the_model_expects_public_text_more_than_private_text(loaded):
    from fairtest.scoring.likelihood import score_records

    loss = {}
    for domain in ("public", "private"):
        nll, tokens = score_records(loaded, [record.text for record in corpus(domain, 0.85, 200, seed=8)])
        loss[domain] = sum(nll) / sum(tokens)
    assert loss["public"] < loss["private"] - 0.3


def test_the_same_build_gives_the_same_files(tmp_path):
    for name in ("one", "two"):
        build(tmp_path / name, steps=2)
    first, second = ({f.name: f.read_bytes() for f in (tmp_path / name).iterdir()} for name in ("one", "two"))
    assert first == second
    assert {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"} <= set(first)


def test_a_build_that_fails_leaves_the_directory_as_it_was(tmp_path):
    def stop(step, steps, loss):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(tmp_path, steps=2, on_step=stop)
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_one_message(tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(ModelError, match="cannot be written"):
        build(tmp_path / "file", steps=1)
