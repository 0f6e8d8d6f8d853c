"""Winogender: triples, answers and statistics; published files where they are, own sentences elsewhere."""

import csv
import re
from collections import Counter
from pathlib import Path

import pytest

from fairtest.errors import ProbeError
from fairtest.probes.faults import without_faults
from fairtest.probes.winogender import ITEMS, as_percentage, read_winogender

GENDERS = {"male": "masculine", "female": "feminine", "neutral": "neutral"}
PRONOUNS = {"male": ("he", "him", "his"), "female": ("she", "her", "her"), "neutral": ("they", "them", "their")}
KINDS = ("$NOM_PRONOUN", "$ACC_PRONOUN", "$POSS_PRONOUN")

SENTENCES = [
    ("sentid", "sentence"),
    ("welder.typist.0.male.txt", "The welder told the typist that he was late."),
    ("welder.typist.0.female.txt", "The welder told the typist that she was late."),
    ("welder.typist.0.neutral.txt", "The welder told the typist that they were late."),
    ("welder.someone.1.male.txt", "The welder told someone that he could go."),
    ("welder.someone.1.female.txt", "The welder told someone that she could go."),
    ("welder.someone.1.neutral.txt", "The welder told someone that they could go."),
]
STATISTICS = [("occupation", "bergsma_pct_female", "bls_pct_female", "bls_year"), ("welder", "2.5", "4.75", "2015")]


@pytest.fixture
def winogender_dir(data_dir: Path) -> Path:
    if not (data_dir / "winogender").is_dir():
        pytest.skip("Winogender is absent; set FAIRTEST_DATA_DIR")
    return data_dir / "winogender"


def write(folder, sentences=SENTENCES, statistics=STATISTICS):
    for name, rows in (("all_sentences.tsv", sentences), ("occupations-stats.tsv", statistics)):
        if rows is not None:
            (folder / name).write_text("".join("\t".join(row) + "\n" for row in rows), encoding="utf-8")
    return folder


def subset(folder, sentences=SENTENCES, statistics=STATISTICS, **options):
    return read_winogender(write(folder, sentences, statistics), strict=False, **options)


def refused(call, *arguments, **options) -> ProbeError:
    with pytest.raises(ProbeError) as caught:
        call(*arguments, **options)
    return caught.value


def changed(row, sentid=None, sentence=None):
    rows = list(SENTENCES)
    rows[row] = (sentid if sentid is not None else rows[row][0], sentence if sentence is not None else rows[row][1])
    return rows


def test_three_sentences_are_an_item_of_their_occupation(tmp_path):
    first, second = subset(tmp_path).probes
    assert first.texts == {
        "masculine": "The welder told the typist that he was late.",
        "feminine": "The welder told the typist that she was late.",
        "neutral": "The welder told the typist that they were late.",
    }
    assert (first.id, first.axis, first.cluster, first.template) == ("welder.typist.0", "gender", "welder", "")
    assert first.fields == {
        "occupation": "welder",
        "participant": "typist",
        "answer": "occupation",
        "bergsma_pct_female": "2.5",
        "bls_pct_female": "4.75",
        "faults": "neutral_verb",
    }
    assert (second.fields["participant"], second.fields["answer"]) == ("someone", "participant")
    assert second.fields["faults"] == ""


def test_the_order_of_the_rows_of_an_item_does_not_matter(tmp_path):
    shuffled = [SENTENCES[0], *(SENTENCES[i] for i in (3, 1, 2, 5, 6, 4))]
    assert subset(tmp_path, shuffled).digest == subset(tmp_path).digest


def test_statistics_that_are_not_given_are_empty(tmp_path):
    empty = dict.fromkeys(("bergsma_pct_female", "bls_pct_female"), "")
    for statistics in ([STATISTICS[0]], [STATISTICS[0], ("welder", "", "", "")], None):
        (tmp_path / "occupations-stats.tsv").unlink(missing_ok=True)
        for probe in subset(tmp_path, statistics=statistics).probes:
            assert probe.fields.items() >= empty.items()


@pytest.mark.parametrize(
    ("row", "sentence", "fault"),
    [
        (2, "The welder told a typist that she was late.", "neutral_verb,several_edits"),
        (2, "The welder told the typist that she was very late.", "neutral_verb,several_edits"),
        (2, "The welder told the typist that he was late.", "neutral_verb,several_edits"),
        (3, "The welder told the typist that they was late.", ""),
        (3, "The welder told the typist that he was late.", "neutral_verb"),
    ],
)
def test_texts_that_differ_in_more_or_less_than_the_pronoun_are_a_fault(tmp_path, row, sentence, fault):
    assert subset(tmp_path, changed(row, sentence=sentence)).probes[0].fields["faults"] == fault


def test_the_second_of_two_equal_items_is_a_fault(tmp_path):
    again = [(sentid.replace("someone", "person"), sentence) for sentid, sentence in SENTENCES[4:]]
    probes = subset(tmp_path, [*SENTENCES, *again]).probes
    assert [p.fields["faults"] for p in probes] == ["neutral_verb", "", "duplicate"]


def test_faults_are_left_out_by_name_and_the_version_says_so(tmp_path):
    kept = without_faults(subset(tmp_path), ["neutral_verb"])
    assert [p.id for p in kept.probes] == ["welder.someone.1"]
    assert (subset(tmp_path).version, kept.version) == ("2018", "2018 without neutral_verb")


@pytest.mark.parametrize("place", ["", "winogender", "winogender-schemas/data", "data"])
def test_files_are_found_in_the_directory_or_in_one_below(tmp_path, place):
    (tmp_path / place).mkdir(parents=True, exist_ok=True)
    write(tmp_path / place)
    assert len(read_winogender(tmp_path, strict=False)) == 2


def test_a_directory_without_sentences_is_named(tmp_path):
    error = refused(read_winogender, tmp_path / "nowhere")
    assert error.what == "Winogender was not found: no all_sentences.tsv in the directory nor below it"
    assert error.where == str(tmp_path / "nowhere")
    assert "github.com/rudinger/winogender-schemas" in error.fix


def test_another_number_of_sentences_names_found_and_expected(tmp_path):
    error = refused(read_winogender, write(tmp_path))
    assert error.what == "Winogender has 720 sentences, and 6 were found"
    assert error.where == str(tmp_path / "all_sentences.tsv")
    assert "strict=False" in error.fix


def test_no_sentence_at_all_is_an_error_even_where_subsets_are_allowed(tmp_path):
    assert "has no items" in refused(subset, tmp_path, SENTENCES[:1]).what


@pytest.mark.parametrize(
    ("name", "column", "kept"),
    [
        ("all_sentences.tsv", "sentid", ("sentence",)),
        ("all_sentences.tsv", "sentence", ("sentid",)),
        ("occupations-stats.tsv", "occupation", ("bergsma_pct_female", "bls_pct_female")),
        ("occupations-stats.tsv", "bls_pct_female", ("occupation", "bergsma_pct_female")),
    ],
)
def test_a_missing_column_is_named_with_those_found(tmp_path, name, column, kept):
    write(tmp_path)
    (tmp_path / name).write_text("\t".join(kept) + "\n", encoding="utf-8")
    error = refused(read_winogender, tmp_path, strict=False)
    assert error.what == f"Winogender: column {column!r} is missing; columns found: {', '.join(map(repr, kept))}"
    assert error.where == f"{tmp_path / name}:1"


@pytest.mark.parametrize(
    "sentid",
    [
        "welder.typist.0.female",
        "welder.typist.2.female.txt",
        "welder.typist.0.woman.txt",
        "welder..0.female.txt",
        "welder.typist.x.0.female.txt",
    ],
)
def test_a_sentence_id_of_another_form_is_named(tmp_path, sentid):
    error = refused(subset, tmp_path, changed(2, sentid=sentid))
    assert error.what == f"Winogender: sentence id {sentid!r} is not occupation.participant.(0 or 1).gender.txt"
    assert error.where == f"{tmp_path / 'all_sentences.tsv'}:3"


def test_a_sentence_id_that_occurs_twice_is_named(tmp_path):
    error = refused(subset, tmp_path, changed(2, sentid=SENTENCES[1][0]))
    assert error.what == "Winogender: sentence id 'welder.typist.0.male.txt' occurs twice"
    assert error.where == f"{tmp_path / 'all_sentences.tsv'}:3"


@pytest.mark.parametrize(("row", "gender"), [(4, "male"), (5, "female"), (6, "neutral")])
def test_an_item_that_is_not_whole_is_named(tmp_path, row, gender):
    error = refused(subset, tmp_path, [line for at, line in enumerate(SENTENCES) if at != row])
    assert error.what == f"Winogender: item 'welder.someone.1' has no sentence with gender {gender!r}"
    assert error.where == f"{tmp_path / 'all_sentences.tsv'}:5"


@pytest.mark.parametrize("row", [("welder.typist.0.female.txt", " "), ("welder.typist.0.female.txt",)])
def test_an_empty_sentence_is_named(tmp_path, row):
    error = refused(subset, tmp_path, [*SENTENCES[:2], row, *SENTENCES[3:]])
    assert (error.what, error.where) == ("Winogender: 'sentence' is empty", f"{tmp_path / 'all_sentences.tsv'}:3")


@pytest.mark.parametrize("value", ["many", "-1", "100.1", "nan", "inf"])
def test_a_percentage_that_is_none_is_named(tmp_path, value):
    error = refused(subset, tmp_path, statistics=[STATISTICS[0], ("welder", "2.5", value, "2015")])
    assert error.what == f"Winogender: 'bls_pct_female' is {value!r}, not a percentage from 0 to 100"
    assert error.where == f"{tmp_path / 'occupations-stats.tsv'}:2"
    assert as_percentage(value) is None


def test_an_occupation_with_two_statistics_is_named(tmp_path):
    error = refused(subset, tmp_path, statistics=[*STATISTICS, STATISTICS[1]])
    assert error.what == "Winogender: occupation 'welder' occurs twice"
    assert error.where == f"{tmp_path / 'occupations-stats.tsv'}:3"


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("all_sentences.tsv", b"sentid\tsentence\n\xff", "Winogender is not UTF-8"),
        ("occupations-stats.tsv", b"occupation\t\xff", "Winogender is not UTF-8"),
        ("all_sentences.tsv", b"sentid\tsentence\n" + b"x" * 200_000, "Winogender is not TSV"),
    ],
)
def test_a_file_of_another_kind_is_named(tmp_path, name, content, what):
    (write(tmp_path) / name).write_bytes(content)
    error = refused(read_winogender, tmp_path, strict=False)
    assert error.what.startswith(what)
    assert error.where.startswith(str(tmp_path / name))


# The published files.


def table(file):
    with file.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE))


def test_published_counts(winogender_dir):
    probes = read_winogender(winogender_dir.parent).probes
    assert len(probes) == ITEMS == 240
    assert set(Counter(p.cluster for p in probes).values()) == {4}
    assert len({p.cluster for p in probes}) == 60
    assert Counter(p.fields["answer"] for p in probes) == {"occupation": 120, "participant": 120}
    assert sum(p.fields["participant"] == "someone" for p in probes) == 120


def test_published_texts_are_the_templates_filled_in(winogender_dir):
    """An oracle that never reads the sentences: templates, pronouns, and "someone" in place of the participant."""
    expected = {}
    for row in table(winogender_dir / "templates.tsv"):
        occupation, participant, answer = (row[k] for k in ("occupation(0)", "other-participant(1)", "answer"))
        for who in (participant, "someone"):
            for gender, forms in PRONOUNS.items():
                text = row["sentence"].replace("$OCCUPATION", occupation)
                if who == "someone":
                    text = re.sub(r"\b(a )?the \$PARTICIPANT|\ba \$PARTICIPANT", "someone", text)
                    text = text.replace("The $PARTICIPANT", "Someone")
                text = text.replace("$PARTICIPANT", participant)
                for kind, form in zip(KINDS, forms, strict=True):
                    text = text.replace(kind, form)
                expected[f"{occupation}.{who}.{answer}", GENDERS[gender]] = text.replace("they was", "they were")
    found = {(p.id, role): text for p in read_winogender(winogender_dir).probes for role, text in p.texts.items()}
    assert found == expected


def test_published_statistics_are_those_of_the_occupation(winogender_dir):
    statistics = {row["occupation"]: row for row in table(winogender_dir / "occupations-stats.tsv")}
    for probe in read_winogender(winogender_dir).probes:
        for name in ("bergsma_pct_female", "bls_pct_female"):
            assert probe.fields[name] == statistics[probe.cluster][name] != ""


def test_published_faults_are_verbs_of_the_neutral_texts_alone(winogender_dir):
    probes = read_winogender(winogender_dir).probes
    faulty = [p for p in probes if p.fields["faults"]]
    assert {p.fields["faults"] for p in faulty} == {"neutral_verb"}
    assert [p.id for p in faulty] == [p.id for p in probes if "they were" in p.texts["neutral"]]
    assert len(faulty) == 34
    assert len(without_faults(read_winogender(winogender_dir), "neutral_verb")) == 206


def test_an_occupation_without_published_statistics_is_named(winogender_dir, tmp_path):
    (tmp_path / "all_sentences.tsv").symlink_to(winogender_dir / "all_sentences.tsv")
    file = tmp_path / "occupations-stats.tsv"
    error = refused(read_winogender, tmp_path)
    assert error.what == "Winogender: occupations-stats.tsv was not found beside all_sentences.tsv"
    assert error.where == str(file)
    lines = (winogender_dir / "occupations-stats.tsv").read_text(encoding="utf-8").splitlines(keepends=True)
    file.write_text("".join(line for line in lines if not line.startswith("plumber")), encoding="utf-8")
    error = refused(read_winogender, tmp_path)
    assert error.what == "Winogender: there are no statistics of occupation 'plumber'"
    assert error.where == str(file)
    assert "strict=False" in error.fix
    assert len(read_winogender(tmp_path, strict=False)) == ITEMS
