import json

import pytest
import torch
from model_builders import gpt2, llama, save_directory, word_tokenizer
from transformers import AutoModelForCausalLM, BertConfig, BertModel

from fairtest.errors import ModelError, StoreError
from fairtest.specs import Training
from fairtest.training import models
from fairtest.training.models import (
    load_model,
    load_state,
    load_trained_state,
    move,
    save_pretrained,
    save_state,
    set_trainable,
    trained_state,
)
from fairtest.training.sources import resolve_model

IDS = torch.tensor([[0, 3, 5, 7, 11, 4]])


@pytest.fixture
def directory(tmp_path):
    return save_directory(tmp_path / "model", llama())


def load(directory, training=None, seed=0):
    return load_model(resolve_model(str(directory)), training, seed=seed)


def disturb(model):
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(5)), alpha=0.1)


def test_a_model_is_loaded_in_float32_for_evaluation_with_nothing_to_train(tmp_path):
    half = save_directory(tmp_path / "half", llama().to(torch.bfloat16))
    model = load(half).model
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_loading_prints_nothing(directory, capfd):
    load(directory)
    assert capfd.readouterr() == ("", "")


def test_all_trains_each_parameter_and_a_tied_one_once(directory):
    model = load(directory, Training(trainable="all")).model
    state = trained_state(model)
    assert "model.embed_tokens.weight" in state
    assert "lm_head.weight" not in state
    assert sum(value.numel() for value in state.values()) == model.num_parameters()


def test_last_k_trains_only_the_last_decoder_layers(directory):
    state = trained_state(load(directory, Training(trainable="last:2")).model)
    assert {name.split(".layers.")[1].split(".")[0] for name in state} == {"1", "2"}


@pytest.mark.parametrize("training", [Training(trainable="last:4"), Training(trainable="lora", lora_layers=4)])
def test_more_layers_than_there_are_is_an_error(directory, training):
    with pytest.raises(ModelError, match="last 4 decoder layers are to be trained, and the model has 3"):
        load(directory, training)


@pytest.mark.parametrize("build", [gpt2, llama])
def test_lora_starts_as_the_pretrained_model_on_the_last_layers_and_not_on_the_head(tmp_path, build):
    where = save_directory(tmp_path / "model", build(layers=3))
    plain = load(where).model
    model = load(where, Training(trainable="lora", lora_rank=2, lora_layers=2)).model
    state = trained_state(model)
    assert state
    assert all(".lora_A." in name or ".lora_B." in name for name in state)
    assert not any("lm_head" in name or ".0." in name.split("lora")[0] for name in state)
    assert torch.equal(plain(IDS).logits, model(IDS).logits)


def test_the_seed_alone_decides_the_adapters_start(directory):
    training = Training(trainable="lora", lora_rank=2)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = trained_state(load(directory, training, seed=3).model)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    again = trained_state(load(directory, training, seed=3).model)
    other = trained_state(load(directory, training, seed=4).model)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_lora_without_peft_names_the_extra(directory, monkeypatch):
    monkeypatch.setattr(models.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ModelError) as caught:
        load(directory, Training(trainable="lora"))
    assert caught.value.fix == 'pip install "fairtest[lora]"'


@pytest.mark.parametrize("trainable", ["all", "last:1", "lora"])
def test_a_trained_state_survives_the_disk_and_gives_equal_logits(directory, tmp_path, trainable):
    training = Training(trainable=trainable, lora_rank=2)
    tuned = load(directory, training).model
    disturb(tuned)
    save_state(trained_state(tuned), tmp_path / "state.safetensors")
    fresh = load(directory, training, seed=9).model
    assert not torch.equal(fresh(IDS).logits, tuned(IDS).logits)
    load_trained_state(fresh, load_state(tmp_path / "state.safetensors"))
    assert torch.equal(fresh(IDS).logits, tuned(IDS).logits)
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".part"] == []


def test_a_state_of_another_shape_or_name_changes_nothing(directory):
    model = load(directory, Training(trainable="last:1")).model
    before = trained_state(model)
    name = next(iter(before))
    for wrong in (
        {**before, "more.weight": torch.zeros(1)},
        {key: value for key, value in before.items() if key != name},
        {**{key: value + 1 for key, value in before.items()}, name: torch.zeros(1)},
    ):
        with pytest.raises(StoreError, match="1 parameters differ"):
            load_trained_state(model, wrong)
    assert all(torch.equal(value, before[key]) for key, value in trained_state(model).items())


def test_a_damaged_or_missing_state_is_a_store_error(tmp_path):
    with pytest.raises(StoreError, match="cannot be read"):
        load_state(tmp_path / "none.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"\x00\x01")
    with pytest.raises(StoreError, match="cannot be read"):
        load_state(tmp_path / "bad.safetensors")
    with pytest.raises(StoreError, match="cannot be written"):
        save_state({"a": torch.zeros(1)}, tmp_path / "no" / "folder.safetensors")


@pytest.mark.parametrize("build", [gpt2, llama])
@pytest.mark.parametrize("trainable", ["all", "lora"])
def test_an_export_is_a_plain_directory_with_equal_logits(tmp_path, build, trainable):
    where = save_directory(tmp_path / "model", build())
    tuned = load(where, Training(trainable=trainable, lora_rank=2))
    disturb(tuned.model)
    expected = tuned.model(IDS).logits
    save_pretrained(tuned, tmp_path / "export")
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "export").eval()
    assert not any("lora" in name for name, _ in plain.named_parameters())
    torch.testing.assert_close(plain(IDS).logits, expected, atol=1e-5, rtol=1e-5)
    assert torch.equal(tuned.model(IDS).logits, expected)
    torch.testing.assert_close(load(tmp_path / "export").model(IDS).logits, expected, atol=1e-5, rtol=1e-5)


def test_weights_that_would_be_drawn_at_random_are_refused(tmp_path):
    config = BertConfig(
        vocab_size=40, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, is_decoder=True
    )
    where = save_directory(tmp_path / "body", BertModel(config), word_tokenizer())
    with pytest.raises(ModelError, match="lacks weights of a causal language model"):
        load(where)


def test_a_broken_configuration_is_one_short_error(directory):
    (directory / "config.json").write_text(json.dumps({"model_type": "no-such-family"}))
    with pytest.raises(ModelError, match="cannot be loaded: ") as caught:
        load(directory)
    assert "\n" not in caught.value.what


def test_truncated_weights_are_one_short_error(directory):
    weights = directory / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:500])
    with pytest.raises(ModelError, match="cannot be loaded: "):
        load(directory)


def test_set_trainable_can_be_narrowed_again():
    model = llama()
    set_trainable(model, Training(trainable="all"))
    set_trainable(model, Training(trainable="last:1"))
    assert all(".layers.2." in name for name in trained_state(model))


def test_a_device_that_is_not_there_is_named():
    if torch.cuda.is_available():
        pytest.skip("there is one")
    loaded = load_model(resolve_model("fairtest/tiny"))
    assert move(loaded, "cpu") is loaded
    with pytest.raises(ModelError, match="torch sees 0 CUDA devices, so not 'cuda:1'"):
        move(loaded, "cuda:1")
