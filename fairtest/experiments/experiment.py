"""One experiment: a model, a corpus, probe sets and a store; trains and scores what is asked for and not yet there.

Only a miss imports torch: keys are digests of files and texts, values come from the store as JSON.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from fairtest.corpora.claims import require_batch
from fairtest.corpora.readers import read_corpus
from fairtest.corpora.units import Corpus
from fairtest.errors import AugmentationError, CorpusError, SettingsError, SpecError
from fairtest.experiments.arms import HeldOut, TunedArm
from fairtest.experiments.claims import Claims
from fairtest.experiments.model_scorer import SCORING_VERSION
from fairtest.experiments.progress import SILENT, Progress
from fairtest.privacy.statement import PrivacyStatement
from fairtest.probes.probe import ProbeSet
from fairtest.probes.registry import load_probe_set
from fairtest.scoring.scores import ProbeScores, join_scores
from fairtest.settings import AUTO, Settings
from fairtest.specs import Arm, digest_of
from fairtest.store import Entry, Store
from fairtest.training.sources import ModelSource, resolve_model

if TYPE_CHECKING:
    from fairtest.augmentation import Augmented, UnitViews
    from fairtest.experiments.workers import Workers
    from fairtest.privacy.accounting import PrivacyPlan
    from fairtest.training.models import LoadedModel
    from fairtest.training.trunk import TrunkCache

# Raised when a change of the library changes what the same spec trains: old entries are then not found.
TRAINING_VERSION = 2
PROTOCOL = "causal-bos"
# The privacy statement beside the weights of every DP run, in the store and in an exported model.
PRIVACY_FILE = "privacy.json"


@dataclass(frozen=True)
class _Resident:
    """The model in memory: of which run, and which of its parameters a run decides."""

    digest: str
    shape: tuple[object, ...] | None
    loaded: LoadedModel


def _trained_shape(spec: Arm) -> tuple[object, ...] | None:
    """What has to be equal for one run's trained parameters to replace another's; None: nothing was trained."""
    if spec.training is None:
        return None
    return (spec.training.trainable, spec.training.lora_rank, spec.training.lora_layers)


def _how_many(settings: Settings) -> str:
    return str(settings.seeds) if settings.seeds != AUTO else f"at most {settings.max_seeds}"


class Experiment:
    """Arms of one base model on one corpus, with everything kept in a store.

    `ledger` says of each run that was used, by digest, which arm and seed it is and how many seconds its training
    took here (None: from the store).

    Args:
        settings: model, corpus, training, privacy, seeds.
        store: where runs and scores are kept and looked for.
        progress: who is told about long work.
    """

    def __init__(self, settings: Settings, store: Store, progress: Progress = SILENT) -> None:
        self.settings = settings
        self.store = store
        self.progress = progress
        self.ledger: dict[str, dict[str, Any]] = {}
        self._specs: dict[str, Arm] = {}
        self._probe_sets: dict[str, ProbeSet] = {}
        self._lexicon_digests: dict[str, str] = {}
        self._resident: _Resident | None = None
        self._trunk_cache: TrunkCache | None = None
        self._workers: Workers | None = None
        self._claims = Claims(self)

    def arm(self, spec: Arm) -> TunedArm:
        """A handle on an arm; trains nothing.

        Raises:
            SpecError: another arm of this experiment has the same name.
        """
        known = self._specs.setdefault(spec.name, spec)
        if known.as_dict() != spec.as_dict():
            raise SpecError(
                f"two different arms are called {spec.name!r}",
                where=f"arm {spec.name!r}",
                fix="give each its own name: reports and gates tell arms apart by name",
            )
        return TunedArm(self, spec)

    @cached_property
    def source(self) -> ModelSource:
        """The base model."""
        return resolve_model(self.settings.model)

    @cached_property
    def _split(self) -> tuple[Corpus, Corpus]:
        settings = self.settings
        if settings.corpus is None:
            raise SettingsError(
                "no corpus is set, so no arm can be trained",
                where="setting 'corpus'",
                fix='add corpus = "records.jsonl" to [tool.fairtest] in pyproject.toml',
            )
        corpus = read_corpus(
            settings.corpus, text_field=settings.text_field, unit_field=settings.unit_field, unit=settings.unit
        )
        field = settings.group_field
        if field is not None and not any(field in record.fields for unit in corpus.units for record in unit.records):
            raise CorpusError(
                f"no record has a column {field!r}, which group_field names",
                where=corpus.name,
                fix="correct the setting group_field, or leave it out",
            )
        kept, aside = corpus.split(settings.held_out)
        return kept.capped(settings.max_records_per_unit), aside

    @property
    def training_corpus(self) -> Corpus:
        """The units that may be trained on, each with at most `max_records_per_unit` records."""
        return self._split[0]

    @property
    def held_out_corpus(self) -> Corpus:
        """The units that are never trained on, in any arm, with all their records."""
        return self._split[1]

    def probe_set(self, name: str) -> ProbeSet:
        """A probe set by name, read once."""
        if name not in self._probe_sets:
            data_dir = self.settings.data_dir or os.environ.get("FAIRTEST_DATA_DIR")
            self._probe_sets[name] = load_probe_set(name, Path(data_dir) if data_dir else None)
        return self._probe_sets[name]

    def describe(self) -> dict[str, Any]:
        """Model and corpus by name and digest, and how much of what is trained on and held out; no path."""
        kept, aside = self._split
        return {
            "model": self.source.name if self.source.kind != "directory" else Path(self.source.name).name,
            "model_digest": self.source.digest,
            "corpus": Path(str(self.settings.corpus)).name,
            "corpus_digest": digest_of([kept.digest, aside.digest]),
            "training_units": len(kept),
            "held_out_units": len(aside),
            "unit": kept.unit_name,
            "training_records": kept.record_count,
            "held_out_records": aside.record_count,
            "records_left_out": kept.records_left_out,
        }

    # -- keys -----------------------------------------------------------------------------------------------------

    def _run_key(self, spec: Arm, seed: int) -> dict[str, Any]:
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
            key["augmentation"] = [self._lexicon_digest(axis) for axis in spec.cda.axes]
        if spec.dp is not None and spec.dp.max_grad_norm == "median":
            key["held_out"] = self.held_out_corpus.digest
        return key

    def run_digest(self, spec: Arm, seed: int) -> str:
        """Digest of one run: everything that decides its weights."""
        return digest_of(self._run_key(spec, seed))

    def prepare(
        self,
        spec: Arm,
        seeds: Sequence[int],
        probe_set: str | None = None,
        axis: str | None = None,
        protocol: str | None = None,
    ) -> None:
        """Trains the runs that are not there side by side, if there are two or more and settings.workers allows it."""
        if self.settings.workers < 2 or spec.training is None:
            return
        if probe_set is not None and axis is not None:
            self.probe_set(probe_set).only(axis)  # a wrong name is told before anything is trained
        missing = [seed for seed in seeds if self.store.find("run", self._run_key(spec, seed)) is None]
        if len(missing) < 2:
            return
        if self.privacy_plan(spec) is not None:
            self._claims.max_grad_norm(spec)
        if self._workers is None:
            from fairtest.experiments.workers import Workers

            self._workers = Workers(self.settings.workers)
        from fairtest.experiments.workers import Job

        jobs = [Job(self.settings, spec, seed, probe_set, axis, protocol) for seed in missing]
        label = f"train {spec.name}, {len(jobs)} seeds"
        try:
            with self.progress.work(label, len(jobs), "seed") as advance:
                for job, seconds in self._workers.run(jobs):
                    digest = self.run_digest(spec, job.seed)
                    self.ledger[digest] = {"arm": spec.name, "seed": job.seed, "seconds": seconds}
                    advance()
        except BaseException:
            self._workers = None
            raise

    # -- training -------------------------------------------------------------------------------------------------

    def training_record(self, spec: Arm, seed: int) -> dict[str, Any]:
        """The training record of one run, trained now if it is not in the store; {} for the pretrained model."""
        return {} if spec.training is None else dict(self._run(spec, seed).result)

    def _run(self, spec: Arm, seed: int) -> Entry:
        entry = self.store.obtain(
            "run", self._run_key(spec, seed), lambda directory: self._train(spec, seed, directory)
        )
        self.ledger.setdefault(entry.digest, {"arm": spec.name, "seed": seed, "seconds": None})
        return entry

    def _note(self, spec: Arm, seed: int) -> None:
        """Puts a run that is used through its stored scores into the ledger."""
        if spec.training is None:
            return
        entry = self.store.find("run", self._run_key(spec, seed))
        if entry is not None:
            self.ledger.setdefault(entry.digest, {"arm": spec.name, "seed": seed, "seconds": None})

    def _train(self, spec: Arm, seed: int, directory: Path) -> Mapping[str, Any]:
        from fairtest.training.finetune import NoiseSpec, finetune
        from fairtest.training.models import save_state, trained_state

        if spec.training is None:
            raise SpecError(f"arm {spec.name!r} has nothing to train", where="training", fix="give it a Training()")
        require_batch(self.training_corpus, spec.training, where=f"arm {spec.name}")
        noise = None
        plan = self.privacy_plan(spec)
        if spec.dp is not None and plan is not None:
            noise = NoiseSpec(
                noise_multiplier=plan.noise_multiplier,
                max_grad_norm=self._claims.max_grad_norm(spec),
                release=spec.dp.release,
                clipping=spec.dp.clipping,
            )
        augmented = self._augmented(spec)
        loaded = self.base_model(spec, seed)
        steps = spec.training.steps_for(len(augmented.units))
        label = f"train {spec.name} seed {seed} ({seed + 1} of {_how_many(self.settings)})"
        began = time.monotonic()
        with self.progress.work(label, steps) as advance:

            def on_step(step: int, loss: float | None) -> None:
                del step
                advance("" if loss is None else f"loss {loss:.3f}")

            log = finetune(loaded, augmented.units, spec.training, noise, seed, on_step=on_step)
        seconds = time.monotonic() - began
        self.ledger[self.run_digest(spec, seed)] = {"arm": spec.name, "seed": seed, "seconds": seconds}
        save_state(trained_state(loaded.model), directory / "trained.safetensors")
        loaded.model.eval()
        self._resident = _Resident(self.run_digest(spec, seed), _trained_shape(spec), loaded)
        record = {
            **log.as_dict(),
            "noise_multiplier": None if noise is None else noise.noise_multiplier,
            "max_grad_norm": None if noise is None else noise.max_grad_norm,
            "release": noise is not None and noise.release,
            "mean_clipped_share": fmean(log.clipped_share) if log.clipped_share else None,
            "coverage": augmented.coverage.as_dict(),
            "views_per_unit": augmented.views_per_unit,
            "trained_parameters": sum(p.numel() for p in loaded.model.parameters() if p.requires_grad),
        }
        statement = self._claims.statement(spec, [record])
        if statement is not None:
            statement.write(directory / PRIVACY_FILE)
        return record

    def held_out_units(self) -> tuple[UnitViews, ...]:
        """The held-out units as training would take them, without counterfactuals."""
        from fairtest.augmentation import augment

        return augment(self.held_out_corpus, None).units

    def _augmented(self, spec: Arm) -> Augmented:
        from fairtest.augmentation import augment, lexicon_digest

        augmented = augment(self.training_corpus, spec.cda)
        changed = (
            [axis for axis in spec.cda.axes if lexicon_digest(axis) != self._lexicon_digest(axis)] if spec.cda else []
        )
        if changed:
            raise AugmentationError(
                f"the word lists of axis {changed[0]!r} have changed since this session first read them",
                where=f"arm {spec.name}",
                fix="run it again: a run is kept under the words that it was trained with",
            )
        return augmented

    def _lexicon_digest(self, axis: str) -> str:
        """The digest of an axis' words when this experiment first asked for it."""
        from fairtest.augmentation import lexicon_digest

        return self._lexicon_digests.setdefault(axis, lexicon_digest(axis))

    def base_model(self, spec: Arm, seed: int) -> LoadedModel:
        """The pretrained model with what the arm trains marked, before any step."""
        import torch

        from fairtest.training.models import decoder_layers, load_model
        from fairtest.training.trunk import TrunkCache, split_trunk

        torch.set_num_threads(self.settings.threads or os.cpu_count() or 1)
        loaded = load_model(self.source, spec.training, seed=seed)
        if self._trunk_cache is None:
            self._trunk_cache = TrunkCache()
        trained = self.settings.training.trained_layers
        if trained is None:
            return loaded
        # The pretrained model is cut where the tuned ones are, so that all share what the lower layers put out.
        depth = len(decoder_layers(loaded.model)[1]) - trained if spec.training is None else None
        loaded.trunk = split_trunk(loaded, self._trunk_cache, depth=depth)
        return loaded

    def loaded(self, spec: Arm, seed: int) -> LoadedModel:
        """The model of one run in memory. The last one is kept, and reused for runs that train the same parameters."""
        digest = self.run_digest(spec, seed)
        state_file = None if spec.training is None else self._run(spec, seed).file("trained.safetensors")
        if self._resident is not None and self._resident.digest == digest:
            return self._resident.loaded
        shape = _trained_shape(spec)
        if self._resident is not None and shape is not None and self._resident.shape == shape:
            loaded = self._resident.loaded
        else:
            self._resident = None
            loaded = self.base_model(spec, seed)
        if state_file is not None:
            from fairtest.training.models import load_state, load_trained_state

            load_trained_state(loaded.model, load_state(state_file))
        self._resident = _Resident(digest, shape, loaded)
        return loaded

    def export(self, spec: Arm, seed: int, directory: Path) -> None:
        """Writes one run as a plain Hugging Face directory, and the privacy statement of a DP run beside it.

        Raises:
            StoreError: it cannot be written.
        """
        from fairtest.training.models import save_pretrained

        save_pretrained(self.fresh(spec, seed), directory)
        statement = self.statement(spec, [seed])
        if statement is not None:
            statement.write(directory / PRIVACY_FILE)

    def fresh(self, spec: Arm, seed: int) -> LoadedModel:
        """A model of one run that nothing else holds: whatever is done to it changes no score."""
        loaded = self.base_model(spec, seed)
        if spec.training is not None:
            from fairtest.training.models import load_state, load_trained_state

            load_trained_state(loaded.model, load_state(self._run(spec, seed).file("trained.safetensors")))
        loaded.trunk = None
        return loaded

    # -- privacy --------------------------------------------------------------------------------------------------

    def privacy_plan(self, spec: Arm) -> PrivacyPlan | None:
        """Noise and epsilon of a DP arm, calibrated once and kept in the store."""
        return self._claims.plan(spec)

    def statement(self, spec: Arm, seeds: Sequence[int]) -> PrivacyStatement | None:
        """The privacy statement of a DP arm, from what its runs really did; trains them if they are not there.

        Raises:
            PrivacyError: a run did not follow the plan its noise was calibrated for.
        """
        if spec.dp is None:
            return None
        return self._claims.statement(spec, [self.training_record(spec, seed) for seed in seeds])

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
            probes, [self._axis_scores(spec, seed, probes.only(name), protocol or PROTOCOL) for name in axes]
        )
        self._note(spec, seed)
        return scores

    def _axis_scores(self, spec: Arm, seed: int, probes: ProbeSet, protocol: str) -> ProbeScores:
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

    def held_out(self, spec: Arm, seeds: Sequence[int]) -> HeldOut:
        """Held-out losses of an arm."""
        corpus = self.held_out_corpus
        group_field = self.settings.group_field
        texts, units, groups = [], [], []
        for unit in corpus.units:
            for record in unit.records:
                texts.append(record.text)
                units.append(unit.id)
                groups.append(record.fields.get(group_field, "") if group_field else "")
        max_length, long_texts = self.settings.max_length, self.settings.long_texts
        rows: list[tuple[float, ...]] = []
        tokens: tuple[int, ...] = ()
        for seed in seeds:
            key = {
                "version": SCORING_VERSION,
                "run": self.run_digest(spec, seed),
                "texts": digest_of(texts),
                "max_length": max_length,
                "long_texts": long_texts,
            }
            value = self.store.obtain_json("held-out", key, self._held_out_scorer(spec, seed, texts))
            self._note(spec, seed)
            rows.append(tuple(value["nll"]))
            tokens = tuple(value["tokens"])
        return HeldOut(corpus.digest, tuple(units), tuple(groups), tokens, tuple(rows))

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
