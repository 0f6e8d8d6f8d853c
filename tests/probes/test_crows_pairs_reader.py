import csv
import os
from collections import Counter
from pathlib import Path

import pytest

from fairtest.errors import ProbeError
from fairtest.probes.crows_pairs import read_crows_pairs

DATA = Path(os.environ.get("FAIRTEST_DATA_DIR") or Path(__file__).parents[2].parent / "shared" / "data")
needs_data = pytest.mark.skipif(
    not (DATA / "crows-pairs/crows_pairs_anonymized.csv").is_file(),
    reason="CrowS-Pairs is absent; set FAIRTEST_DATA_DIR",
)

HEADER = ("", "sent_more", "sent_less", "stereo_antistereo", "bias_type")


def write(path, rows, header=HEADER):
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(header)
        writer.writerows(rows)
    return path


def test_sent_more_is_the_stereotype_in_antistereo_rows_too(tmp_path):
    rows = [("0", "She cried, loudly.", "He cried, loudly.", "stereo", "gender")]
    rows += [("1", "A she-wolf.", "A he-wolf.", "antistereo", "gender")]
    first, second = read_crows_pairs(write(tmp_path / "c.csv", rows), strict=False).probes
    assert first.texts == {"stereotype": "She cried, loudly.", "anti_stereotype": "He cried, loudly."}
    assert second.texts == {"stereotype": "A she-wolf.", "anti_stereotype": "A he-wolf."}
    assert (second.id, second.axis, second.cluster) == ("1", "gender", "1")


def test_pairs_that_share_a_sentence_share_a_cluster(tmp_path):
    rows = [(str(i), more, less, "stereo", "age") for i, (more, less) in enumerate(["ab", "cd", "ef", "db", "ab"])]
    probes = read_crows_pairs(write(tmp_path / "c.csv", rows), strict=False).probes
    assert [probe.cluster for probe in probes] == ["0", "0", "2", "0", "0"]


@pytest.mark.parametrize("place", ["crows_pairs_anonymized.csv", "crows-pairs/crows_pairs_anonymized.csv"])
def test_a_directory_stands_for_the_file_in_it(tmp_path, place):
    (tmp_path / place).parent.mkdir(exist_ok=True)
    write(tmp_path / place, [("0", "a", "b", "stereo", "age")])
    assert len(read_crows_pairs(tmp_path, strict=False)) == 1


def test_rows_without_an_index_column_are_numbered(tmp_path):
    path = write(tmp_path / "c.csv", [("a", "b", "age"), ("c", "d", "age")], ("sent_more", "sent_less", "bias_type"))
    assert [probe.id for probe in read_crows_pairs(path, strict=False).probes] == ["0", "1"]


def test_another_number_of_rows_names_found_and_expected(tmp_path):
    path = write(tmp_path / "c.csv", [("0", "a", "b", "stereo", "age")])
    with pytest.raises(ProbeError) as caught:
        read_crows_pairs(path)
    assert caught.value.what == "CrowS-Pairs has 1508 pairs, and 1 were found"
    assert "strict=False" in caught.value.fix


def test_no_row_at_all_is_an_error_even_where_subsets_are_allowed(tmp_path):
    with pytest.raises(ProbeError, match="has no items"):
        read_crows_pairs(write(tmp_path / "c.csv", []), strict=False)


def test_a_missing_column_is_named_with_those_found(tmp_path):
    path = write(tmp_path / "c.csv", [("a", "age")], ("sent_more", "bias_type"))
    with pytest.raises(ProbeError) as caught:
        read_crows_pairs(path)
    assert caught.value.what == "CrowS-Pairs: column 'sent_less' is missing; columns found: 'sent_more', 'bias_type'"
    assert caught.value.where == f"{path}:1"


def test_an_empty_cell_is_named_with_its_line(tmp_path):
    path = write(tmp_path / "c.csv", [("0", "a", "b", "stereo", "age"), ("1", "a", " ", "stereo", "age")])
    with pytest.raises(ProbeError, match="'sent_less' is empty") as caught:
        read_crows_pairs(path)
    assert caught.value.where == f"{path}:3"


def test_a_row_that_ends_early_is_named_with_its_line(tmp_path):
    path = write(tmp_path / "c.csv", [("0", "a")])
    with pytest.raises(ProbeError, match="'sent_less' is empty"):
        read_crows_pairs(path)


@pytest.mark.parametrize(
    ("content", "what"), [(b"sent_more\n\xff", "not UTF-8"), (b'sent_more,sent_less,bias_type\n"a', "not CSV")]
)
def test_a_file_of_another_kind_is_named(tmp_path, content, what):
    path = tmp_path / "c.csv"
    path.write_bytes(content)
    with pytest.raises(ProbeError, match=what):
        read_crows_pairs(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ProbeError, match="CrowS-Pairs was not found") as caught:
        read_crows_pairs(tmp_path / "nowhere")
    assert caught.value.where == str(tmp_path / "nowhere")


@needs_data
def test_the_published_file_has_the_published_counts():
    probes = read_crows_pairs(DATA)
    assert Counter(probe.axis for probe in probes.probes) == {
        "race-color": 516,
        "gender": 262,
        "socioeconomic": 172,
        "nationality": 159,
        "religion": 105,
        "age": 87,
        "sexual-orientation": 84,
        "physical-appearance": 63,
        "disability": 60,
    }
    shared = [cluster for cluster, count in Counter(p.cluster for p in probes.probes).items() if count > 1]
    assert shared == ["1459"]
    assert [probe.id for probe in probes.probes if probe.cluster == "1459"] == ["1459", "1502"]
