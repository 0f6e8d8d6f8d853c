"""What an amplification is made of, in every rendering: the same numbers, escaped, and nothing where there is none."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from headless_browser import browser
from report_documents import SPITEFUL, document, explanation, part, spiteful

from fairtest.errors import StoreError
from fairtest.reports import dump
from fairtest.reports.explanations import MOST_DRAWN, figures, not_drawn, parts_table
from fairtest.reports.html import missing, render, write_html
from fairtest.reports.markdown import render as render_markdown
from fairtest.reports.reading import read_document
from fairtest.reports.terminal import explanation_notes
from fairtest.settings import Settings
from pytest_fairtest.recording import Collected

drawn = pytest.mark.skipif(bool(missing()), reason=f"an HTML report needs {', '.join(missing())}")
HEADING = "What the amplification is made of"


def test_a_part_is_a_row_of_the_table():
    shown = parts_table(explanation())
    assert shown.header == (
        "part", "between", "change and interval, points", "share of the total", "says",
    )  # fmt: skip
    rows = {row[0]: row[1:] for row in shown.rows}
    assert list(rows)[:3] == ["total", "total with sampling", "sampling"]
    assert rows["noise"] == ("dp against clip_only", "+3.8 [+1.7, +5.9]", "109%", "above zero")
    assert rows["noise alone"][2] == "-"
    assert rows["DP's own"] == ("dp against baseline_matched", "+0.4 [-0.8, +1.5]", "11%", "open")


def test_markdown_has_a_table_and_the_sentences():
    text = render_markdown(document())
    assert f"## {HEADING}" in text
    section = text.partition(f"## {HEADING}")[2].partition("\n## ")[0]
    assert "| part | between | change and interval, points | share of the total | says |" in section
    assert "a residual up to +1.5 points is not excluded." in section
    assert "| clipping with noise | dp - clip\\_only against noise\\_only - baseline |" in section


def test_the_terminal_has_one_line_an_explanation():
    (line,) = explanation_notes([explanation()])
    assert line.startswith("made of: dp against baseline, stereoset.ss[gender] +3.5 [+1.5, +5.5] points: sampling")
    assert "DP's own +0.4 [-0.8, +1.5] (open)" in line
    assert "noise alone" not in line
    assert "\n" not in line


@pytest.mark.parametrize("make", [lambda: document(explanations=[]), lambda: without_key(document())])
def test_a_document_without_explanations_has_no_such_section(make):
    assert HEADING not in render_markdown(make())
    if not missing():
        assert HEADING not in render(make())


def test_the_records_of_several_tests_come_together_in_the_document():
    collected = Collected(began=0.0)
    record = {"gates": [], "measurements": [], "arms": {}, "ledger": {}}
    assert collected.empty
    collected.add(record)
    collected.add({**record, "explanations": [explanation()]})
    collected.add({**record, "explanations": [explanation(metric="other")]})
    assert not collected.empty
    assert [one["metric"] for one in collected.build(Settings())["explanations"]] == ["stereoset.ss[gender]", "other"]
    collected.document = collected.build(Settings())
    assert sum(line.startswith("made of: ") for line in collected.footer(Path())) == 2


def without_key(made):
    del made["explanations"]
    return made


def test_a_report_is_read_with_and_without_explanations(tmp_path):
    path = tmp_path / "report.json"
    path.write_text(dump(document()))
    assert read_document(path)["explanations"][0]["parts"][0]["name"] == "sampling"
    path.write_text(dump(without_key(document())))
    assert "explanations" not in read_document(path)
    for broken in ({}, [{}], [{**explanation(), "parts": [{}]}], [{**explanation(), "total": None}], "x", None):
        path.write_text(json.dumps({**document(), "explanations": broken}))
        with pytest.raises(StoreError, match="no report of fairtest"):
            read_document(path)


@drawn
def test_the_picture_has_the_total_above_its_parts_and_is_told_in_words():
    (svg,) = figures([explanation()])
    texts = re.findall(r"<text[^>]*>([^<]*)</text>", svg)
    order = [texts.index(one) for one in ("total", "By cause", "noise, 109% of the total", "By training")]
    assert order == sorted(order)
    description = re.search(r"<desc[^>]*>([^<]*)</desc>", svg)[1]
    assert "noise (dp against clip_only): +3.8 [+1.7, +5.9] points, above zero." in description
    assert "DP's own (dp against baseline_matched): +0.4 [-0.8, +1.5] points, open." in description


@drawn
def test_what_a_part_says_has_a_colour_of_the_page():
    (svg,) = figures([explanation()])
    for variable in ("--arm-1", "--arm-0", "--ink", "--muted", "--paper"):
        assert f"var({variable})" in svg
    assert "#0" not in svg.replace("url(#", "").replace('href="#', "")


@drawn
def test_at_most_six_are_drawn_and_the_rest_is_told():
    many = [explanation(metric=f"metric{place}") for place in range(MOST_DRAWN + 3)]
    assert len(list(figures(many))) == MOST_DRAWN
    assert not_drawn(many) == "Drawn are the first 6 of 9; the others are in tables."
    assert not_drawn(many[:MOST_DRAWN]) == ""
    page = render(document(explanations=many))
    assert "Drawn are the first 6 of 9" in page
    assert "<h3>metric8: dp against baseline</h3>" in page


@drawn
@pytest.mark.parametrize("text", SPITEFUL)
def test_names_are_shown_as_they_are(text):
    page = render(spiteful(text))
    assert HEADING in page
    assert "<script" not in page
    assert "<img" not in page


@drawn
def test_estimates_that_are_no_numbers_are_left_out_of_the_picture():
    odd = explanation(
        whole=None,
        parts=[part("noise", "cause", ("dp", "clip_only"), (float("nan"),) * 3, "means nothing")],
        total=part("total", "total", ("dp", "baseline"), (0.0, 0.0, 0.0), "means nothing"),
    )
    (svg,) = figures([odd])
    assert "nan" not in "".join(re.findall(r' (?:d|x|y|transform)="([^"]*)"', svg))


@drawn
def test_texts_of_the_picture_do_not_run_into_each_other(tmp_path):
    names = {"candidate": "dp_cda_with_a_long_name_eps8", "reference": "baseline_of_the_other_corpus"}
    write_html(tmp_path / "page.html", document(explanations=[explanation(), explanation(**names)]))
    with browser() as one:
        one.size(1280)
        one.open((tmp_path / "page.html").as_uri())
        found = one.value("""
          [...document.querySelectorAll('#parts svg.figure')].flatMap(svg => {
            const frame = svg.getBoundingClientRect(), out = [];
            const boxes = [...svg.querySelectorAll('text')].map(t => [t.textContent, t.getBoundingClientRect()]);
            boxes.forEach(([t, a], i) => {
              if (a.left < frame.left - 1 || a.right > frame.right + 1) out.push('outside: ' + t);
              boxes.slice(i + 1).forEach(([u, b]) => {
                if (Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1
                    && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 3) out.push(t + ' | ' + u);
              });
            });
            return out;
          })""")
        assert found == []
        assert one.value("document.querySelectorAll('#parts svg.figure').length") == 2
