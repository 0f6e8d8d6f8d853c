"""`fairtest doctor [DIR]`: what is there, what is missing, and what to do about it. Nothing is fetched or written."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

MISSING = 1
_WIDTH = 8


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the options."""
    parser.description = (
        "Looks at packages, settings, corpus, model, probe sets and store of a project, without fetching anything."
        " Exit status 1 where something is missing that the settings need."
    )
    parser.add_argument(
        "directory", type=Path, nargs="?", default=Path(), metavar="DIR", help="the project (default .)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what was found as JSON")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from fairtest.commands import checks_of_packages, checks_of_project
    from fairtest.errors import SettingsError

    if not options.directory.is_dir():
        raise SettingsError("there is no such directory", where=str(options.directory), fix="name your project's")
    found = []
    project = checks_of_project.Project.of(options.directory)
    groups = (
        ("packages", checks_of_packages.checks(project.settings)),
        ("project", project.checks()),
    )
    for title, checks in groups:
        sys.stdout.write(f"{title}\n")
        for check in checks:
            found.append(check)
            sys.stdout.write("".join(f"{line}\n" for line in _lines(check.status, check.text, check.fix)))
            sys.stdout.flush()
    bad = [check for check in found if check.needed and check.status != "ok"]
    if options.json is not None:
        from fairtest.reports.document import write_text

        document = {"ok": not bad, "checks": [check.as_dict() for check in found]}
        write_text(options.json, json.dumps(document, indent=2) + "\n")
    told = "nothing that the settings need is missing" if not bad else f"to repair: {', '.join(c.name for c in bad)}"
    sys.stdout.write(f"\n{told}\n")
    return MISSING if bad else os.EX_OK


def _lines(status: str, text: str, fix: str) -> list[str]:
    import textwrap

    from fairtest.commands.table import terminal_width

    indent = " " * (_WIDTH + 2)
    width = terminal_width()
    lines = textwrap.wrap(
        text, width, initial_indent=f"  {status:<{_WIDTH}}", subsequent_indent=indent + "  ", break_on_hyphens=False
    )
    if fix:
        lines += textwrap.wrap(
            f"do: {fix}", width, initial_indent=indent, subsequent_indent=indent + "    ", break_on_hyphens=False
        )
    return lines
