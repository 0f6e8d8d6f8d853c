"""Published sets as the hub has them: the same probes as from the published files."""

import csv
import json
from pathlib import Path

import datasets
import pytest

from fairtest.errors import ProbeError
from fairtest.probes import registry
from fairtest.probes.crows_pairs import read_crows_pairs
from fairtest.probes.hub import means_hub, read_hub_probes, read_saved_probes
from fairtest.probes.own import read_own_probes
from fairtest.probes.prompts import read_prompts
from fairtest.probes.registry import PROBE_SETS, load_probe_set
from fairtest.probes.stereoset import read_stereoset

AXES = ["race-color", "socioeconomic", "gender", "disability", "nationality"]
AXES += ["sexual-orientation", "physical-appearance", "religion", "age"]
LABELS = ["anti-stereotype", "stereotype", "unrelated"]
PAIRS = [
    {
        "": "0",
        "sent_more": "She cried.",
        "sent_less": "He cried.",
        "stereo_antistereo": "stereo",
        "bias_type": "gender",
    },
    {"": "1", "sent_more": "Old.", "sent_less": "Young.", "stereo_antistereo": "antistereo", "bias_type": "age"},
    {
        "": "2",
        "sent_more": "She cried.",
        "sent_less": "They did.",
        "stereo_antistereo": "stereo",
        "bias_type": "gender",
    },
]
ITEM = {
    "id": "i1",
    "target": "nurse",
    "bias_type": "profession",
    "context": "The nurse was BLANK.",
    "sentences": [
        {"id": "a", "gold_label": "unrelated", "sentence": "The nurse was fox.", "labels": []},
        {"id": "b", "gold_label": "stereotype", "sentence": "The nurse was caring.", "labels": []},
        {"id": "c", "gold_label": "anti-stereotype", "sentence": "The nurse was rude.", "labels": []},
    ],
}


def crows_pairs_of_hub(rows):
    features = {
        "id": datasets.Value("int32"),
        "sent_more": datasets.Value("string"),
        "sent_less": datasets.Value("string"),
        "stereo_antistereo": datasets.ClassLabel(names=["stereo", "antistereo"]),
        "bias_type": datasets.ClassLabel(names=AXES),
    }
    columns = {name: [row[name] for row in rows] for name in features if name != "id"}
    columns["id"] = [int(row[""]) for row in rows]
    for name in ("stereo_antistereo", "bias_type"):
        columns[name] = [features[name].str2int(value) for value in columns[name]]
    return datasets.Dataset.from_dict(columns, features=datasets.Features(features))


def stereoset_of_hub(items, *, numbers=True, nested_objects=False):
    """The hub's layout; labels by number or by name, sentences as an object of lists or as a list of objects."""
    label = datasets.ClassLabel(names=LABELS) if numbers else datasets.Value("string")
    one = {"sentence": datasets.Value("string"), "id": datasets.Value("string"), "gold_label": label}
    texts = {name: datasets.Value("string") for name in ("id", "target", "bias_type", "context")}
    sentences = datasets.List(one) if nested_objects else {name: datasets.List(kind) for name, kind in one.items()}
    rows = []
    for item in items:
        cells = [
            {**{name: sentence[name] for name in one}, "gold_label": LABELS.index(sentence["gold_label"])}
            if numbers
            else {name: sentence[name] for name in one}
            for sentence in item["sentences"]
        ]
        candidates = cells if nested_objects else {name: [cell[name] for cell in cells] for name in one}
        rows.append({**{name: item[name] for name in texts}, "sentences": candidates})
    return datasets.Dataset.from_list(rows, features=datasets.Features({**texts, "sentences": sentences}))


def crows_pairs_file(path):
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(PAIRS[0]))
        writer.writeheader()
        writer.writerows(PAIRS)
    return path


def stereoset_file(path):
    path.write_text(json.dumps({"version": "1.0-dev", "data": {"intrasentence": [ITEM]}}), encoding="utf-8")
    return path


def same(found, expected):
    described = [(one.digest, one.licence, one.use, len(one)) for one in (found, expected)]
    return found.probes == expected.probes and described[0] == described[1]


@pytest.fixture
def hub(monkeypatch):
    """A hub that has one dataset; the names it was asked for."""
    asked = []

    def holding(dataset):
        def load_dataset(*args, **kwargs):
            asked.append((args, kwargs))
            if isinstance(dataset, Exception):
                raise dataset
            return dataset

        monkeypatch.setattr(datasets, "load_dataset", load_dataset)
        return asked

    return holding


def test_pairs_of_the_hub_are_those_of_the_file(tmp_path, hub):
    asked = hub(crows_pairs_of_hub(PAIRS))
    found = read_hub_probes("crows_pairs", strict=False)
    assert same(found, read_crows_pairs(crows_pairs_file(tmp_path / "c.csv"), strict=False))
    assert [probe.cluster for probe in found.probes] == ["0", "1", "0"]
    assert asked == [(("nyu-mll/crows_pairs",), {"split": "test"})]
    assert found.source == "hf:nyu-mll/crows_pairs:test"


@pytest.mark.parametrize("numbers", [True, False])
@pytest.mark.parametrize("nested_objects", [True, False])
def test_items_of_the_hub_are_those_of_the_file(tmp_path, hub, numbers, nested_objects):
    asked = hub(stereoset_of_hub([ITEM], numbers=numbers, nested_objects=nested_objects))
    found = read_hub_probes("stereoset", strict=False)
    assert same(found, read_stereoset(stereoset_file(tmp_path / "dev.json"), strict=False))
    assert asked == [(("McGill-NLP/stereoset", "intrasentence"), {"split": "validation"})]


def test_pairs_without_ids_are_numbered_as_in_the_file(tmp_path):
    crows_pairs_of_hub(PAIRS).remove_columns("id").save_to_disk(str(tmp_path / "saved"))
    found = read_saved_probes("crows_pairs", tmp_path / "saved", strict=False)
    assert same(found, read_crows_pairs(crows_pairs_file(tmp_path / "c.csv"), strict=False))


def test_the_published_pairs_have_the_same_digest_from_a_saved_dataset(tmp_path, data_dir):
    with (data_dir / "crows-pairs/crows_pairs_anonymized.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    crows_pairs_of_hub(rows).save_to_disk(str(tmp_path / "crows_pairs"))
    found = load_probe_set("crows_pairs", tmp_path)
    assert same(found, load_probe_set("crows_pairs", data_dir))
    assert found.source == str(tmp_path / "crows_pairs")


def test_the_published_items_have_the_same_digest_from_a_saved_dataset(tmp_path, data_dir):
    items = json.loads((data_dir / "stereoset/dev.json").read_text(encoding="utf-8"))["data"]["intrasentence"]
    # As load_dataset without a split gives it, and save_to_disk writes it: a folder for each split.
    datasets.DatasetDict({"validation": stereoset_of_hub(items)}).save_to_disk(str(tmp_path / "stereoset"))
    found = load_probe_set("stereoset", tmp_path)
    assert same(found, load_probe_set("stereoset", data_dir))
    assert found.source == str(tmp_path / "stereoset/validation")


def test_a_published_file_goes_before_a_saved_dataset(tmp_path, monkeypatch):
    stereoset_of_hub([ITEM]).save_to_disk(str(tmp_path / "stereoset"))
    stereoset_file(tmp_path / "stereoset/dev.json")
    monkeypatch.setitem(registry.PUBLISHED, "stereoset", lambda path: read_stereoset(path, strict=False))
    assert load_probe_set("stereoset", tmp_path).source == str(tmp_path / "stereoset/dev.json")


@pytest.mark.parametrize("name", ["hf", "hf:", Path("hf")])
def test_the_data_directory_hf_is_the_hub(monkeypatch, tmp_path, hub, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hf").mkdir()
    hub(crows_pairs_of_hub(PAIRS))
    with pytest.raises(ProbeError) as caught:
        load_probe_set("crows_pairs", name)
    assert caught.value.what == "CrowS-Pairs has 1508 items, and 3 were found"
    assert caught.value.where == "hf:nyu-mll/crows_pairs:test"
    monkeypatch.setenv("FAIRTEST_DATA_DIR", str(name))
    with pytest.raises(ProbeError, match="CrowS-Pairs has 1508 items"):
        load_probe_set("crows_pairs")


def test_a_directory_of_that_name_is_written_with_a_dot(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for place in ("./hf", "data/hf", tmp_path / "data", None):
        assert not means_hub(place)
    with pytest.raises(ProbeError, match="StereoSet was not found"):
        load_probe_set("stereoset", "./hf")
    (tmp_path / "hf").mkdir()
    stereoset_of_hub([ITEM]).save_to_disk(str(tmp_path / "hf/stereoset"))
    with pytest.raises(ProbeError) as caught:
        load_probe_set("stereoset", "./hf")
    assert (caught.value.what, caught.value.where) == (
        "StereoSet has 2106 items, and 1 were found",
        str(Path("hf/stereoset")),
    )
    assert not means_hub(tmp_path / "hf")


def test_our_own_probes_and_files_need_no_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.csv").write_text("sent_more,sent_less\na,b\n", encoding="utf-8")
    assert load_probe_set("templates", Path("hf")).source == "fairtest"
    assert load_probe_set("mine.csv", Path("hf")).source == "mine.csv"


def test_an_unreachable_hub_says_what_to_do(hub):
    hub(ConnectionError("Couldn't reach the hub\nand more"))
    with pytest.raises(ProbeError) as caught:
        read_hub_probes("stereoset")
    assert caught.value.what == (
        "StereoSet cannot be had from the hub: dataset 'McGill-NLP/stereoset/intrasentence' cannot be loaded: "
        "ConnectionError: Couldn't reach the hub"
    )
    assert caught.value.where == "hf:McGill-NLP/stereoset/intrasentence:validation"
    assert caught.value.fix == (
        "give the published dev.json; or, where there is a network, write datasets.load_dataset("
        "'McGill-NLP/stereoset', 'intrasentence', split='validation') (revision='refs/convert/parquet' where the "
        "dataset is a script) with "
        ".save_to_disk('DIRECTORY/stereoset'), and set data_dir to DIRECTORY"
    )


def test_a_missing_column_is_named_with_those_found(hub):
    hub(crows_pairs_of_hub(PAIRS).remove_columns("sent_less"))
    with pytest.raises(ProbeError, match="column 'sent_less' is missing; columns found: 'sent_more', "):
        read_hub_probes("crows_pairs", strict=False)


def test_a_bad_cell_is_named_with_its_row(hub):
    hub(crows_pairs_of_hub([PAIRS[0], {**PAIRS[1], "sent_more": " "}]))
    with pytest.raises(ProbeError, match="'sent_more' is ' ', and should be a text") as caught:
        read_hub_probes("crows_pairs", strict=False)
    assert caught.value.where == "hf:nyu-mll/crows_pairs:test, row 1"
    hub(crows_pairs_of_hub(PAIRS).cast_column("bias_type", datasets.Value("int64")))
    with pytest.raises(ProbeError, match="'bias_type' is 2, and should be a text"):
        read_hub_probes("crows_pairs", strict=False)


def test_an_item_needs_one_sentence_of_each_label(hub):
    hub(stereoset_of_hub([{**ITEM, "sentences": ITEM["sentences"][:2]}]))
    with pytest.raises(ProbeError, match=r"and has \['unrelated', 'stereotype'\]") as caught:
        read_hub_probes("stereoset", strict=False)
    assert caught.value.where.endswith(", row 0")


@pytest.mark.parametrize("sentences", ["The nurse was fox.", {"sentence": ["a"]}, ["a", "b", "c"]])
def test_sentences_of_another_form_are_named(hub, sentences):
    hub(datasets.Dataset.from_list([{**ITEM, "sentences": sentences}]))
    with pytest.raises(ProbeError, match="'sentences' holds no list of sentence and gold_label"):
        read_hub_probes("stereoset", strict=False)


def test_a_damaged_saved_dataset_is_one_error(tmp_path):
    (tmp_path / "stereoset").mkdir()
    (tmp_path / "stereoset/state.json").write_text("{", encoding="utf-8")
    with pytest.raises(ProbeError, match="StereoSet: the saved dataset cannot be read") as caught:
        load_probe_set("stereoset", tmp_path)
    assert caught.value.where == str(tmp_path / "stereoset")


@pytest.mark.parametrize("name", PROBE_SETS)
def test_every_set_says_where_it_is_from_and_what_it_may_be_used_for(name, data_dir):
    probes = load_probe_set(name, data_dir)
    assert all(text.strip() for text in (probes.version, probes.licence, probes.source, probes.use))
    assert probes.only(probes.axes[0]).use == probes.use


def test_files_of_ones_own_say_so_too(tmp_path):
    (tmp_path / "pairs.csv").write_text("sent_more,sent_less\na,b\n", encoding="utf-8")
    (tmp_path / "prompts.csv").write_text("prompt,group\na,b\n", encoding="utf-8")
    for probes in (read_own_probes(tmp_path / "pairs.csv"), read_prompts(tmp_path / "prompts.csv")):
        assert probes.use == "as its owner allows"


def test_what_a_set_may_be_used_for_is_no_part_of_its_digest(data_dir):
    probes = load_probe_set("crows_pairs", data_dir)
    assert probes.use == "measuring only: the authors ask that no model be trained on it"
    assert type(probes)(probes.name, probes.version, "", "", probes.probes).digest == probes.digest
