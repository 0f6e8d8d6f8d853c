"""One document, rendered: right at 80 and 120 columns, escaped, and plain JSON whatever was measured."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairtest.errors import StoreError
from fairtest.gates.result import Estimate, GateResult, Guard, Verdict
from fairtest.reports import build_document, dump, finite, write_text
from fairtest.reports.__main__ import main
from fairtest.reports.markdown import escape, render
from fairtest.reports.terminal import estimate_text, notes, summary_rows, totals
from fairtest.settings import Settings


def gate(**changes):
    fields = {
        "gate": "no_amplification",
        "metric": "templates.log_ratio[gender]",
        "unit": "nats",
        "protocol": "fairtest v1",
        "candidate": "dp_cda",
        "reference": "baseline",
        "verdict": Verdict.PASS,
        "reason": "the whole interval is within",
        "allowed": 0.25,
        "confidence": 0.95,
        "change": Estimate(-0.1, -0.2, 0.0),
        "target": 0.0,
        "seeds": 5,
        "items": 640,
        "clusters": 40,
        "levels": {"dp_cda": Estimate(0.6, 0.5, 0.7)},
        "guards": (Guard("trained", True, "fell by 0.5"),),
    }
    return GateResult(**{**fields, **changes}).as_dict()


GATES = [
    gate(),
    gate(verdict=Verdict.FAIL, change=Estimate(0.436, 0.3, 0.572), candidate="dp"),
    gate(gate="privacy", metric="epsilon", unit="delta 5.5e-05, per record", reference="", allowed=3.0, items=0,
    seeds=0,
         change=Estimate(2.99, 2.99, 2.99)),
    gate(gate="utility", metric="perplexity", unit="times the reference's", change=Estimate(1.056, 1.044, 1.068)),
    gate(verdict=Verdict.UNDECIDED, change=None),
]  # fmt: skip


def document(gates=GATES, **changes):
    perplexity = {"arm": "dp", "metric": "perplexity", "value": 3.0, "low": 2.9, "high": 3.1}
    fields = {
        "gates": gates,
        "measurements": [{**perplexity, "seeds": 5, "items": 9, "clusters": 9}],
        "arms": {"dp": {}},
        "ledger": {"a": {"arm": "dp", "seed": 0, "seconds": 1.5}, "b": {"arm": "dp", "seed": 1, "seconds": None}},
        "settings": Settings(corpus="/somewhere/else/records.jsonl"),
        "seconds": 2.0,
    }
    return build_document(**{**fields, **changes})


@pytest.mark.parametrize("width", [80, 100, 120])
def test_the_table_fits_and_says_everything(width):
    lines = summary_rows(GATES, width)
    assert all(len(line) <= width for _, line in lines)
    text = " ".join(" ".join(line.split()) for _, line in lines)
    for words in ("+0.44 [+0.30, +0.57]", "dp against baseline", "templates.log_ratio[gender], nats", "+0.25",
                  "epsilon, delta 5.5e-05, per record", "1.056 [1.044, 1.068]", "perplexity ratio"):  # fmt: skip
        assert words in text
    assert [verdict for verdict, _ in lines if verdict] == ["PASS", "FAIL", "PASS", "PASS", "UNDECIDED"]


def test_a_wide_terminal_has_one_row_a_gate():
    assert len(summary_rows(GATES, 140)) == len(GATES) + 1


def test_totals_count_verdicts_and_runs():
    assert totals(document()["summary"]) == (
        "5 gates: 3 PASS, 1 FAIL, 1 UNDECIDED; 1 run trained (2 s); 1 run from the store"
    )


def test_a_document_is_json_and_holds_no_path():
    text = dump(document())
    assert json.loads(text)["summary"]["FAIL"] == 1
    assert "/somewhere/else" not in text
    assert json.loads(text)["settings"]["corpus"]["value"] == "records.jsonl"


def test_markdown_has_every_gate_value_and_guard():
    text = render(document(), title="Release", command="pytest examples")
    for words in ("# Release", "    pytest examples", "| FAIL |", "| trained | met | fell by 0.5 |",
                  "every guard is met", "640 items in 40 clusters", "## Measurements", "2.9"):  # fmt: skip
        assert words in text


def test_markdown_names_both_factors_and_reads_documents_without_any():
    older = gate()
    del older["factors"]
    assert "640 items in 40 clusters;" in render(document([older]), title="t", command="c")
    assert "640 items in 40 x 16 clusters;" in render(
        document([gate(clusters=16, factors=(40, 16))]), title="t", command="c"
    )


@given(st.text())
def test_escaped_text_stays_in_its_cell(text):
    escaped = escape(text)
    assert "\n" not in escaped
    assert "<" not in escaped
    assert "|" not in escaped.replace("\\|", "")


def test_numbers_that_json_cannot_hold_become_text():
    assert finite({"a": [math.inf, float("nan"), 1.0], "b": (True, None)}) == {
        "a": ["inf", "nan", 1.0],
        "b": [True, None],
    }
    assert estimate_text({"value": 0.0, "low": "-inf", "high": "inf"}, sign=True) == "+0.00 [-inf, +inf]"


def test_a_report_is_written_whole_or_not_at_all(tmp_path):
    write_text(tmp_path / "deep" / "report.md", "text")
    assert (tmp_path / "deep/report.md").read_text() == "text"
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["report.md"]
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"cannot be written[\s\S]*--fairtest-report"):
        write_text(tmp_path / "file" / "report.md", "text")


@pytest.mark.parametrize(
    ("estimate", "text"),
    [
        (Estimate(0.0769, -0.0415, 0.196), "+0.08 [-0.04, +0.20]"),
        (Estimate(60.7, 58.0, 63.4), "+60.7 [+58.0, +63.4]"),
        (Estimate(-0.0004, -0.5, 0.5), "+0.00 [-0.50, +0.50]"),
        (Estimate(3.0, 3.0, 3.0), "+3.000 [+3.000, +3.000]"),
        (Estimate(120.0, 20.0, 220.0), "+120 [+20, +220]"),
    ],
)
def test_an_estimate_has_the_decimals_its_width_warrants(estimate, text):
    assert estimate.text(sign=True) == text


def test_a_report_says_in_words_what_is_decided_and_what_is_not():
    short = render(document()).split("## In short")[1].split("## Gates")[0]
    order = [short.index(words) for words in ("Does not hold", "Holds", "Not decided by this data")]
    assert order == sorted(order)
    assert "dp against baseline" in short[: order[1]]


def test_a_stored_report_is_rendered_again(tmp_path, capsys):
    (tmp_path / "report.json").write_text(dump(document()))
    assert main([str(tmp_path / "report.json"), "--title", "Mine", "--out", str(tmp_path / "mine.md")]) == 0
    assert (tmp_path / "mine.md").read_text() == render(document(), title="Mine").replace(
        document()["made_at"], json.loads((tmp_path / "report.json").read_text())["made_at"]
    )
    (tmp_path / "other.json").write_text("[]")
    assert main([str(tmp_path / "other.json")]) == 2
    assert "this is no report of fairtest" in capsys.readouterr().err


def test_the_terminal_tells_that_a_verdict_rests_on_one_seed():
    single = gate(seeds=1, candidate="dp")
    assert notes([single, single, gate()]) == [
        "note: dp against baseline: one seed, so the verdict is about this checkpoint only and not about training"
    ]
    assert notes(GATES) == []


def test_no_two_arms_of_a_drawing_look_alike():
    from fairtest.reports.figures import ARMS
    from fairtest.reports.plots import _marker

    looks = [(place % ARMS, _marker(place)) for place in range(40)]
    assert len(set(looks)) == len(looks)
