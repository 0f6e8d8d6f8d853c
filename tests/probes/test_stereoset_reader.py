import copy
import json
import os
from collections import Counter
from pathlib import Path

import pytest

from fairtest.errors import ProbeError
from fairtest.probes.stereoset import read_stereoset

DATA = Path(os.environ.get("FAIRTEST_DATA_DIR") or Path(__file__).parents[2].parent / "shared" / "data")
needs_data = pytest.mark.skipif(
    not (DATA / "stereoset/dev.json").is_file(), reason="StereoSet is absent; set FAIRTEST_DATA_DIR"
)

ITEM = {
    "id": "i1",
    "target": "nurse",
    "bias_type": "profession",
    "context": "The nurse was BLANK.",
    "sentences": [
        {"id": "a", "gold_label": "unrelated", "sentence": "The nurse was fox."},
        {"id": "b", "gold_label": "stereotype", "sentence": "The nurse was caring."},
        {"id": "c", "gold_label": "anti-stereotype", "sentence": "The nurse was rude."},
    ],
}


def write(path, item=ITEM):
    path.write_text(json.dumps({"version": "1.0-dev", "data": {"intrasentence": [item]}}), encoding="utf-8")
    return path


def test_an_item_is_read_with_its_roles_axis_and_term(tmp_path):
    probes = read_stereoset(write(tmp_path / "dev.json"), strict=False)
    (probe,) = probes.probes
    assert (probe.id, probe.axis, probe.cluster) == ("i1", "profession", "nurse")
    assert probe.texts == {
        "stereotype": "The nurse was caring.",
        "anti_stereotype": "The nurse was rude.",
        "unrelated": "The nurse was fox.",
    }
    assert probes.version == "1.0-dev/intrasentence"


@pytest.mark.parametrize("place", ["dev.json", "stereoset/dev.json"])
def test_a_directory_stands_for_the_file_in_it(tmp_path, place):
    (tmp_path / place).parent.mkdir(exist_ok=True)
    write(tmp_path / place)
    assert len(read_stereoset(tmp_path, strict=False)) == 1


def test_the_order_of_the_candidates_in_the_file_changes_nothing(tmp_path):
    turned = copy.deepcopy(ITEM)
    turned["sentences"].reverse()
    first = read_stereoset(write(tmp_path / "a.json"), strict=False)
    second = read_stereoset(write(tmp_path / "b.json", turned), strict=False)
    assert first.digest == second.digest


def test_another_number_of_items_names_found_and_expected(tmp_path):
    path = write(tmp_path / "dev.json")
    with pytest.raises(ProbeError) as caught:
        read_stereoset(path)
    assert caught.value.what == "StereoSet has 2106 intrasentence items, and 1 were found"
    assert caught.value.where == str(path)
    assert "strict=False" in caught.value.fix


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ProbeError, match="StereoSet was not found") as caught:
        read_stereoset(tmp_path / "nowhere")
    assert caught.value.where == str(tmp_path / "nowhere")


def test_one_json_object_a_line_is_not_the_original_file(tmp_path):
    path = tmp_path / "flat.jsonl"
    path.write_text("{}\n{}\n", encoding="utf-8")
    with pytest.raises(ProbeError, match="not JSON") as caught:
        read_stereoset(path)
    assert caught.value.where == f"{path}:2"


def test_a_file_in_another_encoding_is_named(tmp_path):
    path = tmp_path / "dev.json"
    path.write_bytes(b'{"data": "\xff"}')
    with pytest.raises(ProbeError, match="not UTF-8"):
        read_stereoset(path)


def test_a_json_list_is_not_the_original_file(tmp_path):
    path = tmp_path / "dev.json"
    path.write_text("[]", encoding="utf-8")
    with pytest.raises(ProbeError, match="JSON list, not an object"):
        read_stereoset(path)


@pytest.mark.parametrize(
    ("field", "value", "what"),
    [
        ("target", None, "field 'target' is missing, and should be a text"),
        ("bias_type", 3, "field 'bias_type' is 3, and should be a text"),
        ("id", " ", "field 'id' is ' ', and should be a text"),
        ("sentences", {}, "field 'sentences' is {}, and should be a list"),
    ],
)
def test_a_bad_field_is_named_with_its_item(tmp_path, field, value, what):
    item = {**ITEM, field: value}
    with pytest.raises(ProbeError) as caught:
        read_stereoset(write(tmp_path / "dev.json", item), strict=False)
    assert what in caught.value.what
    assert caught.value.where.endswith("data.intrasentence[0]")


def test_a_sentence_without_text_is_named(tmp_path):
    item = copy.deepcopy(ITEM)
    del item["sentences"][2]["sentence"]
    with pytest.raises(ProbeError, match="'sentence' is missing") as caught:
        read_stereoset(write(tmp_path / "dev.json", item), strict=False)
    assert caught.value.where.endswith("data.intrasentence[0].sentences[2]")


@pytest.mark.parametrize("label", ["stereotype", "related"])
def test_an_item_needs_one_sentence_of_each_label(tmp_path, label):
    item = copy.deepcopy(ITEM)
    item["sentences"][0]["gold_label"] = label
    with pytest.raises(ProbeError, match="three sentences with gold_label"):
        read_stereoset(write(tmp_path / "dev.json", item), strict=False)


@needs_data
def test_the_published_file_has_the_published_counts():
    probes = read_stereoset(DATA)
    assert Counter(probe.axis for probe in probes.probes) == {
        "race": 962,
        "profession": 810,
        "gender": 255,
        "religion": 79,
    }
    assert len({probe.cluster for probe in probes.probes}) == 79
    assert {probe.cluster for probe in probes.only("religion").probes} == {"Bible", "Brahmin", "Muslim"}
