"""Training an arm's runs under observation, by groups of units; what is seen is kept in the store."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from fairtest.corpora.units import Unit
from fairtest.digests import digest_of
from fairtest.errors import SpecError
from fairtest.experiments.diagnosis import Diagnosis
from fairtest.experiments.grouping import By, Grouping, group_units, labels

if TYPE_CHECKING:
    from fairtest.experiments.arms import TunedArm
    from fairtest.training.diagnostics import BatchDiagnostics, HeldOutDiagnostics

# Raised when the same run, groups and questions would give other figures than before.
DIAGNOSTICS_VERSION = 2
UNITS_PER_GROUP = 32
PROBES = 8


def diagnose(
    arm: TunedArm,
    by: By = "group",
    *,
    units_per_group: int = UNITS_PER_GROUP,
    seeds: Sequence[int] | None = None,
    private: bool = False,
    decompose: bool = False,
    probes: int = PROBES,
) -> Diagnosis:
    """What training does to groups of units: losses, gradients, clipping, directions, noise, step by step.

    A run that is not in the store is trained under observation and kept; one that is there is trained a second time,
    and has to end with the same weights. The outcome is kept, so that it is asked for once.

    Args:
        arm: a fine-tuned arm.
        by: what tells groups apart: a column ("group" means the setting group_field if no column is called so), a
            function from a record to a label (None leaves it out), or "words[gender]": texts with feminine or with
            masculine words only.
        units_per_group: so many held-out units of each group are looked at, fewer where the smallest group has fewer.
        seeds: which seeds; None: those of the arm.
        private: read the training units' own norms in place of held-out units: free, and not for release.
        decompose: also what clipping and noise add to each group's loss in a step, at five of the steps; this costs a
            few steps more, and reads private batches.
        probes: random directions for the trace of a Hessian, with decompose.

    Raises:
        SpecError: the arm is not trained, cannot be repeated (DP(release=True)), or is trained by a trainer of one's
            own.
        CorpusError: the groups are not there, or too small.
        StoreError: a run ended with other weights when it was repeated.
    """
    experiment, spec = arm.experiment, arm.spec
    _require_repeatable(arm, private=private, decompose=decompose, probes=probes)
    corpus = experiment.training_corpus if private else experiment.held_out_corpus
    by = _column(arm, by, corpus.units)
    if private:
        drawn = group_units(corpus.units, by, units_per_group=len(corpus.units))
        of_unit, _ = labels(corpus.units, by)
        members: Any = sorted(of_unit.items())
        sizes = drawn.counts
    else:
        drawn = group_units(corpus.units, by, units_per_group=units_per_group)
        members = drawn.digest
        sizes = {name: len(units) for name, units in drawn.units.items()}
    asked: dict[str, Any] = {"private": private, "decompose": decompose, "probes": probes if decompose else 0}
    chosen = arm.seeds if seeds is None else tuple(seeds)
    digest = digest_of([members])
    runs = []
    for seed in chosen:
        run = experiment.run_digest(spec, seed)
        key = {"version": DIAGNOSTICS_VERSION, "run": run, "groups": digest, **asked}

        def make(seed: int = seed) -> dict[str, Any]:
            observer = _observer(arm, drawn, dict(members) if private else None, seed=seed, **asked)
            experiment.observed(spec, seed, observer)
            return observer.observations.as_dict()

        runs.append(experiment.store.obtain_json("diagnosis", key, make))
    return Diagnosis(
        arm=arm.name,
        by=drawn.by,
        seeds=tuple(chosen),
        units=sizes,
        counts=drawn.counts,
        left_out=drawn.left_out,
        runs=tuple(runs),
        private=private,
        claims_privacy=spec.private,
        probes=asked["probes"],
        drawn=digest,
    )


def _observer(
    arm: TunedArm,
    drawn: Grouping,
    of_unit: dict[str, str] | None,
    *,
    seed: int,
    private: bool,
    decompose: bool,
    probes: int,
) -> HeldOutDiagnostics | BatchDiagnostics:
    from fairtest.augmentation import UnitViews
    from fairtest.training.diagnostics import BatchDiagnostics, HeldOutDiagnostics

    if private and of_unit is not None:
        return BatchDiagnostics(of_unit)
    dp = arm.spec.dp or arm.experiment.settings.dp
    groups = {
        name: [UnitViews(unit.id, tuple(_texts(unit)), len(unit.records)) for unit in units]
        for name, units in drawn.units.items()
    }
    return HeldOutDiagnostics(groups, engine=dp.clipping, decompose=decompose, probes=probes, seed=seed)


def _texts(unit: Unit) -> Iterator[str]:
    return (record.text for record in unit.records)


def _column(arm: TunedArm, by: By, units: Sequence[Unit]) -> By:
    """The setting group_field, where `by` is left at "group" and no column is called so."""
    field = arm.experiment.settings.group_field
    if by != "group" or field is None:
        return by
    return by if any(by in record.fields for unit in units for record in unit.records) else field


def _require_repeatable(arm: TunedArm, *, private: bool, decompose: bool, probes: int) -> None:
    spec, where = arm.spec, f"diagnose(arm {arm.name})"
    if spec.training is None:
        raise SpecError(
            f"arm {arm.name!r} is not trained, so there is nothing to look at", where=where, fix="diagnose a tuned arm"
        )
    if spec.dp is not None and spec.dp.release:
        raise SpecError(
            f"arm {arm.name!r} draws its noise for a release, so its runs cannot be repeated under observation",
            where=where,
            fix="diagnose the same arm without release=True: its noise has the same distribution",
        )
    if spec.matched_to is not None:
        raise SpecError(
            f"arm {arm.name!r} is a run without DP that stops early, at a step that is searched for",
            where=where,
            fix="diagnose that run itself (arms.baseline, for example): up to this step it is the same",
        )
    if decompose and (private or spec.dp is None):
        raise SpecError(
            "the parts that clipping and noise add are of an arm with clipping or noise, on held-out units",
            where=f"{where}, decompose=True",
            fix="leave private=True out, or leave decompose out for an arm without DP",
        )
    if not isinstance(probes, int) or probes < 1:
        raise SpecError(f"probes must be a whole number of at least 1, got {probes!r}", where=where, fix="8 is usual")
