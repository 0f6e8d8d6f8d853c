"""Options, fixtures and hooks. Nothing of fairtest is imported until a test asks for it, so a project that does not
use it pays nothing.
"""

from __future__ import annotations

import os
import sys
import time
import uuid
from collections.abc import Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_fairtest import baselines, planning
from pytest_fairtest.recording import Collected, shorten_traceback

if TYPE_CHECKING:
    from _pytest.terminal import TerminalReporter

    from fairtest.experiments.arms import Arms, TunedArm
    from fairtest.experiments.experiment import Experiment
    from fairtest.experiments.progress import Progress
    from fairtest.gates.fairness import Fairness
    from fairtest.gates.planning.planner import Planner
    from fairtest.settings import Settings
    from fairtest.store import Store

_EXPERIMENTS = pytest.StashKey[dict[Any, Any]]()
_COLLECTED = pytest.StashKey[Collected]()
_FAIRNESS = pytest.StashKey[Any]()
_PAYLOAD = "fairtest_record"


def number_or_auto(text: str) -> int | str:
    """Seeds as they are written; argparse shows the name of this function where they are neither."""
    return text if text == "auto" else int(text)


_OPTIONS: dict[str, tuple[str, Callable[[str], Any], str, str]] = {
    "model": ("--fairtest-model", str, "MODEL", "judge this model: a directory, a hub id, an embedded name"),
    "seeds": (
        "--fairtest-seeds",
        number_or_auto,
        "N",
        "train every arm with N seeds; auto: more while a gate is undecided",
    ),
    "cache_dir": ("--fairtest-cache-dir", str, "DIR", "keep trained and scored runs in DIR"),
    "report_dir": ("--fairtest-report", str, "DIR", "write the report into DIR, with a page (report.html)"),
    "train": ("--fairtest-train", str, "WHEN", "auto: what is not in the store; never; always: every run anew"),
    "executor": ("--fairtest-executor", str, "NAME", "what trains several runs at once: processes, or of a package"),
    "undecided": ("--fairtest-undecided", str, "POLICY", "what UNDECIDED does to a test: fail, warn, pass, skip, auto"),
}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options start with --fairtest-."""
    group = parser.getgroup("fairtest", "fairness and privacy gates")
    for name, (flag, kind, metavar, text) in _OPTIONS.items():
        group.addoption(flag, dest=f"fairtest_{name}", type=kind, metavar=metavar, default=None, help=text)
    group.addoption(
        "--fairtest-config", action="store_true", help="show every fairtest setting and where it comes from, then stop"
    )
    baselines.addoption(group)
    planning.add_options(group)


def pytest_configure(config: pytest.Config) -> None:
    """Registers the marker; reads no settings yet."""
    config.addinivalue_line("markers", "fairtest(**settings): fairtest settings of this test, see --fairtest-config")
    config.stash[_EXPERIMENTS] = {}
    config.stash[_COLLECTED] = Collected(began=time.monotonic())
    config.pluginmanager.register(_Recorder(config.stash[_COLLECTED]), "fairtest-recorder")
    if not _is_worker(config):  # under train = "always" workers share what is trained by what they inherit
        os.environ["FAIRTEST_SESSION"] = uuid.uuid4().hex
    baselines.configure(config)
    planning.configure(config)


def pytest_cmdline_main(config: pytest.Config) -> int | None:
    """--fairtest-config prints the settings and stops."""
    if not config.getoption("fairtest_config"):
        return None
    from fairtest.errors import FairtestError

    try:
        settings = _session_settings(config)
    except FairtestError as error:
        raise pytest.UsageError(str(error)) from error
    for name, value in settings.as_dict().items():
        sys.stdout.write(f"{name:<22} {value!r:<32} {settings.origin[name]}\n")
    return 0


# -- fixtures ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def fairtest_config(request: pytest.FixtureRequest) -> Settings:
    """The settings of this test: command line > marker > environment > pyproject.toml > default."""
    marker: dict[str, Any] = {}
    for mark in reversed(list(request.node.iter_markers("fairtest"))):
        if mark.args:
            raise pytest.UsageError(
                f"{request.node.nodeid}: the marker fairtest takes settings by keyword, got {mark.args!r}; "
                "write @pytest.mark.fairtest(seeds=5)"
            )
        marker.update(mark.kwargs)
    return _session_settings(request.config, marker, request.node)


@pytest.fixture
def fairtest_trainer() -> Callable[..., Any] | None:
    """What trains an arm instead of the built-in trainer: override it in conftest.py with a fixture that returns a
    function (arm, units, seed, directory) -> directory of the checkpoint. It uses the seed it is given, and claims no
    privacy unless it writes a privacy.json there.
    """
    return None


@pytest.fixture
def arms(
    request: pytest.FixtureRequest, fairtest_config: Settings, fairtest_trainer: Callable[..., Any] | None
) -> Arms:
    """The arms `pretrained`, `baseline`, `cda`, `dp`, `dp_cda`; one is trained, or taken from the store, when a value
    of it is needed.
    """
    from fairtest.experiments.arms import Arms

    experiment = _experiment(request.config, fairtest_config, fairtest_trainer)
    if planning.active(request.config):
        return planning.arms(request, fairtest_config, experiment)
    return Arms(experiment)


@pytest.fixture
def finetune(
    request: pytest.FixtureRequest, fairtest_config: Settings, fairtest_trainer: Callable[..., Any] | None
) -> Callable[..., TunedArm]:
    """A function that gives any other arm: `finetune("dp_eps8", dp=8.0, cda=True, steps=200)`."""
    from functools import partial

    from fairtest.experiments.arms import custom_arm

    make = partial(custom_arm, _experiment(request.config, fairtest_config, fairtest_trainer))
    return planning.finetune(request, fairtest_config, make) if planning.active(request.config) else make


@pytest.fixture
def fairness(request: pytest.FixtureRequest, fairtest_config: Settings) -> Fairness | Planner:
    """The assertion helpers, bound to this test's settings; what they find goes into the summary and the report."""
    if planning.active(request.config):
        return planning.planner_of(request, fairtest_config)
    from fairtest.gates.fairness import Fairness

    helpers = Fairness(
        fairtest_config,
        test=request.node.nodeid,
        update=baselines.mode(request.config),
        store=_store(fairtest_config),
        progress=_progress(request.config),
    )
    request.node.stash[_FAIRNESS] = helpers
    return helpers


# -- hooks ------------------------------------------------------------------------------------------------------------


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A user's error shows its message and the user's own line; what a test measured travels with its report."""
    message = shorten_traceback(call)
    report = yield
    if message and report.outcome == "failed":
        report.longrepr = message
    helpers = item.stash.get(_FAIRNESS, None)
    if helpers is not None and (report.when == "teardown" or report.outcome == "failed"):
        # Once a test: at its end, or where it failed, so that a failing fixture and an interrupted session are told
        # too.
        del item.stash[_FAIRNESS]
        payload = _payload(helpers, item.nodeid, unfinished=report.outcome == "failed")
        setattr(report, _PAYLOAD, payload)
        _add_properties(item, report, payload)
    return report


def _payload(helpers: Fairness, test: str, *, unfinished: bool) -> dict[str, Any]:
    from fairtest.errors import FairtestError
    from fairtest.reports import finite

    try:
        record = helpers.record()
    except FairtestError as error:
        record = {"gates": [], "measurements": [], "arms": {}, "ledger": {}, "problem": str(error)}
    if unfinished and all(gate["verdict"] == "PASS" for gate in record["gates"]):
        record["failed_otherwise"] = [test]
    plain: dict[str, Any] = finite(record)
    return plain


def _add_properties(item: pytest.Item, report: pytest.TestReport, payload: dict[str, Any]) -> None:
    """The gates as properties of the test, which JUnit XML takes from its last report."""
    from fairtest.reports.properties import properties

    pairs = properties(payload["gates"])
    item.user_properties += pairs
    if report.when == "teardown":
        report.user_properties += pairs


class _Recorder:
    """Takes in what tests measured; on the controller too, where reports of workers arrive."""

    def __init__(self, collected: Collected) -> None:
        self._collected = collected
        self._outcomes: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """A report that carries a record: its gates learn how their test ended, and where it stands."""
        if report.when == "call":
            self._outcomes[report.nodeid] = _outcome(report)
        payload = getattr(report, _PAYLOAD, None)
        if payload is None:
            return
        file, line, _ = report.location
        outcome = self._outcomes.pop(report.nodeid, report.outcome)
        for gate in payload["gates"]:
            gate["outcome"] = outcome
            gate["location"] = [file, (line or 0) + 1]
        self._collected.add(payload)


def _outcome(report: pytest.TestReport) -> str:
    if hasattr(report, "wasxfail"):
        return "xfailed" if report.skipped else "xpassed"
    return report.outcome


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Writes the report, on the controller alone and only if there is something in it."""
    config = session.config
    collected = config.stash[_COLLECTED]
    if collected.empty or _is_worker(config):
        return
    from fairtest.errors import FairtestError

    try:
        settings = _session_settings(config)
        collected.write(settings, page=config.getoption("fairtest_report_dir") is not None)
        collected.lines += baselines.finish(session, collected.baselines)
    except FairtestError as error:
        collected.problem = str(error)
        session.exitstatus = pytest.ExitCode.INTERNAL_ERROR
        return
    if settings.family == "enforce" and collected.weakened and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: TerminalReporter, config: pytest.Config) -> None:
    """One row a gate, and where the report is."""
    collected = config.stash[_COLLECTED]
    if collected.empty or _is_worker(config):
        return
    colours: dict[str, dict[str, bool]] = {
        "PASS": {"green": True},
        "FAIL": {"red": True},
        "UNDECIDED": {"yellow": True},
    }
    terminalreporter.section("fairtest")
    for verdict, line in collected.rows(terminalreporter._tw.fullwidth):  # noqa: SLF001 - pytest shows the width nowhere else
        terminalreporter.write_line(line, **colours.get(verdict, {}))
    for line in collected.footer(Path.cwd()):
        terminalreporter.write_line(line)


# -- behind the fixtures ----------------------------------------------------------------------------------------------


def _is_worker(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")


def _session_settings(
    config: pytest.Config, marker: dict[str, Any] | None = None, test: pytest.Item | None = None
) -> Settings:
    """Settings of a test, from the pyproject.toml nearest to it; of the session, from the one nearest to its first
    argument.
    """
    from fairtest.settings import session_settings, settings_root

    here = config.invocation_params.dir
    start = test.path.parent if test is not None else here / str(config.args[0]).partition("::")[0]
    options = {name: config.getoption(f"fairtest_{name}") for name in _OPTIONS}
    return session_settings(
        root=settings_root(start) or config.rootpath,
        invocation=here,
        marker=marker or {},
        marker_origin="marker" if test is None else f"marker of {test.nodeid}",
        command_line={name: value for name, value in options.items() if value is not None},
    )


def _experiment(config: pytest.Config, settings: Settings, trainer: Callable[..., Any] | None) -> Experiment:
    """One experiment for all tests with the same settings and trainer."""
    from fairtest.experiments.experiment import Experiment
    from fairtest.experiments.trainer_identity import trainer_identity

    experiments = config.stash[_EXPERIMENTS]
    identity = () if trainer is None else tuple(sorted(trainer_identity(trainer).items()))
    key = (identity, *sorted((name, str(value)) for name, value in settings.as_dict().items()))
    if key not in experiments:
        experiments[key] = Experiment(settings, _store(settings), _progress(config), trainer)
    return experiments[key]  # type: ignore[no-any-return]


def _store(settings: Settings) -> Store:
    from fairtest.store import Store

    return Store(Path(settings.cache_dir))


def _progress(config: pytest.Config) -> Progress:
    from fairtest.experiments.progress import SILENT, Progress

    return SILENT if _is_worker(config) else Progress(lambda: sys.stderr, _uncaptured(config))


def _uncaptured(config: pytest.Config) -> Callable[[], Any]:
    """A context in which standard error reaches the person, on a line of its own."""
    import contextlib

    capture = config.pluginmanager.getplugin("capturemanager")
    reporter = config.pluginmanager.getplugin("terminalreporter")

    @contextlib.contextmanager
    def context() -> Generator[None, None, None]:
        with capture.global_and_fixture_disabled() if capture else contextlib.nullcontext():
            if reporter is not None:
                writer = reporter._tw  # noqa: SLF001 - pytest tells nowhere else whether a line is open
                if writer.width_of_current_line:
                    writer.line()
                reporter.flush()
            yield

    return context
