"""The command line: `fairtest COMMAND ...`. A command is a module of its own, imported when it is asked for."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from fairtest import __version__
from fairtest.errors import FairtestError

USER_ERROR = 2
INTERRUPTED = 130
BROKEN_PIPE = 141  # what a shell reports of a program that its reader has left


@dataclass(frozen=True, slots=True)
class Command:
    """`module` has configure(parser), which adds options and sets run=: a function of the options to an exit status."""

    module: str
    summary: str


COMMANDS = {
    "init": Command("fairtest.commands.init", "a first gate test and its settings, written into your project"),
    "doctor": Command("fairtest.commands.doctor", "what is there, what is missing, and what to do about it"),
    "plan": Command("fairtest.commands.plan", "cost and power of your gate tests, before anything is trained"),
    "run": Command("fairtest.commands.run", "train arms into the store, and score them, without pytest"),
    "report": Command("fairtest.commands.report", "a stored result as a page, as Markdown, in a model card, for CI"),
    "score": Command("fairtest.commands.score", "one model on one probe set: every metric with its interval"),
    "cda": Command(
        "fairtest.commands.cda", "counterfactual data augmentation: see what it does to a corpus, write the result"
    ),
    "cache": Command("fairtest.commands.cache", "the store: what is in it, what may go, whether it is sound"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0; 1 where the command says so; 2 for something the user can repair; 130 for Ctrl-C."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(
        prog="fairtest", description="Fairness and privacy gates for language model fine-tuning."
    )
    parser.add_argument("--version", action="version", version=f"fairtest {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, command in COMMANDS.items():
        own = commands.add_parser(name, help=command.summary, description=_sentence(command.summary))
        if name in given:
            importlib.import_module(command.module).configure(own)
    options = parser.parse_args(given)
    try:
        status = int(options.run(options))
        sys.stdout.flush()
    except FairtestError as error:
        sys.stderr.write(f"fairtest: {error}\n")
        return USER_ERROR
    except KeyboardInterrupt:
        sys.stderr.write("fairtest: interrupted\n")
        return INTERRUPTED
    except BrokenPipeError:
        # Nothing may be written at exit either, or the interpreter complains.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    return status


def _sentence(summary: str) -> str:
    return f"{summary[0].upper()}{summary[1:]}."
