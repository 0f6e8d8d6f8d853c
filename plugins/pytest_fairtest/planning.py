"""--fairtest-plan: every gate is planned instead of judged, and nothing is trained."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

if TYPE_CHECKING:
    from _pytest.terminal import TerminalReporter

    from fairtest.experiments.arms import Arms, TunedArm
    from fairtest.experiments.experiment import Experiment
    from fairtest.gates.planning.planner import Planner, Sources
    from fairtest.settings import Settings

_SOURCES = pytest.StashKey[Any]()
_PLANNER = pytest.StashKey[Any]()
_PAYLOAD = "fairtest_plan"
_PLANNED = "planned, not judged: nothing was trained"
_FIXTURES = {"arms", "finetune", "fairness"}


def add_options(group: pytest.OptionGroup) -> None:
    """The options of a plan."""
    group.addoption(
        "--fairtest-plan",
        action="store_true",
        help="train nothing: show for every gate what it could find, what that needs, runs and time",
    )
    group.addoption(
        "--fairtest-no-timing",
        action="store_true",
        help="with --fairtest-plan: load no model, neither to time a step nor to score the pretrained model",
    )


def configure(config: pytest.Config) -> None:
    """Starts planning, where it is asked for.

    Raises:
        pytest.UsageError: stored baselines are to be changed as well, and a plan measures nothing.
    """
    if not active(config):
        return
    for name, flag in (("update_baseline", "--fairtest-update-baseline"), ("prune", "--fairtest-prune")):
        if config.getoption(f"fairtest_{name}", None):
            raise pytest.UsageError(f"--fairtest-plan measures nothing, so {flag} has nothing to go by: leave one out")
    config.pluginmanager.register(_Planning(), "fairtest-planning")


def active(config: pytest.Config) -> bool:
    """Whether this session plans."""
    return bool(config.getoption("fairtest_plan"))


def planner_of(request: pytest.FixtureRequest, settings: Settings) -> Planner:
    """The planner of a test, which its arms and its `fairness` share."""
    from fairtest.gates.planning.planner import Planner

    stash = request.node.stash
    if _PLANNER not in stash:
        stash[_PLANNER] = Planner(settings, _skip, request.node.nodeid, _sources(request.config))
    return stash[_PLANNER]  # type: ignore[no-any-return]


def arms(request: pytest.FixtureRequest, settings: Settings, experiment: Experiment) -> Arms:
    """The five named arms, planned."""
    from fairtest.gates.planning.arms import PlannedArms

    return PlannedArms(experiment, planner_of(request, settings))


def finetune(
    request: pytest.FixtureRequest, settings: Settings, make: Callable[..., TunedArm]
) -> Callable[..., TunedArm]:
    """`make`, with planned arms."""
    planner = planner_of(request, settings)

    def planned(*arguments: Any, **options: Any) -> TunedArm:
        return planner.planned(make(*arguments, **options))

    return planned


def _sources(config: pytest.Config) -> Sources:
    from fairtest.gates.planning.planner import Sources

    if _SOURCES not in config.stash:
        config.stash[_SOURCES] = Sources(timing=not config.getoption("fairtest_no_timing"))
    return config.stash[_SOURCES]  # type: ignore[no-any-return]


def _skip(reason: str) -> NoReturn:
    pytest.skip(reason)


class _Planning:
    """Selects tests that use arms, sends plans with their reports, and shows the table on the controller."""

    def __init__(self) -> None:
        self._gates: list[dict[str, Any]] = []
        self._workers = 1

    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Other tests have nothing to plan."""
        kept = [item for item in items if _FIXTURES & set(getattr(item, "fixturenames", ()))]
        left_out = [item for item in items if item not in kept]
        if left_out:
            config.hook.pytest_deselected(items=left_out)
            items[:] = kept

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """A test whose gates were planned is skipped: passed would say that they were judged. One that expects its gate
        to fail has not failed. What was planned travels with the report.
        """
        report = yield
        planner = item.stash.get(_PLANNER, None)
        unjudged = report.passed or str(report.longrepr).startswith("[XPASS(strict)]")
        if planner is not None and report.when == "call" and unjudged:
            report.outcome = "skipped"
            report.longrepr = (str(item.path), (item.location[1] or 0) + 1, f"Skipped: {_PLANNED}")
            report.__dict__.pop("wasxfail", None)
        if planner is not None and report.when == "teardown":
            setattr(report, _PAYLOAD, {"gates": planner.record(), "workers": planner.settings.workers})
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """On the controller too, where reports of workers arrive."""
        payload = getattr(report, _PAYLOAD, None)
        if payload is not None:
            self._gates += payload["gates"]
            self._workers = max(self._workers, payload["workers"])

    def pytest_terminal_summary(self, terminalreporter: TerminalReporter) -> None:
        """The table."""
        if not self._gates:
            return
        from fairtest.gates.planning.planned_gate import PlannedGate
        from fairtest.gates.planning.table import plan_lines

        terminalreporter.section("fairtest plan: nothing was trained")
        gates = [PlannedGate.from_dict(gate) for gate in self._gates]
        width = terminalreporter._tw.fullwidth  # noqa: SLF001 - pytest shows the width nowhere else
        for line in plan_lines(gates, width, workers=self._workers):
            terminalreporter.write_line(line)
