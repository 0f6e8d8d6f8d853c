"""Groups of units under training, in every rendering: what was seen, how, and what of it may not leave the house."""

from __future__ import annotations

import itertools

import pytest
from report_documents import SPITEFUL, arm, diagnosis, document, spiteful

from fairtest.reports import diagnoses
from fairtest.reports.html import render as html
from fairtest.reports.markdown import escape
from fairtest.reports.markdown import render as markdown
from fairtest.reports.plots import _apart

COSINE = "cosine with the batch's clipped mean"


def diagnosed(**changes):
    arms = {"baseline": arm("baseline"), "dp": {**arm("dp", epsilon=8.0), **diagnosis(**changes)}}
    return document(arms=arms)


def test_a_page_says_under_the_pictures_what_was_looked_at_and_what_is_not_for_release():
    text = html(diagnosed())
    section = text[text.index('<section id="convergence"') :]
    section = section[: section.index("</section>")]
    assert section.count("<svg") == 2
    told = f"<strong>Not for release:</strong> no epsilon covers {COSINE.replace(chr(39), '&#39;')}."
    assert told in section
    assert "units looked at: stereotypical 24 of 80, other 24 of 120" in section
    assert section.rindex("</svg>") < section.index(told) < section.index("units looked at")
    assert 'href="#convergence"' in text


def test_what_is_not_said_to_be_covered_is_not_for_release():
    one = {"name": "loss", "unit": "", "groups": {"a": [[1, 1.0]]}}
    assert diagnoses.kept_back({"diagnostics": [one]}) == "no epsilon covers any of it"
    covered = {**one, "covered_by_epsilon": True}
    assert diagnoses.kept_back({"diagnostics": [covered]}) == ""
    assert diagnoses.kept_back({"diagnostics": [covered, one]}) == "no epsilon covers loss"
    text = html(diagnosed(diagnostics=[covered]))
    assert "<strong>Not for release:</strong>" not in text


def test_a_document_from_before_notes_is_shown_too():
    bare = document(
        arms={"dp": {"diagnostics": [{"name": "norm", "unit": "L2", "groups": {"a": [[1, 3.0], [40, 1.0]]}}]}}
    )
    assert "<strong>Not for release:</strong> no epsilon covers any of it." in html(bare)
    assert "dp: **Not for release:** no epsilon covers any of it." in markdown(bare)


def test_markdown_has_where_each_group_began_and_ended():
    text = markdown(diagnosed())
    section = text[text.index(f"## {diagnoses.HEADING}") : text.index("## Privacy statements")]
    assert "| arm | quantity | group | first | last |" in section
    assert "| dp | held-out loss, nats a token | stereotypical | 3.17 (step 0) | 2.6 (step 39) |" in section
    assert f"| dp | {COSINE} | other | 0.24 (step 0) | 0.44 (step 39) |" in section
    assert f"dp: **Not for release:** no epsilon covers {COSINE}. Groups by group, units looked at:" in section


def test_without_a_diagnosis_there_is_no_section():
    bare = document(arms={"baseline": arm("baseline")})
    for text in (html(bare), markdown(bare)):
        assert diagnoses.HEADING not in text


def test_a_value_that_is_no_number_has_no_row():
    one = {
        "name": "ratio",
        "unit": "",
        "groups": {"a": [[1, float("nan")], [2, 0.5], [3, 0.25]], "b": [[1, float("nan")]]},
    }
    table = diagnoses.table_of({"dp": {"diagnostics": [one]}})
    assert table.rows == [("dp", "ratio", "a", "0.5 (step 2)", "0.25 (step 3)")]


@pytest.mark.parametrize("text", SPITEFUL, ids=range(len(SPITEFUL)))
def test_a_note_is_shown_as_text(text):
    page, lines = html(spiteful(text)), markdown(spiteful(text))
    assert "<script" not in page
    assert "<img" not in page
    assert escape(text) in lines


def test_names_of_lines_that_end_at_the_top_stay_in_the_picture():
    placed = _apart([220.0, 221.0, 219.0, 10.0], top=222.0)
    assert max(placed) <= 222.0
    assert placed[3] == 10.0
    ordered = sorted(placed)
    assert all(above - below >= 16.0 for below, above in itertools.pairwise(ordered))
    assert [placed.index(height) for height in ordered] == [3, 2, 0, 1]
