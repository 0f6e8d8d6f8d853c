"""Gates that are planned instead of judged: the same helpers and arms as in a test, and nothing is trained."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fairtest.experiments.ablations import why_no_claim
from fairtest.experiments.arms import Measured, TunedArm
from fairtest.experiments.copies import spent
from fairtest.experiments.experiment import Experiment
from fairtest.gates.compare import require_arms
from fairtest.gates.decision import require_finite, warn_of_unit
from fairtest.gates.measure import gate_metric
from fairtest.gates.parts import parts_of
from fairtest.gates.planning.arms import PlannedArm, PlannedResult, Refuse
from fairtest.gates.planning.basis import (
    Asked,
    Basis,
    Stored,
    basis_of_change,
    basis_of_level,
    basis_of_ratio,
    items_of,
)
from fairtest.gates.planning.planned_gate import MEASURED, PRIVACY, RATIO, PlannedGate, PlannedRun
from fairtest.gates.planning.times import Times
from fairtest.gates.result import GateSetupError
from fairtest.metrics import MetricRef
from fairtest.probes.registry import load_probe_set
from fairtest.settings import FIRST_LOOK, Settings
from fairtest.specs import Arm
from fairtest.statistics.sequential import looks


@dataclass
class Sources:
    """What plans of one session look at: each store once, each kind of step timed once.

    `timing`: whether models may be loaded, to time a step and to score the pretrained model, whose items tell how far
    apart log ratios are. Otherwise only what is in the store is used.
    """

    timing: bool = True
    _stored: dict[int, Stored] = field(default_factory=dict)
    _times: dict[int, Times] = field(default_factory=dict)

    def stored(self, experiment: Experiment, *, again: bool = False) -> Stored:
        """What its store holds; looked at again only where a plan has added scores of the pretrained model."""
        if again or id(experiment) not in self._stored:
            self._stored[id(experiment)] = Stored(experiment)
        return self._stored[id(experiment)]

    def times(self, experiment: Experiment) -> Times:
        """Training times of its arms."""
        if id(experiment) not in self._times:
            self._times[id(experiment)] = Times(experiment, self.stored(experiment).runs, self.timing)
        return self._times[id(experiment)]


class Planner:
    """Stands where `Fairness` does and plans each gate.

    Args:
        settings: as of `Fairness`.
        refuse: is called with the reason where a test asks for values; it raises.
        test: name of the test.
        sources: shared by the planners of a session; None: one of its own.
    """

    def __init__(self, settings: Settings, refuse: Refuse, test: str = "", sources: Sources | None = None) -> None:
        self.settings = settings
        self.refuse = refuse
        self.test = test
        self.sources = sources or Sources()
        self.gates: list[PlannedGate] = []

    def planned(self, arm: TunedArm) -> PlannedArm:
        """The arm, planned."""
        return PlannedArm(arm, self)

    def note(self, *arms: Measured) -> None:
        """Counts the runs of arms that are asked for without a gate."""
        runs = self._runs(arms, self._looks(arms))
        self._add(gate=MEASURED, metric="", unit="", candidate=arms[0].name, reference="", allowed=0.0, runs=runs)

    # -- the helpers of `Fairness` --------------------------------------------------------------------------------

    def assert_no_amplification(
        self, candidate: Measured, reference: Measured, *, metric: str, max_increase: float
    ) -> PlannedResult:
        """Plans `fairtest.assert_no_amplification`."""
        return self._change("no_amplification", candidate, reference, metric, max_increase=max_increase)

    def assert_bias_within(self, arm: Measured, *, metric: str, max_distance: float) -> PlannedResult:
        """Plans `fairtest.assert_bias_within`."""
        return self._change("bias_within", arm, None, metric, max_distance=max_distance)

    def assert_mitigated(
        self, candidate: Measured, amplified: Measured, reference: Measured, *, metric: str, min_reduction: float
    ) -> PlannedResult:
        """Plans `fairtest.assert_mitigated`."""
        return self._change("mitigated", candidate, amplified, metric, reference, min_reduction=min_reduction)

    def assert_utility(
        self,
        candidate: Measured,
        reference: Measured,
        *,
        max_perplexity_ratio: float | None = None,
        max_lms_drop: float | None = None,
        metric: str = "stereoset.lms",
    ) -> PlannedResult:
        """Plans `fairtest.assert_utility`."""
        if (max_perplexity_ratio is None) == (max_lms_drop is None):
            raise GateSetupError(
                "a utility gate has one threshold",
                where="assert_utility(max_perplexity_ratio=, max_lms_drop=)",
                fix="give one of the two: max_perplexity_ratio=1.25, for example",
            )
        if max_lms_drop is not None:
            return self._change("utility", candidate, reference, metric, max_lms_drop=max_lms_drop)
        return self._ratio(candidate, reference, float(max_perplexity_ratio or 0.0))

    def assert_privacy(
        self,
        arm: Measured,
        *,
        max_epsilon: float,
        max_delta: float | None = None,
        unit: str | None = None,
        release: bool = False,
        allow_repeated: bool = False,
    ) -> PlannedResult:
        """Plans `fairtest.assert_privacy`: epsilon is known before training, as it follows from noise and steps."""
        del allow_repeated
        require_finite("max_epsilon", max_epsilon)
        require_arms(arm)
        problems, spent = _privacy(arm, max_epsilon, max_delta, unit, release=release)
        finding = f"will FAIL: {'; '.join(problems)}" if problems else spent
        return self._add(
            gate=PRIVACY,
            metric="epsilon",
            unit="",
            candidate=arm.name,
            reference="",
            allowed=max_epsilon,
            finding=finding,
            runs=self._runs((arm,), self._looks((arm,))[:1]),
        )

    def assert_no_regression(self, arm: Measured, *, metric: str, max_increase: float) -> PlannedResult:
        """Plans `fairtest.assert_no_regression`: the change against the stored baseline, taken to have as many seeds
        and to vary as another arm would; its own values are not read.
        """
        return self._change("no_regression", arm, None, metric, max_increase=max_increase)

    def measure(self, arm: Measured, metric: str) -> PlannedResult:
        """Counts the runs; nothing is judged, so there is nothing to plan."""
        del metric
        require_arms(arm)
        self.note(arm)
        return PlannedResult(self.refuse)

    def explain_amplification(
        self, candidate: Any, reference: Measured | None = None, *, metric: str, **parts: Measured | None
    ) -> PlannedResult:
        """Counts the runs; nothing is judged, so there is nothing to plan."""
        dp, baseline, named = parts_of(candidate, reference, parts)
        asked = [dp, baseline, *(arm for arm in named.values() if arm is not None)]
        require_arms(*asked)
        self._metric(metric, *asked)
        self.note(*asked)
        return PlannedResult(self.refuse)

    def diagnose(
        self, arm: Measured, by: Any = "group", *, against: Measured | None = None, **options: Any
    ) -> PlannedResult:
        """Counts the runs; nothing is judged, so there is nothing to plan."""
        del by, options
        asked = [arm] if against is None else [arm, against]
        require_arms(*asked)
        self.note(*asked)
        return PlannedResult(self.refuse)

    def record(self) -> list[dict[str, Any]]:
        """Plain data of everything planned so far."""
        return [gate.as_dict() for gate in self.gates]

    # -- how -------------------------------------------------------------------------------------------------------

    def _change(
        self,
        gate: str,
        candidate: Measured,
        reference: Measured | None,
        metric: str,
        *needed: Measured,
        **threshold: float,
    ) -> PlannedResult:
        """A gate about a metric, whose threshold is the one keyword left; `needed` are arms whose runs it needs too."""
        ((name, allowed),) = threshold.items()
        require_finite(name, allowed)
        sides = (candidate,) if reference is None else (candidate, reference)
        require_arms(*sides, *needed)
        ref = self._metric(metric, *sides)
        warn_of_unit(name, allowed, ref.metric.unit)
        plan = self._looks(sides)
        asked = Asked(ref, items_of(ref, self._probes(ref, candidate)), plan[-1], self._stored_of(ref, sides))
        if gate == "bias_within":
            basis = basis_of_level(candidate, asked)
        else:
            basis = basis_of_change(candidate, reference, asked)
        return self._add(
            gate=gate,
            metric=str(ref),
            unit=ref.metric.unit,
            candidate=candidate.name,
            reference="" if reference is None else reference.name,
            allowed=-allowed if gate == "mitigated" else allowed,
            items=asked.items.count,
            factors=asked.items.factors,
            looks=plan,
            spread=basis.spread,
            basis=basis.text,
            runs=self._runs((*sides, *needed), plan),
        )

    def _ratio(self, candidate: Measured, reference: Measured, allowed: float) -> PlannedResult:
        require_finite("max_perplexity_ratio", allowed)
        sides = (candidate, reference)
        require_arms(*sides)
        plan = self._looks(sides)
        basis, items, units = Basis(None, "no basis (held-out losses of a model trained elsewhere)"), 0, 0
        if isinstance(candidate, TunedArm) and isinstance(reference, TunedArm):
            corpus = candidate.experiment.held_out_corpus
            items, units = corpus.record_count, len(corpus)
            basis = basis_of_ratio(candidate, reference, plan[-1], self.sources.stored(candidate.experiment))
        return self._add(
            gate="utility",
            metric="perplexity",
            unit=RATIO,
            candidate=candidate.name,
            reference=reference.name,
            allowed=allowed,
            items=items,
            factors=(units,) if units else (),
            looks=plan,
            spread=basis.spread,
            basis=basis.text,
            runs=self._runs(sides, plan),
        )

    def _add(self, **known: Any) -> PlannedResult:
        confidence = self.settings.confidence
        plan: tuple[int, ...] = known.get("looks", ())
        if len(plan) > 1:
            confidence = looks(FIRST_LOOK, plan[-1])[-1].confidence(confidence)
        enforced = self.settings.family == "enforce"
        self.gates.append(PlannedGate(confidence=confidence, enforced=enforced, test=self.test, **known))
        return PlannedResult(self.refuse)

    def _metric(self, metric: str, *arms: Measured) -> MetricRef:
        if isinstance(metric, str) and metric.partition("[")[0] == "perplexity":
            raise GateSetupError(
                "perplexity is utility, not bias", where="metric=", fix="use assert_utility(max_perplexity_ratio=)"
            )
        return gate_metric(metric, *arms)

    def _probes(self, ref: MetricRef, arm: Measured) -> Any:
        if isinstance(arm, TunedArm):
            return arm.experiment.probe_set(ref.metric.probe_set)
        data = self.settings.data_dir
        return load_probe_set(ref.metric.probe_set, None if data is None else Path(data))

    def _looks(self, arms: tuple[Measured, ...]) -> tuple[int, ...]:
        """Numbers of seeds at which the gate is looked at; one where seeds are fixed."""
        most = [arm.available_seeds for arm in arms if arm.available_seeds is not None]
        if most:
            return tuple(look.seeds for look in looks(FIRST_LOOK, min(most)))
        return (min((_seed_count(arm) for arm in arms if arm.tuned), default=1),)

    def _stored_of(self, ref: MetricRef, arms: tuple[Measured, ...]) -> Stored | None:
        """The store of the arms, with the pretrained model scored where that is needed and allowed."""
        tuned = [arm for arm in arms if isinstance(arm, TunedArm)]
        if not tuned:
            return None
        experiment = tuned[0].experiment
        stored = self.sources.stored(experiment)
        if ref.metric.unit == "nats" and self.sources.timing:
            start = tuned[0].experiment.arm(tuned[0].start().spec)
            if not stored.scored(start, ref, 1):
                start.scores(ref.metric.probe_set, ref.axis, ref.metric.scoring_protocol or None)
                stored = self.sources.stored(experiment, again=True)
        return stored

    def _runs(self, arms: tuple[Measured, ...], plan: tuple[int, ...]) -> tuple[PlannedRun, ...]:
        found: dict[str, PlannedRun] = {}
        for arm in arms:
            if not isinstance(arm, TunedArm) or not arm.tuned:
                continue
            counted = arm.limited(plan[-1]) if arm.available_seeds is not None else arm
            for seed in counted.seeds:
                later = arm.available_seeds is not None and seed >= plan[0]
                run = self._run(arm.experiment, arm.spec, seed, later=later)
                found[run.digest] = run
                if arm.spec.matched_to is not None and not run.stored:
                    # It is trained first, whether or not a gate names its arm.
                    first = self._run(arm.experiment, arm.spec.matched_to, seed, later=later)
                    found.setdefault(first.digest, first)
        return tuple(found.values())

    def _run(self, experiment: Experiment, spec: Arm, seed: int, *, later: bool) -> PlannedRun:
        digest = experiment.run_digest(spec, seed)
        there = digest in self.sources.stored(experiment).runs
        seconds, timed = (0.0, "") if there else self.sources.times(experiment).seconds(spec)
        return PlannedRun(digest, spec.name, seed, there, later, seconds, timed)


def _seed_count(arm: Measured) -> int:
    paths = getattr(arm, "paths", None)  # of a checkpoint: its weights need not be read to count them
    return len(arm.identity) if paths is None else len(paths)


def _privacy(
    arm: Measured, max_epsilon: float, max_delta: float | None, unit: str | None, *, release: bool
) -> tuple[list[str], str]:
    """(what will make the gate fail, what is spent)."""
    claimed = ""
    if not isinstance(arm, TunedArm):
        statement = arm.statement()
        if statement is None:
            return ["there is no privacy statement"], ""
        epsilon, delta, of = statement.epsilon, statement.delta, statement.unit
        sigma = statement.noise_multiplier
    elif arm.experiment.trainer is not None:
        return [], "what your own trainer states is known after training"
    else:
        plan = arm.experiment.privacy_plan(arm.spec)
        if plan is None:
            return [why_no_claim(arm.spec) or "it is trained without differential privacy"], ""
        epsilon, delta, of = plan.epsilon, plan.delta, arm.experiment.training_corpus.unit_name
        sigma = plan.noise_multiplier
        copies = spent(arm.experiment, arm.spec, plan)
        if copies is not None:
            claimed = f" ({epsilon:.4g} is claimed as if copies of a {of} were other people's)"
            epsilon = copies.epsilon
    problems = []
    if not epsilon <= max_epsilon:
        problems.append(f"epsilon {epsilon:.4g} is above the allowed {max_epsilon:g}{claimed}")
    if max_delta is not None and not delta <= max_delta:
        problems.append(f"delta {delta:.3g} is above the allowed {max_delta:g}")
    if unit is not None and unit != of:
        problems.append(f"the privacy unit is one {of}, and one {unit} is required")
    if release and isinstance(arm, TunedArm) and arm.spec.dp is not None and not arm.spec.dp.release:
        problems.append("noise from a seed is not for release: train with DP(release=True)")
    return (
        problems,
        f"within the budget: epsilon {epsilon:.3g} at delta {delta:.2g} per {of}, noise {sigma:.3g} clipping norms",
    )
