"""BOLD, our own prompts, and a user's own."""

import json
from collections import Counter

import pytest

from fairtest.errors import ProbeError
from fairtest.probes.bold import EMPTY, PROMPTS, read_bold
from fairtest.probes.faults import faults_of, without_faults
from fairtest.probes.probe import Probe, ProbeSet
from fairtest.probes.prompts import ENDINGS, occupation_prompts, own_prompts, prompt, read_prompts, require_prompts
from fairtest.probes.registry import load_probe_set

SMALL = {"sailors": {"Ann": ["Ann sailed to ", "Ann ate "], "Bo": ["Bo rowed "]}, "cooks": {"Cy": ["Cy fried "]}}


def write(folder, content, axis="gender"):
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{axis}_prompt.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def test_a_prompt_has_its_group_and_article_and_no_space_at_its_end(tmp_path):
    probes = read_bold(write(tmp_path, SMALL), strict=False)
    assert (probes.name, probes.version, probes.licence) == ("bold", "2021", "CC BY-SA 4.0")
    assert [(p.id, p.axis, p.cluster, p.texts, p.fields) for p in probes.probes] == [
        ("gender/sailors/Ann/0", "gender", "Ann", {"prompt": "Ann sailed to"}, {"group": "sailors"}),
        ("gender/sailors/Ann/1", "gender", "Ann", {"prompt": "Ann ate"}, {"group": "sailors"}),
        ("gender/sailors/Bo/0", "gender", "Bo", {"prompt": "Bo rowed"}, {"group": "sailors"}),
        ("gender/cooks/Cy/0", "gender", "Cy", {"prompt": "Cy fried"}, {"group": "cooks"}),
    ]
    require_prompts(probes)


@pytest.mark.parametrize("folder", ["", "bold", "prompts", "bold/prompts"])
def test_a_directory_stands_for_the_files_in_it(tmp_path, folder):
    for axis in PROMPTS:
        write(tmp_path / folder, SMALL, axis)
    assert read_bold(tmp_path, strict=False).axes == tuple(sorted(PROMPTS))


def test_a_prompt_without_a_word_is_left_out_and_the_others_keep_their_number(tmp_path):
    probes = read_bold(write(tmp_path, {"sailors": {"Ann": ["", "Ann ate ", " "]}}), strict=False)
    assert [probe.id for probe in probes.probes] == ["gender/sailors/Ann/1"]


def test_another_number_of_prompts_names_found_and_expected(tmp_path):
    with pytest.raises(ProbeError) as caught:
        read_bold(write(tmp_path, SMALL))
    assert caught.value.what == "BOLD has 3204 gender prompts, 0 of them empty, and 4 were found, 0 of them empty"
    assert "strict=False" in caught.value.fix


def test_a_missing_file_of_a_directory_is_named(tmp_path):
    write(tmp_path, SMALL)
    with pytest.raises(ProbeError, match=r"BOLD has five files, and race_prompt\.json is missing"):
        read_bold(tmp_path)
    assert len(read_bold(tmp_path, strict=False)) == 4


def test_a_file_of_another_name_is_named_with_those_there_are(tmp_path):
    path = tmp_path / "gender.json"
    path.write_text("{}")
    with pytest.raises(ProbeError, match=r"BOLD has no file 'gender\.json'") as caught:
        read_bold(path)
    assert "gender_prompt.json" in caught.value.fix


def test_a_place_without_bold_is_named(tmp_path):
    with pytest.raises(ProbeError, match="BOLD was not found") as caught:
        read_bold(tmp_path)
    assert caught.value.where == str(tmp_path)


@pytest.mark.parametrize(
    ("content", "what", "place"),
    [
        ("[]", r"BOLD: \[\] should be an object", ", the file"),
        ('{"a": 3}', "BOLD: 3 should be an object", ", 'a'"),
        ('{"a": {"b": "c"}}', "BOLD: 'c' should be a list of texts", ", 'a', 'b'"),
        ('{"a": {"b": ["c", 1]}}', "BOLD: 1 should be a text", ", 'a', 'b', prompt 1"),
        ('{"a": {"b": [],\n "b": []}}', "BOLD: 'b' stands twice in one object", ""),
        ('{"a":\n', "BOLD is not JSON", ":2"),
        ("{}", "has no items", ""),
    ],
)
def test_content_of_another_kind_is_named_with_its_place(tmp_path, content, what, place):
    path = write(tmp_path, content)
    with pytest.raises(ProbeError, match=what) as caught:
        read_bold(path, strict=False)
    assert caught.value.where == f"{path}{place}"


def test_a_file_that_is_not_utf_8_is_named(tmp_path):
    path = tmp_path / "gender_prompt.json"
    path.write_bytes(b'{"\xff": {}}')
    with pytest.raises(ProbeError, match="BOLD is not UTF-8"):
        read_bold(path)


def test_known_faults_are_found_and_left_out_by_name(tmp_path):
    content = {
        "sailors": {"Ann": ["Ann ate ", "Ann ate ", "Ann "], "Bo": ["The sea is "]},
        "cooks": {"Cy": ["The sea is ", "Cy fried "]},
    }
    probes = read_bold(write(tmp_path, content), strict=False)
    assert faults_of(probes) == {
        "one_word": ("gender/sailors/Ann/2",),
        "repeated": ("gender/sailors/Ann/1",),
        "in_two_groups": ("gender/sailors/Bo/0", "gender/cooks/Cy/0"),
    }
    kept = without_faults(probes, ["one_word", "in_two_groups"])
    assert kept.version == "2021 without in_two_groups, one_word"
    assert [p.texts["prompt"] for p in kept.probes] == ["Ann ate", "Ann ate", "Cy fried"]


def test_the_published_files_have_the_published_counts(data_dir):
    probes = read_bold(data_dir)
    counts = Counter(probe.axis for probe in probes.probes)
    assert {axis: counts[axis] + EMPTY.get(axis, 0) for axis in PROMPTS} == PROMPTS
    assert sum(PROMPTS.values()) == 23679
    assert len(probes) == 23674
    groups = Counter(probe.fields["group"] for probe in probes.only("gender").probes)
    assert groups == {"American_actors": 2048, "American_actresses": 1156}
    assert {name: len(ids) for name, ids in faults_of(probes).items()} == {
        "one_word": 27,
        "repeated": 190,
        "in_two_groups": 1354,
    }


def test_every_published_prompt_begins_the_sentence_it_was_cut_from(data_dir):
    for axis in PROMPTS:
        sentences = json.loads((data_dir / f"bold/{axis}_wiki.json").read_text(encoding="utf-8"))
        for probe in read_bold(data_dir / f"bold/{axis}_prompt.json").probes:
            _, group, rest = probe.id.split("/", 2)
            article, number = rest.rsplit("/", 1)
            assert sentences[group][article][int(number)].startswith(probe.texts["prompt"]), probe.id


def texts_by_pair(probes):
    pairs = {}
    for probe in probes.probes:
        pairs.setdefault((probe.axis, probe.fields["pair"]), {})[probe.fields["group"]] = probe
    return pairs


def test_our_own_prompts_are_paired_across_all_groups_of_an_axis():
    probes = own_prompts()
    require_prompts(probes)
    assert len(set(ENDINGS)) == len(ENDINGS) == 40
    pairs = texts_by_pair(probes)
    assert Counter(axis for axis, _ in pairs) == {"gender": 160, "religion": 120, "race": 120}
    groups = {axis: {p.fields["group"] for p in probes.only(axis).probes} for axis in probes.axes}
    for (axis, _), by_group in pairs.items():
        assert set(by_group) == groups[axis]
        assert len({probe.cluster for probe in by_group.values()}) == 1
        assert len({probe.texts["prompt"] for probe in by_group.values()}) == len(by_group)
    assert pairs["gender", "worked as / The man / The woman"]["feminine"].texts == {"prompt": "The woman worked as"}
    assert pairs["religion", "worked as / My {} neighbor"]["Hindu"].texts == {"prompt": "My Hindu neighbor worked as"}


def test_occupation_prompts_differ_in_the_pronoun_alone_and_are_always_the_same():
    probes = occupation_prompts()
    assert probes.digest == occupation_prompts().digest
    assert len({probe.cluster for probe in probes.probes}) == 40
    for by_group in texts_by_pair(probes).values():
        he, she = by_group["masculine"].texts["prompt"], by_group["feminine"].texts["prompt"]
        assert he.removesuffix("He") == she.removesuffix("She")


@pytest.mark.parametrize("name", ["prompts", "occupation_prompts", "bold"])
def test_sets_of_prompts_are_found_by_their_name(tmp_path, name):
    for axis in PROMPTS:
        write(tmp_path, SMALL, axis)
    if name == "bold":
        with pytest.raises(ProbeError, match="BOLD has 3204 gender prompts"):
            load_probe_set(name, tmp_path)
    else:
        probes = load_probe_set(name)
        assert probes.name == name
        require_prompts(probes)


def test_a_users_prompts_are_read_from_csv_tsv_and_jsonl_alike(tmp_path):
    rows = [{"id": "a", "prompt": "He is ", "group": "m", "template": "t"}]
    rows += [{"id": "b", "prompt": "She is", "group": "f", "template": "t"}]
    (tmp_path / "own.csv").write_text("id,prompt,group,template\na,He is ,m,t\nb,She is,f,t\n")
    (tmp_path / "own.tsv").write_text("id\tprompt\tgroup\ttemplate\na\tHe is \tm\tt\nb\tShe is\tf\tt\n")
    (tmp_path / "own.jsonl").write_text("\n".join(map(json.dumps, rows)))
    sets = [read_prompts(tmp_path / f"own.{ending}", axis="gender") for ending in ("csv", "tsv", "jsonl")]
    assert len({probes.digest for probes in sets}) == 1
    assert sets[0].name == "own"
    assert sets[0].probes[0] == Probe("a", "gender", "t", {"prompt": "He is"}, fields={"group": "m", "pair": "t"})


def test_what_a_user_does_not_give_follows_from_the_row(tmp_path):
    path = tmp_path / "p.jsonl"
    path.write_text('{"prompt": "A", "group": "x", "id": 7}\n{"prompt": "B", "group": "y", "axis": "age", "id": null}')
    first, second = read_prompts(path, name="mine").probes
    assert (first.id, first.axis, first.cluster, first.fields) == ("7", "own", "7", {"group": "x"})
    assert (second.id, second.axis, second.cluster, second.fields) == ("1", "age", "1", {"group": "y"})


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("p.csv", "prompt,axis\nA,b\n", "'group' is missing; columns found: 'prompt', 'axis'"),
        ("p.csv", "prompt,group\n ,b\n", "'prompt' is empty"),
        ("p.csv", "prompt,group\nA\n", "cannot be read: the record has 1 fields, the header has 2"),
        ("p.csv", "prompt,group,id\nA,b,1\nB,b,1\n", "ids more than once, the first is '1'"),
        ("p.csv", "prompt,group,template\nA,b,t\nB,b,\n", "prompt '1' has no template, and other prompts have one"),
        ("p.csv", "prompt,group\n", "has no items"),
        ("p.jsonl", '{"prompt": ["A"], "group": "b"}', r"'prompt' is \['A'\], not a text"),
        ("p.jsonl", '{"prompt": null, "group": "b"}', "'prompt' is empty"),
        ("p.txt", "A", "this one ends in '.txt'"),
    ],
)
def test_what_is_wrong_with_a_users_prompts_is_named(tmp_path, name, content, what):
    (tmp_path / name).write_text(content)
    with pytest.raises(ProbeError, match=what) as caught:
        read_prompts(tmp_path / name)
    assert str(tmp_path / name) in caught.value.where


def test_a_missing_file_of_a_user_is_named(tmp_path):
    with pytest.raises(ProbeError, match="prompts cannot be read"):
        read_prompts(tmp_path / "none.csv")


def test_a_probe_set_of_another_kind_is_no_set_of_prompts():
    pair = ProbeSet("pairs", "1", "", "here", (Probe("p", "age", "c", {"stereotype": "a", "anti_stereotype": "b"}),))
    with pytest.raises(ProbeError, match="probe 'p' is no prompt"):
        require_prompts(pair)
    nothing = ProbeSet("n", "1", "", "here", (prompt("q", "age", "old", "  ", cluster="c"),))
    with pytest.raises(ProbeError, match="prompt 'q' has no text"):
        require_prompts(nothing)
