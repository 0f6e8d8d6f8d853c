"""The baseline file: what is written comes back, only what was asked for changes, nonsense is told with its line."""

from __future__ import annotations

import dataclasses
import json
import math
import multiprocessing
from pathlib import Path

import pytest
from baseline_entries import MODEL, entry, key, written
from hypothesis import given
from hypothesis import strategies as st

from fairtest.gates.baselines import format as baseline_format
from fairtest.gates.baselines.entry import BaselineEntry, BaselineError, BaselineKey, StoredHeldOut, rounded
from fairtest.gates.baselines.files import Change, file_of, load, model_name, prune, unused, update
from fairtest.gates.result import Estimate

NUMBERS = st.floats(-200, 200, allow_nan=False)
NAMES = st.text(min_size=1, max_size=12).filter(str.strip)


@st.composite
def entries(draw):
    seeds, items = draw(st.integers(1, 4)), draw(st.integers(1, 30))
    value = draw(st.sampled_from([NUMBERS, st.sampled_from([0.0, 50.0, 100.0])]))
    rows = draw(st.lists(st.lists(value, min_size=items, max_size=items), min_size=seeds, max_size=seeds))
    tail = draw(st.sampled_from([0.0, 0.5, math.inf]))
    held_out = StoredHeldOut("texts", draw(st.integers(1, 9999)), tuple(draw(NUMBERS) for _ in rows))
    return entry(
        rows,
        arm=draw(NAMES),
        metric=draw(NAMES.filter(lambda name: "|" not in name)),
        target=draw(st.none() | NUMBERS),
        tail=tail,
        held_out=draw(st.sampled_from([None, held_out])),
    )


@given(one=entries(), other=entries())
def test_what_is_written_comes_back_and_is_written_the_same_again(one, other):
    given_entries = {item.key: item for item in (one, other)}
    text = written(*given_entries.values())
    model, found = baseline_format.parse(text, Path("f.json"))
    assert (model, found) == (MODEL, given_entries)
    assert all(found[key].made == given_entries[key].made for key in found)
    assert written(*found.values()) == text
    assert json.loads(text)["schema"] == baseline_format.SCHEMA


@given(st.lists(st.lists(NUMBERS, min_size=3, max_size=3), min_size=1, max_size=3))
def test_rounding_twice_is_rounding_once(rows):
    assert (rounded(rounded(rows)) == rounded(rows)).all()


def test_the_file_is_sorted_and_shows_a_line_a_seed():
    text = written(entry([[0.0, 50.0, 100.0], [100.0, 50.0, 0.0]], arm="dp"), entry([[0.25, -1.5]], arm="cda"))
    lines = [line.strip() for line in text.splitlines()]
    assert '"0=1",' in lines
    assert '"1=0"' in lines
    assert "[0.25, -1.5]" in lines
    names = list(json.loads(text)["entries"])
    assert names == sorted(names)
    first = json.loads(text)["entries"][names[0]]
    assert list(first) == sorted(first)


def test_one_flipped_preference_is_one_changed_line_and_its_mean():
    before = written(entry([[0.0, 100.0] * 20] * 2)).splitlines()
    flipped = [[0.0, 100.0] * 20, [0.0, 100.0] * 19 + [100.0, 100.0]]
    after = written(entry(flipped)).splitlines()
    changed = [line.strip()[:8] for line, old in zip(after, before, strict=True) if line != old]
    assert changed == ['"estimat', '"means":', '"0101010']


def test_an_update_changes_only_the_keys_it_is_given(tmp_path):
    path = tmp_path / "new" / "f.json"
    assert load(path).entries == {}
    update(path, [entry([[0.1, 0.2]], arm="a"), entry([[0.3, 0.4]], arm="c")], MODEL)
    before = path.read_text()
    changes = update(path, [entry([[0.5, 0.6]], arm="b")], MODEL)
    assert [change.line() for change in changes] == [
        "b, templates.log_ratio[gender]: none -> 0.55 [0.05, 1.05] nats, 1 seed"
    ]
    after = path.read_text()
    added = json.loads(after)["entries"].keys() - json.loads(before)["entries"].keys()
    assert [BaselineKey.parse(name).arm for name in added] == ["b"]
    without = baseline_format.dump(MODEL, {k: v for k, v in json.loads(after)["entries"].items() if k not in added})
    assert without == before
    assert list(path.parent.iterdir()) == [path]


def test_an_update_says_old_and_new_and_leaves_a_file_alone_that_would_only_get_a_new_date(tmp_path):
    path = tmp_path / "f.json"
    update(path, [entry([[0.1, 0.2]], date="2020-02-02")], MODEL)
    before = path.read_text(), path.stat().st_mtime_ns
    (same,) = update(path, [entry([[0.1, 0.2]], date="2021-01-01")], MODEL)
    assert not same.written
    assert "unchanged" in same.line()
    assert (path.read_text(), path.stat().st_mtime_ns) == before
    (change,) = update(path, [entry([[0.3, 0.4]], date="2021-01-01")], MODEL)
    assert change.line() == (
        "dp, templates.log_ratio[gender]: 0.15 [-0.35, 0.65] nats, 1 seed (2020-02-02) -> "
        "0.35 [-0.15, 0.85] nats, 1 seed"
    )
    assert isinstance(change, Change)


def test_unused_entries_are_listed_and_pruned_only_on_request(tmp_path):
    path = tmp_path / "f.json"
    update(path, [entry([[0.1, 0.2]], arm=name) for name in ("a", "b", "c")], MODEL)
    assert unused(load(path), {key("b")}) == [key("a"), key("c")]
    assert len(load(path).entries) == 3
    assert prune(path, {key("b")}) == [key("a"), key("c")]
    assert list(load(path).entries) == [key("b")]
    assert prune(path, {key("b")}) == []
    assert prune(path, set()) == [key("b")]
    assert not path.exists()


def _record(path, number):
    update(Path(path), [entry([[number / 10, 0.2]], arm=f"arm{number}")], MODEL)


def test_two_sessions_that_write_at_once_lose_nothing(tmp_path):
    path = tmp_path / "f.json"
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_record, args=(str(path), number)) for number in range(6)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
    assert sorted(found.arm for found in load(path).entries) == [f"arm{number}" for number in range(6)]


def test_what_cannot_be_written_leaves_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "f.json"
    update(path, [entry([[0.1, 0.2]])], MODEL)
    before = path.read_text()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(BaselineError, match="No space left on device"):
        update(path, [entry([[0.9, 0.2]])], MODEL)
    assert path.read_text() == before
    assert list(tmp_path.iterdir()) == [path]


# -- what a person or a merge may have done to the file ---------------------------------------------------------------


def broken(tmp_path, text):
    path = tmp_path / "f.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(BaselineError) as caught:
        load(path)
    assert str(path) in caught.value.where
    assert caught.value.fix
    return str(caught.value)


def test_a_merge_conflict_is_told_with_its_line(tmp_path):
    lines = written(entry([[0.1, 0.2]])).splitlines()
    lines[4:4] = ["<<<<<<< HEAD", "=======", ">>>>>>> other"]
    message = broken(tmp_path, "\n".join(lines))
    assert "a merge conflict is not resolved" in message
    assert "line 5" in message


def test_invalid_json_is_told_with_its_line(tmp_path):
    text = written(entry([[0.1, 0.2]])).replace('"seeds": 1,', '"seeds": 1,,')
    message = broken(tmp_path, text)
    assert "not valid JSON" in message
    assert f"line {1 + text[: text.index(',,')].count(chr(10))}," in message


def test_an_entry_that_a_merge_kept_twice_is_told(tmp_path):
    text = written(entry([[0.1, 0.2]]))
    body = text[text.index(" {", 2) + 2 : text.index("\n },\n")]
    assert "is in the baselines twice" in broken(tmp_path, text.replace(body, body + "," + body))


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        (99, "written by a newer fairtest (schema 99, this one reads up to 1)"),
        ("1", "no schema version, found '1'"),
        (True, "no schema version"),
        (0, "schema 0, which no version of fairtest wrote"),
    ],
)
def test_a_schema_that_is_not_known_is_told(tmp_path, schema, words):
    document = json.loads(written(entry([[0.1, 0.2]])))
    assert words in broken(tmp_path, json.dumps({**document, "schema": schema}))


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("means", ["high"], "means[0] is no number: 'high'"),
        ("means", [True], "means[0] is no number: True"),
        ("means", [0.9], "means[0] is 0.9, and the mean of values[0] is 0.1500"),
        ("means", [0.1, 0.2], "means has 2 elements, and there are 1 seeds"),
        ("values", [[0.1, "x"]], "values[0][1] is no number: 'x'"),
        ("values", [[0.1, 10**400]], "values[0][1] is no number"),
        ("values", [[0.1]], "values[0] has 1 values, and items.count is 2"),
        ("values", ["0x"], "values[0] has 'x' at 1"),
        ("values", [7], "values[0] is neither a list of numbers nor a text"),
        ("values", 7, "values is no list: 7"),
        ("seeds", 0, "seeds is no whole number above 0: 0"),
        ("items", {"count": 2.5, "digest": "d"}, "items.count is no whole number above 0: 2.5"),
        ("items", {"counts": 2, "digest": "d"}, "items has an unknown field 'counts', did you mean 'count'?"),
        ("runs", [7], "runs[0] is no text: 7"),
        ("unit", "", "unit is no text: ''"),
        ("seeds", 2, "values has 1 elements, and there are 2 seeds"),
        ("target", "fifty", "target is no number: 'fifty'"),
        ("made", [], "made is no object: []"),
        ("held_out", {"loss": [1.0], "texts": "t"}, "held_out has no 'tokens'"),
        ("held_out", 3, "held_out is no object: 3"),
        ("estimate", {"confidence": 95, "value": 0.15, "low": 0, "high": 1}, "confidence is not between 0 and 1"),
        ("estimate", {"confidence": 0.95, "value": 0.15, "low": 1, "high": 2}, "is not between low 1 and high 2"),
        ("estimate", {"confidence": 0.95, "value": 0.2, "low": 0, "high": 1}, "estimate.value is 0.2, and the mean"),
        ("metrics", 1, "the entry has an unknown field 'metrics'"),
        ("mean", [1], "the entry has an unknown field 'mean', did you mean 'means'?"),
    ],
)  # fmt: skip
def test_hand_edited_nonsense_is_told_with_the_entry_and_the_field(tmp_path, field, value, words):
    document = json.loads(written(entry([[0.1, 0.2]])))
    (name,) = document["entries"]
    document["entries"][name][field] = value
    message = broken(tmp_path, json.dumps(document, indent=1))
    assert words in message
    assert "line 3, baseline 'dp | templates.log_ratio[gender] | " in message


def test_a_run_that_is_there_twice_is_no_second_seed(tmp_path):
    text = written(entry([[0.1, 0.2], [0.3, 0.2]])).replace('"run1"', '"run0"')
    assert "runs has one run twice" in broken(tmp_path, text)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d.pop("model"), "the file has no 'model'"),
        (lambda d: d.update(model=3), "'model' is no name: 3"),
        (lambda d: d.update(entries=[]), "'entries' is no object"),
        (lambda d: d.update(entires={}), "unknown field 'entires', did you mean 'entries'?"),
        (lambda d: d["entries"].update(dp={}), "a key has the form ARM | METRIC | PROTOCOL | probes DIGEST"),
    ],
)
def test_a_file_of_another_form_is_told(tmp_path, change, words):
    document = json.loads(written(entry([[0.1, 0.2]])))
    change(document)
    assert words in broken(tmp_path, json.dumps(document))


def test_what_is_no_number_no_object_or_no_text_is_told(tmp_path):
    assert "NaN, which is no number" in broken(tmp_path, written(entry([[0.1, 0.2]])).replace("0.15}", "NaN}"))
    assert "no JSON object" in broken(tmp_path, "[]")
    assert "not valid JSON" in broken(tmp_path, "")
    (tmp_path / "f.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BaselineError, match="no UTF-8 text"):
        load(tmp_path / "f.json")


def test_a_file_that_an_editor_saved_with_other_line_ends_is_read(tmp_path):
    text = written(entry([[0.1, 0.2]]))
    (tmp_path / "f.json").write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    assert list(load(tmp_path / "f.json").entries) == [key("dp")]


def test_a_file_of_an_older_schema_is_migrated_when_read_and_written_anew_when_updated(tmp_path, monkeypatch):
    """Schema 1 is the first, so a later one is imagined here: it will have called the unit `measured_in` before."""

    def from_1(document):
        for data in document["entries"].values():
            data["unit"] = data.pop("measured_in")
        return document

    path = tmp_path / "f.json"
    old = written(entry([[0.1, 0.2]])).replace('"unit"', '"measured_in"')
    path.write_text(old)
    monkeypatch.setattr(baseline_format, "SCHEMA", 2)
    monkeypatch.setitem(baseline_format.MIGRATIONS, 1, from_1)
    assert load(path).get(key("dp")) == entry([[0.1, 0.2]])
    assert path.read_text() == old
    update(path, [entry([[0.1, 0.3]], arm="other")], MODEL)
    document = json.loads(path.read_text())
    assert document["schema"] == 2
    assert all("unit" in data for data in document["entries"].values())


# -- which file, which entry ------------------------------------------------------------------------------------------


def test_a_missing_baseline_says_what_there_is_and_how_to_record_one(tmp_path):
    path = tmp_path / "f.json"
    with pytest.raises(BaselineError) as caught:
        load(path).require(key("dp"))
    assert str(caught.value) == (
        "no baseline for templates.log_ratio[gender] of dp\n"
        f"  where: {path} (no such file)\n"
        "  do:    run pytest --fairtest-update-baseline=new and commit the file"
    )
    update(path, [entry([[0.1, 0.2]], arm="dp_cda")], MODEL)
    with pytest.raises(BaselineError, match=r"it has dp_cda for templates.log_ratio\[gender\]"):
        load(path).require(key("dp"))


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"probes": "other"}, "measured with other probes (probes other, now p), so the two cannot be compared"),
        ({"protocol": "fairtest v0, causal-bos"}, "other definitions (protocol fairtest v0, causal-bos, now fairtest"),
    ],
)
def test_other_probes_or_another_protocol_are_no_missing_baseline(tmp_path, changed, words):
    path = tmp_path / "f.json"
    stored = entry([[0.1, 0.2]])
    update(path, [dataclasses.replace(stored, key=dataclasses.replace(stored.key, **changed))], MODEL)
    with pytest.raises(BaselineError) as caught:
        load(path).require(key("dp"))
    assert words in str(caught.value)
    assert "--fairtest-update-baseline=new" in caught.value.fix


def test_a_file_belongs_to_one_model(tmp_path):
    update(tmp_path / "f.json", [entry([[0.1, 0.2]])], MODEL)
    with pytest.raises(BaselineError, match="of the model 'fairtest/tiny', and this one is 'fairtest--tiny'"):
        load(tmp_path / "f.json", "fairtest--tiny")


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("distilgpt2", "distilgpt2.json"),
        ("org/a model:v1", "org--a--model--v1.json"),
        ("../../etc/passwd", "etc--passwd.json"),
        ("...", "model.json"),
        ("x" * 300, None),
    ],
)
def test_the_file_name_is_safe(tmp_path, model, name):
    path = file_of(model, tmp_path)
    assert path.parent == tmp_path
    assert len(path.name) < 120
    assert name is None or path.name == name


def test_a_model_directory_is_called_the_same_on_every_machine(tmp_path):
    directory = tmp_path / "project" / "baselines"
    inside = tmp_path / "project" / "models" / "mine"
    outside = tmp_path / "elsewhere" / "theirs"
    for path in (inside, outside):
        path.mkdir(parents=True)
    assert model_name(str(inside), directory) == "models/mine"
    assert model_name(str(outside), directory) == "theirs"
    assert model_name("org/name", directory) == "org/name"


def test_an_infinite_interval_is_kept_as_none():
    data = entry([[0.1, 0.2]], tail=math.inf).as_dict()
    assert data["estimate"]["low"] is data["estimate"]["high"] is None
    assert BaselineEntry.from_dict(key("dp"), data).estimate == Estimate(0.15, -math.inf, math.inf)
