"""Arms as the user holds them: lazy, paired by seed, and the same interface for whatever a gate compares."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from fairtest.errors import SpecError
from fairtest.experiments.ablations import CLIP_ONLY, MATCHED, NOISE_ONLY, SHUFFLED, derived
from fairtest.settings import AUTO
from fairtest.specs import CDA, DP, Arm, Training

if TYPE_CHECKING:
    from fairtest.experiments.experiment import Experiment
    from fairtest.privacy.statement import PrivacyStatement
    from fairtest.scoring.scores import ProbeScores


@dataclass(frozen=True)
class HeldOut:
    """Loss on held-out texts, the same texts for every arm.

    `nll[s][i]`: negative log-likelihood (nats, summed over tokens) of text i under seed s; `tokens[i]`: tokens scored
    of text i; `units[i]`: the privacy
    unit text i belongs to; `groups[i]`: its group, "" where the corpus has none.
    """

    digest: str
    units: tuple[str, ...]
    groups: tuple[str, ...]
    tokens: tuple[int, ...]
    nll: tuple[tuple[float, ...], ...]


class Measured(Protocol):
    """What a gate needs of either side: scores and held-out losses per seed, and where it came from."""

    @property
    def name(self) -> str:
        """Name for messages and reports."""

    @property
    def tuned(self) -> bool:
        """Whether it was fine-tuned, so that the did-it-train guard applies."""

    @property
    def kind(self) -> str:
        """What kind of language model it is, "causal" or "masked"."""

    @property
    def identity(self) -> tuple[str, ...]:
        """Digests of what was compared; equal identities are the same weights."""

    @property
    def available_seeds(self) -> int | None:
        """How many seeds there are at most where more can be had on demand (seeds="auto"); None: those it has."""

    def limited(self, seeds: int) -> Measured:
        """The same with its first `seeds` seeds; more than it has where more are available."""

    def scores(self, probe_set: str, axis: str | None = None, protocol: str | None = None) -> tuple[ProbeScores, ...]:
        """Scores on a probe set, or on one axis of it, one entry a seed; `protocol` None: the kind's usual one."""

    def held_out(self) -> HeldOut | None:
        """Held-out losses; None where no texts are known on which a model can be judged."""

    def changed_share(self) -> float | None:
        """Share of training units that CDA changed, the smallest of the seeds; None without CDA, or not known."""

    def seconds_per_run(self) -> float | None:
        """Seconds that training one seed took, on average; None where nobody knows or nothing was trained."""

    def trained_tensors(self) -> int | None:
        """Parameters that were trained, each of which got a gradient in every run; None where nobody knows."""

    @property
    def start_known(self) -> bool:
        """Whether it is known what it was tuned from; otherwise `start` raises a ModelError."""

    def start(self) -> Measured:
        """The model it was tuned from."""

    def statement(self) -> PrivacyStatement | None:
        """Its privacy statement, None where it claims no privacy."""


class TunedArm:
    """One arm with its seeds. Nothing is trained until a value is asked for; then it comes from the store if it is
    there.
    """

    kind = "causal"
    start_known = True

    def __init__(self, experiment: Experiment, spec: Arm, seeds: int | None = None) -> None:
        self.experiment = experiment
        self.spec = spec
        self._seeds = experiment.settings.first_seeds if seeds is None else seeds

    def __repr__(self) -> str:
        return f"<arm {self.name}: {len(self.seeds)} seed(s)>"

    @property
    def name(self) -> str:
        """Name of the arm."""
        return self.spec.name

    @property
    def tuned(self) -> bool:
        """False for the pretrained model."""
        return self.spec.training is not None

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds it is trained with; the pretrained model has the one pseudo-seed 0."""
        return tuple(range(self._seeds)) if self.tuned else (0,)

    @property
    def available_seeds(self) -> int | None:
        """`max_seeds` under seeds="auto"; the pretrained model is the same whatever the seed."""
        settings = self.experiment.settings
        return settings.max_seeds if self.tuned and settings.seeds == AUTO else None

    def limited(self, seeds: int) -> TunedArm:
        """The same arm with seeds 0 to `seeds` - 1."""
        return TunedArm(self.experiment, self.spec, seeds)

    @property
    def identity(self) -> tuple[str, ...]:
        """One digest a seed."""
        return tuple(self.experiment.run_digest(self.spec, seed) for seed in self.seeds)

    def train(self) -> tuple[dict[str, Any], ...]:
        """Trains what is missing; one training record a seed (steps, losses, clipped share, seconds, coverage, ...)."""
        self.experiment.prepare(self.spec, self.seeds)
        return tuple(self.experiment.training_record(self.spec, seed) for seed in self.seeds)

    def scores(self, probe_set: str, axis: str | None = None, protocol: str | None = None) -> tuple[ProbeScores, ...]:
        """Scores on a probe set, or on one axis of it, one entry a seed."""
        self.experiment.prepare(self.spec, self.seeds, probe_set, axis, protocol)
        return tuple(self.experiment.scores(self.spec, seed, probe_set, axis, protocol) for seed in self.seeds)

    def held_out(self) -> HeldOut:
        """Held-out losses of every seed."""
        self.experiment.prepare(self.spec, self.seeds)
        return self.experiment.held_out(self.spec, self.seeds)

    def trained_tensors(self) -> int | None:
        """Parameters that were trained: a run in which one of them never gets a gradient is an error. None where a
        user's own trainer did it.
        """
        if not self.tuned:
            return 0
        counts = [record["trained_tensors"] for record in self.train()]
        return None if None in counts else min(map(int, counts))

    def changed_share(self) -> float | None:
        """Share of training units that got a counterfactual; None without CDA."""
        if self.spec.cda is None:
            return None
        shares = []
        for record in self.train():
            coverage = record["coverage"]
            shares.append(float(coverage["changed"]) / max(float(coverage["records"]), 1.0))
        return min(shares)

    def seconds_per_run(self) -> float | None:
        """Seconds one seed took to train, where it was trained."""
        seconds = [float(record["seconds"]) for record in self.train()] if self.tuned else []
        return sum(seconds) / len(seconds) if seconds else None

    def start(self) -> TunedArm:
        """The pretrained arm."""
        return self.experiment.arm(Arm(name="pretrained", training=None))

    def clip_only(self) -> TunedArm:
        """Of a DP arm: the same clipping, and no noise. An ablation claims no privacy.

        Raises:
            SpecError: it is no DP arm.
        """
        return self._beside(derived(self.spec, CLIP_ONLY))

    def noise_only(self) -> TunedArm:
        """Of a DP arm: the same noise, on gradients that are not clipped. An ablation claims no privacy.

        Raises:
            SpecError: it is no DP arm.
        """
        return self._beside(derived(self.spec, NOISE_ONLY))

    def shuffled(self) -> TunedArm:
        """Of an arm without DP: batches of fixed size from shuffled passes, where all others sample each unit.

        Raises:
            SpecError: it has DP, or was not tuned.
        """
        return self._beside(derived(self.spec, SHUFFLED))

    def matched(self) -> TunedArm:
        """Of a DP arm: its twin without DP, with its CDA and its seeds, stopped where it has learned as much: at the
        step at which its held-out loss is nearest to the DP arm's, for each seed by itself.

        Raises:
            SpecError: it is no DP arm.
        """
        return self._beside(derived(self.spec, MATCHED))

    def _beside(self, spec: Arm) -> TunedArm:
        return self.experiment.arm(spec).limited(self._seeds)

    def statement(self) -> PrivacyStatement | None:
        """Privacy statement of the arm, from what its runs did; trains what is missing."""
        self.experiment.prepare(self.spec, self.seeds)
        return self.experiment.statement(self.spec, self.seeds)

    def load(self, seed: int = 0) -> tuple[Any, Any]:
        """(model, tokenizer) of one seed, ready for `transformers` and yours alone; trains it if it is not there."""
        loaded = self.experiment.fresh(self.spec, seed)
        return loaded.model, loaded.tokenizer

    def save_pretrained(self, directory: Path | str, seed: int = 0) -> None:
        """Writes one seed as a Hugging Face directory (adapters merged in), and privacy.json with it if it is private.

        Raises:
            StoreError: it cannot be written.
        """
        self.experiment.export(self.spec, seed, Path(directory))


class UnknownArmError(SpecError, AttributeError):
    """No arm of that name here; an attribute error as well, so that `hasattr` works."""


class Arms:
    """The five named arms of one experiment, by attribute or by name: `arms.dp_cda`, `arms["dp_cda"]`.

    What takes the DP arm apart has names too: `clip_only`, `noise_only`, `shuffled`, `baseline_matched`. Going through
    the arms gives the five.
    """

    def __init__(self, experiment: Experiment) -> None:
        self._experiment = experiment
        self._specs = experiment.settings.arms()
        self._parts = experiment.settings.ablations()

    def __getattr__(self, name: str) -> TunedArm:
        if name.startswith("_"):
            raise AttributeError(name)
        return self[name]

    def __getitem__(self, name: str) -> TunedArm:
        known = {**self._specs, **self._parts}
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            raise UnknownArmError(
                f"there is no arm {name!r}",
                where="arms",
                fix=f"{hint}named arms: {', '.join(self._specs)}; what takes dp apart: {', '.join(self._parts)}; any"
                " other arm: finetune(name=..., dp=..., cda=...)",
            )
        return self._experiment.arm(known[name])

    def __iter__(self) -> Iterator[TunedArm]:
        return (self[name] for name in self._specs)

    def __dir__(self) -> list[str]:
        own = self._experiment.trainer is None
        return [*super().__dir__(), *self._specs, *(self._parts if own else ())]


def custom_arm(
    experiment: Experiment,
    name: str,
    *,
    dp: DP | float | None = None,
    cda: CDA | bool | None = None,
    **training: Any,
) -> TunedArm:
    """An arm beside the five named ones. `dp` is a `DP` or an epsilon, `cda` a `CDA` or True; further keywords
    replace fields of the session's `Training`.

    Raises:
        SpecError: the name is that of a named arm, or a field is unknown or out of range.
    """
    import dataclasses

    settings = experiment.settings
    if not isinstance(name, str):
        raise SpecError(
            f"an arm needs a name, got {name!r}",
            where="finetune(name=)",
            fix='finetune("dp_eps8", dp=8.0), for example',
        )
    if name in settings.arms() or name in settings.ablations():
        raise SpecError(
            f"{name!r} is the name of a standard arm", where="finetune(name=)", fix=f"use arms.{name}, or another name"
        )
    if isinstance(dp, (int, float)) and not isinstance(dp, bool):
        dp = dataclasses.replace(settings.dp, epsilon=float(dp))
    if cda is True:
        cda = settings.cda
    if not (dp is None or isinstance(dp, DP)) or not (cda is None or cda is False or isinstance(cda, CDA)):
        raise SpecError(
            f"finetune got dp={dp!r}, cda={cda!r}",
            where="finetune(dp=, cda=)",
            fix="dp is a fairtest.DP or an epsilon, cda is a fairtest.CDA or True",
        )
    made = _replaced(settings.training, training)
    return experiment.arm(Arm(name=name, training=made, dp=dp, cda=cda or None))


def _replaced(base: Training, training: dict[str, Any]) -> Training:
    """The session's `Training` with some fields replaced; each has to be one, and to count for something."""
    import dataclasses

    known = {item.name for item in dataclasses.fields(Training)}
    unknown = sorted(set(training) - known)
    if unknown:
        raise SpecError(
            f"finetune got unknown settings: {', '.join(unknown)}",
            where="finetune(...)",
            fix=f"training settings: {', '.join(sorted(known))}",
        )
    if "epochs" in training:
        if training.get("steps") is not None:
            raise _without_effect("epochs", "give steps or epochs, not both")
        training = {**training, "steps": None}
    made = dataclasses.replace(base, **training)
    for field in ("lora_rank", "lora_layers"):
        if field in training and made.trainable != "lora":
            raise _without_effect(field, 'set trainable="lora", or leave it out')
    return made


def _without_effect(field: str, fix: str) -> SpecError:
    return SpecError(f"{field} has no effect here", where=f"finetune({field}=)", fix=fix)
