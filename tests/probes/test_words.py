import pytest

from fairtest.errors import ProbeError
from fairtest.probes.words import read_words


def test_lines_are_words_but_for_comments_and_blanks_and_each_counts_once(tmp_path):
    path = tmp_path / "words.txt"
    path.write_text("\ufeff# a list\n bad \n\nvery bad\nbad\n", encoding="utf-8")
    assert read_words(path) == ("bad", "very bad")


@pytest.mark.parametrize(
    ("name", "text"), [("w.csv", "n,word\n1,bad\n2,worse\n"), ("w.TSV", "lemma\tn\nbad\t1\nworse")]
)
def test_a_table_has_a_column_of_words(tmp_path, name, text):
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert read_words(tmp_path / name) == ("bad", "worse")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("w.txt", None, "there is no such list of words"),
        ("w.txt", b"\n# nothing\n", "the list of words is empty"),
        ("w.txt", b"caf\xe9", "the list of words is not UTF-8"),
        ("w.csv", b"term\nbad\n", "no column 'word' or 'lemma'; columns found: 'term'"),
        ("w.tsv", b"", "columns found: none"),
    ],
)
def test_a_list_that_is_none_is_named(tmp_path, name, content, message):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ProbeError, match=message) as caught:
        read_words(path)
    assert str(path) in caught.value.where


def test_a_directory_is_no_list(tmp_path):
    with pytest.raises(ProbeError, match="the list of words cannot be read"):
        read_words(tmp_path)
