"""`fairtest report`: every form of a stored result, and a clear word where there is no result."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from report_documents import document

from fairtest.reports import dump
from fairtest.reports.html import missing

needs_page = pytest.mark.skipif(bool(missing()), reason=f"a page needs {', '.join(missing())}")


@pytest.fixture
def result(tmp_path):
    path = tmp_path / "out" / "report.json"
    path.parent.mkdir()
    path.write_text(dump(document()), encoding="utf-8")
    return path


@needs_page
def test_a_page_goes_beside_the_result_or_where_it_is_asked_for(run, result, tmp_path):
    shown = run("report", result, "--html")
    assert (shown.status, shown.out) == (0, "")
    assert "wrote" in shown.err
    page = (result.parent / "report.html").read_text(encoding="utf-8")
    assert "4 of 6 gates hold" in page
    assert run("report", result.parent, "--html", tmp_path / "mine.html", "--title", "Mine").status == 0
    assert ">Mine</p>" in (tmp_path / "mine.html").read_text(encoding="utf-8")
    assert run("report", result, "--html", "-").out == page


def test_texts_go_to_the_terminal_or_into_files(run, result, tmp_path):
    assert run("report", result, "--markdown").out.startswith("# fairtest report\n")
    assert run("report", result, "--openmetrics").out.endswith("# EOF\n")
    assert run("report", result, "--model-card").out.startswith("<!-- fairtest: begin -->")
    files = [tmp_path / name for name in ("a.md", "b.txt", "c/README.md")]
    shown = run("report", result, "--markdown", files[0], "--openmetrics", files[1], "--model-card", files[2])
    assert (shown.status, shown.out) == (0, "")
    assert all(file.stat().st_size > 500 for file in files)


def test_a_model_card_is_about_the_arm_that_is_named(run, result):
    assert "as arm dp." in run("report", result, "--model-card", "--arm", "dp").out
    shown = run("report", result, "--model-card", "--arm", "nobody")
    assert shown.status == 2
    assert "no arm 'nobody'" in shown.err


def test_github_gets_a_summary_and_annotations(run, result, tmp_path, monkeypatch):
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    alone = run("report", result, "--github")
    assert alone.out.startswith("## fairtest report: 4 of 6 gates hold")
    assert alone.out.count("\n::error ") == 2
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary"))
    there = run("report", result, "--github")
    assert there.out.splitlines()[0].startswith("::error file=tests/test_release.py,")
    assert (tmp_path / "summary").read_text(encoding="utf-8").startswith("## fairtest report: 4 of 6")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "a report cannot be read: No such file or directory"),
        ("{", "a report is not JSON"),
        ("[" * 100_000, "a report is not JSON"),
        ("[]", "this is no report of fairtest"),
        ('{"schema": 1, "gates": []}', "this is no report of fairtest"),
        ('{"schema": 99}', "this report has schema 99, and this fairtest knows up to 1"),
    ],
)
def test_what_is_no_result_is_told_with_its_place_and_a_way_out(run, tmp_path, text, words):
    path = tmp_path / "report.json"
    if text is not None:
        path.write_text(text)
    shown = run("report", path, "--markdown")
    assert shown.status == 2
    assert shown.out == ""
    assert shown.err.startswith(f"fairtest: {words}")
    assert f"  where: {path}" in shown.err
    assert "  do:    " in shown.err


def test_a_gate_that_lacks_a_field_makes_no_report(run, result):
    found = json.loads(result.read_text(encoding="utf-8"))
    del found["gates"][0]["verdict"]
    result.write_text(json.dumps(found), encoding="utf-8")
    assert "this is no report of fairtest" in run("report", result, "--openmetrics").err


def test_a_form_has_to_be_asked_for(run, result):
    shown = run("report", result)
    assert shown.status == 2
    assert "no form of the report is asked for" in shown.err
    assert "--html" in run("report", "--help").out


def test_a_text_form_loads_nothing_heavy(result):
    code = (
        "import sys, fairtest.commands as commands; commands.main(['report', *sys.argv[1:]]);"
        " heavy = {'torch', 'transformers', 'jinja2', 'matplotlib', 'huggingface_hub'};"
        " print('loaded', *sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(result), "--markdown", "--openmetrics", "--github"],
        capture_output=True,
        encoding="utf-8",
        check=True,
        env={"PYTHONIOENCODING": "utf-8"},
    )
    assert done.stdout.splitlines()[-1] == "loaded"
