import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairtest.errors import ProbeError
from fairtest.probes.linked import first_linked
from fairtest.probes.own import read_own_probes
from fairtest.probes.registry import load_probe_set


def write(folder, content, name="mine.csv"):
    path = folder / name
    path.write_text(content, encoding="utf-8")
    return path


def complaint(path):
    with pytest.raises(ProbeError) as caught:
        read_own_probes(path)
    return caught.value


PAIRS = """sent_more,sent_less,category,cluster,template,id
"The old man, he slept.","The young man, he slept.",age,sleep,a,one
Old people are kind.,Young people are kind.,age,kind,b,two
"""


def test_pairs_are_read_with_their_axis_cluster_template_and_id(tmp_path):
    path = write(tmp_path, PAIRS)
    probes = read_own_probes(path)
    first, second = probes.probes
    assert first.texts == {"stereotype": "The old man, he slept.", "anti_stereotype": "The young man, he slept."}
    assert (first.id, first.axis, first.cluster, first.template) == ("one", "age", "sleep", "a")
    assert (second.id, second.cluster, second.template) == ("two", "kind", "b")
    assert (probes.name, probes.source, probes.licence) == (str(path), str(path), "own")


def test_what_is_not_given_is_numbered_all_and_a_cluster_of_its_own_unless_shared(tmp_path):
    path = write(tmp_path, "stereotype,anti_stereotype,note\na,b,\nc,d,x\nb,e,\n")
    probes = read_own_probes(path).probes
    assert [(p.id, p.axis, p.cluster) for p in probes] == [("1", "all", "1"), ("2", "all", "2"), ("3", "all", "1")]
    assert [p.template for p in probes] == ["", "", ""]


@pytest.mark.parametrize("name", ["mine.csv", "mine.tsv", "mine.jsonl", "MINE.NDJSON"])
def test_a_blank_is_filled_the_same_from_every_kind_of_file(tmp_path, name):
    row = {"context": "He is BLANK.", "stereotype": "old", "anti_stereotype": "new", "unrelated": "fish", "axis": "age"}
    if name.lower().endswith(("jsonl", "ndjson")):
        content = "\n" + json.dumps(row) + "\n\n"
    else:
        between = "\t" if name.endswith("tsv") else ","
        content = between.join(row) + "\r\n" + between.join(row.values()) + "\r\n"
    probes = read_own_probes(write(tmp_path, content, name), name="mine")
    (probe,) = probes.probes
    assert probe.texts == {"stereotype": "He is old.", "anti_stereotype": "He is new.", "unrelated": "He is fish."}
    assert (probe.axis, probe.cluster, probe.id) == ("age", "1", "1")
    assert probes.digest == "7adedf02babad0eb430e2e01f307c08cca1e1d9795df6a253f2e502a4e259765"


def test_items_with_one_context_share_a_cluster(tmp_path):
    content = "context,sent_more,sent_less\nHe BLANK.,a,b\nShe BLANK.,a,b\nHe BLANK.,c,d\n"
    assert [p.cluster for p in read_own_probes(write(tmp_path, content)).probes] == ["1", "2", "1"]


def test_a_byte_order_mark_and_a_cell_with_a_line_break_are_read(tmp_path):
    path = write(tmp_path, '\ufeffsent_more,sent_less\n"a\nb","a\nc"\nd,e\n')
    assert [p.texts["stereotype"] for p in read_own_probes(path).probes] == ["a\nb", "d"]


def test_quotes_and_separators_of_unicode_are_part_of_a_sentence(tmp_path):
    tsv = write(tmp_path, 'sent_more\tsent_less\n"No", he said.\t"No", she\u2028said.\n', "mine.tsv")
    line = json.dumps({"sent_more": '"No", he said.', "sent_less": '"No", she\u2028said.'}, ensure_ascii=False)
    jsonl = write(tmp_path, line, "mine.jsonl")
    assert [read_own_probes(path).probes[0].texts for path in (tsv, jsonl)] == [
        {"stereotype": '"No", he said.', "anti_stereotype": '"No", she\u2028said.'}
    ] * 2


@pytest.mark.parametrize(
    ("content", "line", "what"),
    [
        ("a,b\nc,d\n", 1, "no column 'stereotype' or 'sent_more'; columns found: 'a', 'b'"),
        ("sent_more\nc\n", 1, "no column 'anti_stereotype' or 'anti-stereotype' or 'sent_less'; columns found: "),
        ("sent_more,stereotype,sent_less\na,b,c\n", 1, "columns 'stereotype' and 'sent_more' mean the same"),
        ("sent_more,sent_less,sent_less\na,b,c\n", 1, "column 'sent_less' is there twice"),
        ("sent_more,sent_less,categroy\na,b,c\n", 1, "unknown column 'categroy'"),
        ("sent_more,sent_less\na,b\n ,c\n", 3, "'sent_more' is empty"),
        ("sent_more,sent_less\na,b\nc\n", 3, "'sent_less' is empty"),
        ("sent_more,sent_less,category\na,b,x\nc,d,\n", 3, "'category' is empty"),
        ("sent_more,sent_less\na,b\n\nc,c \n", 4, "'sent_more' and 'sent_less' are the same text: 'c'"),
        ("sent_more,sent_less,unrelated\na,b,a\n", 2, "'sent_more' and 'unrelated' are the same text: 'a'"),
        ("sent_more,sent_less,id\na,b,x\nc,d,y\ne,f,x\n", 4, "id 'x' is there twice, in lines 2 and 4"),
        ("context,sent_more,sent_less\nHe is.,a,b\n", 2, "'context' has the word BLANK 0 times: 'He is.'"),
        ("context,sent_more,sent_less\nBLANK is BLANK,a,b\n", 2, "'context' has the word BLANK 2 times"),
        ("context,sent_more,sent_less\nHe is BLANKET,a,b\n", 2, "'context' has the word BLANK 0 times"),
        ("context,sent_more,sent_less\nHe is BLANK.,he is a.,b\n", 2, "'sent_more' is a whole sentence, and 'context'"),
        ("sent_more,sent_less\nhe, too,she\n", 2, "3 cells in a row, and 2 columns"),
        ('sent_more,sent_less\n"a"b,c\n', 2, "the probe file is not CSV"),
        ('sent_more,sent_less\na,"c\n', 2, "the probe file is not CSV"),
    ],
)  # fmt: skip
def test_a_bad_table_is_named_by_file_and_line(tmp_path, content, line, what):
    path = write(tmp_path, content)
    error = complaint(path)
    assert error.what.startswith(what)
    assert error.where == f"{path}:{line}"
    assert error.fix


@pytest.mark.parametrize(
    ("content", "line", "what"),
    [
        ('{"sent_more": "a", "sent_less": "b"}\n{', 2, "the line is not a JSON object"),
        ('["a"]', 1, "the line is a JSON list, not an object"),
        ('{"sent_more": "a", "sent_less": 3}', 1, "'sent_less' is 3, not a text"),
        ('\n{"sent_more": "a", "sent_less": "b"}\n{"sent_more": "a"}', 3, "'sent_less' is empty"),
        ('{"sent_more": "a", "sent_less": null}', 1, "'sent_less' is empty"),
        ('{"sent_more": "a", "sent_less": "b"}\n{"axis": "x"}', 1, "'axis' is empty"),
        ('{"sent_more": "a"}', 1, "no column 'anti_stereotype'"),
    ],
)  # fmt: skip
def test_a_bad_json_line_is_named_by_file_and_line(tmp_path, content, line, what):
    path = write(tmp_path, content, "mine.jsonl")
    error = complaint(path)
    assert error.what.startswith(what)
    assert error.where == f"{path}:{line}"


def test_fields_that_are_no_columns_of_ours_can_hold_anything(tmp_path):
    line = {"id": 7, "sent_more": "a", "sent_less": "b", "votes": [1, 2], "note": None}
    assert read_own_probes(write(tmp_path, json.dumps(line), "mine.jsonl")).probes[0].id == "7"


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("a.csv", b"", "the probe file is empty"),
        ("a.jsonl", b"\n \n", "the probe file is empty"),
        ("a.csv", b"sent_more,sent_less\n", "the file has no items, only a header"),
        ("a.csv", b"sent_more,sent_less\n\xff,b\n", "the probe file is not UTF-8"),
        ("a.txt", b"x", "'a.txt' is no probe file"),
    ],
)
def test_a_file_that_holds_no_probes_is_named(tmp_path, name, content, what):
    path = tmp_path / name
    path.write_bytes(content)
    error = complaint(path)
    assert error.what.startswith(what)
    assert error.where == str(path)


def test_a_file_that_is_not_there_or_is_a_directory_is_named(tmp_path):
    assert complaint(tmp_path / "none.csv").what == "there is no such probe file"
    (tmp_path / "folder.csv").mkdir()
    assert complaint(tmp_path / "folder.csv").what.startswith("the probe file cannot be read")


def test_the_file_is_a_probe_set_by_its_path_from_here_or_from_the_data_directory(tmp_path, monkeypatch):
    write(tmp_path, PAIRS)
    monkeypatch.chdir(tmp_path)
    here = load_probe_set("mine.csv")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    there = load_probe_set("mine.csv", tmp_path)
    assert here.name == there.name == "mine.csv"
    assert here.digest == there.digest
    with pytest.raises(ProbeError, match="there is no such probe file") as caught:
        load_probe_set("other.csv", tmp_path)
    assert caught.value.where == "other.csv"
    assert str(tmp_path) in caught.value.fix


@given(st.lists(st.lists(st.integers(0, 12).map(str), min_size=1, max_size=3), max_size=12))
def test_linked_items_are_those_that_a_walk_over_shared_texts_reaches(texts):
    found = first_linked(texts)
    for index in range(len(texts)):
        reached, waiting = {index}, [index]
        while waiting:
            here = waiting.pop()
            near = {other for other in range(len(texts)) if set(texts[here]) & set(texts[other])} - reached
            reached |= near
            waiting += near
        assert found[index] == min(reached)


def test_crows_pairs_can_be_read_as_ones_own_file(data_dir):
    probes = read_own_probes(data_dir / "crows-pairs/crows_pairs_anonymized.csv")
    assert (len(probes), len(probes.only("gender")), len({probe.cluster for probe in probes.probes})) == (
        1508,
        262,
        1507,
    )


def test_a_file_of_prompts_says_how_it_is_measured(tmp_path):
    path = tmp_path / "prompts.csv"
    path.write_text("group,prompt\nm,\n", encoding="utf-8")
    with pytest.raises(ProbeError) as caught:
        read_own_probes(path)
    assert caught.value.what == "'prompts.csv' is a set of prompts: a model is measured by what it writes after them"
    assert caught.value.fix == (
        f"say what scores it: fairtest score MODEL {path} --scorer vader, or --scorer hf:MODEL:LABEL"
    )
