"""Who trains several runs at once: processes of this machine, or an executor that an installed package brings.

A package adds one with an entry point in the group `fairtest.executors`, whose object is a function: it is called with
the settings and returns an `Executor`. Whatever trains a run leaves it in the store of the settings, which the executor
and this process must both reach; jobs are picklable.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Protocol

from fairtest.errors import SettingsError
from fairtest.settings import PROCESSES, Settings

if TYPE_CHECKING:
    from fairtest.experiments.workers import Job

ENTRY_POINT_GROUP = "fairtest.executors"


class Executor(Protocol):
    """Trains runs somewhere."""

    def run(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, float | None]]:
        """Calls `fairtest.experiments.workers.work` on every job, somewhere; yields each job as it ends, with what that
        returned. On an error or an interrupt it stops what is running; finished runs stay in the store.
        """


def executor_of(settings: Settings) -> Executor | None:
    """What trains several runs at once under these settings; None: this process trains them one after the other.

    Raises:
        SettingsError: there is no such executor, or its package cannot be loaded.
    """
    if settings.executor == PROCESSES:
        if settings.workers < 2:
            return None
        from fairtest.experiments.workers import Workers

        return Workers(settings.workers)
    points = {point.name: point for point in entry_points(group=ENTRY_POINT_GROUP)}
    if settings.executor not in points:
        known = (PROCESSES, *sorted(points))
        near = difflib.get_close_matches(settings.executor, known, n=1)
        meant = f"did you mean {near[0]!r}? " if near else ""
        raise SettingsError(
            f"unknown executor {settings.executor!r}",
            where=settings.origin.get("executor", "setting 'executor'"),
            fix=f"{meant}known executors: {', '.join(known)}; others come with packages",
        )
    try:
        made = points[settings.executor].load()(settings)
    except Exception as error:  # anything may go wrong in another package
        raise SettingsError(
            f"executor {settings.executor!r} cannot be started: {error}",
            where=f"entry point {points[settings.executor].value}",
            fix="reinstall its package, or leave the setting executor out",
        ) from error
    if not hasattr(made, "run"):
        raise SettingsError(
            f"executor {settings.executor!r} gives {made!r}, which has no run(jobs)",
            where=f"entry point {points[settings.executor].value}",
            fix="let its function return a fairtest.experiments.executors.Executor",
        )
    return made  # type: ignore[no-any-return]
