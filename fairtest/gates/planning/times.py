"""How long a run will train: as long as such runs took, or as a few steps take here."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from filelock import FileLock

from fairtest.corpora.claims import require_batch
from fairtest.digests import digest_of
from fairtest.errors import FairtestError
from fairtest.experiments.ablations import NOISE_ONLY
from fairtest.experiments.copies import training_units
from fairtest.experiments.experiment import Experiment
from fairtest.specs import Arm, Training
from fairtest.store import Entry

TIMED_HERE = "one step timed here"
FROM_STORE = "as runs of this kind in the store took"
_TIMED_STEPS = 2
# What decides how long a step takes is all of the training but this.
_WITHOUT_EFFECT = (
    "steps", "epochs", "optimizer", "learning_rate", "lr_schedule", "warmup_steps", "weight_decay", "momentum",
)  # fmt: skip


@dataclass
class Times:
    """Training times of one experiment's arms, each kind of step timed once.

    `timing`: whether a step may be timed here, which loads the model.
    """

    experiment: Experiment
    runs: Mapping[str, Entry]
    timing: bool = True
    _steps: dict[str, tuple[float | None, str]] = field(default_factory=dict)

    def seconds(self, spec: Arm) -> tuple[float | None, str]:
        """(seconds that one run of this arm trains, where that comes from); (None, why) where nobody knows."""
        if spec.training is None:
            return 0.0, ""
        require_batch(self.experiment.training_corpus, spec.training, where=f"arm {spec.name}")
        steps = spec.training.steps_for(training_units(self.experiment, spec))
        kind = digest_of(_kind(spec.as_dict()))
        if kind not in self._steps:
            self._steps[kind] = self._of_a_step(spec)
        a_step, where = self._steps[kind]
        return (None if a_step is None else a_step * steps), where

    def _of_a_step(self, spec: Arm) -> tuple[float | None, str]:
        wanted, corpus = _kind(spec.as_dict()), self.experiment.training_corpus.digest
        found = [
            float(entry.result["seconds"]) / int(entry.result["steps"])
            for entry in self.runs.values()
            if entry.key.get("model") == self.experiment.source.digest
            and ("trainer" in entry.key) == (self.experiment.trainer is not None)
            and entry.key.get("corpus") == corpus
            and _kind(entry.key["arm"]) == wanted
            and "matched_to" not in entry.key["arm"]  # its seconds are those of a search
            and entry.result.get("seconds")
            and entry.result.get("steps")
        ]
        if found:
            return fmean(found), FROM_STORE
        if not self.timing:
            return None, "not timed"
        if self.experiment.trainer is not None:
            return None, "trained by your own trainer, so no step can be timed"
        with FileLock(self.experiment.store.root / "locks" / "plan-timing.lock"):
            try:
                return _timed(self.experiment, spec), TIMED_HERE
            except FairtestError as error:
                return None, f"no step could be timed: {error.what}"


def _kind(arm: Mapping[str, Any]) -> dict[str, Any]:
    """What decides how long a step of the arm takes."""
    training = {name: value for name, value in arm["training"].items() if name not in _WITHOUT_EFFECT}
    dp, cda = arm["dp"], arm["cda"]
    clipping = None if dp is None else dp["clipping"]
    if arm.get("ablation") == NOISE_ONLY:
        clipping = NOISE_ONLY
    return {"training": training, "clipping": clipping, "cda": cda}


def _timed(experiment: Experiment, spec: Arm) -> float:
    """Seconds of a step: the mean of two after a first one, on as many units as a batch has, spread over the corpus.

    The model is one of its own and is thrown away.
    """
    from fairtest.augmentation import augment
    from fairtest.training.finetune import NoiseSpec, finetune

    training = spec.training or Training()
    corpus = experiment.training_corpus
    size = training.batch_size
    chosen = tuple(corpus.units[index * len(corpus) // size] for index in range(size))
    cda = None if spec.cda is None else dataclasses.replace(spec.cda, allow_unchanged=True)
    augmented = augment(dataclasses.replace(corpus, units=chosen), cda)
    noise = None
    if spec.dp is not None:
        norm = 1.0 if spec.dp.max_grad_norm == "median" else float(spec.dp.max_grad_norm)
        noise = NoiseSpec(1.0, norm, clipping=spec.dp.clipping, clips=spec.ablation != NOISE_ONLY)
    short = dataclasses.replace(training, steps=1 + _TIMED_STEPS, warmup_steps=0)
    ends: list[float] = []
    with experiment.progress.work(f"time a step of {spec.name}", 1 + _TIMED_STEPS, minor=True) as advance:

        def on_step(step: int, loss: float | None) -> None:
            del step, loss
            ends.append(time.perf_counter())
            advance()

        finetune(experiment.base_model(spec, 0), augmented.units, short, noise, 0, on_step=on_step)
    return (ends[-1] - ends[0]) / _TIMED_STEPS
