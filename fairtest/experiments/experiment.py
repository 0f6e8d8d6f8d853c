"""One experiment: a model, a corpus, probe sets and a store; trains and scores what is asked for and not yet there.

Only a miss imports torch: keys are digests of files and texts, values come from the store as JSON.
"""

from __future__ import annotations

import dataclasses
import os
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairtest.corpora.units import Corpus
from fairtest.digests import digest_of
from fairtest.errors import SpecError, StoreError
from fairtest.experiments.arms import HeldOut, TunedArm, UnknownArmError
from fairtest.experiments.built_in import BuiltIn
from fairtest.experiments.executors import Executor, executor_of
from fairtest.experiments.held_out import flat
from fairtest.experiments.inputs import Inputs
from fairtest.experiments.matched import matching_key
from fairtest.experiments.model_scorer import SCORING_VERSION
from fairtest.experiments.own_trainer import OwnTrainer, Trainer
from fairtest.experiments.progress import SILENT, Progress
from fairtest.experiments.stated import PRIVACY_FILE
from fairtest.privacy.statement import PrivacyStatement
from fairtest.probes.probe import ProbeSet
from fairtest.scoring.generation_protocols import is_generation
from fairtest.scoring.scores import ProbeScores, join_scores
from fairtest.settings import PROCESSES, Settings
from fairtest.specs import AUGMENTATION_AXES, Arm
from fairtest.store import Entry, Store
from fairtest.training.sources import ModelSource

if TYPE_CHECKING:
    from fairtest.augmentation import UnitViews
    from fairtest.privacy.accounting import PrivacyPlan
    from fairtest.training.models import LoadedModel
    from fairtest.training.observing import StepObserver

# Raised when a change of the library changes what the same spec trains: old entries are then not found.
TRAINING_VERSION = 2
PROTOCOL = "causal-bos"
# Under train = "always", runs of one session (its worker processes too) are told from those of others by this.
SESSION_VARIABLE = "FAIRTEST_SESSION"


class Experiment:
    """Arms of one base model on one corpus, with everything kept in a store.

    `ledger` says of each run that was used, by digest, which arm and seed it is and how many seconds its training
    took here (None: from the store).

    Args:
        settings: model, corpus, training, privacy, seeds.
        store: where runs and scores are kept and looked for.
        progress: who is told about long work.
        trainer: trains the runs in place of this library (see `fairtest.experiments.own_trainer`); None: the library.

    Raises:
        SpecError: nothing tells when the trainer changes.
    """

    def __init__(
        self, settings: Settings, store: Store, progress: Progress = SILENT, trainer: Trainer | None = None
    ) -> None:
        self.settings = settings
        self.store = store
        self.progress = progress
        self.trainer = trainer
        self.inputs = Inputs(settings)
        self.ledger: dict[str, dict[str, Any]] = {}
        self._specs: dict[str, Arm] = {}
        self._digests: dict[tuple[Arm, int], str] = {}
        self._there: set[str] = set()
        self._keys: dict[tuple[Arm, int], dict[str, Any]] = {}
        self._executor: Executor | None = None
        self._runs: BuiltIn | OwnTrainer = BuiltIn(self) if trainer is None else OwnTrainer(self, trainer)

    def arm(self, spec: Arm) -> TunedArm:
        """A handle on an arm; trains nothing.

        Raises:
            SpecError: another arm of this experiment has the same name, or it takes this library's own training.
        """
        self._require_own_training(spec)
        known = self._specs.setdefault(spec.name, spec)
        if known.as_dict() != spec.as_dict():
            raise SpecError(
                f"two different arms are called {spec.name!r}",
                where=f"arm {spec.name!r}",
                fix="give each its own name: reports and gates tell arms apart by name",
            )
        return TunedArm(self, spec)

    def _require_own_training(self, spec: Arm) -> None:
        if isinstance(self._runs, OwnTrainer) and (spec.ablation is not None or spec.matched_to is not None):
            raise UnknownArmError(
                f"arm {spec.name!r} takes training of this library apart, and {self._runs.name} trains the arms here",
                where=f"arm {spec.name!r}",
                fix="leave your own trainer out (the fixture fairtest_trainer) where you ask for causes, or train such"
                " a model yourself and give it as a Checkpoint",
            )

    @property
    def source(self) -> ModelSource:
        """The base model."""
        return self.inputs.source

    @property
    def training_corpus(self) -> Corpus:
        """The units that may be trained on, each with at most `max_records_per_unit` records."""
        return self.inputs.training_corpus

    @property
    def held_out_corpus(self) -> Corpus:
        """The units that are never trained on, in any arm, with all their records."""
        return self.inputs.held_out_corpus

    def held_out_units(self) -> tuple[UnitViews, ...]:
        """The held-out units as training would take them, without counterfactuals."""
        return self.inputs.held_out_units()

    def probe_set(self, name: str) -> ProbeSet:
        """A probe set by name, read once."""
        return self.inputs.probe_set(name)

    def describe(self) -> dict[str, Any]:
        """Model and corpus by name and digest, how much of what is trained on and held out, and how many of the
        held-out texts are in training too; no path.
        """
        own = {"trainer": self._runs.name} if isinstance(self._runs, OwnTrainer) else {}
        return {**self.inputs.describe(), "held_out_seen": self._held_out_seen(), **own}

    def _held_out_seen(self) -> int:
        """Held-out texts that stand in training, as they are or of another group; looked for once a corpus."""
        from fairtest.augmentation import lexicon_digest, seen_texts

        aside, kept = self.held_out_corpus, self.training_corpus
        lexicons = [lexicon_digest(axis) for axis in AUGMENTATION_AXES]
        key = {"corpus": kept.digest, "held_out": aside.digest, "lexicons": lexicons}
        return int(self.store.obtain_json("held-out-seen", key, lambda: {"texts": seen_texts(aside, kept)})["texts"])

    # -- keys -----------------------------------------------------------------------------------------------------

    def _run_key(self, spec: Arm, seed: int) -> dict[str, Any]:
        """Everything that decides a run's weights; asked for many times, so made once."""
        if (spec, seed) not in self._keys:
            self._keys[spec, seed] = self._made_key(spec, seed)
        return self._keys[spec, seed]

    def _made_key(self, spec: Arm, seed: int) -> dict[str, Any]:
        self._require_own_training(spec)
        if spec.training is None:
            return {"model": self.source.digest}
        key: dict[str, Any] = {
            "version": TRAINING_VERSION,
            "model": self.source.digest,
            "corpus": self.training_corpus.digest,
            "arm": spec.as_dict(),
            "seed": seed,
        }
        if spec.cda is not None:
            key["augmentation"] = [self.inputs.lexicon_digest(axis) for axis in spec.cda.axes]
        if self.settings.train == "always":
            key["session"] = os.environ.setdefault(SESSION_VARIABLE, uuid.uuid4().hex)
        return key | self._runs.key(spec) | matching_key(self, spec, seed)

    def run_digest(self, spec: Arm, seed: int) -> str:
        """Digest of one run: everything that decides its weights."""
        if (spec, seed) not in self._digests:
            self._digests[spec, seed] = digest_of(self._run_key(spec, seed))
        return self._digests[spec, seed]

    # -- runs -----------------------------------------------------------------------------------------------------

    def prepare(
        self,
        spec: Arm,
        seeds: Sequence[int],
        probe_set: str | None = None,
        axis: str | None = None,
        protocol: str | None = None,
    ) -> None:
        """Trains the runs that are not there side by side, if there are two or more and settings.workers allows it."""
        if spec.training is None or (self.settings.workers < 2 and self.settings.executor == PROCESSES):
            return
        if probe_set is not None and axis is not None:
            self.inputs.probes_on(probe_set, axis)  # a wrong name is told before anything is trained
        missing = [seed for seed in seeds if not self._seen(spec, seed)]
        if missing and self.settings.train == "never":
            raise self._not_there(spec, missing[0])
        if len(missing) < 2 or not self._runs.ready(spec):
            return
        if spec.matched_to is not None:  # before, and side by side: each run of this arm asks for one of those
            self.prepare(spec.matched_to, missing)
        if self._executor is None:
            self._executor = executor_of(self.settings)
        if self._executor is None:
            return
        from fairtest.experiments.workers import Job

        trainer = self._runs.trainer_bytes
        jobs = [Job(self.settings, spec, seed, probe_set, axis, protocol, trainer) for seed in missing]
        label = f"train {spec.name}, {len(jobs)} seeds"
        try:
            with self.progress.work(label, len(jobs), "seed") as advance:
                for job, seconds in self._executor.run(jobs):
                    digest = self.run_digest(spec, job.seed)
                    self.ledger[digest] = {"arm": spec.name, "seed": job.seed, "seconds": seconds}
                    advance()
        except BaseException:
            self._executor = None
            raise

    def training_record(self, spec: Arm, seed: int) -> dict[str, Any]:
        """The training record of one run, trained now if it is not in the store; {} for the pretrained model."""
        return {} if spec.training is None else dict(self._run(spec, seed).result)

    def _run(self, spec: Arm, seed: int) -> Entry:
        entry = self.store.obtain(
            "run", self._run_key(spec, seed), lambda directory: self._train(spec, seed, directory)
        )
        self._used(spec, seed, entry)
        return entry

    def _train(self, spec: Arm, seed: int, directory: Path) -> Mapping[str, Any]:
        if self.settings.train == "never":
            raise self._not_there(spec, seed)
        return self._runs.train(spec, seed, directory)

    def observed(self, spec: Arm, seed: int, observer: StepObserver) -> None:
        """Trains a run under an observer: into the store where it is not there, otherwise a second time, which must end
        with the weights that are there.

        Raises:
            SpecError: a user's own trainer trains, and nobody sees its steps.
            StoreError: the run is not there and may not be trained, or came out otherwise when it was repeated.
        """
        runs = self._runs
        if isinstance(runs, OwnTrainer):
            raise SpecError(
                f"arm {spec.name!r} is trained by a trainer of yours, whose steps cannot be observed",
                where=runs.name,
                fix="observe it there (`finetune(observer=)`), or diagnose an arm that this library trains",
            )
        trained_here = False

        def make(directory: Path) -> Mapping[str, Any]:
            nonlocal trained_here
            trained_here = True
            if self.settings.train == "never":
                raise self._not_there(spec, seed)
            return runs.train(spec, seed, directory, observer)

        entry = self.store.obtain("run", self._run_key(spec, seed), make)
        self._used(spec, seed, entry)
        if not trained_here:
            told = self.ledger[entry.digest]
            runs.repeat(spec, seed, entry, observer)
            self.ledger[entry.digest] = told

    def _not_there(self, spec: Arm, seed: int) -> StoreError:
        return StoreError(
            f"the run of arm {spec.name!r} with seed {seed} is not in the store, and train = 'never'",
            where=f"store {self.settings.cache_dir}",
            fix="train it where training is allowed and share the store, or set train = 'auto'",
        )

    def _note(self, spec: Arm, seed: int) -> None:
        """Puts a run that is used through its stored scores into the ledger."""
        if spec.training is None or self.run_digest(spec, seed) in self.ledger:
            return
        entry = self.store.find("run", self._run_key(spec, seed))
        if entry is not None:
            self._used(spec, seed, entry)

    def _seen(self, spec: Arm, seed: int) -> bool:
        """Whether the run is in the store; looked for until it is found."""
        digest = self.run_digest(spec, seed)
        if digest not in self._there and self.store.find("run", self._run_key(spec, seed)) is not None:
            self._there.add(digest)
        return digest in self._there

    def _used(self, spec: Arm, seed: int, entry: Entry) -> None:
        self.ledger.setdefault(entry.digest, {"arm": spec.name, "seed": seed, "seconds": None})
        if isinstance(self._runs, OwnTrainer):
            self._runs.require_new(spec, seed, entry)

    def _entry(self, spec: Arm, seed: int) -> Entry | None:
        return None if spec.training is None else self._run(spec, seed)

    def base_model(self, spec: Arm, seed: int) -> LoadedModel:
        """The pretrained model with what the arm trains marked, before any step."""
        return self._runs.base_model(spec, seed)

    def loaded(self, spec: Arm, seed: int) -> LoadedModel:
        """The model of one run in memory. The last one is kept."""
        return self._runs.loaded(spec, seed, self.run_digest(spec, seed), self._entry(spec, seed))

    def fresh(self, spec: Arm, seed: int) -> LoadedModel:
        """A model of one run that nothing else holds: whatever is done to it changes no score."""
        return self._runs.fresh(spec, seed, self._entry(spec, seed))

    def export(self, spec: Arm, seed: int, directory: Path) -> None:
        """Writes one run as a plain Hugging Face directory, and the privacy statement of a DP run beside it.

        Raises:
            StoreError: it cannot be written.
        """
        from fairtest.experiments.weights import digest_of_weights
        from fairtest.training.models import save_pretrained

        save_pretrained(self.fresh(spec, seed), directory)
        statement = self.statement(spec, [seed])
        if statement is not None:
            dataclasses.replace(statement, weights=digest_of_weights(directory)).write(directory / PRIVACY_FILE)

    # -- privacy --------------------------------------------------------------------------------------------------

    def privacy_plan(self, spec: Arm) -> PrivacyPlan | None:
        """Noise and epsilon of a DP arm as this library trains it, calibrated once and kept in the store; None of an
        arm that claims no privacy.
        """
        return self._runs.claims.plan(spec)

    def statement(self, spec: Arm, seeds: Sequence[int]) -> PrivacyStatement | None:
        """The privacy statement of an arm, from what its runs really did; trains them if they are not there. Of a
        user's own trainer, what that claims; None where it claims nothing.

        Raises:
            PrivacyError: a run did not follow the plan its noise was calibrated for.
        """
        if spec.training is None or (not spec.private and self.trainer is None):
            return None
        return self._runs.statement(spec, [self._run(spec, seed) for seed in seeds])

    # -- scores ---------------------------------------------------------------------------------------------------

    def scores(
        self, spec: Arm, seed: int, probe_set: str, axis: str | None = None, protocol: str | None = None
    ) -> ProbeScores:
        """Scores of one run on a probe set or one axis of it. Axes are scored and kept one by one.

        Raises:
            ProbeError: the probe set cannot be read, or has no such axis; before anything is trained.
        """
        probes = self.probe_set(probe_set)
        axes = probes.axes if axis is None else (axis,)
        scores = join_scores(
            probes,
            [
                self._axis_scores(spec, seed, self.inputs.probes_on(probe_set, name), protocol or PROTOCOL)
                for name in axes
            ],
        )
        self._note(spec, seed)
        return scores

    def _axis_scores(self, spec: Arm, seed: int, probes: ProbeSet, protocol: str) -> ProbeScores:
        if is_generation(protocol):
            return self._written_scores(spec, seed, probes, protocol)
        key = {
            "version": SCORING_VERSION,
            "run": self.run_digest(spec, seed),
            "probes": probes.digest,
            "protocol": protocol,
        }

        def score() -> dict[str, Any]:
            from fairtest.scoring.likelihood import score_probe_set

            loaded = self.loaded(spec, seed)
            label = f"score {spec.name} seed {seed} on {probes.name}[{probes.axes[0]}]"
            with self.progress.work(label, len(probes), "text", minor=True) as advance:
                scored = score_probe_set(
                    loaded, probes, protocol=protocol, on_batch=lambda done, total: advance(done=done, total=total)
                )
            return scored.to_json()

        return ProbeScores.from_json(self.store.obtain_json("scores", key, score))

    def _written_scores(self, spec: Arm, seed: int, prompts: ProbeSet, protocol: str) -> ProbeScores:
        from fairtest.experiments.generation_scores import Writer, written_scores

        name, run = f"{spec.name} seed {seed}", self.run_digest(spec, seed)
        writer = Writer(name, {"run": run}, lambda: self.loaded(spec, seed))
        return written_scores(writer, prompts, protocol, store=self.store, progress=self.progress, kind="scores")

    def held_out(self, spec: Arm, seeds: Sequence[int]) -> HeldOut:
        """Held-out losses of an arm."""
        corpus = self.held_out_corpus
        texts, units, groups = flat(corpus, self.settings.group_field)
        max_length, long_texts = self.settings.max_length, self.settings.long_texts
        rows: list[tuple[float, ...]] = []
        tokens: tuple[int, ...] = ()
        for seed in seeds:
            key = {
                "version": SCORING_VERSION,
                "run": self.run_digest(spec, seed),
                "texts": digest_of(list(texts)),
                "max_length": max_length,
                "long_texts": long_texts,
            }
            value = self.store.obtain_json("held-out", key, self._held_out_scorer(spec, seed, texts))
            self._note(spec, seed)
            rows.append(tuple(value["nll"]))
            tokens = tuple(value["tokens"])
        return HeldOut(corpus.digest, units, groups, tokens, tuple(rows))

    def _held_out_scorer(self, spec: Arm, seed: int, texts: Sequence[str]) -> Callable[[], dict[str, Any]]:
        def score() -> dict[str, Any]:
            from fairtest.scoring.likelihood import score_records

            loaded = self.loaded(spec, seed)
            label = f"score {spec.name} seed {seed} on held-out records"
            with self.progress.work(label, len(texts), "text", minor=True) as advance:
                nll, tokens = score_records(
                    loaded,
                    texts,
                    max_length=self.settings.max_length,
                    long_texts=self.settings.long_texts,
                    on_batch=lambda done, total: advance(done=done, total=total),
                )
            return {"nll": list(nll), "tokens": list(tokens)}

        return score
