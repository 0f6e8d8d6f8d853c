"""Arms whose counterfactuals are units of their own ("naive_copies"): how many units they have, and what they spend."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

from fairtest.specs import DP, Arm

if TYPE_CHECKING:
    from fairtest.experiments.experiment import Experiment
    from fairtest.privacy.accounting import PrivacyPlan
    from fairtest.privacy.copies import CopiesSpent

# Raised when a change of the library changes how copies are made or accounted for.
COPIES_VERSION = 1


@dataclasses.dataclass(frozen=True)
class Copies:
    """How many copies an arm's corpus has in all, and at most of one unit."""

    total: int = 0
    most: int = 0


def has_copies(spec: Arm) -> bool:
    """Whether the arm asks for copies as units."""
    return spec.cda is not None and spec.cda.mode == "naive_copies"


def copies_of(experiment: Experiment, spec: Arm) -> Copies:
    """The copies in an arm's training corpus, counted once a corpus and kept in the store.

    Raises:
        AugmentationError: nothing can be swapped.
    """
    if spec.cda is None or not has_copies(spec):
        return Copies()
    from fairtest.augmentation import lexicon_digest

    key = {
        "version": COPIES_VERSION,
        "corpus": experiment.training_corpus.digest,
        "cda": spec.cda.as_dict(),
        "named": experiment.training_corpus.named,
        "lexicons": [lexicon_digest(axis) for axis in spec.cda.axes],
    }

    def count() -> dict[str, Any]:
        augmented = experiment.inputs.augmented(spec)
        return {"total": augmented.copies, "most": augmented.most_copies}

    return Copies(**experiment.store.obtain_json("copies", key, count))


def training_units(experiment: Experiment, spec: Arm) -> int:
    """N of an arm's batches: the corpus' units, and the copies where they are units."""
    return len(experiment.training_corpus) + copies_of(experiment, spec).total


def delta_of_originals(dp: DP, originals: int, units: int) -> DP:
    """The same DP with delta = 1/(10 N) of the units without their copies, where it is "auto".

    N is how many people there can be; copies make no more of them. It stays below half of 1/N of what is sampled.
    """
    if dp.delta != "auto":
        return dp
    return dataclasses.replace(dp, delta=min(1 / (10 * originals), 1 / (2 * units)))


def spent(experiment: Experiment, spec: Arm, plan: PrivacyPlan, *, people: int = 1) -> CopiesSpent | None:
    """What a plan of an arm with copies really is, for whoever is behind `people` units and their copies; None of an
    arm without copies. Computed once a plan.
    """
    copies = copies_of(experiment, spec)
    if copies.most == 0:
        return None
    from fairtest.privacy.copies import CopiesSpent, copies_spent

    times = people * (1 + copies.most)

    def compute() -> dict[str, Any]:
        with experiment.progress.work(f"true epsilon of {spec.name}", 1, minor=True) as advance:
            found = copies_spent(plan, copies.total, copies.most, times=times)
            advance(f"epsilon {found.epsilon:.3g}")
        finite = math.isfinite(found.epsilon)
        return {"epsilon": found.epsilon if finite else None, "accountant": found.accountant}

    key = {"version": COPIES_VERSION, "plan": plan.as_dict(), "times": times}
    kept = experiment.store.obtain_json("copies-epsilon", key, compute)
    epsilon = math.inf if kept["epsilon"] is None else float(kept["epsilon"])
    return CopiesSpent(copies.total, copies.most, epsilon, kept["accountant"])
