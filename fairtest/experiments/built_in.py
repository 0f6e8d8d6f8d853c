"""Runs that this library trains itself: noise, loop, record, and the trained parameters put back into the model."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from fairtest.corpora.claims import require_batch
from fairtest.errors import SpecError, StoreError
from fairtest.experiments.ablations import SHUFFLED, noise_of, prepare_noise
from fairtest.experiments.claims import Claims
from fairtest.experiments.matched import match_record, require_unobserved, target_loss, train_matched
from fairtest.experiments.stated import PRIVACY_FILE
from fairtest.privacy.statement import PrivacyStatement
from fairtest.settings import AUTO, Settings
from fairtest.specs import Arm
from fairtest.store import Entry
from fairtest.store.store import sha256_of

if TYPE_CHECKING:
    from fairtest.experiments.experiment import Experiment
    from fairtest.training.models import LoadedModel
    from fairtest.training.observing import StepObserver
    from fairtest.training.trunk import TrunkCache

WEIGHTS_FILE = "trained.safetensors"


@dataclass(frozen=True)
class _Resident:
    """The model in memory: of which run, and which of its parameters a run decides."""

    digest: str
    shape: tuple[object, ...] | None
    loaded: LoadedModel


def seed_label(settings: Settings, spec: Arm, seed: int) -> str:
    """What a person reads while a run is trained."""
    most = str(settings.seeds) if settings.seeds != AUTO else f"at most {settings.max_seeds}"
    further = settings.seeds != AUTO and seed >= settings.first_seeds  # diagnoses may ask for others
    return f"train {spec.name} seed {seed}" + ("" if further else f" ({seed + 1} of {most})")


class BuiltIn:
    """Trains, loads and vouches for the runs of one experiment."""

    trainer_bytes: bytes | None = None

    def __init__(self, experiment: Experiment) -> None:
        self._experiment = experiment
        self._inputs = experiment.inputs
        self._resident: _Resident | None = None
        self._trunk_cache: TrunkCache | None = None
        self.claims = Claims(experiment)

    def key(self, spec: Arm) -> dict[str, Any]:
        """What decides a run's weights besides model, corpus, arm and seed."""
        if spec.dp is not None and spec.dp.max_grad_norm == "median":
            return {"held_out": self._inputs.held_out_corpus.digest}
        return {}

    def ready(self, spec: Arm) -> bool:
        """Works out once what every run of an arm shares; whether runs can be made in other processes."""
        prepare_noise(self.claims, spec)
        return True

    def train(self, spec: Arm, seed: int, directory: Path, observer: StepObserver | None = None) -> Mapping[str, Any]:
        """Trains one run into a directory of the store and returns its record; an observer changes nothing of it."""
        from fairtest.training.finetune import finetune
        from fairtest.training.models import save_state, trained_state

        if spec.training is None:
            raise SpecError(f"arm {spec.name!r} has nothing to train", where="training", fix="give it a Training()")
        experiment = self._experiment
        require_batch(self._inputs.training_corpus, spec.training, where=f"arm {spec.name}")
        noise = noise_of(self.claims, spec)
        target = None
        if spec.matched_to is not None:
            require_unobserved(spec, observer)
            target = target_loss(experiment, spec.matched_to, seed)
            self._resident = None  # the other run's model was scored, and is not needed any more
        augmented = self._inputs.augmented(spec)
        loaded = self.base_model(spec, seed)
        steps = spec.training.steps_for(len(augmented.units))
        digest = experiment.run_digest(spec, seed)
        began = time.monotonic()
        with experiment.progress.work(seed_label(experiment.settings, spec, seed), steps) as advance:

            def on_step(step: int, loss: float | None) -> None:
                del step
                advance("" if loss is None else f"loss {loss:.3f}")

            match: dict[str, Any] = {}
            if target is None:
                log = finetune(
                    loaded,
                    augmented.units,
                    spec.training,
                    noise,
                    seed,
                    on_step=on_step,
                    shuffled=spec.ablation == SHUFFLED,
                    observer=observer,
                )
            else:
                found = train_matched(
                    experiment, loaded, augmented.units, spec.training, seed, target=target, on_step=on_step
                )
                log, match = found.log, match_record(found, steps)
                advance(f"stopped at step {found.step}, held-out loss {found.loss:.3f} for {target:.3f}", done=steps)
        seconds = time.monotonic() - began
        experiment.ledger[digest] = {"arm": spec.name, "seed": seed, "seconds": seconds}
        save_state(trained_state(loaded.model), directory / WEIGHTS_FILE)
        loaded.model.eval()
        self._resident = _Resident(digest, _trained_shape(spec), loaded)
        record = {
            **log.as_dict(),
            **match,
            "noise_multiplier": noise.noise_multiplier if noise is not None and noise.clips else None,
            "max_grad_norm": noise.max_grad_norm if noise is not None and noise.clips else None,
            "noise_std": None if noise is None else noise.std,
            "release": noise is not None and noise.release,
            "device": next(iter(loaded.model.parameters())).device.type,
            "mean_clipped_share": fmean(log.clipped_share) if log.clipped_share else None,
            "coverage": augmented.coverage.as_dict(),
            "views_per_unit": augmented.views_per_unit,
            "trained_parameters": sum(p.numel() for p in loaded.model.parameters() if p.requires_grad),
        }
        statement = self.claims.statement(spec, [record])
        if statement is not None:
            statement.write(directory / PRIVACY_FILE)
        return record

    def repeat(self, spec: Arm, seed: int, run: Entry, observer: StepObserver) -> None:
        """Trains a run of the store a second time, under an observer.

        Raises:
            StoreError: it ended with other weights.
        """
        with tempfile.TemporaryDirectory(prefix="fairtest-") as directory:
            self.train(spec, seed, Path(directory), observer)
            again = sha256_of(Path(directory) / WEIGHTS_FILE)
        if again != run.files[WEIGHTS_FILE]["sha256"]:
            self._resident = None
            raise StoreError(
                f"the run of arm {spec.name!r} with seed {seed} ended with other weights when it was repeated",
                where=f"store entry run/{run.digest[:12]}",
                fix="repeat it where it was trained (same machine, packages and setting threads), or remove the entry",
            )

    def statement(self, spec: Arm, runs: Sequence[Entry]) -> PrivacyStatement | None:
        """The privacy statement of an arm's runs, from what they did.

        Raises:
            PrivacyError: a run did not follow the plan its noise was calibrated for.
        """
        return self.claims.statement(spec, [dict(run.result) for run in runs])

    def base_model(self, spec: Arm, seed: int) -> LoadedModel:
        """The pretrained model with what the arm trains marked, before any step."""
        import torch

        from fairtest.training.models import decoder_layers, load_model, move
        from fairtest.training.trunk import TrunkCache, split_trunk

        settings = self._experiment.settings
        torch.set_num_threads(settings.threads or os.cpu_count() or 1)
        loaded = move(load_model(self._inputs.source, spec.training, seed=seed), settings.device)
        if self._trunk_cache is None:
            store = self._experiment.store if settings.store_frozen_layers else None
            self._trunk_cache = TrunkCache(store=store, work=self._experiment.progress.work)
        trained = settings.training.trained_layers
        if trained is None:
            return loaded
        # The pretrained model is cut where the tuned ones are, so that all share what the lower layers put out.
        depth = len(decoder_layers(loaded.model)[1]) - trained if spec.training is None else None
        loaded.trunk = split_trunk(loaded, self._trunk_cache, depth=depth)
        return loaded

    def loaded(self, spec: Arm, seed: int, digest: str, run: Entry | None) -> LoadedModel:
        """The model of one run in memory. The last one is kept, and reused for runs that train the same parameters."""
        state_file = None if run is None else run.file(WEIGHTS_FILE)
        if self._resident is not None and self._resident.digest == digest:
            return self._resident.loaded
        shape = _trained_shape(spec)
        if self._resident is not None and shape is not None and self._resident.shape == shape:
            loaded = self._resident.loaded
        else:
            self._resident = None
            loaded = self.base_model(spec, seed)
        if state_file is not None:
            _put(loaded, state_file)
        self._resident = _Resident(digest, shape, loaded)
        return loaded

    def fresh(self, spec: Arm, seed: int, run: Entry | None) -> LoadedModel:
        """A model of one run that nothing else holds."""
        loaded = self.base_model(spec, seed)
        if run is not None:
            _put(loaded, run.file(WEIGHTS_FILE))
        loaded.trunk = None
        return loaded


def _put(loaded: LoadedModel, state_file: Path) -> None:
    from fairtest.training.models import load_state, load_trained_state

    load_trained_state(loaded.model, load_state(state_file))


def _trained_shape(spec: Arm) -> tuple[object, ...] | None:
    """What has to be equal for one run's trained parameters to replace another's; None: nothing was trained."""
    if spec.training is None:
        return None
    return (spec.training.trainable, spec.training.lora_rank, spec.training.lora_layers)
