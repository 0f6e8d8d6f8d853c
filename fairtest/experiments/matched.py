"""The arm that shows what is only under-training: the twin without DP, stopped where it has learned as much."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fairtest.errors import SpecError
from fairtest.experiments.held_out import flat
from fairtest.experiments.model_scorer import SCORING_VERSION
from fairtest.specs import Arm, Training

if TYPE_CHECKING:
    from fairtest.augmentation import UnitViews
    from fairtest.experiments.experiment import Experiment
    from fairtest.training.matching import Matched, OnStep
    from fairtest.training.models import LoadedModel

# Raised when a change of the library changes at which step such a run is stopped.
MATCHING_VERSION = 2


def matching_key(experiment: Experiment, spec: Arm, seed: int) -> dict[str, Any]:
    """What decides where a matched run is stopped: the run it is matched to, and how the loss is taken."""
    if spec.matched_to is None:
        return {}
    settings = experiment.settings
    return {
        "matched": {
            "version": MATCHING_VERSION,
            "run": experiment.run_digest(spec.matched_to, seed),
            "held_out": experiment.held_out_corpus.digest,
            "scoring": SCORING_VERSION,
            "max_length": settings.max_length,
            "long_texts": settings.long_texts,
        }
    }


def target_loss(experiment: Experiment, matched_to: Arm, seed: int) -> float:
    """Held-out loss (nats per token) of the run that is to be matched; trains that if it is not there."""
    found = experiment.held_out(matched_to, [seed])
    return math.fsum(found.nll[0]) / sum(found.tokens)


def require_unobserved(spec: Arm, observer: object | None) -> None:
    """Refuses to observe a matched run: the search for its step would be observed.

    Raises:
        SpecError: there is an observer.
    """
    if observer is not None:
        raise SpecError(
            f"arm {spec.name!r} is a run without DP up to one of its steps, which is searched for",
            where=f"arm {spec.name}",
            fix="observe that run itself (arms.baseline, for example): up to this step it is the same",
        )


def train_matched(
    experiment: Experiment,
    loaded: LoadedModel,
    units: tuple[UnitViews, ...],
    training: Training,
    seed: int,
    *,
    target: float,
    on_step: OnStep,
) -> Matched:
    """Trains `loaded` until its held-out loss is `target`, by the same texts and tokens as the guards take it."""
    from fairtest.training.matching import train_to_loss

    return train_to_loss(loaded, units, training, seed, target=target, loss_of=_loss_of(experiment), on_step=on_step)


def _loss_of(experiment: Experiment) -> Callable[[LoadedModel], float]:
    settings = experiment.settings
    texts, _, _ = flat(experiment.held_out_corpus, settings.group_field)

    def loss_of(loaded: LoadedModel) -> float:
        from fairtest.scoring.likelihood import score_records

        nll, tokens = score_records(loaded, texts, max_length=settings.max_length, long_texts=settings.long_texts)
        return math.fsum(nll) / sum(tokens)

    return loss_of


def match_record(found: Matched, baseline_steps: int) -> dict[str, Any]:
    """What the record of a matched run says of the match."""
    return {
        "matched_step": found.step,
        "matched_share": found.share,
        "matched_loss": found.loss,
        "target_loss": found.target,
        "baseline_steps": baseline_steps,
        "reached": found.reached,
        "held_out_losses": [[step, loss] for step, loss in found.losses.items()],
    }
