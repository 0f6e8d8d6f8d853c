import pytest

from fairtest.errors import ProbeError
from fairtest.probes import registry
from fairtest.probes.registry import load_probe_set


def test_an_unknown_name_is_answered_with_the_nearest_known_one(tmp_path):
    with pytest.raises(ProbeError) as caught:
        load_probe_set("stereo_set", tmp_path)
    assert caught.value.what == "unknown probe set 'stereo_set'"
    assert caught.value.fix.startswith("did you mean 'stereoset'? known probe sets: templates, stereoset, crows_pairs")
    assert ".csv" not in caught.value.fix
    with pytest.raises(ProbeError) as caught:
        load_probe_set("probes/mine.txt", tmp_path)
    assert caught.value.fix.endswith("; a file ends in .csv, .tsv, .jsonl, .ndjson")


@pytest.mark.parametrize("name", ["stereoset", "crows_pairs"])
def test_published_data_without_a_directory_says_how_to_set_one(monkeypatch, name):
    monkeypatch.delenv("FAIRTEST_DATA_DIR", raising=False)
    with pytest.raises(ProbeError) as caught:
        load_probe_set(name)
    assert caught.value.what == f"probe set '{name}' needs its published data, and no directory is set"
    assert caught.value.fix == (
        "set data_dir in [tool.fairtest] (or $FAIRTEST_DATA_DIR, or --data) to the directory that holds it,"
        " or to hf: for the Hugging Face hub"
    )


@pytest.mark.parametrize("name", ["stereoset", "crows_pairs"])
def test_data_that_is_not_there_names_the_directory_and_the_setting(tmp_path, name):
    with pytest.raises(ProbeError, match="was not found") as caught:
        load_probe_set(name, tmp_path)
    assert caught.value.where == str(tmp_path)
    assert "data_dir" in caught.value.fix


def test_a_damaged_file_keeps_its_own_message(tmp_path):
    (tmp_path / "dev.json").write_text("{", encoding="utf-8")
    with pytest.raises(ProbeError, match="not JSON") as caught:
        load_probe_set("stereoset", tmp_path)
    assert caught.value.where == f"{tmp_path / 'dev.json'}:1"


def test_the_environment_names_the_directory_where_no_setting_does(tmp_path, monkeypatch):
    monkeypatch.setenv("FAIRTEST_DATA_DIR", str(tmp_path / "environment"))
    with pytest.raises(ProbeError) as caught:
        load_probe_set("stereoset")
    assert caught.value.where == str(tmp_path / "environment")
    with pytest.raises(ProbeError) as caught:
        load_probe_set("stereoset", tmp_path / "setting")
    assert caught.value.where == str(tmp_path / "setting")


def test_templates_need_no_data(monkeypatch):
    monkeypatch.delenv("FAIRTEST_DATA_DIR", raising=False)
    probes = load_probe_set("templates")
    assert probes.name == "templates"
    assert registry.PROBE_SETS[0] == probes.name
