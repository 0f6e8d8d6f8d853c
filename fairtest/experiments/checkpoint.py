"""Models trained elsewhere, standing wherever an arm does."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn

from fairtest.corpora.readers import read_corpus
from fairtest.corpora.units import Corpus
from fairtest.errors import ModelError, SpecError
from fairtest.experiments.ablations import PARTS
from fairtest.experiments.arms import HeldOut, UnknownArmError
from fairtest.experiments.held_out import flat
from fairtest.experiments.model_scorer import USUAL_PROTOCOLS, ModelScorer, model_kind
from fairtest.experiments.progress import SILENT, Progress
from fairtest.experiments.stated import beside, joint_statement, require_of_weights
from fairtest.experiments.weights import weights_digest
from fairtest.privacy.statement import PrivacyStatement
from fairtest.probes.probe import ProbeSet
from fairtest.probes.registry import load_probe_set
from fairtest.scoring.generation_protocols import is_generation
from fairtest.scoring.scores import ProbeScores
from fairtest.settings import Settings
from fairtest.store import Store
from fairtest.training.sources import SMOLLM2, TINY, ModelSource, resolve_model

_HERE = "Checkpoint(...)"
EMBEDDED = (TINY, SMOLLM2)
# Names that training loops give their outputs: the directory above tells more.
_PLAIN = re.compile(r"(checkpoint|step|epoch|seed|run)[-_]?\d+|checkpoint|model|final|best|last|output", re.IGNORECASE)


class Checkpoint:
    """Models that were trained elsewhere, as an arm. Nothing is read until a value is asked for.

    Several paths are several seeds of one arm. Where the other side of a gate has several too, the first is compared
    with the first, the second with the second: give seeds that began alike in the same order.

    Args:
        paths: directories with configuration, tokenizer and safetensors weights; hub ids and embedded names as well.
        name: what messages and reports call it; by default its directory, of several seeds the one above.
        start: the model it was tuned from (path, hub id, embedded name, or a `Checkpoint`). Without it nobody can say
            whether it was trained at all.
        statement: its privacy statement (a path, or a `PrivacyStatement`), or one for each path in a list. By default
            privacy.json beside the weights, where there is one.
        held_out: a corpus (text, JSONL, CSV, ..., as for `read_corpus`) that none of the models was trained on, for
            perplexity and the guards.
        text_field: its column with the text.
        tuned: False for a model that stands for the start of others.

    Raises:
        SpecError: what was given describes no arm.
    """

    def __init__(
        self,
        *paths: str | Path,
        name: str | None = None,
        start: str | Path | Checkpoint | None = None,
        statement: str | Path | PrivacyStatement | Sequence[str | Path | PrivacyStatement] | None = None,
        held_out: str | Path | Corpus | None = None,
        text_field: str = "text",
        tuned: bool = True,
    ) -> None:
        self.paths = tuple(str(_path(path)) for path in paths)
        if not paths:
            raise SpecError(
                "a checkpoint needs a path", where=_HERE, fix='for example Checkpoint("out/seed0", "out/seed1")'
            )
        if name is not None and (not isinstance(name, str) or not name.strip()):
            raise SpecError(f"a checkpoint needs a name, got {name!r}", where=f"{_HERE}, name=", fix="name='dp'")
        self.name = name or _name_of(self.paths)
        self.tuned = tuned
        self._statements = _statements(statement, len(paths))
        # One that is given for all seeds can be of the weights of one alone.
        self._shared = self._statements is not None and len(set(self._statements)) < len(paths)
        self._held_out = _texts(held_out)
        self._text_field = text_field
        self._start = self._made_start(start)
        self._settings: Settings | None = None
        self._store: Store | None = None
        self._progress: Progress = SILENT
        self._probe_sets: dict[str, ProbeSet] = {}

    def __repr__(self) -> str:
        return f"<checkpoint {self.name}: {len(self.paths)} seed(s)>"

    def __getattr__(self, name: str) -> NoReturn:
        if name in PARTS:
            raise UnknownArmError(
                f"{name}() trains a part of what an arm does again, and a checkpoint was trained elsewhere",
                where=f"checkpoint {self.name}",
                fix="train such a model where this one was trained and give it as a Checkpoint of its own, or ask an"
                " arm that is trained here: finetune(name=..., dp=...)",
            )
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}", name=name, obj=self)

    def bind(self, settings: Settings, store: Store | None = None, progress: Progress = SILENT) -> Checkpoint:
        """Gives it and its start the cache, data_dir, threads, device and text lengths of a session; returns itself.

        Without it the defaults of `Settings` hold. `store` None: the one of `settings.cache_dir`.
        """
        self._settings, self._store, self._progress = settings, store, progress
        self._probe_sets = {}
        if self._start is not None:
            self._start.bind(settings, store, progress)
        return self

    @property
    def bound(self) -> bool:
        """Whether `bind` was called."""
        return self._settings is not None

    @property
    def settings(self) -> Settings:
        """The settings that it is judged under."""
        if self._settings is None:
            self._settings = Settings()
        return self._settings

    @property
    def store(self) -> Store:
        """Where its scores are kept."""
        if self._store is None:
            self._store = Store(Path(self.settings.cache_dir))
        return self._store

    @cached_property
    def sources(self) -> tuple[ModelSource, ...]:
        """The files of each model.

        Raises:
            ModelError: there is no such model, or only as pickle; two are the same weights or of different kinds.
        """
        found = tuple(resolve_model(path) for path in self.paths)
        seen: dict[str, str] = {}
        for path, source in zip(self.paths, found, strict=True):
            weights = weights_digest(source)
            if weights in seen:
                raise ModelError(
                    f"{seen[weights]} and {path} are the same weights, and one model counts as one seed",
                    where=f"checkpoint {self.name!r}",
                    fix="give each seed once; check whether the training loop used its seed",
                )
            seen[weights] = path
        kinds = [model_kind(source) for source in found]
        for path, kind in zip(self.paths, kinds, strict=True):
            if kind != kinds[0]:
                raise ModelError(
                    f"{self.paths[0]} is a {kinds[0]} language model, and {path} is a {kind} one",
                    where=f"checkpoint {self.name!r}",
                    fix="the paths of a checkpoint are seeds of one arm: give models of one kind",
                )
        return found

    @property
    def kind(self) -> str:
        """What the configuration says it is, "causal" or "masked"."""
        return model_kind(self.sources[0])

    @property
    def identity(self) -> tuple[str, ...]:
        """A digest of the weights of each seed, the same under any path."""
        return tuple(weights_digest(source) for source in self.sources)

    @property
    def available_seeds(self) -> int | None:
        """None: no more can be had than are there."""
        return None

    def limited(self, seeds: int) -> Checkpoint:
        """Its first `seeds` seeds, as many as there are."""
        if seeds < 1:
            raise SpecError(
                f"a checkpoint with {seeds} seeds", where=f"checkpoint {self.name!r}", fix="give at least 1"
            )
        kept = self.paths[:seeds]
        start = self._start
        if start is not None and len(start.paths) > 1:
            start = start.limited(seeds)
        fewer = Checkpoint(
            *kept,
            name=self.name,
            start=start,
            statement=None if self._statements is None else self._statements[:seeds],
            held_out=self._held_out,
            text_field=self._text_field,
            tuned=self.tuned,
        )
        fewer._shared = self._shared
        return fewer.bind(self._settings, self._store, self._progress) if self._settings is not None else fewer

    def scores(self, probe_set: str, axis: str | None = None, protocol: str | None = None) -> tuple[ProbeScores, ...]:
        """Scores on a probe set, or on one axis of it, one entry a seed.

        Raises:
            ProbeError: the probe set cannot be read, or has no such axis.
            ModelError: the seeds read the texts as different tokens.
        """
        if probe_set not in self._probe_sets:
            self._probe_sets[probe_set] = load_probe_set(probe_set, self.settings.data_dir)
        probes = self._probe_sets[probe_set]
        axes = probes.axes if axis is None else probes.only(axis).axes
        protocol = protocol or USUAL_PROTOCOLS[self.kind]
        found = tuple(scorer.scores(probes, axes, protocol) for scorer in self._scorers())
        if not is_generation(protocol):  # what seeds write may well differ in length
            self._require_same_tokens([scores.tokens for scores in found])
        return found

    def held_out(self) -> HeldOut | None:
        """Losses on the held-out texts, pseudo-losses of a masked model; None where no texts were given.

        Raises:
            CorpusError: the texts cannot be read.
            ModelError: the seeds read them as different tokens.
        """
        if self._held_out is None:
            return None
        settings = self.settings
        texts, units, groups = flat(self._corpus, settings.group_field, settings.unit_field)
        found = [
            scorer.losses(texts, max_length=settings.max_length, long_texts=settings.long_texts)
            for scorer in self._scorers()
        ]
        self._require_same_tokens([tokens for _, tokens in found])
        return HeldOut(self._corpus.digest, units, groups, found[0][1], tuple(nll for nll, _ in found))

    def changed_share(self) -> float | None:
        """None: the augmentation was done elsewhere."""
        return None

    def seconds_per_run(self) -> float | None:
        """None: it was trained elsewhere."""
        return None

    def trained_tensors(self) -> int | None:
        """None: nobody here knows."""
        return None

    @property
    def start_known(self) -> bool:
        """Whether it was said what it was tuned from; of a model that is not tuned there is nothing to say."""
        return not self.tuned or self._start is not None

    def start(self) -> Checkpoint:
        """The model it was tuned from, judged on the same held-out texts; itself where it is not tuned.

        Raises:
            ModelError: it was not said.
        """
        if not self.tuned:
            return self
        if self._start is None:
            raise ModelError(
                f"it is not known what checkpoint {self.name!r} was tuned from",
                where=f"checkpoint {self.name!r}",
                fix='give Checkpoint(..., start="path or hub id of the model before tuning")',
            )
        return self._start

    def statement(self) -> PrivacyStatement | None:
        """Its privacy statement; of several seeds that with the largest epsilon. None where it claims no privacy.

        Raises:
            PrivacyError: a statement is malformed or of other weights, or those of the seeds do not belong together.
        """
        if self._statements is not None:
            found: list[PrivacyStatement | None] = [
                one if isinstance(one, PrivacyStatement) else PrivacyStatement.read(one) for one in self._statements
            ]
        else:
            found = [
                beside(Path(source.location)) if source.kind in ("directory", "hub") else None
                for source in self.sources
            ]
        if not self._shared:
            for path, weights, one in zip(self.paths, self.identity, found, strict=True):
                require_of_weights(one, weights, path)
        return joint_statement(list(zip(self.paths, found, strict=True)), f"checkpoint {self.name!r}")

    def describe(self) -> dict[str, Any]:
        """What a report says of it, as plain data: digests of its models and of the texts it was judged on; no path."""
        return {
            "kind": self.kind,
            "model_digests": [source.digest for source in self.sources],
            "weights": list(self.identity),
            "start": self.start().name if self.start_known and self.tuned else None,
            "held_out_texts": None if self._held_out is None else self._corpus.record_count,
            "held_out_digest": None if self._held_out is None else self._corpus.digest,
        }

    @cached_property
    def _corpus(self) -> Corpus:
        if isinstance(self._held_out, Corpus):
            return self._held_out
        return read_corpus(self._held_out, text_field=self._text_field)

    def _scorers(self) -> list[ModelScorer]:
        kind, store, settings = self.kind, self.store, self.settings
        return [
            ModelScorer(source, kind, store, self._progress, settings.threads, device=settings.device)
            for source in self.sources
        ]

    def _require_same_tokens(self, tokens: Sequence[object]) -> None:
        for path, found in zip(self.paths, tokens, strict=True):
            if found != tokens[0]:
                raise ModelError(
                    f"{self.paths[0]} and {path} read the same texts as different tokens",
                    where=f"checkpoint {self.name!r}",
                    fix="the paths of a checkpoint are seeds of one arm: give models with one tokenizer",
                )

    def _made_start(self, start: str | Path | Checkpoint | None) -> Checkpoint | None:
        if start is None:
            return None
        if not self.tuned:
            raise SpecError(
                f"checkpoint {self.name!r} is not tuned and has a start",
                where=f"{_HERE}, tuned=, start=",
                fix="leave one of the two out",
            )
        if not isinstance(start, (str, Path, Checkpoint)):
            raise SpecError(
                f"start is {start!r}",
                where=f"{_HERE}, start=",
                fix="give a path, a hub id, an embedded name, or a Checkpoint",
            )
        paths = start.paths if isinstance(start, Checkpoint) else (start,)
        if len(paths) not in (1, len(self.paths)):
            raise SpecError(
                f"{len(self.paths)} seeds cannot start from {len(paths)} models",
                where=f"{_HERE}, start=",
                fix="give one start, or one for each seed",
            )
        name = start.name if isinstance(start, Checkpoint) else _name_of([str(path) for path in paths])
        return Checkpoint(
            *paths,
            name=f"start of {self.name}" if name == self.name else name,
            held_out=self._held_out,
            text_field=self._text_field,
            tuned=False,
        )


def _path(path: object) -> str | Path:
    if isinstance(path, (str, Path)) and str(path).strip():
        return path
    several = isinstance(path, (list, tuple))
    raise SpecError(
        f"a checkpoint's path is {path!r}",
        where=_HERE,
        fix="give several paths one by one: Checkpoint(*paths)" if several else "give a directory or a hub id",
    )


def _name_of(paths: Sequence[str]) -> str:
    """The name of the directory, with the one above where it says nothing; of several, the one that holds them all."""
    first = Path(paths[0])
    if paths[0] in EMBEDDED:
        return paths[0]
    above = first.absolute().parent.name
    if len(paths) > 1 and len({Path(path).absolute().parent for path in paths}) == 1 and above:
        return above
    own = first.absolute().name
    own = f"{above}/{own}" if _PLAIN.fullmatch(own) and above else own
    return own if len(paths) == 1 else f"{own} and {len(paths) - 1} more"


def _texts(held_out: object) -> str | Path | Corpus | None:
    if held_out is None or isinstance(held_out, (str, Path, Corpus)):
        return held_out
    raise SpecError(
        f"held_out is {held_out!r}",
        where=f"{_HERE}, held_out=",
        fix="give the path of a text, JSONL or CSV file, or a Corpus",
    )


def _statements(given: object, models: int) -> tuple[str | Path | PrivacyStatement, ...] | None:
    """One statement a model; a single one is that of all."""
    if given is None:
        return None
    found = tuple(given) if isinstance(given, (list, tuple)) else (given,)
    if not found or not all(isinstance(one, (str, Path, PrivacyStatement)) for one in found):
        raise SpecError(
            f"statement is {given!r}",
            where=f"{_HERE}, statement=",
            fix="give the path of a privacy.json, or one for each path in a list",
        )
    if len(found) not in (1, models):
        raise SpecError(
            f"there are {models} models and {len(found)} privacy statements",
            where=f"{_HERE}, statement=",
            fix="give one, or one for each path",
        )
    return found * models if len(found) == 1 else found
