"""Every figure of docs/the-science.md is in a result file, and the result files answer from their own reports."""

from __future__ import annotations

import json
import re

import pytest
from repository import REPOSITORY

DOCS = REPOSITORY / "docs"
RESULTS = ("paper-tiny", "paper-smollm2")
_ESTIMATE = re.compile(r"[+-]?\d[\d.]* \[[^\]]+\]")


def plain(text):
    """Without Markdown's escapes and emphasis."""
    return re.sub(r"\\(.)", r"\1", text).replace("**", "")


def results():
    return {name: plain((DOCS / "results" / f"{name}.md").read_text(encoding="utf-8")) for name in RESULTS}


def test_every_interval_of_the_page_is_in_a_result_file():
    page = plain((DOCS / "the-science.md").read_text(encoding="utf-8"))
    found = _ESTIMATE.findall(page)
    assert len(found) >= 10
    everything = "\n".join(results().values())
    assert [figure for figure in found if figure not in everything] == []


def test_every_figure_that_is_said_to_be_of_a_file_is_in_it():
    """Single numbers are marked by a comment with the file: <!-- paper-tiny: 5.9 -->."""
    page = (DOCS / "the-science.md").read_text(encoding="utf-8")
    marked = re.findall(r"<!-- (paper-[a-z0-9]+): (.+?) -->", page)
    assert marked
    texts = results()
    for name, figures in marked:
        for figure in figures.split("; "):
            assert figure in texts[name], (name, figure)
            assert plain(page).count(figure) >= 2, figure  # in the sentence as well


@pytest.mark.parametrize("name", RESULTS)
def test_a_result_has_its_report_beside_it(name):
    report = json.loads((DOCS / "results" / f"{name}.json").read_text(encoding="utf-8"))
    page = plain((DOCS / "results" / f"{name}.md").read_text(encoding="utf-8"))
    assert report["failed_otherwise"] == []
    assert {gate["gate"] for gate in report["gates"]} >= {"no_amplification", "mitigated", "utility", "privacy"}
    assert report["explanations"]
    for row in report["measurements"]:
        assert row["metric"] in page
    assert re.search(rf"^    make {name.replace('-tiny', '')}$", page, re.MULTILINE)
