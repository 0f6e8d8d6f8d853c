"""--fairtest-report: where the report is written, with a page and metrics; by the controller alone."""

from __future__ import annotations

import re


def test_a_page_and_metrics_are_written_where_a_report_is_asked_for(gates_session, pytester, workers):
    result = gates_session(*workers)
    result.stdout.fnmatch_lines(["report: out/report.json, out/report.md, out/report.html"])
    page = (pytester.path / "out/report.html").read_text()
    assert page.startswith("<!DOCTYPE html>")
    assert not re.search(r"<script|https?://(?!www.w3.org)[^\"<]*\.(js|css)", page)
    assert (pytester.path / "out/metrics.txt").read_text().endswith("# EOF\n")
    without = pytester.runpytest_subprocess(
        "-p", "no:cacheprovider", "--deselect", "test_gates.py::test_holds", *workers
    )
    assert not (pytester.path / ".fairtest/report/report.html").exists()
    without.stdout.fnmatch_lines(["report: .fairtest/report/report.json, .fairtest/report/report.md"])
