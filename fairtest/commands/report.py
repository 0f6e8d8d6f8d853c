"""`fairtest report RESULT.json`: a stored result as a page, as Markdown, in a model card, or for a build server."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_STDOUT = "-"


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the options."""
    parser.description = (
        "Renders the report.json that pytest --fairtest-report=DIR wrote. Several forms may be asked for at once; where"
        " a FILE is left out, or is -, the text goes to the terminal (a page goes beside the report)."
    )
    parser.usage = (
        "fairtest report [-h] RESULT [--html [FILE]] [--markdown [FILE]] [--model-card [README]] [--openmetrics [FILE]]"
        " [--github] [--mlflow [EXPERIMENT]] [--arm NAME] [--title TEXT] [--made-by COMMAND]"
    )
    parser.add_argument("result", type=Path, metavar="RESULT", help="a report.json, or the directory that holds one")
    forms = parser.add_argument_group("forms")
    forms.add_argument(
        "--html",
        nargs="?",
        const="",
        metavar="FILE",
        help="one self-contained page (default: report.html beside RESULT)",
    )
    forms.add_argument("--markdown", nargs="?", const=_STDOUT, metavar="FILE", help="the whole report as Markdown")
    forms.add_argument(
        "--model-card",
        nargs="?",
        const=_STDOUT,
        metavar="README",
        help="a section and results in this model card, which keeps everything else that is in it",
    )
    forms.add_argument(
        "--openmetrics", nargs="?", const=_STDOUT, metavar="FILE", help="OpenMetrics text, as GitLab reads it"
    )
    forms.add_argument(
        "--github",
        action="store_true",
        help="a short form for the summary of the job ($GITHUB_STEP_SUMMARY), and annotations of what does not hold",
    )
    forms.add_argument(
        "--mlflow", nargs="?", const="", metavar="EXPERIMENT", help="a run of MLflow ($MLFLOW_TRACKING_URI)"
    )
    parser.add_argument("--arm", metavar="NAME", help="the arm that a model card is about (default: the private one)")
    parser.add_argument("--title", default="fairtest report", metavar="TEXT", help="heading of a page")
    parser.add_argument("--made-by", default="", metavar="COMMAND", help="what made the report, shown on a page")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from fairtest.errors import SettingsError
    from fairtest.reports.reading import read_document

    forms = ("html", "markdown", "model_card", "openmetrics", "mlflow")
    if not options.github and all(getattr(options, name) is None for name in forms):
        raise SettingsError(
            "no form of the report is asked for",
            where="fairtest report",
            fix="give --html, --markdown, --model-card, --openmetrics, --github or --mlflow",
        )
    document = read_document(options.result)
    if options.html is not None:
        _html(options, document)
    if options.markdown is not None:
        from fairtest.reports.markdown import render

        _put(options.markdown, render(document, title=options.title, command=options.made_by))
    if options.model_card is not None:
        _model_card(options, document)
    if options.openmetrics is not None:
        from fairtest.reports.openmetrics import render as render_metrics

        _put(options.openmetrics, render_metrics(document))
    if options.github:
        _github(options, document)
    if options.mlflow is not None:
        _mlflow(options, document)
    return os.EX_OK


def _html(options: argparse.Namespace, document: Mapping[str, Any]) -> None:
    from fairtest.reports.html import render, write_html

    if options.html == _STDOUT:
        _put(_STDOUT, render(document, title=options.title, command=options.made_by))
        return
    path = Path(options.html) if options.html else _beside(options.result)
    _told(write_html(path, document, title=options.title, command=options.made_by))


def _model_card(options: argparse.Namespace, document: Mapping[str, Any]) -> None:
    from fairtest.reports.model_card import released_arm, section, write_card

    if options.model_card == _STDOUT:
        _put(_STDOUT, section(document, released_arm(document, options.arm)) + "\n")
    else:
        _told(write_card(Path(options.model_card), document, arm=options.arm))


def _github(options: argparse.Namespace, document: Mapping[str, Any]) -> None:
    from fairtest.reports.pull_request import append_summary, summary, workflow_commands

    if not append_summary(document, title=options.title) and not os.environ.get("GITHUB_STEP_SUMMARY"):
        _put(_STDOUT, summary(document, title=options.title))
    _put(_STDOUT, "".join(f"{line}\n" for line in workflow_commands(document)))


def _mlflow(options: argparse.Namespace, document: Mapping[str, Any]) -> None:
    from fairtest.reports.mlflow import EXPERIMENT, log_report

    page = Path(options.html) if options.html not in {None, "", _STDOUT} else _beside(options.result)
    files = [page] if options.html is not None and page.is_file() else []
    run = log_report(document, files=files, experiment=options.mlflow or EXPERIMENT)
    sys.stderr.write(f"run {run}\n")


def _beside(result: Path) -> Path:
    return (result if result.is_dir() else result.parent) / "report.html"


def _put(target: str, text: str) -> None:
    """Writes to a file, or to the terminal, in which a poor locale shows codes for what it lacks."""
    if target != _STDOUT:
        from fairtest.reports.document import write_text

        _told(write_text(Path(target), text))
        return
    try:
        sys.stdout.write(text)
    except UnicodeEncodeError:
        sys.stdout.write(text.encode("ascii", "backslashreplace").decode("ascii"))


def _told(path: Path) -> None:
    sys.stderr.write(f"wrote {path}\n")
