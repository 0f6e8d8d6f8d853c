"""What an experiment claims about privacy: noise before a run, a statement of what was done after it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fairtest.corpora.claims import require_batch, require_unit
from fairtest.errors import PrivacyError, PrivacyWarning, warn_user
from fairtest.experiments.copies import delta_of_originals, spent, training_units
from fairtest.privacy.statement import (
    NOISE_RELEASE,
    NOISE_RELEASE_GPU,
    NOISE_SEEDED,
    NOISE_SEEDED_GPU,
    PrivacyStatement,
    statement_of,
)
from fairtest.specs import AUGMENTATION_AXES, Arm

if TYPE_CHECKING:
    from fairtest.experiments.experiment import Experiment
    from fairtest.privacy.accounting import PrivacyPlan

# Raised when a change of the library changes the noise that a budget gets.
PLAN_VERSION = 2
FIXED_NORM = "fixed before training"
MEDIAN_NORM = "the median gradient norm of the held-out units at the pretrained model"
_CLIPPING = {
    "fairtest": "fairtest: one backward pass, norms from layer inputs and output gradients",
    "opacus": "Opacus: the gradient of each row formed, summed by unit",
}


class Claims:
    """Plans and statements of one experiment's DP arms, each computed once and kept in its store."""

    def __init__(self, experiment: Experiment) -> None:
        self._experiment = experiment
        self._store = experiment.store
        self._warned: set[str] = set()

    def plan(self, spec: Arm) -> PrivacyPlan | None:
        """Noise and epsilon of a DP arm; None of an arm that claims no privacy.

        Raises:
            PrivacyError: the arm claims another unit than the corpus is grouped by, or its epsilon cannot be met.
            SpecError: the batch is larger than the corpus.
        """
        if not spec.private:
            return None
        found = self.calibrated(spec)
        if found is not None and spec.name not in self._warned:
            from fairtest.privacy.accounting import warn_if_weak

            self._warned.add(spec.name)
            warn_if_weak(found.epsilon, found.delta)
        if found is not None:
            self._warn_of_copies(spec, found)
        return found

    def _warn_of_copies(self, spec: Arm, plan: PrivacyPlan) -> None:
        """Warns once of copies that make a claim which seems to protect one that hardly does."""
        from fairtest.privacy.accounting import WEAK_EPSILON

        mark = f"{spec.name}, copies"
        if mark in self._warned or not plan.epsilon <= WEAK_EPSILON:  # a weak claim is warned of as it is
            return
        self._warned.add(mark)
        found = spent(self._experiment, spec, plan)
        if found is not None and found.epsilon > WEAK_EPSILON:
            unit = self._experiment.training_corpus.unit_name
            warn_user(
                f"arm {spec.name!r}: for a person whose {unit} has copies epsilon is {found.epsilon:.4g}, which is"
                f" above {WEAK_EPSILON:g} and hardly protects; {plan.epsilon:.4g} is claimed as if copies were other"
                " people",
                PrivacyWarning,
            )

    def calibrated(self, spec: Arm) -> PrivacyPlan | None:
        """The noise that an arm's `dp` asks for: the DP arm's own, and that of an ablation of it, which is no claim."""
        if spec.dp is None or spec.training is None:
            return None
        from fairtest.privacy.accounting import PrivacyPlan, plan_privacy

        corpus = self._experiment.training_corpus
        require_unit(corpus, spec.dp, where=f"arm {spec.name}")
        require_batch(corpus, spec.training, where=f"arm {spec.name}")
        units = training_units(self._experiment, spec)
        dp = delta_of_originals(spec.dp, len(corpus), units) if units > len(corpus) else spec.dp
        batch_size, steps = spec.training.batch_size, spec.training.steps_for(units)
        key = {
            "version": PLAN_VERSION,
            "dp": {"epsilon": dp.epsilon, "delta": dp.delta, "noise_multiplier": dp.noise_multiplier},
            "units": units,
            "batch": batch_size,
            "steps": steps,
        }

        def plan() -> dict[str, Any]:
            self._warned.add(spec.name)  # planning warns by itself
            with self._experiment.progress.work(f"calibrate noise for {spec.name}", 1) as advance:
                made = plan_privacy(dp, units=units, batch_size=batch_size, steps=steps)
                advance(f"sigma {made.noise_multiplier:.4f}")
            return made.as_dict()

        return PrivacyPlan.from_dict(self._store.obtain_json("privacy-plan", key, plan))

    def max_grad_norm(self, spec: Arm) -> float:
        """C of a DP arm. "median" is taken from the held-out units without counterfactuals at the pretrained model, so
        it reads no unit that the claim is about, and arms that share their training share it.
        """
        dp, training = spec.dp, spec.training
        if dp is None or training is None:
            raise PrivacyError(
                f"arm {spec.name!r} clips nothing", where=f"arm {spec.name}", fix="give it dp=DP(...) and a Training()"
            )
        if dp.max_grad_norm != "median":
            return float(dp.max_grad_norm)
        experiment = self._experiment
        shape = ("max_length", "long_texts", "trainable", "lora_rank", "lora_layers")
        key = {
            "version": PLAN_VERSION,
            "model": experiment.source.digest,
            "held_out": experiment.held_out_corpus.digest,
            "training": {name: getattr(training, name) for name in shape},
            "clipping": dp.clipping,
        }

        def measure() -> dict[str, Any]:
            from fairtest.training.norms import median_gradient_norm

            with experiment.progress.work(f"median gradient norm for {spec.name}", 1) as advance:
                held_out = experiment.held_out_units()
                median = median_gradient_norm(experiment.base_model(spec, 0), held_out, training, dp.clipping)
                advance(f"C {median:.3g}")
            return {"max_grad_norm": median, "units": len(held_out)}

        return float(self._store.obtain_json("median-norm", key, measure)["max_grad_norm"])

    def statement(self, spec: Arm, records: Sequence[dict[str, Any]]) -> PrivacyStatement | None:
        """The privacy statement of an arm's runs, from their training records; None where it claims none.

        Raises:
            PrivacyError: a run did not follow the plan its noise was calibrated for.
        """
        plan = self.plan(spec)
        if plan is None or spec.dp is None or spec.training is None:
            return None
        max_grad_norm = self.max_grad_norm(spec)
        for seed, record in enumerate(records):
            self._require_followed(spec, plan, max_grad_norm, record, seed)
        corpus = self._experiment.training_corpus
        repeated = self._repeated_units()
        copies = spent(self._experiment, spec, plan)
        released = "the trained weights after the last step"
        if len(records) > 1:
            released += f", of one seed ({len(records)} seeds were trained to measure; releasing several adds up)"
        return statement_of(
            plan,
            max_grad_norm=max_grad_norm,
            max_grad_norm_chosen=MEDIAN_NORM if spec.dp.max_grad_norm == "median" else FIXED_NORM,
            unit=corpus.unit_name,
            max_views_per_unit=max(record["views_per_unit"] for record in records) + (copies.most if copies else 0),
            max_records_per_unit=max(len(unit.records) for unit in corpus.units),
            records_left_out=corpus.records_left_out,
            repeated_units=repeated,
            epsilon_of_two=self._epsilon_of_two(spec, plan) if repeated else None,
            copies=copies,
            optimizer=spec.training.optimizer,
            clipping=_CLIPPING[spec.dp.clipping],
            noise_generator=_generators(records, release=spec.dp.release),
            repeatable=not spec.dp.release,
            released=released,
        )

    @staticmethod
    def _require_followed(
        spec: Arm, plan: PrivacyPlan, max_grad_norm: float, record: dict[str, Any], seed: int
    ) -> None:
        planned = {
            "steps": plan.steps,
            "units": plan.units,
            "sample_rate": plan.sample_rate,
            "noise_multiplier": plan.noise_multiplier,
            "max_grad_norm": max_grad_norm,
            "release": spec.dp is not None and spec.dp.release,
        }
        actual = {name: record[name] for name in planned}
        if actual != planned:
            raise PrivacyError(
                f"a run did not follow its privacy plan: planned {planned}, done {actual}",
                where=f"arm {spec.name}, run {seed}",
                fix="remove the run from the store and train it again",
            )

    def _repeated_units(self) -> int:
        """Units that repeat or mirror the text of another unit; looked for once a corpus."""
        from fairtest.augmentation import lexicon_digest, mirrored_units

        corpus = self._experiment.training_corpus
        key = {"corpus": corpus.digest, "lexicons": [lexicon_digest(axis) for axis in AUGMENTATION_AXES]}
        return int(self._store.obtain_json("repeated-units", key, lambda: {"units": mirrored_units(corpus)})["units"])

    def _epsilon_of_two(self, spec: Arm, plan: PrivacyPlan) -> float:
        """Epsilon for a person behind two units, with all copies of them where copies are units; once a plan."""
        copies = spent(self._experiment, spec, plan, people=2)
        if copies is not None:
            return copies.epsilon
        from fairtest.privacy.accounting import pair_epsilon

        def compute() -> dict[str, Any]:
            epsilon = pair_epsilon(plan)
            return {"epsilon": epsilon if math.isfinite(epsilon) else None}

        found = self._store.obtain_json("pair-epsilon", {"version": PLAN_VERSION, "plan": plan.as_dict()}, compute)
        return math.inf if found["epsilon"] is None else float(found["epsilon"])


def _generators(records: Sequence[dict[str, Any]], *, release: bool) -> str:
    """Where the noise of runs came from: that depends on the device they were trained on."""
    on_cpu, on_gpu = (NOISE_RELEASE, NOISE_RELEASE_GPU) if release else (NOISE_SEEDED, NOISE_SEEDED_GPU)
    devices = sorted({record.get("device", "cpu") for record in records})
    return "; or ".join(on_cpu if device == "cpu" else on_gpu for device in devices)
