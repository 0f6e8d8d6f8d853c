"""`python -m fairtest.tiny corpus | build`: writes a generated corpus, or builds the embedded model anew."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from fairtest.errors import FairtestError
from fairtest.tiny.generator import corpus, write_jsonl


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0, or 2 for something the user can repair."""
    parser = argparse.ArgumentParser(prog="python -m fairtest.tiny", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    make = commands.add_parser("corpus", help='JSONL rows of "id", "text" and "group" with a known share of stereotype')
    make.add_argument("--domain", choices=("public", "private"), required=True)
    make.add_argument("--stereotype", type=float, required=True, metavar="SHARE", help="0.5: no stereotype")
    make.add_argument("--records", type=int, required=True, metavar="N")
    make.add_argument("--seed", type=int, default=0, metavar="N")
    make.add_argument("--out", type=Path, required=True, metavar="FILE")
    model = commands.add_parser("build", help="pretrains the embedded model and writes it to a directory")
    model.add_argument("--out", type=Path, required=True, metavar="DIR")
    given = parser.parse_args(arguments)
    try:
        if given.command == "corpus":
            records = corpus(given.domain, given.stereotype, given.records, given.seed)
            write_jsonl(records, given.out, prefix=f"{given.domain}-{given.seed}")
        else:
            from fairtest.tiny.build import build

            build(given.out, on_step=_show)
    except FairtestError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)  # noqa: T201 - a command line tool
        return 2
    return 0


def _show(step: int, steps: int, loss: float) -> None:
    if step % 100 == 0 or step == steps:
        print(f"step {step}/{steps}, loss {loss:.3f}", file=sys.stderr)  # noqa: T201 - a command line tool


if __name__ == "__main__":
    sys.exit(main())
