"""The assertion helpers with one test's settings bound, and a record of what they found."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairtest.errors import FairtestError
from fairtest.experiments.arms import Arms, Measured, TunedArm
from fairtest.experiments.checkpoint import Checkpoint
from fairtest.experiments.diagnosis_records import joined
from fairtest.experiments.progress import SILENT, Progress
from fairtest.gates.assertions import (
    assert_bias_within,
    assert_mitigated,
    assert_no_amplification,
    assert_privacy,
    assert_utility,
    settle,
)
from fairtest.gates.compare import require_arms
from fairtest.gates.measure import measure
from fairtest.gates.parts import parts_of
from fairtest.gates.regression import regression
from fairtest.gates.result import Estimate, GateResult
from fairtest.settings import Settings
from fairtest.specs import Arm
from fairtest.store import Store

if TYPE_CHECKING:
    from fairtest.experiments.diagnosis import Diagnosis
    from fairtest.experiments.grouping import By
    from fairtest.gates.explain import Explanation

_CURVE_POINTS = 50
_TRAINING_SUMMARY = (
    "steps",
    "cut_texts",
    "units",
    "seconds",
    "coverage",
    "views_per_unit",
    "trained_parameters",
    "mean_clipped_share",
)
# Of a matched arm alone.
_MATCH_SUMMARY = ("matched_step", "matched_share", "matched_loss", "target_loss", "reached")


class Fairness:
    """What the `fairness` fixture gives a test; usable without pytest as well.

    Args:
        settings: confidence, guards, policy for UNDECIDED.
        test: name of the test, kept in every result.
        update: assert_no_regression records, instead of judging, "all" it is asked for, what is "new", or "" nothing.
        store, progress: for checkpoints, which have none of their own; None: the store of the settings.
    """

    def __init__(
        self,
        settings: Settings,
        test: str = "",
        *,
        update: str = "",
        store: Store | None = None,
        progress: Progress = SILENT,
    ) -> None:
        self.settings = settings
        self.test = test
        self.baselines: list[dict[str, Any]] = []
        self._update = update
        self._store = store
        self._progress = progress
        self.results: list[GateResult] = []
        self.measurements: list[dict[str, Any]] = []
        self.explanations: list[dict[str, Any]] = []
        self._diagnoses: dict[str, dict[str, Any]] = {}
        self._arms: dict[str, Measured] = {}

    def assert_no_amplification(
        self, candidate: Measured, reference: Measured, *, metric: str, max_increase: float
    ) -> GateResult:
        """See `fairtest.assert_no_amplification`."""
        __tracebackhide__ = True
        self._use(candidate, reference)
        return assert_no_amplification(
            candidate,
            reference,
            metric=metric,
            max_increase=max_increase,
            settings=self.settings,
            record=self._record,
        )

    def assert_bias_within(self, arm: Measured, *, metric: str, max_distance: float) -> GateResult:
        """See `fairtest.assert_bias_within`."""
        __tracebackhide__ = True
        self._use(arm)
        return assert_bias_within(
            arm, metric=metric, max_distance=max_distance, settings=self.settings, record=self._record
        )

    def assert_mitigated(
        self, candidate: Measured, amplified: Measured, reference: Measured, *, metric: str, min_reduction: float
    ) -> GateResult:
        """See `fairtest.assert_mitigated`."""
        __tracebackhide__ = True
        self._use(candidate, amplified, reference)
        return assert_mitigated(
            candidate,
            amplified,
            reference,
            metric=metric,
            min_reduction=min_reduction,
            settings=self.settings,
            record=self._record,
        )

    def assert_no_regression(self, arm: Measured, *, metric: str, max_increase: float) -> GateResult:
        """See `fairtest.assert_no_regression`."""
        __tracebackhide__ = True
        self._use(arm)
        found = regression(arm, metric=metric, max_increase=max_increase, settings=self.settings, update=self._update)
        self.baselines.append({**found.record, "test": self.test})
        return settle(found.result, self.settings, self._record)

    def assert_utility(
        self,
        candidate: Measured,
        reference: Measured,
        *,
        max_perplexity_ratio: float | None = None,
        max_lms_drop: float | None = None,
        metric: str = "stereoset.lms",
    ) -> GateResult:
        """See `fairtest.assert_utility`."""
        __tracebackhide__ = True
        self._use(candidate, reference)
        return assert_utility(
            candidate,
            reference,
            max_perplexity_ratio=max_perplexity_ratio,
            max_lms_drop=max_lms_drop,
            metric=metric,
            settings=self.settings,
            record=self._record,
        )

    def assert_privacy(
        self,
        arm: Measured,
        *,
        max_epsilon: float,
        max_delta: float | None = None,
        unit: str | None = None,
        release: bool = False,
        allow_repeated: bool = False,
    ) -> GateResult:
        """See `fairtest.assert_privacy`."""
        __tracebackhide__ = True
        self._use(arm)
        return assert_privacy(
            arm,
            max_epsilon=max_epsilon,
            max_delta=max_delta,
            unit=unit,
            release=release,
            allow_repeated=allow_repeated,
            settings=self.settings,
            record=self._record,
        )

    def measure(self, arm: Measured, metric: str) -> Estimate:
        """A value with its interval, shown in the report and judged by nobody. `metric` may be "perplexity",
        "perplexity[GROUP]" too.
        """
        __tracebackhide__ = True
        self._use(arm)
        estimate, seeds, items, clusters = measure(arm, metric, confidence=self.settings.confidence)
        self.measurements.append(
            {
                "arm": arm.name,
                "metric": metric,
                **dataclasses.asdict(estimate),
                "seeds": seeds,
                "items": items,
                "clusters": clusters,
            }
        )
        return estimate

    def explain_amplification(
        self,
        candidate: TunedArm | Arms,
        reference: Measured | None = None,
        *,
        metric: str,
        **parts: Measured | None,
    ) -> Explanation:
        """How much of an amplification comes with clipping, noise and training less; shown in the report and judged by
        nobody (`fairtest.gates.explain.explain_amplification`).

        Given all `arms`, it is their `dp` against their `baseline`, sampling included. Else `parts` that are not given
        are those of the candidate, `clip_only()`, `noise_only()` and `matched()`; None leaves one out, and `shuffled`
        divides sampling off.

        Raises:
            GateSetupError: no reference, or a part that there is not.
            SpecError: the candidate is no arm that can be taken apart.
        """
        __tracebackhide__ = True
        from fairtest.gates.explain import explain_amplification

        dp, baseline, named = parts_of(candidate, reference, parts)
        self._use(dp, baseline, *(arm for arm in named.values() if arm is not None))
        found = explain_amplification(dp, baseline, metric=metric, settings=self.settings, **named)
        self.explanations.append({**found.as_dict(), "test": self.test})
        return found

    def diagnose(
        self, arm: TunedArm, by: By = "group", *, against: TunedArm | None = None, **options: Any
    ) -> Diagnosis:
        """What training does to groups of units, step by step; drawn in the report and judged by nobody. `options` are
        those of `fairtest.experiments.diagnostics.diagnose`.

        With `against`, another arm is diagnosed in the same way, and the report says what changes for which group from
        that arm to this one: on the same units, so that what tells these apart falls out (`fairtest.Contrast`).

        Raises:
            SpecError, CorpusError, StoreError: as `diagnose`.
        """
        __tracebackhide__ = True
        from fairtest.experiments.contrast import Contrast
        from fairtest.experiments.diagnostics import diagnose

        self._use(arm, *([] if against is None else [against]))
        found = diagnose(arm, by, **options)
        told = found.as_dict()
        if against is not None:
            other = diagnose(against, by, **options)
            self._keep(against, other.as_dict())
            contrast = Contrast(found, other)
            told["diagnostics_findings"] = [*contrast.findings, *told["diagnostics_findings"]]
            told["diagnostics_notes"] = [*told["diagnostics_notes"], contrast.note]
            told["diagnostics_note"] = " ".join(told["diagnostics_notes"])
        self._keep(arm, told)
        return found

    def _keep(self, arm: TunedArm, told: dict[str, Any]) -> None:
        self._diagnoses[arm.name] = joined(self._diagnoses.get(arm.name, {}), told)

    def record(self) -> dict[str, Any]:
        """Plain data of everything asked so far: gates, measurements, arms, runs used. Trains nothing."""
        ledger: dict[str, Any] = {}
        for arm in self._arms.values():
            if isinstance(arm, TunedArm):
                ledger.update(arm.experiment.ledger)
        told = {name: _told(arm, ledger) for name, arm in self._arms.items()}
        return {
            "test": self.test,
            "problem": "\n".join(problem for _, problem in told.values() if problem),
            "gates": [result.as_dict() for result in self.results],
            "measurements": list(self.measurements),
            "explanations": list(self.explanations),
            "baselines": list(self.baselines),
            "arms": {name: joined(summary, self._diagnoses.get(name, {})) for name, (summary, _) in told.items()},
            "ledger": ledger,
        }

    def _use(self, *arms: Measured) -> None:
        require_arms(*arms)
        for arm in arms:
            if isinstance(arm, Checkpoint):
                arm.bind(self.settings, self._store or Store(Path(self.settings.cache_dir)), self._progress)
        self._arms.update({arm.name: arm for arm in arms})

    def _record(self, result: GateResult) -> None:
        self.results.append(dataclasses.replace(result, test=self.test))


def _told(arm: Measured, ledger: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """(what the report says of an arm, what is wrong with it): what gates found of it is told all the same."""
    try:
        return _summary(arm, ledger), ""
    except FairtestError as error:
        return {}, str(error)


def _summary(arm: Measured, ledger: dict[str, Any]) -> dict[str, Any]:
    """What the report says of an arm; only of one whose runs are all there, so that reporting never trains."""
    if isinstance(arm, Checkpoint):
        statement = arm.statement()
        return {
            "run": arm.identity[0],
            "checkpoint": arm.describe(),
            "statement": None if statement is None else statement.as_dict(),
            "privacy": "" if statement is None else statement.prose(),
        }
    if not isinstance(arm, TunedArm) or not arm.tuned or not ledger or not set(arm.identity) <= set(ledger):
        return {}
    if arm.available_seeds is not None:  # looks may have trained more than an arm begins with
        arm = arm.limited(1 + max(int(run["seed"]) for run in ledger.values() if run["arm"] == arm.name))
    statement = arm.statement()
    return {
        "run": arm.identity[0],  # tells it from an arm that another test gives this name under other settings
        "data": arm.experiment.describe(),
        "training": [
            {
                **{name: row.get(name) for name in _TRAINING_SUMMARY},
                **{name: row[name] for name in _MATCH_SUMMARY if name in row},
                "curve": _curve(arm.spec, row["losses"]),
            }
            for row in arm.train()
        ],
        "statement": None if statement is None else statement.as_dict(),
        "privacy": "" if statement is None else statement.prose(),
    }


def _curve(spec: Arm, losses: Sequence[float]) -> list[list[float]]:
    """[batch, mean training loss of the batches up to it since the point before], at most 50 points.

    Nothing of a DP arm: its loss is read off private records, epsilon does not cover it, and a report travels.
    """
    points = 0 if spec.dp is not None else min(len(losses), _CURVE_POINTS)
    curve = []
    for point in range(points):
        first, last = point * len(losses) // points, (point + 1) * len(losses) // points
        curve.append([float(last), round(sum(losses[first:last]) / (last - first), 4)])
    return curve
