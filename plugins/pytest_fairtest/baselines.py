"""Options for stored baselines. Tests only say what they asked for and found; the controller writes, at the end."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

_UPDATE = "--fairtest-update-baseline"
_PRUNE = "--fairtest-prune"
_WATCH = pytest.StashKey["_Watch"]()
# What leaves tests out, by the name of its option.
_SELECTING = {
    "keyword": "-k",
    "markexpr": "-m",
    "deselect": "--deselect",
    "ignore": "--ignore",
    "ignore_glob": "--ignore-glob",
    "lf": "--last-failed",
    "stepwise": "--stepwise",
    "collectonly": "--collect-only",
}


def addoption(group: Any) -> None:
    """Adds the two options to the group of this plugin."""
    group.addoption(
        _UPDATE,
        dest="fairtest_update_baseline",
        nargs="?",
        const="all",
        default=None,
        type=_mode,
        metavar="new|all",
        help="record as baselines what assert_no_regression measures: all that it is asked for, or only what is new",
    )
    group.addoption(
        _PRUNE, dest="fairtest_prune", action="store_true", help="remove stored baselines that no test asks for"
    )


def configure(config: pytest.Config) -> None:
    """Refuses, before anything is trained, what must not be written.

    Raises:
        pytest.UsageError: a build server would write baselines, or unused ones cannot be told from those left out.
    """
    if hasattr(config, "workerinput"):
        return
    config.stash[_WATCH] = _Watch()
    config.pluginmanager.register(config.stash[_WATCH], "fairtest-baselines")
    pruning = config.getoption("fairtest_prune")
    if not (pruning or mode(config)):
        return
    from fairtest.gates.baselines.records import under_ci

    if under_ci():
        raise pytest.UsageError(
            f"{_PRUNE if pruning else _UPDATE}: baselines are not written on a build server (the environment variable "
            "CI, or one like it, is set); run it on a machine of yours, look at the changes, and commit the file"
        )
    if pruning and _left_out(config):
        raise pytest.UsageError(
            f"{_PRUNE} needs a run of all tests, and {_left_out(config)} leaves some out: what these ask for would be "
            "removed; run it without"
        )
    if pruning and (config.getoption("numprocesses", None) or config.getoption("dist", "no") != "no"):
        raise pytest.UsageError(f"{_PRUNE} has to see which tests are left out: run it in one process, without -n")


def mode(config: pytest.Config) -> str:
    """What is recorded: "new", "all", or "" (nothing)."""
    return config.getoption("fairtest_update_baseline") or ""


def finish(session: pytest.Session, records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Writes the files at the end of a session, on the controller; returns lines for the summary.

    Raises:
        BaselineError: a file cannot be read or written.
    """
    config = session.config
    recording, pruning = bool(mode(config)), bool(config.getoption("fairtest_prune"))
    if hasattr(config, "workerinput") or not records:
        return []
    ended = session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)
    if not ended or session.shouldstop or session.shouldfail:
        return ["baselines: nothing was written, because the session was stopped"] if recording or pruning else []
    from fairtest.gates.baselines.records import apply_records, under_ci

    complete = session.exitstatus == pytest.ExitCode.OK and config.stash[_WATCH].all_passed and not _left_out(config)
    return apply_records(records, recording=recording, pruning=pruning, complete=complete, ci=under_ci())


class _Watch:
    """Whether every test of the session ran and passed."""

    def __init__(self) -> None:
        self.all_passed = True

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """A test that failed or was skipped."""
        self.all_passed &= report.outcome == "passed"

    def pytest_deselected(self) -> None:
        """Tests that somebody left out, whichever way."""
        self.all_passed = False


def _mode(text: str) -> str:
    if text not in ("new", "all"):
        raise argparse.ArgumentTypeError(
            f"{text!r} is neither new nor all (a path? write {_UPDATE}=all, then the path)"
        )
    return text


def _left_out(config: pytest.Config) -> str:
    """What of the command line leaves tests of the project out; "" where nothing does."""
    for name, flag in _SELECTING.items():
        if config.getoption(name, None):
            return flag
    root = config.rootpath if config.inipath is None else config.inipath.parent
    here = config.invocation_params.dir
    if config.args_source is config.ArgsSource.TESTPATHS:
        return ""
    if config.args_source is config.ArgsSource.INVOCATION_DIR:
        return "" if here == root else f"the directory {here}"
    given = {(here / argument).resolve() for argument in config.args}
    whole = {(root / path).resolve() for path in config.getini("testpaths")} or {root.resolve()}
    if root.resolve() in given or whole <= given:
        return ""
    return " ".join(str(Path(argument)) for argument in config.args)
