"""`fairtest plan [PYTEST ARGUMENTS]`: what `pytest --fairtest-plan` shows."""

from __future__ import annotations

import argparse
from collections.abc import Sequence


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the options; everything else is passed on to pytest, in its order."""
    parser.description = (
        "Runs your gate tests without training anything, and shows for every gate what it could find, what its"
        " threshold needs, how many runs that is, and about how long they train. All other arguments are pytest's."
    )
    parser.usage = "fairtest plan [-h] [--no-timing] [PYTEST ARGUMENTS ...]"
    parser.allow_abbrev = False
    parser.add_argument(
        "--no-timing",
        action="store_true",
        help="load no model, neither to time a step nor to score the pretrained model",
    )
    parser.set_defaults(run=_run)
    known = parser.parse_known_args

    def parse(
        arguments: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        options, passed_on = known(arguments, namespace)
        options.passed_on = passed_on
        return options, []

    parser.parse_known_args = parse  # type: ignore[method-assign, assignment]


def _run(options: argparse.Namespace) -> int:
    import pytest

    timing = ["--fairtest-no-timing"] if options.no_timing else []
    return int(pytest.main(["--fairtest-plan", *timing, *options.passed_on]))
