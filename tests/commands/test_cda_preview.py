from __future__ import annotations

import io
import re
import sys

import pytest

from fairtest.commands import main

ESCAPE = re.compile(r"\x1b\[[0-9;]*m")


def blocks(shown):
    """The parts of a preview by their heading."""
    parts = re.split(r"^(Differences|Left alone|Coverage.*)$", shown.out, flags=re.MULTILINE)
    assert parts[0] in ("", "No record has a counterfactual.\n\n")
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def counts(shown):
    """The rows of the coverage table."""
    table = next(part for heading, part in blocks(shown).items() if heading.startswith("Coverage"))
    rows = re.findall(r"^ +(\S.*?)  +([\d,]+)(?:  +\S+)?$", table, flags=re.MULTILINE)
    return {label: int(count.replace(",", "")) for label, count in rows}


def write_lines(tmp_path, *lines):
    path = tmp_path / "lines.txt"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def test_a_preview_shows_differences_what_is_left_and_the_coverage(run, corpus):
    shown = run("cda", "preview", corpus)
    assert (shown.status, shown.err) == (0, "")
    assert shown.out.splitlines()[:5] == [
        "Differences",
        "",
        "record 0 (line 1)  3 words changed",
        "  [-She-]{+He+} met [-her-]{+his+} [-brother-]{+sister+}.",
        "",
    ]
    assert blocks(shown)["Left alone"].strip().splitlines() == [
        "record 1 (line 2)  no term",
        "  The sky is blue.",
        "record 2 (line 3)  empty text",
        "record 3 (line 4)  swap would be false",
        "  She was pregnant.",
    ]
    found = counts(shown)
    assert (found["records"], found["with a counterfactual"], found["words changed"]) == (4, 1, 3)
    assert (found["left: no term"], found["left: empty text"], found["left: swap would be false"]) == (1, 1, 1)


def test_only_so_many_differences_are_shown_and_all_records_counted(run, tmp_path):
    path = write_lines(tmp_path, *(["He left."] * 12))
    assert run("cda", "preview", path).out.count("{+She+}") == 10
    shown = run("cda", "preview", path, "--limit", "3")
    assert shown.out.count("{+She+}") == 3
    assert counts(shown)["with a counterfactual"] == 12
    only_the_table = run("cda", "preview", path, "--limit", "0")
    assert list(blocks(only_the_table)) == ["Coverage"]
    assert counts(only_the_table)["records"] == 12


def test_a_sample_stops_early_and_says_so(run, tmp_path):
    path = tmp_path / "lines.jsonl"
    path.write_text('{"text": "He left."}\n' * 3 + "no JSON", encoding="utf-8")
    shown = run("cda", "preview", path, "--sample", "3")
    assert shown.status == 0
    assert "Coverage of the first 3 records (--sample)" in shown.out
    assert counts(shown)["records"] == 3
    assert run("cda", "preview", path).status == 2


@pytest.mark.parametrize(
    "arguments", [["--limit", "-1"], ["--sample", "0"], ["--limit", "x"], ["--color", "red"], ["--mode", "both"]]
)
def test_a_value_that_an_option_cannot_have_is_refused(run, corpus, arguments):
    shown = run("cda", "preview", corpus, *arguments)
    assert shown.status == 2
    assert f"argument {arguments[0]}: " in shown.err


def test_few_records_are_left_alone_for_each_reason(run, tmp_path):
    shown = run("cda", "preview", write_lines(tmp_path, "He left.", *(["Rain."] * 9), "She was pregnant."))
    left = blocks(shown)["Left alone"]
    assert left.count("no term") == 2
    assert left.count("swap would be false") == 1


def test_a_corpus_without_a_counterfactual_says_so(run, tmp_path):
    shown = run("cda", "preview", write_lines(tmp_path, "Rain.", "Snow."))
    assert shown.status == 0
    assert shown.out.startswith("No record has a counterfactual.\n")
    assert shown.err.startswith("warning: 0 of 2 records hold a word of the axes, fewer than 1%")


def test_an_empty_corpus_is_an_error(run, tmp_path):
    shown = run("cda", "preview", write_lines(tmp_path, ""))
    assert shown.status == 2
    assert "the corpus has no records" in shown.err


def test_colour_strikes_the_old_and_shows_the_new(run, corpus):
    shown = run("cda", "preview", corpus, "--color", "always")
    assert "\x1b[9;31mher\x1b[0m \x1b[1;32mhis\x1b[0m" in shown.out
    assert "[-" not in shown.out
    assert "  She He met her his brother sister." in ESCAPE.sub("", shown.out)


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("choice", "environment", "colored"),
    [
        ("auto", {"TERM": "xterm"}, True),
        ("auto", {"TERM": "xterm", "NO_COLOR": ""}, True),
        ("auto", {"TERM": "xterm", "NO_COLOR": "1"}, False),
        ("auto", {"TERM": "dumb"}, False),
        ("always", {"NO_COLOR": "1"}, True),
        ("never", {"TERM": "xterm"}, False),
    ],
)
def test_a_terminal_has_colour_unless_told_otherwise(corpus, monkeypatch, choice, environment, colored):
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "stdout", terminal := Terminal())
    assert main(["cda", "preview", str(corpus), "--color", choice]) == 0
    assert bool(ESCAPE.search(terminal.getvalue())) == colored


def test_what_is_no_terminal_has_no_colour(run, corpus):
    assert not ESCAPE.search(run("cda", "preview", corpus).out)


LONG = f"{'word ' * 40}he {'more ' * 300}her {'text ' * 40}"


@pytest.mark.parametrize("color", ["always", "never"])
@pytest.mark.parametrize("columns", [40, 80, 120, 500])
def test_lines_fit_the_terminal(run, tmp_path, monkeypatch, columns, color):
    monkeypatch.setenv("COLUMNS", str(columns))
    texts = [LONG, "He said. " * 60, "Her " + "x" * 1_000, "名前" * 100 + " he said", "Rain. " * 100]
    shown = run("cda", "preview", write_lines(tmp_path, *texts), "--color", color)
    body = shown.out.partition("Coverage")[0]
    wide = "名前"
    widths = [len(plain) + sum(plain.count(one) for one in wide) for plain in ESCAPE.sub("", body).splitlines()]
    assert max(widths) <= min(columns, 120)
    assert max(widths) > min(columns, 120) - 12


def test_a_long_text_is_shortened_around_its_changes(run, tmp_path):
    shown = blocks(run("cda", "preview", write_lines(tmp_path, LONG)))["Differences"]
    assert shown.count("more") == 14
    assert "… word word word word word word word [-he-]{+she+} more" in " ".join(shown.split())


def test_changes_that_are_not_shown_are_counted(run, tmp_path):
    shown = run("cda", "preview", write_lines(tmp_path, "He left. " * 200))
    visible = shown.out.count("[-He-]")
    assert f"… and {200 - visible} more changed" in shown.out
    assert 0 < visible < 100


def test_a_text_cannot_steer_the_terminal(run, tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('text\n"He \x1b[2Jleft\x07 \u202ethen"\n', encoding="utf-8")
    shown = run("cda", "preview", path)
    assert "␛[2Jleft␇ \ufffdthen" in shown.out
    assert "\x1b" not in shown.out


def test_views_are_labelled_where_there_are_several(run, tmp_path, ages):
    path = write_lines(tmp_path, "His son is a teenager.")
    shown = blocks(run("cda", "preview", path, "--axis", ages))["Differences"].strip().splitlines()
    assert shown == [
        "record 0 (line 1)  2 counterfactuals",
        "  ages: middle",
        "  His son is [-a-]{+an+} [-teenager-]{+adult+}.",
        "  ages: old",
        "  His son is a [-teenager-]{+pensioner+}.",
    ]
    both = blocks(run("cda", "preview", path, "--axis", "gender", "--axis", ages))["Differences"]
    assert "3 counterfactuals" in both
    assert re.findall(r"^  (\w+): (\w+)$", both, flags=re.MULTILINE) == [
        ("gender", "feminine"),
        ("ages", "middle"),
        ("ages", "old"),
    ]


def test_one_counterfactual_of_several_is_drawn_by_the_seed(run, tmp_path, ages):
    path = write_lines(tmp_path, "A teenager.")
    shown = {
        blocks(run("cda", "preview", path, "--axis", ages, "--counterfactuals", "one", "--seed", seed))["Differences"]
        for seed in range(12)
    }
    assert len(shown) == 2
    assert all("1 word" in one or "2 words" in one for one in shown)


def test_substitution_shows_what_was_drawn(run, tmp_path, ages):
    path = write_lines(tmp_path, *(f"He is teenager {number}." for number in range(40)))
    shown = run("cda", "preview", path, "--mode", "substitute", "--limit", "40")
    found = counts(shown)
    assert 0 < found["with a counterfactual"] < 40
    assert found["views"] == 40
    assert shown.out.count("[-He-]{+She+}") == found["with a counterfactual"]
    again = run("cda", "preview", path, "--mode", "substitute", "--limit", "40")
    assert again == shown
    assert run("cda", "preview", path, "--mode", "substitute", "--limit", "40", "--seed", "1") != shown
    both = run("cda", "preview", path, "--mode", "substitute", "--axis", "gender", "--axis", ages, "--limit", "40")
    in_both = [line for line in both.out.splitlines() if "[-He-]" in line and "[-teenager-]" in line]
    assert in_both


def test_names_are_swapped_on_request(run, tmp_path):
    path = write_lines(tmp_path, "Mary met John.")
    assert "no term" in run("cda", "preview", path).out
    assert re.search(r"\[-Mary-\]\{\+\w+\+\} met \[-John-\]", run("cda", "preview", path, "--names").out)


def test_another_column_and_whole_paragraphs_can_be_the_text(run, tmp_path):
    table = tmp_path / "a.csv"
    table.write_text("review,stars\nHe left.,3\n", encoding="utf-8")
    assert "{+She+}" in run("cda", "preview", table, "--field", "review").out
    wrong = run("cda", "preview", table)
    assert wrong.status == 2
    assert "do:    set --field to one of them" in wrong.err
    lines = write_lines(tmp_path, "He left", "his house.", "", "Rain.")
    assert counts(run("cda", "preview", lines))["records"] == 3
    shown = run("cda", "preview", lines, "--records", "paragraph")
    assert counts(shown)["records"] == 2
    assert "[-He-]{+She+} left [-his-]{+her+} house." in shown.out


@pytest.mark.parametrize("axis", ["gendr", "missing.toml"])
def test_an_axis_that_is_not_there_is_an_error_before_the_corpus_is_read(run, tmp_path, axis):
    shown = run("cda", "preview", tmp_path / "nothing.txt", "--axis", axis)
    assert shown.status == 2
    assert axis in shown.err
    assert "corpus" not in shown.err


def test_memory_does_not_grow_with_the_corpus(run, tmp_path, peak):
    def shown(lines):
        path = write_lines(tmp_path, *(f"He met her brother {number}; {'a' * 1_000}" for number in range(lines)))
        return peak(lambda: run("cda", "preview", path, "--limit", "2"))

    shown(200)  # what is loaded once
    small, large = shown(200), shown(4_000)
    assert (tmp_path / "lines.txt").stat().st_size > 4_000_000
    assert large < small + 400_000


def test_published_texts_are_shown_at_80_and_120_columns(run, data_dir, monkeypatch):
    for path, arguments in [
        (data_dir / "gutenberg-novels/pride_and_prejudice.txt", ["--records", "paragraph"]),
        (data_dir / "wikitext-2/test.txt", []),
    ]:
        for columns in (80, 120):
            monkeypatch.setenv("COLUMNS", str(columns))
            shown = run("cda", "preview", path, *arguments, "--sample", "300")
            assert shown.status == 0
            assert shown.out.count("record ") >= 12
            assert max(map(len, shown.out.splitlines())) <= columns
