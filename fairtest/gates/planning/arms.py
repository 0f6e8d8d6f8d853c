"""Arms whose values nobody may ask for: what a test holds while it is planned."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from fairtest.experiments.arms import Arms, HeldOut, TunedArm
from fairtest.experiments.experiment import Experiment
from fairtest.privacy.statement import PrivacyStatement
from fairtest.scoring.scores import ProbeScores
from fairtest.specs import Arm

if TYPE_CHECKING:
    from fairtest.gates.planning.planner import Planner

NO_VALUES = "asks for values, which a plan does not have"
Refuse = Callable[[str], NoReturn]


class PlannedArm(TunedArm):
    """An arm whose values nobody may ask for: `refuse` is called instead, which raises what ends a test."""

    def __init__(self, arm: TunedArm, planner: Planner) -> None:
        super().__init__(arm.experiment, arm.spec, len(arm.seeds) if arm.tuned else None)
        self._planner = planner

    def limited(self, seeds: int) -> PlannedArm:
        """The same arm with other seeds."""
        return PlannedArm(super().limited(seeds), self._planner)

    def start(self) -> PlannedArm:
        """The pretrained arm."""
        return PlannedArm(super().start(), self._planner)

    def _beside(self, spec: Arm) -> PlannedArm:
        return PlannedArm(super()._beside(spec), self._planner)

    def train(self) -> NoReturn:
        """Ends the test."""
        self._no_values()

    def scores(self, probe_set: str, axis: str | None = None, protocol: str | None = None) -> tuple[ProbeScores, ...]:
        """Ends the test."""
        del probe_set, axis, protocol
        self._no_values()

    def held_out(self) -> HeldOut:
        """Ends the test."""
        self._no_values()

    def trained_tensors(self) -> int | None:
        """Ends the test."""
        self._no_values()

    def changed_share(self) -> float | None:
        """Ends the test."""
        self._no_values()

    def seconds_per_run(self) -> float | None:
        """Ends the test."""
        self._no_values()

    def statement(self) -> PrivacyStatement | None:
        """Ends the test."""
        self._no_values()

    def load(self, seed: int = 0) -> tuple[Any, Any]:
        """Ends the test."""
        del seed
        self._no_values()

    def save_pretrained(self, directory: Path | str, seed: int = 0) -> None:
        """Ends the test."""
        del directory, seed
        self._no_values()

    def _no_values(self) -> NoReturn:
        self._planner.note(self)
        self._planner.refuse(NO_VALUES)


class PlannedArms(Arms):
    """The named arms, planned."""

    def __init__(self, experiment: Experiment, planner: Planner) -> None:
        super().__init__(experiment)
        self._planner = planner

    def __getitem__(self, name: str) -> PlannedArm:
        return PlannedArm(super().__getitem__(name), self._planner)

    def __iter__(self) -> Iterator[TunedArm]:
        return (self[name] for name in self._specs)


class PlannedResult:
    """What a planned gate returns: it has no value, and a test that reads one ends."""

    def __init__(self, refuse: Refuse) -> None:
        self._refuse = refuse

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return self._refuse(NO_VALUES)
