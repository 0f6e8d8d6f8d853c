"""What GitHub shows of a report: within its limits, what fails first, and nothing a name could turn into a command."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_documents import SPITEFUL, document, gate, of_gates, spiteful

from fairtest.errors import StoreError
from fairtest.gates.result import Verdict
from fairtest.reports.pull_request import (
    MOST_ANNOTATIONS,
    SUMMARY_LIMIT,
    append_summary,
    summary,
    workflow_commands,
)


def read(command):
    """A workflow command as a runner takes it apart."""
    found = re.fullmatch(r"::(\w+)(?: ([^\r\n]*?))?::([^\r\n]*)", command)
    assert found, command
    name, given, message = found.groups()
    properties = dict(part.split("=", 1) for part in (given or "").split(",") if part)

    def plain(text, *, of_property):
        for code, character in [("%0D", "\r"), ("%0A", "\n"), *([("%3A", ":"), ("%2C", ",")] * of_property)]:
            text = text.replace(code, character)
        return text.replace("%25", "%")

    return (
        name,
        {key: plain(value, of_property=True) for key, value in properties.items()},
        plain(message, of_property=False),
    )


def failing(count):
    return document(
        gates=[gate(verdict=Verdict.FAIL, candidate=f"arm{place}", test="t.py::x") for place in range(count)],
        failed_otherwise=[],
    )


def test_the_summary_says_what_fails_first():
    text = summary(document(), title="Release")
    assert text.startswith("## Release: 4 of 6 gates hold, 1 does not hold, 1 is not decided\n")
    order = [text.index(words) for words in ("🔴 FAIL", "🟡 UNDECIDED", "🟢 PASS")]
    assert order == sorted(order)
    for words in (
        "test\\_release.py::test\\_broken",
        "| dp\\_cda | 2.99 | 5.5e-05 | record |",
        "+5.0 \\[+3.5, +6.5\\]",
        "is beyond",
        "family of 5 gates",
    ):
        assert words in text


@pytest.mark.parametrize("text", SPITEFUL, ids=range(len(SPITEFUL)))
def test_a_table_stays_a_table_whatever_a_name_holds(text):
    shown = summary(spiteful(text), title=text)
    shown.encode("utf-8")
    assert not re.search(r"<[a-z/!]", shown)
    rows = [line for line in shown.splitlines() if line.startswith("|")]
    assert len(rows) == 2 + 6 + 2 + 2
    for row in rows[:8]:
        assert len(re.findall(r"(?<!\\)\|", row)) == 8, row


def test_a_summary_is_cut_at_its_limit_and_says_so():
    many = document(gates=[gate(candidate=f"arm_{place}", reason="ü" * 280) for place in range(5000)])
    text = summary(many)
    assert SUMMARY_LIMIT * 0.9 < len(text.encode()) <= SUMMARY_LIMIT
    left = re.search(r"and (\d+) more gates: see the report", text)
    assert int(left[1]) + text.count("🟢") == 5000
    short = summary(document(), limit=1500)
    assert len(short.encode()) <= 1500
    assert "see the report" in short or "more is in the report" in short


def test_the_summary_is_appended_where_github_asks_for_it(tmp_path):
    path = tmp_path / "summary.md"
    path.write_text("# before\n")
    assert append_summary(document(), {"GITHUB_STEP_SUMMARY": str(path)})
    assert path.read_text().startswith("# before\n\n## fairtest: 4 of 6")
    assert not append_summary(document(), {})
    assert not append_summary(document(), {"GITHUB_STEP_SUMMARY": ""})


def test_a_full_summary_is_left_as_it_is(tmp_path):
    path = tmp_path / "summary.md"
    path.write_text("x" * (SUMMARY_LIMIT - 300))
    assert not append_summary(document(), {"GITHUB_STEP_SUMMARY": str(path)})
    assert path.stat().st_size == SUMMARY_LIMIT - 300
    path.write_text("x" * (SUMMARY_LIMIT - 3000))
    assert append_summary(document(), {"GITHUB_STEP_SUMMARY": str(path)})
    assert path.stat().st_size <= SUMMARY_LIMIT


def test_a_summary_that_cannot_be_written_is_the_users_to_repair(tmp_path):
    with pytest.raises(StoreError, match=r"cannot be written[\s\S]*GITHUB_STEP_SUMMARY"):
        append_summary(document(), {"GITHUB_STEP_SUMMARY": str(tmp_path / "absent" / "file")})


def test_only_what_fails_is_annotated_at_its_file():
    commands = [read(line) for line in workflow_commands(document())]
    assert [name for name, _, _ in commands] == ["error", "error"]
    _, properties, message = commands[0]
    assert properties == {"file": "tests/test_release.py", "title": "fairtest: a gate does not hold"}
    assert message.startswith("dp against baseline, stereoset.ss[gender], points: +5.0 [+3.5, +6.5], allowed +2")
    assert message.splitlines()[1:] == [
        "the whole interval is beyond what is allowed", "compare dp with the same arm and CDA",
    ]  # fmt: skip
    assert commands[1][1]["file"] == "test_release.py"


def test_an_undecided_gate_is_annotated_where_it_failed_its_test():
    for outcome, lines in (("failed", 1), ("passed", 0), ("skipped", 0)):
        made = document()
        for one in made["gates"]:
            one["outcome"] = outcome if one["verdict"] == "UNDECIDED" else "xfailed"
        made["failed_otherwise"] = []
        found = workflow_commands(made)
        assert len(found) == lines
        assert all("a gate is not decided" in line for line in found)


def test_a_line_is_named_where_it_is_known_and_an_expected_failure_is_not_annotated():
    known = document(gates=[{**gate(verdict=Verdict.FAIL), "location": ["a,b:c.py", 12]}], failed_otherwise=[])
    assert read(workflow_commands(known)[0])[1]["file"] == "a,b:c.py"
    assert read(workflow_commands(known)[0])[1]["line"] == "12"
    known["gates"][0]["outcome"] = "xfailed"
    assert workflow_commands(known) == []


@pytest.mark.parametrize(("failures", "lines"), [(0, 0), (9, 9), (10, 10), (30, 10)])
def test_at_most_nine_are_annotated_and_the_rest_is_counted(failures, lines):
    found = workflow_commands(failing(failures))
    assert len(found) == lines
    if failures > MOST_ANNOTATIONS:
        assert read(found[-1])[2] == f"{failures - MOST_ANNOTATIONS} more: see the summary of the job"


@given(st.text(max_size=60))
def test_no_name_ends_a_command_or_starts_another(text):
    failed = gate(verdict=Verdict.FAIL, candidate=text, reason=text, test=f"{text}.py::t")
    made = of_gates(failed, failed_otherwise=[text])
    for line in workflow_commands(made):
        line.encode("utf-8")
        name, properties, _ = read(line)
        assert name == "error"
        assert set(properties) <= {"file", "title"}
        assert len(line.splitlines()) == 1
