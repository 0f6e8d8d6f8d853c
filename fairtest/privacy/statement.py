"""What a published (epsilon, delta) needs with it to mean anything, and whether a claim holds.

The fields follow NIST SP 800-226 and "How to DP-fy ML" (Ponomareva et al. 2023).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fairtest.errors import PrivacyError

if TYPE_CHECKING:
    from fairtest.privacy.accounting import PrivacyPlan

ADD_OR_REMOVE_ONE = "add or remove one unit"
CLIPPED_TOGETHER = "clipped together, once"
CLIPPED_SEPARATELY = "clipped one by one"
POISSON = "poisson"
MOST_REPEATED = 0.05

NOT_COVERED = (
    "the data the base model was pretrained on",
    "choices made by looking at earlier runs on the same units (tuning is not counted in epsilon)",
    "the held-out units and what is measured on them",
    "diagnostics that read unclipped or noiseless gradients, and the training losses",
)


@dataclass(frozen=True, kw_only=True)
class PrivacyStatement:
    """One claim of (epsilon, delta) differential privacy with everything it rests on.

    Args:
        unit: what two neighbouring corpora differ by ("record", "user", ...).
        epsilon: upper bound at `delta`; infinite where there is none.
        units: N, the training units.
        sample_rate: q, a unit's chance to be in a batch.
        noise_multiplier: sigma, in multiples of `max_grad_norm` (C).
        accountant: name and version of what computed epsilon.
        sampler_declared: how the accountant was told that batches are drawn.
        sampler_actual: how they were drawn.
        max_views_per_unit: most texts that one unit put into training (counterfactuals included).
        views_handling: `CLIPPED_TOGETHER`, or how else.
        repeated_units: units whose text is that of another unit too, as it is or with its gender swapped. If they
            come from one person, epsilon is not theirs.
        epsilon_of_two: epsilon, at the same delta, for a person behind two units; None where it is not known.
        noise_generator: where the noise came from.
        repeatable: whether the noise can be drawn again by whoever knows a seed.
        released: what the guarantee lets out.
        not_covered: what it says nothing about.

    Raises:
        PrivacyError: a number that no mechanism can have.
    """

    unit: str
    epsilon: float
    delta: float
    units: int
    batch_size: int
    sample_rate: float
    steps: int
    noise_multiplier: float
    max_grad_norm: float
    accountant: str
    neighbouring: str = ADD_OR_REMOVE_ONE
    sampler_declared: str = POISSON
    sampler_actual: str = POISSON
    max_views_per_unit: int = 1
    views_handling: str = CLIPPED_TOGETHER
    repeated_units: int = 0
    epsilon_of_two: float | None = None
    noise_generator: str = "torch, seeded"
    repeatable: bool = True
    released: str = "the trained weights after the last step"
    not_covered: tuple[str, ...] = NOT_COVERED

    def __post_init__(self) -> None:
        object.__setattr__(self, "not_covered", tuple(self.not_covered))
        possible = {
            "unit": bool(self.unit),
            "epsilon": self.epsilon >= 0,
            "delta": 0 < self.delta < 1,
            "units": self.units >= 1,
            "batch_size": self.batch_size >= 1,
            "sample_rate": 0 < self.sample_rate <= 1,
            "steps": self.steps >= 1,
            "noise_multiplier": 0 <= self.noise_multiplier < math.inf,
            "max_grad_norm": 0 < self.max_grad_norm < math.inf,
            "max_views_per_unit": self.max_views_per_unit >= 1,
            "repeated_units": 0 <= self.repeated_units <= self.units,
            "epsilon_of_two": self.epsilon_of_two is None or 0 <= self.epsilon_of_two < math.inf,
        }
        for name, fits in possible.items():
            if not fits:
                raise PrivacyError(
                    f"{name} cannot be {getattr(self, name)!r}",
                    where=f"privacy statement, field {name}",
                    fix="state the value that training used",
                )

    @property
    def delta_times_units(self) -> float:
        """Delta in multiples of 1/N; a guarantee worth its name is well below 1."""
        return self.delta * self.units

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON data; an infinite epsilon is null."""
        data = dataclasses.asdict(self)
        data["not_covered"] = list(self.not_covered)
        data["epsilon"] = self.epsilon if math.isfinite(self.epsilon) else None
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], where: str = "privacy statement") -> PrivacyStatement:
        """The inverse of `as_dict`; also reads statements that people wrote.

        Raises:
            PrivacyError: a field is missing, unknown, or of another type.
        """
        fields = {field.name: field for field in dataclasses.fields(cls)}
        missing = [name for name, field in fields.items() if field.default is dataclasses.MISSING and name not in data]
        unknown = sorted(set(data) - set(fields))
        if missing or unknown:
            said = [f"lacks {', '.join(missing)}"] if missing else []
            said += [f"has unknown fields {', '.join(unknown)}"] if unknown else []
            raise PrivacyError(
                f"a privacy statement {' and '.join(said)}", where=where, fix=f"its fields are: {', '.join(fields)}"
            )
        values = {**data, "epsilon": math.inf if data["epsilon"] is None else data["epsilon"]}
        for name, value in values.items():
            if not _fits(str(fields[name].type), value):
                raise PrivacyError(
                    f"field {name} of a privacy statement is {value!r}",
                    where=f"{where}, field {name}",
                    fix=f"give a value of type {fields[name].type}",
                )
        return cls(**values)

    def prose(self) -> str:
        """The statement as a paragraph for a report or a model card."""
        strength = f"epsilon = {self.epsilon:.3g}" if math.isfinite(self.epsilon) else "no finite epsilon"
        views = "one text"
        if self.max_views_per_unit > 1:
            views = f"up to {self.max_views_per_unit} texts (counterfactuals included), {self.views_handling}"
        claim = (
            f"Training gives {strength} at delta = {self.delta:.3g} ({self.delta_times_units:.2g} times 1/N, N ="
            f" {self.units}) for neighbouring corpora that differ as in: {self.neighbouring}; the unit is one"
            f" {self.unit}. Each unit contributes {views}."
        )
        mechanism = (
            f"Mechanism: gradients clipped to C = {self.max_grad_norm:g} per unit, Gaussian noise sigma ="
            f" {self.noise_multiplier:.4g} (times C), {self.steps} steps, sampling rate q = {self.sample_rate:.4g}"
            f" (batch {self.batch_size}), sampler {self.sampler_actual} (accounted as {self.sampler_declared})."
        )
        origin = f"Accountant: {self.accountant}. Noise: {self.noise_generator}. Released: {self.released}."
        lines = [claim, mechanism, origin, f"Not covered: {'; '.join(self.not_covered)}."]
        if self.caveat():
            lines.append(f"{self.caveat()[0].upper()}{self.caveat()[1:]}.")
        return " ".join(lines)

    def caveat(self) -> str:
        """What limits the claim even where it holds; empty where nothing does."""
        limits = []
        if self.repeated_units:
            two = ""
            if self.epsilon_of_two is not None:
                two = f"; for a person behind two of them epsilon is {self.epsilon_of_two:.3g} at the same delta"
            limits.append(
                f"{self.repeated_units} of {self.units} units have the text of another unit: where they come from one"
                f" person, this epsilon is not that person's (name the person's column as the unit){two}"
            )
        if self.repeatable:
            limits.append(
                "the noise can be drawn again from its seed, and arms of one seed share their noise, which serves"
                " paired comparisons: weights made this way are not for release"
            )
        return "; ".join(limits)


def statement_of(
    plan: PrivacyPlan,
    *,
    max_grad_norm: float,
    unit: str,
    max_views_per_unit: int = 1,
    repeated_units: int = 0,
    epsilon_of_two: float | None = None,
    sampler_actual: str = POISSON,
    noise_generator: str = "torch, seeded",
    repeatable: bool = True,
    released: str = "the trained weights after the last step",
) -> PrivacyStatement:
    """The statement of a run that followed a plan, with the views of a unit clipped together.

    `epsilon_of_two` is what `accounting.pair_epsilon` gives; an infinite one is stated as not known.
    """
    return PrivacyStatement(
        unit=unit,
        epsilon=plan.epsilon,
        delta=plan.delta,
        units=plan.units,
        batch_size=plan.batch_size,
        sample_rate=plan.sample_rate,
        steps=plan.steps,
        noise_multiplier=plan.noise_multiplier,
        max_grad_norm=max_grad_norm,
        accountant=plan.accountant,
        max_views_per_unit=max_views_per_unit,
        repeated_units=repeated_units,
        epsilon_of_two=None if epsilon_of_two == math.inf else epsilon_of_two,
        sampler_actual=sampler_actual,
        noise_generator=noise_generator,
        repeatable=repeatable,
        released=released,
    )


def judge_privacy(
    statement: PrivacyStatement | None,
    max_epsilon: float,
    max_delta: float | None = None,
    unit: str | None = None,
    *,
    recompute: bool = False,
    allow_repeated: bool = False,
) -> list[str]:
    """What is wrong with a claim, each in one sentence; empty where it holds and stays within the budget.

    `recompute` also derives epsilon anew from sigma, q, steps and delta (a second of work): for claims of others.
    `allow_repeated` accepts that more than 5% of the records repeat others: for text that no one person repeats.
    """
    if statement is None:
        return ["there is no privacy statement: the arm was trained without differential privacy"]
    problems = [*_budget_problems(statement, max_epsilon, max_delta), *_mechanism_problems(statement)]
    if unit is not None and statement.unit != unit:
        problems.append(f"the privacy unit is one {statement.unit}, and one {unit} is required")
    if not allow_repeated:
        problems += _repetition_problem(statement)
    if recompute and not problems:
        problems += _recomputed_problem(statement)
    return problems


def _budget_problems(statement: PrivacyStatement, max_epsilon: float, max_delta: float | None) -> Iterator[str]:
    epsilon, delta, units = statement.epsilon, statement.delta, statement.units
    if not math.isfinite(epsilon) or statement.noise_multiplier == 0:
        yield "there is no privacy: no noise was added, so epsilon is infinite"
    elif not epsilon <= max_epsilon:
        yield f"epsilon {epsilon:.4g} is above the allowed {max_epsilon:g}"
    if not delta < 1 / units:
        yield f"delta {delta:.3g} is not below 1/N = {1 / units:.3g}"
    if max_delta is not None and not delta <= max_delta:
        yield f"delta {delta:.3g} is above the allowed {max_delta:g}"


def _mechanism_problems(statement: PrivacyStatement) -> Iterator[str]:
    drawn, accounted, views = statement.sampler_actual, statement.sampler_declared, statement.max_views_per_unit
    if drawn != accounted:
        yield f"batches were drawn by {drawn} sampling and accounted as {accounted}"
    if views > 1 and statement.views_handling != CLIPPED_TOGETHER:
        yield (
            f"a unit has up to {views} views and they were {statement.views_handling}, so it moves a step by up to"
            f" {views} clipping norms and not by one"
        )
    if not math.isclose(statement.sample_rate * statement.units, statement.batch_size, rel_tol=1e-6):
        yield (
            f"the sampling rate {statement.sample_rate:.4g} does not belong to batches of {statement.batch_size} out of"
            f" {statement.units} units"
        )


def _repetition_problem(statement: PrivacyStatement) -> list[str]:
    repeated, units = statement.repeated_units, statement.units
    if statement.unit != "record" or repeated <= MOST_REPEATED * units:
        return []
    two = "" if statement.epsilon_of_two is None else f" ({statement.epsilon_of_two:.3g} for one behind two of them)"
    problem = (
        f"{repeated} of {units} records have the text of another record or its counterfactual, so epsilon is per record"
        f" and not per person{two}: name the person's column as unit_field"
    )
    return [problem]


def _recomputed_problem(statement: PrivacyStatement) -> list[str]:
    from fairtest.privacy.accounting import epsilon_of

    if statement.sampler_actual != POISSON or statement.neighbouring != ADD_OR_REMOVE_ONE:
        return [f"epsilon cannot be recomputed for {statement.sampler_actual} sampling, {statement.neighbouring}"]
    found = epsilon_of(statement.noise_multiplier, statement.sample_rate, statement.steps, statement.delta)
    if found > statement.epsilon * 1.01 + 0.01:
        return [
            f"the stated epsilon {statement.epsilon:.4g} does not follow from its sigma, q and steps: {found:.4g} does"
        ]
    return []


def _fits(annotation: str, value: object) -> bool:
    if annotation.endswith(" | None"):
        return value is None or _fits(annotation.removesuffix(" | None"), value)
    if annotation == "bool":
        return isinstance(value, bool)
    if annotation == "int":
        return isinstance(value, int) and not isinstance(value, bool)
    if annotation == "float":
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if annotation == "str":
        return isinstance(value, str)
    return isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value)
