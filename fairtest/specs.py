"""Frozen descriptions of an arm: what to train, on what, under which protection.

A spec is plain data. Two specs that are equal describe the same experiment and share one digest, so whatever
was trained for one is found again for the other.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from fairtest.errors import SpecError

AUGMENTATION_AXES = ("gender", "religion", "race")
AXIS_FILES = (".toml", ".csv")
AUGMENTATION_MODES = ("two_sided", "substitute", "naive_copies")
COUNTERFACTUALS = ("each", "one")
LR_SCHEDULES = ("linear", "cosine", "constant")
OPTIMIZERS = ("adamw", "adam", "sgd")
PRECISIONS = ("float32", "bfloat16")
LONG_TEXTS = ("cut", "blocks")
UNITS = ("record", "document", "user")
CLIPPING_ENGINES = ("fairtest", "opacus")
ABLATIONS = ("clip_only", "noise_only", "shuffled")


def _require(condition: bool, what: str, where: str, fix: str) -> None:
    if not condition:
        raise SpecError(what, where=where, fix=fix)


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


@dataclass(frozen=True, kw_only=True)
class DP:
    """Differential privacy of one arm, by per-unit clipping and Gaussian noise (DP-SGD, Abadi et al. 2016).

    Args:
        epsilon: the budget to spend over the whole run, > 0. None only in an ablation that names its noise.
        delta: below 1/N; "auto" is 1 / (10 N) with N the number of training units.
        max_grad_norm: C, the largest L2 norm a unit's gradient may have in the sum. "median": the median norm of the
            held-out units' gradients at the pretrained model, so that choosing it reads no training unit.
        noise_multiplier: sigma, the noise's standard deviation in multiples of C. None: calibrated to epsilon.
        unit: what the claim is about; an error where the corpus is not grouped by it. None: whatever it is grouped by.
        release: noise and batches from the operating system's entropy: a model that may be published, and a run that
            nobody can repeat. False: from the run's seed, for comparisons.
        clipping: "fairtest" takes one backward pass and needs a rule for each kind of trained layer; "opacus" forms
            each record's gradient, slower and with more memory, for layers without a rule.
    """

    epsilon: float | None = 3.0
    delta: float | Literal["auto"] = "auto"
    max_grad_norm: float | Literal["median"] = 1.0
    noise_multiplier: float | None = None
    unit: str | None = None
    release: bool = False
    clipping: str = "fairtest"

    def __post_init__(self) -> None:
        if self.epsilon is None:
            _require(
                self.noise_multiplier is not None,
                "DP needs an epsilon or a noise_multiplier, and got neither",
                "DP(epsilon=, noise_multiplier=)",
                "give epsilon (for example 3.0); an ablation arm gives noise_multiplier instead",
            )
        else:
            _require(
                self.noise_multiplier is None,
                f"DP got both epsilon={self.epsilon!r} and noise_multiplier={self.noise_multiplier!r}",
                "DP(epsilon=, noise_multiplier=)",
                "give one of them: the other follows from it",
            )
            _require(
                _number(self.epsilon) and self.epsilon > 0,
                f"epsilon must be a number above 0, got {self.epsilon!r}",
                "DP(epsilon=)",
                "give a privacy budget such as 3.0; an arm without privacy has dp=None",
            )
        if self.noise_multiplier is not None:
            _require(
                _number(self.noise_multiplier) and self.noise_multiplier >= 0,
                f"noise_multiplier must be a number >= 0, got {self.noise_multiplier!r}",
                "DP(noise_multiplier=)",
                "0 clips without noise (an ablation, no privacy)",
            )
        _require(
            self.delta == "auto" or (_number(self.delta) and 0 < self.delta < 1),
            f'delta must be "auto" or a number between 0 and 1, got {self.delta!r}',
            "DP(delta=)",
            'leave "auto" for 1 / (10 N)',
        )
        _require(
            self.max_grad_norm == "median" or (_number(self.max_grad_norm) and self.max_grad_norm > 0),
            f'max_grad_norm must be a number above 0 or "median", got {self.max_grad_norm!r}',
            "DP(max_grad_norm=)",
            "1.0 is usual",
        )
        _require(
            self.unit is None or self.unit in UNITS,
            f"unit must be one of {', '.join(UNITS)}, got {self.unit!r}",
            "DP(unit=)",
            "leave it out to claim whatever the corpus is grouped by",
        )
        _require(
            isinstance(self.release, bool),
            f"release must be True or False, got {self.release!r}",
            "DP(release=)",
            "True draws noise that nobody can repeat",
        )
        _require(
            self.clipping in CLIPPING_ENGINES,
            f"clipping must be one of {', '.join(CLIPPING_ENGINES)}, got {self.clipping!r}",
            "DP(clipping=)",
            'leave it out, unless a layer has no rule: then clipping="opacus"',
        )
        # DP(epsilon=3) and DP(epsilon=3.0) are equal, so they need one digest.
        if self.epsilon is not None:
            object.__setattr__(self, "epsilon", float(self.epsilon))
        if self.max_grad_norm != "median":
            object.__setattr__(self, "max_grad_norm", float(self.max_grad_norm))
        if self.noise_multiplier is not None:
            object.__setattr__(self, "noise_multiplier", float(self.noise_multiplier))


@dataclass(frozen=True, kw_only=True)
class CDA:
    """Counterfactual data augmentation of one arm: a record is seen as it is and as it would read of another group.

    Args:
        axes: what to swap: "gender", "religion", "race", or word lists of your own, a path that ends in .toml or .csv.
        mode: "two_sided" gives a unit the counterfactuals as further views of itself; "substitute" leaves it one view,
            in which a group is drawn for each axis, its own among them: with probability 1/2 for two groups.
            "naive_copies" is for studies: counterfactuals become units of their own, as is often done, so that whoever
            is behind a record is in the corpus twice; noise is drawn for the epsilon that would claim, and the
            statement says what it really is.
        fraction: share of the units that are augmented, above 0; which ones is drawn by a hash of the unit.
        names: also swap first names, one to one within a record.
        counterfactuals: of an axis of three groups or more, "each" other group gives a view, or "one" that is drawn.
        seed: of what is drawn, from a hash of this and the record: the same in any order, process and arm.
        allow_unchanged: accept a corpus in which nothing could be swapped (otherwise an error).
    """

    axes: tuple[str, ...] = ("gender",)
    mode: str = "two_sided"
    names: bool = False
    counterfactuals: str = "each"
    seed: int = 0
    allow_unchanged: bool = False
    fraction: float = 1.0

    def __post_init__(self) -> None:
        _require(
            not isinstance(self.axes, str),
            f"axes must be a list of names, got {self.axes!r}",
            "CDA(axes=)",
            f"write ({self.axes!r},)",
        )
        object.__setattr__(self, "axes", tuple(map(str, self.axes)))
        _require(len(self.axes) > 0, "CDA got no axis", "CDA(axes=)", f"give one of {AUGMENTATION_AXES}")
        for axis in self.axes:
            if axis in AUGMENTATION_AXES or axis.lower().endswith(AXIS_FILES):
                continue
            near = difflib.get_close_matches(axis, AUGMENTATION_AXES, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            known = f"known axes: {', '.join(AUGMENTATION_AXES)}, or word lists of your own in a .toml or .csv file"
            _require(False, f"unknown axis {axis!r}", "CDA(axes=)", hint + known)
        _require(
            len(set(self.axes)) == len(self.axes),
            f"CDA names an axis more than once: {', '.join(self.axes)}",
            "CDA(axes=)",
            "name each axis once",
        )
        for name, choices in (("mode", AUGMENTATION_MODES), ("counterfactuals", COUNTERFACTUALS)):
            value = getattr(self, name)
            _require(
                value in choices,
                f"{name} must be one of {', '.join(choices)}, got {value!r}",
                f"CDA({name}=)",
                f"{choices[0]} is the default",
            )
        _require(
            isinstance(self.seed, int) and not isinstance(self.seed, bool),
            f"seed must be a whole number, got {self.seed!r}",
            "CDA(seed=)",
            "0 is the default",
        )
        for name in ("names", "allow_unchanged"):
            value = getattr(self, name)
            _require(
                isinstance(value, bool),
                f"{name} must be True or False, got {value!r}",
                f"CDA({name}=)",
                "False is the default",
            )
        _require(
            _number(self.fraction) and 0 < self.fraction <= 1,
            f"fraction must be a number above 0 and at most 1, got {self.fraction!r}",
            "CDA(fraction=)",
            "1.0 augments every unit in which something can be swapped; an arm without CDA has cda=None",
        )
        object.__setattr__(self, "fraction", float(self.fraction))

    def as_dict(self) -> dict[str, Any]:
        """Plain data; an axis of one's own by its file's name, since its words are what counts, not where they lie."""
        names = [axis if axis in AUGMENTATION_AXES else Path(axis).name for axis in self.axes]
        found = {**dataclasses.asdict(self), "axes": names}
        if self.fraction == 1.0:  # as it was before there was a fraction: what was trained is found again
            del found["fraction"]
        return found


@dataclass(frozen=True, kw_only=True)
class Training:
    """How an arm is fine-tuned; shared by all arms that are compared.

    Args:
        steps: optimizer steps; None: as many as `epochs` passes need, ceil(epochs * N / batch_size).
        epochs: expected passes over the training units; used when steps is None.
        batch_size: expected number of units in a (Poisson-sampled) batch.
        optimizer: "adamw", "adam" or "sgd"; under DP the noisy mean gradient goes through the same optimizer.
        learning_rate: the largest of the run.
        lr_schedule: "linear" and "cosine" fall to zero over the run (seeds then end closer together), "constant" stays.
        warmup_steps: steps over which the rate rises linearly to `learning_rate` first.
        weight_decay: decoupled with "adamw", an L2 penalty with "adam" and "sgd"; it reads no data.
        momentum: of "sgd".
        max_length: tokens that go through the model in one row, counted with the special tokens.
        long_texts: a text with more tokens is "cut" off there, or goes on in further "blocks" of the same unit.
        precision: of the forward and backward pass: "float32", or "bfloat16" under autocast; weights, norms, noise and
            optimizer are float32 in both.
        trainable: "all" parameters, "lora" adapters, or "last:K" for the last K decoder layers.
        lora_rank: rank of the adapters, with trainable="lora".
        lora_layers: put adapters on the last this many decoder layers; None: all of them.
        micro_batch_tokens: tokens (padding included) that go through the model at once; speed and memory only,
            never the result beyond rounding.
        gradient_checkpointing: compute activations again in the backward pass instead of keeping them; memory and
            speed only.
    """

    steps: int | None = None
    epochs: float = 3.0
    batch_size: int = 64
    optimizer: str = "adamw"
    learning_rate: float = 5e-4
    lr_schedule: str = "linear"
    warmup_steps: int = 0
    weight_decay: float = 0.0
    momentum: float = 0.0
    max_length: int = 128
    long_texts: str = "cut"
    precision: str = "float32"
    trainable: str = "all"
    lora_rank: int = 8
    lora_layers: int | None = None
    micro_batch_tokens: int = 4096
    gradient_checkpointing: bool = False

    def __post_init__(self) -> None:
        for name in ("batch_size", "max_length", "lora_rank", "micro_batch_tokens"):
            value = getattr(self, name)
            _require(
                isinstance(value, int) and not isinstance(value, bool) and value >= 1,
                f"{name} must be a whole number of at least 1, got {value!r}",
                f"Training({name}=)",
                "give a positive whole number",
            )
        for name in ("steps", "lora_layers"):
            value = getattr(self, name)
            _require(
                value is None or (isinstance(value, int) and not isinstance(value, bool) and value >= 1),
                f"{name} must be a whole number of at least 1, got {value!r}",
                f"Training({name}=)",
                "give a positive whole number or leave it out; a model that is not to be tuned is the arm `pretrained`",
            )
        for name in ("epochs", "learning_rate"):
            value = getattr(self, name)
            _require(
                _number(value) and value > 0,
                f"{name} must be a number above 0, got {value!r}",
                f"Training({name}=)",
                "give a positive number",
            )
        _require(
            _number(self.weight_decay) and self.weight_decay >= 0,
            f"weight_decay must be a number >= 0, got {self.weight_decay!r}",
            "Training(weight_decay=)",
            "0.0 switches it off",
        )
        _require(
            _number(self.momentum) and 0 <= self.momentum < 1,
            f"momentum must be a number from 0 to below 1, got {self.momentum!r}",
            "Training(momentum=)",
            "0.9 is usual",
        )
        _require(
            self.momentum == 0 or self.optimizer == "sgd",
            f"momentum {self.momentum:g} has no effect with optimizer {self.optimizer!r}",
            "Training(momentum=)",
            'leave it out, or set optimizer="sgd"',
        )
        _require(
            isinstance(self.warmup_steps, int) and not isinstance(self.warmup_steps, bool) and self.warmup_steps >= 0,
            f"warmup_steps must be a whole number of at least 0, got {self.warmup_steps!r}",
            "Training(warmup_steps=)",
            "0 starts with the full learning_rate",
        )
        for name, choices in (
            ("lr_schedule", LR_SCHEDULES),
            ("optimizer", OPTIMIZERS),
            ("precision", PRECISIONS),
            ("long_texts", LONG_TEXTS),
        ):
            value = getattr(self, name)
            _require(
                value in choices,
                f"{name} must be one of {', '.join(choices)}, got {value!r}",
                f"Training({name}=)",
                f"{choices[0]} is the default",
            )
        _require(
            isinstance(self.gradient_checkpointing, bool),
            f"gradient_checkpointing must be True or False, got {self.gradient_checkpointing!r}",
            "Training(gradient_checkpointing=)",
            "True saves memory and costs time",
        )
        _require(
            self.steps is None or self.warmup_steps < self.steps,
            f"after {self.warmup_steps} warmup_steps none of {self.steps} steps is left at the full learning_rate",
            "Training(warmup_steps=)",
            "give fewer warmup_steps than steps",
        )
        _require(
            self.long_texts != "blocks" or self.max_length >= 2,
            f"a block of max_length {self.max_length} has no room for a token after the one in front",
            "Training(max_length=)",
            "give at least 2, and rather 128",
        )
        kind, _, count = str(self.trainable).partition(":")
        _require(
            self.trainable in ("all", "lora") or (kind == "last" and count.isdigit() and int(count) >= 1),
            f"trainable must be 'all', 'lora' or 'last:K', got {self.trainable!r}",
            "Training(trainable=)",
            "for example trainable='last:2' trains the last two decoder layers",
        )
        # Training(epochs=3) and Training(epochs=3.0) are equal, so they need one digest.
        for name in ("epochs", "learning_rate", "weight_decay", "momentum"):
            object.__setattr__(self, name, float(getattr(self, name)))

    @property
    def trained_layers(self) -> int | None:
        """On how many of the last decoder layers training is; None: on all of the model."""
        if self.trainable == "lora":
            return self.lora_layers
        return None if self.trainable == "all" else int(self.trainable.partition(":")[2])

    def steps_for(self, units: int) -> int:
        """Optimizer steps on a corpus of so many training units."""
        if self.steps is not None:
            return self.steps
        return max(1, math.ceil(self.epochs * units / self.batch_size))


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One fine-tuning condition. `training=None` is the pretrained model itself.

    The name is for people and is no part of the digest: the same condition under two names is trained once.

    Args:
        ablation: a part of what `dp` does, to tell causes apart; such an arm claims no privacy. "clip_only" clips as
            the DP arm does and adds no noise, "noise_only" adds the DP arm's noise to gradients that are not clipped.
            "shuffled" (without `dp`) takes batches of fixed size from shuffled passes, where all other arms sample
            each unit by itself.
        matched_to: a DP arm; this one, without DP, stops at the step at which its held-out loss is the DP arm's, so
            that both have learned equally much of the corpus. For each seed by itself.
    """

    name: str
    training: Training | None = field(default_factory=Training)
    dp: DP | None = None
    cda: CDA | None = None
    ablation: str | None = None
    matched_to: Arm | None = None

    def __post_init__(self) -> None:
        _require(
            isinstance(self.name, str) and bool(self.name.strip()),
            f"an arm needs a name, got {self.name!r}",
            "Arm(name=)",
            "for example name='dp_eps8'",
        )
        if self.training is None:
            _require(
                self.dp is None and self.cda is None,
                f"arm {self.name!r} is not tuned (training=None) but asks for DP or CDA",
                "Arm(training=, dp=, cda=)",
                "give it a Training(), or leave dp and cda out",
            )
        self._require_ablation()
        self._require_match()

    @property
    def private(self) -> bool:
        """Whether the arm may claim privacy: it is trained with DP, and not with a part of it only."""
        return self.dp is not None and self.ablation is None

    def _require_ablation(self) -> None:
        if self.ablation is None:
            return
        _require(
            self.ablation in ABLATIONS,
            f"ablation must be one of {', '.join(ABLATIONS)}, got {self.ablation!r}",
            "Arm(ablation=)",
            "leave it out for an arm that is not taken apart",
        )
        _require(
            self.training is not None and (self.dp is None) == (self.ablation == "shuffled"),
            f"ablation {self.ablation!r} of arm {self.name!r} does not fit dp={self.dp!r}",
            "Arm(ablation=, dp=)",
            '"clip_only" and "noise_only" are parts of a DP arm, "shuffled" is of one without DP',
        )

    def _require_match(self) -> None:
        other = self.matched_to
        if other is None:
            return
        _require(
            self.training is not None and self.dp is None and self.ablation is None and other.training is not None,
            f"arm {self.name!r} cannot be matched to {other.name!r}",
            "Arm(matched_to=)",
            "a matched arm is a plain one without DP, and what it is matched to is fine-tuned",
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain data of everything that changes what is trained; no name, no speed-only setting."""
        training = None
        if self.training is not None:
            training = dataclasses.asdict(self.training)
            for speed_only in ("micro_batch_tokens", "gradient_checkpointing"):
                del training[speed_only]
        found: dict[str, Any] = {
            "training": training,
            "dp": dataclasses.asdict(self.dp) if self.dp else None,
            "cda": self.cda.as_dict() if self.cda else None,
        }
        # Absent where they are not used, so that what was trained before they existed is found again.
        if self.ablation is not None:
            found["ablation"] = self.ablation
        if self.matched_to is not None:
            found["matched_to"] = self.matched_to.as_dict()
        return found


def standard_arms(training: Training, dp: DP, cda: CDA) -> dict[str, Arm]:
    """The five named arms, by name: pretrained, baseline, cda, dp, dp_cda."""
    arms = (
        Arm(name="pretrained", training=None),
        Arm(name="baseline", training=training),
        Arm(name="cda", training=training, cda=cda),
        Arm(name="dp", training=training, dp=dp),
        Arm(name="dp_cda", training=training, dp=dp, cda=cda),
    )
    return {arm.name: arm for arm in arms}


def ablation_arms(training: Training, dp: DP, cda: CDA | None = None, *, suffix: str = "") -> dict[str, Arm]:
    """What takes a DP arm apart, by name: clip_only, noise_only, shuffled, baseline_matched, each with `suffix`."""
    private = Arm(name=f"dp{suffix}", training=training, dp=dp, cda=cda)
    arms = (
        Arm(name=f"clip_only{suffix}", training=training, dp=dp, cda=cda, ablation="clip_only"),
        Arm(name=f"noise_only{suffix}", training=training, dp=dp, cda=cda, ablation="noise_only"),
        Arm(name=f"shuffled{suffix}", training=training, cda=cda, ablation="shuffled"),
        Arm(name=f"baseline_matched{suffix}", training=training, cda=cda, matched_to=private),
    )
    return {arm.name: arm for arm in arms}
