"""What an experiment reads: the base model, a corpus in two parts, probe sets, word lists. Each is read once."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairtest.corpora.readers import read_corpus
from fairtest.corpora.units import Corpus
from fairtest.digests import digest_of
from fairtest.errors import AugmentationError, CorpusError, SettingsError
from fairtest.probes.probe import ProbeSet
from fairtest.probes.registry import load_probe_set
from fairtest.settings import Settings
from fairtest.specs import Arm
from fairtest.training.sources import ModelSource, resolve_model

if TYPE_CHECKING:
    from fairtest.augmentation import Augmented, UnitViews


class Inputs:
    """Everything that the settings name, read when it is first asked for."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._probe_sets: dict[str, ProbeSet] = {}
        self._axes: dict[tuple[str, str], ProbeSet] = {}
        self._lexicon_digests: dict[str, str] = {}

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
        """A probe set by name."""
        if name not in self._probe_sets:
            self._probe_sets[name] = load_probe_set(name, self.settings.data_dir)
        return self._probe_sets[name]

    def probes_on(self, name: str, axis: str) -> ProbeSet:
        """The items of one axis of a probe set.

        Raises:
            ProbeError: no item has it.
        """
        if (name, axis) not in self._axes:
            self._axes[name, axis] = self.probe_set(name).only(axis)
        return self._axes[name, axis]

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

    def augmented(self, spec: Arm) -> Augmented:
        """The training units as an arm takes them, with the counterfactuals it asks for.

        Raises:
            AugmentationError: nothing changed, or the words are no longer those that the run is kept under.
        """
        from fairtest.augmentation import augment, lexicon_digest

        augmented = augment(self.training_corpus, spec.cda)
        changed = (
            [axis for axis in spec.cda.axes if lexicon_digest(axis) != self.lexicon_digest(axis)] if spec.cda else []
        )
        if changed:
            raise AugmentationError(
                f"the word lists of axis {changed[0]!r} have changed since this session first read them",
                where=f"arm {spec.name}",
                fix="run it again: a run is kept under the words that it was trained with",
            )
        return augmented

    def held_out_units(self) -> tuple[UnitViews, ...]:
        """The held-out units as training would take them, without counterfactuals."""
        from fairtest.augmentation import augment

        return augment(self.held_out_corpus, None).units

    def lexicon_digest(self, axis: str) -> str:
        """The digest of an axis' words when this experiment first asked for it."""
        from fairtest.augmentation import lexicon_digest

        if axis not in self._lexicon_digests:
            self._lexicon_digests[axis] = lexicon_digest(axis)
        return self._lexicon_digests[axis]
