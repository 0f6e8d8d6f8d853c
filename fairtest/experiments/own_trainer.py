"""Runs that a user's own trainer makes: called with an empty folder, looked at, and kept like any other run.

A trainer is a callable (arm, units, seed, directory) -> path: `arm` is the `fairtest.Arm` that is asked for, `units`
the `UnitViews` to train on (with counterfactuals where the arm has CDA), `seed` a number it has to use for everything
that it draws (nothing is seeded for it), and `directory` an empty folder. It returns that folder, or one inside it,
with a causal language model in Hugging Face format (configuration, tokenizer, safetensors).
"""

from __future__ import annotations

import os
import pickle
import shutil
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairtest.errors import FairtestError, PrivacyError, SpecError, TrainingError
from fairtest.experiments.built_in import BuiltIn, seed_label
from fairtest.experiments.stated import PRIVACY_FILE, beside, joint_statement
from fairtest.experiments.trainer_identity import trainer_identity, trainer_place
from fairtest.experiments.weights import weights_digest
from fairtest.privacy.statement import PrivacyStatement
from fairtest.specs import Arm
from fairtest.store import Entry
from fairtest.store.store import ALLOWED_SUFFIXES
from fairtest.training.sources import ModelSource, resolve_model

if TYPE_CHECKING:
    from fairtest.augmentation import UnitViews
    from fairtest.experiments.experiment import Experiment
    from fairtest.training.models import LoadedModel

Trainer = Callable[[Arm, "tuple[UnitViews, ...]", int, Path], "str | Path"]

# Raised when a change of the library changes what is kept of what a trainer made.
OWN_VERSION = 1
_KEPT = "checkpoint"


class OwnTrainer:
    """Has the runs of one experiment trained by a callable, loads them, and passes on what they claim.

    Raises:
        SpecError: nothing tells when the trainer changes.
    """

    def __init__(self, experiment: Experiment, trainer: Trainer) -> None:
        self._experiment = experiment
        self._trainer = trainer
        self._identity = trainer_identity(trainer)
        self._pretrained = BuiltIn(experiment)
        self.claims = self._pretrained.claims
        self._resident: tuple[str, LoadedModel] | None = None
        self._weights: dict[str, tuple[str, str]] = {}
        self.trainer_bytes = _pickled(trainer)
        self._told = False

    @property
    def name(self) -> str:
        """What the trainer is called."""
        return str(self._identity["name"])

    def key(self, spec: Arm) -> dict[str, Any]:
        """What decides a run's weights besides model, corpus, arm and seed: the trainer."""
        del spec
        return {"version": OWN_VERSION, "trainer": self._identity}

    def ready(self, spec: Arm) -> bool:
        """Whether runs can be made in other processes; says once why they cannot."""
        del spec
        if self.trainer_bytes is None and not self._told:
            self._told = True
            self._experiment.progress.say(
                f"trainer {self.name} cannot be sent to another process (is it inside a function?), so its runs are"
                " trained one after another"
            )
        return self.trainer_bytes is not None

    def train(self, spec: Arm, seed: int, directory: Path) -> Mapping[str, Any]:
        """Has one run trained and keeps what it made in a directory of the store; returns its record."""
        experiment = self._experiment
        if spec.training is None:
            raise SpecError(f"arm {spec.name!r} has nothing to train", where="training", fix="give it a Training()")
        where = f"arm {spec.name}, seed {seed}"
        augmented = experiment.inputs.augmented(spec)
        scratch = (directory / "made").absolute()
        scratch.mkdir()
        _set_threads(experiment.settings.threads)
        # What it prints stays where the test runner puts what is printed: no bar of ours stands above it.
        label = seed_label(experiment.settings, spec, seed)
        experiment.progress.say(f"{label}, by {self.name}")
        began = time.monotonic()
        returned = self._called(spec, augmented.units, seed, scratch, where)
        seconds = time.monotonic() - began
        experiment.progress.say(f"{label}: {seconds:.1f} s")
        try:
            made = self._returned(returned, scratch)
            parameters = self._keep(made, directory / _KEPT)
            statement = beside(made) or beside(scratch)
            _require_all_views(statement, augmented.views_per_unit)
            _require_all_copies(statement, augmented.most_copies)
        except FairtestError as error:
            kind = type(error) if isinstance(error, PrivacyError) else TrainingError
            raise kind(
                f"what trainer {self.name} made cannot be used: {error.what}", where=where, fix=error.fix
            ) from error
        if statement is not None:
            statement.write(directory / PRIVACY_FILE)
        shutil.rmtree(scratch)
        experiment.ledger[experiment.run_digest(spec, seed)] = {"arm": spec.name, "seed": seed, "seconds": seconds}
        return {
            "trainer": self.name,
            "seconds": seconds,
            "units": len(augmented.units),
            "coverage": augmented.coverage.as_dict(),
            "views_per_unit": augmented.views_per_unit,
            "steps": None,
            "losses": [],  # what a loop of somebody else's saw on the way is not known
            "trained_tensors": None,
            "trained_parameters": parameters,
            "weights": weights_digest(resolve_model(str(directory / _KEPT))),
        }

    def require_new(self, spec: Arm, seed: int, run: Entry) -> None:
        """Refuses a run whose weights another run has: it would be counted as evidence of its own.

        Raises:
            TrainingError: the trainer does not use its seed, or makes no difference between two arms.
        """
        here = f"seed {seed} of arm {spec.name!r}"
        digest, other = self._weights.setdefault(str(run.result["weights"]), (run.digest, here))
        if digest != run.digest:
            raise TrainingError(
                f"{other} and {here} have the same weights, so trainer {self.name} leaves something out that they"
                " differ in",
                where=here,
                fix="seed everything that draws with the seed it is given (torch.manual_seed(seed)), and follow"
                " arm.training, arm.dp and the counterfactuals in units",
            )

    def statement(self, spec: Arm, runs: Sequence[Entry]) -> PrivacyStatement | None:
        """What the trainer claims in the privacy.json that it wrote; None where it wrote none.

        Raises:
            PrivacyError: the claims of the seeds do not belong together.
        """
        found = [
            (f"run {index}", PrivacyStatement.read(run.file(PRIVACY_FILE)) if PRIVACY_FILE in run.files else None)
            for index, run in enumerate(runs)
        ]
        return joint_statement(found, f"arm {spec.name}")

    def base_model(self, spec: Arm, seed: int) -> LoadedModel:
        """The pretrained model with what the arm's `Training` names marked."""
        return self._pretrained.base_model(spec, seed)

    def loaded(self, spec: Arm, seed: int, digest: str, run: Entry | None) -> LoadedModel:
        """The model of one run in memory; the last one is kept."""
        if run is None:
            return self._pretrained.loaded(spec, seed, digest, None)
        if self._resident is None or self._resident[0] != digest:
            self._resident = None
            self._resident = (digest, self.fresh(spec, seed, run))
        return self._resident[1]

    def fresh(self, spec: Arm, seed: int, run: Entry | None) -> LoadedModel:
        """A model of one run that nothing else holds."""
        if run is None:
            return self._pretrained.fresh(spec, seed, None)
        from fairtest.training.models import load_model, move

        _set_threads(self._experiment.settings.threads)
        for name in run.files:
            run.file(name)  # as it was written
        place = str(run.path / _KEPT)
        loaded = load_model(ModelSource(f"{spec.name} seed {seed}", "directory", place, run.digest))
        return move(loaded, self._experiment.settings.device)

    def _called(self, spec: Arm, units: tuple[UnitViews, ...], seed: int, scratch: Path, where: str) -> object:
        try:
            return self._trainer(spec, units, seed, scratch)
        except Exception as error:
            told = error.what if isinstance(error, FairtestError) else str(error)
            raise TrainingError(
                f"trainer {self.name} failed: {type(error).__name__}: {told}",
                where=f"{where}, {_line(error, self._trainer)}",
                fix=error.fix
                if isinstance(error, FairtestError)
                else "correct the trainer: nothing of the run is kept",
            ) from error

    def _returned(self, returned: object, scratch: Path) -> Path:
        fix = "return the folder it was given, or one inside it, with config.json, tokenizer and model.safetensors"
        if not isinstance(returned, (str, Path)):
            raise TrainingError(f"it returned {returned!r}, which is no path", fix=fix)
        made = scratch / returned  # an absolute path stays as it is
        if not made.is_dir():
            raise TrainingError(f"it returned {str(returned)!r}, and there is no such folder", fix=fix)
        if not made.resolve().is_relative_to(scratch.resolve()):
            raise TrainingError(f"it returned {str(returned)!r}, which is not in the folder it was given", fix=fix)
        return made

    def _keep(self, made: Path, kept: Path) -> int:
        """Writes the model anew, as files that the store holds, once it is known to be one that was trained."""
        import torch

        from fairtest.training.models import load_model, save_pretrained

        loaded = load_model(resolve_model(str(made)))
        weights = dict(loaded.model.named_parameters())
        for name, parameter in weights.items():
            if not parameter.isfinite().all():
                raise TrainingError(
                    f"weight {name!r} is not finite", fix="train with a smaller learning rate, and look at the loss"
                )
        before = dict(load_model(self._experiment.source).model.named_parameters())
        if weights.keys() == before.keys() and all(torch.equal(weights[name], before[name]) for name in weights):
            raise TrainingError(
                "its weights are those of the base model, so nothing was trained",
                fix="save the model after training, not before; check the learning rate",
            )
        save_pretrained(loaded, kept)
        for path in kept.iterdir():
            if path.suffix not in ALLOWED_SUFFIXES:
                path.unlink()
        again = load_model(resolve_model(str(kept)))
        if again.tokenizer.get_vocab() != loaded.tokenizer.get_vocab():
            raise TrainingError(
                "its tokenizer cannot be kept as JSON", fix="save a fast tokenizer (tokenizer.json) with the model"
            )
        return sum(parameter.numel() for parameter in weights.values())


def _require_all_views(statement: PrivacyStatement | None, views: int) -> None:
    if statement is not None and statement.max_views_per_unit < views:
        raise PrivacyError(
            f"its {PRIVACY_FILE} speaks of at most {statement.max_views_per_unit} text(s) a unit, and the units have up"
            f" to {views}",
            fix="clip all views of a unit together and state max_views_per_unit, or count what they cost apart",
        )


def _require_all_copies(statement: PrivacyStatement | None, copies: int) -> None:
    if statement is not None and statement.max_copies_per_unit < copies:
        raise PrivacyError(
            f"its {PRIVACY_FILE} takes the counterfactuals among the units for other people's: up to {copies} of"
            f" them are of one unit, and it speaks of {statement.max_copies_per_unit}",
            fix="state copies, max_copies_per_unit and epsilon for a unit with its copies"
            " (fairtest.privacy.copies.copies_spent), or take CDA(mode='two_sided')",
        )


def _pickled(trainer: Trainer) -> bytes | None:
    try:
        return pickle.dumps(trainer)
    except (pickle.PicklingError, AttributeError, TypeError, ValueError, RecursionError):
        return None


def _set_threads(threads: int) -> None:
    import torch

    torch.set_num_threads(threads or os.cpu_count() or 1)


def _line(error: BaseException, trainer: Trainer) -> str:
    """File and line of the trainer's own file that the error came through last, or where it was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    place = trainer_place(trainer)
    own = [frame for frame in frames if place is not None and Path(frame.filename) == place]
    last = (own or frames)[-1]
    return f"{Path(last.filename).name}:{last.lineno}"
