"""Renders a report.json as Markdown again: `python -m fairtest.reports REPORT.json --title TEXT --out FILE.md`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from fairtest.errors import FairtestError
from fairtest.reports.document import write_text
from fairtest.reports.markdown import render
from fairtest.reports.reading import read_document


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes Markdown to a file or to standard output; 2 on a user's error."""
    parser = argparse.ArgumentParser(prog="python -m fairtest.reports", description=__doc__)
    parser.add_argument("report", type=Path, help="a report.json")
    parser.add_argument("--title", default="fairtest report", help="heading of the page")
    parser.add_argument("--command", default="", help="the command that made the report, shown under the heading")
    parser.add_argument("--out", type=Path, help="the Markdown file to write")
    options = parser.parse_args(arguments)
    try:
        text = render(read_document(options.report), title=options.title, command=options.command)
        if options.out is None:
            sys.stdout.write(text)
        else:
            write_text(options.out, text)
    except FairtestError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
