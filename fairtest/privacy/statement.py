"""What a published (epsilon, delta) needs with it to mean anything.

The fields follow NIST SP 800-226 and "How to DP-fy ML" (Ponomareva et al. 2023).
"""

from __future__ import annotations

import dataclasses
import json
import math
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from fairtest.errors import PrivacyError
from fairtest.privacy.terms import (
    ADD_OR_REMOVE_ONE,
    CLIPPED_SEPARATELY,
    CLIPPED_TOGETHER,
    LAST_WEIGHTS,
    NOISE_RELEASE,
    NOISE_RELEASE_GPU,
    NOISE_SEEDED,
    NOISE_SEEDED_GPU,
    NOT_COVERED,
    NOT_STATED,
    POISSON,
)
from fairtest.privacy.wording import caveat_of, prose_of, summary_of

if TYPE_CHECKING:
    from fairtest.privacy.accounting import PrivacyPlan
    from fairtest.privacy.copies import CopiesSpent

__all__ = [
    "ADD_OR_REMOVE_ONE",
    "CLIPPED_SEPARATELY",
    "CLIPPED_TOGETHER",
    "NOISE_RELEASE",
    "NOISE_RELEASE_GPU",
    "NOISE_SEEDED",
    "NOISE_SEEDED_GPU",
    "NOT_COVERED",
    "NOT_STATED",
    "POISSON",
    "PrivacyStatement",
    "statement_of",
]


@dataclass(frozen=True, kw_only=True)
class PrivacyStatement:
    """One claim of (epsilon, delta) differential privacy with everything it rests on.

    Args:
        unit: what two neighbouring corpora differ by ("record", "user", ...).
        epsilon: upper bound at `delta`; infinite where there is none.
        epsilon_prv: what the PRV accountant says of the same run; None where it has no answer.
        units: N, the training units.
        batch_size: expected units in a batch.
        sample_rate: q, a unit's chance to be in a batch.
        noise_multiplier: sigma, in multiples of `max_grad_norm` (C).
        max_grad_norm_chosen: how C was chosen.
        accountant: name and version of what computed epsilon.
        sampler_declared: how the accountant was told that batches are drawn.
        sampler_actual: how they were drawn.
        max_views_per_unit: most texts that one unit put into training (counterfactuals included).
        views_handling: `CLIPPED_TOGETHER`, or how else.
        copies: how many of `units` are counterfactuals of others, sampled and clipped on their own; then `epsilon` is
            that of a unit together with its copies.
        max_copies_per_unit: most copies of one unit.
        epsilon_claimed: with copies, the epsilon that would be claimed if they were other people's; None without.
        max_records_per_unit: most records of one unit that were trained on; None where it is not stated.
        records_left_out: records that the cap on records of a unit kept out of training.
        repeated_units: units whose text is that of another unit too, as it is or with its gender swapped. If they
            come from one person, epsilon is not theirs.
        epsilon_of_two: epsilon, at the same delta, for a person behind two units; None where it is not known.
        optimizer: what the noisy gradient went through.
        clipping: what clipped the gradients.
        noise_generator: where the noise came from.
        repeatable: whether batches and noise can be drawn again by whoever knows a seed.
        released: what the guarantee lets out.
        not_covered: what it says nothing about.
        weights: SHA-256 of the weights that it is a statement of (`experiments.weights`), written with an export; it
            is not believed beside others.

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
    epsilon_prv: float | None = None
    max_grad_norm_chosen: str = NOT_STATED
    neighbouring: str = ADD_OR_REMOVE_ONE
    sampler_declared: str = POISSON
    sampler_actual: str = POISSON
    max_views_per_unit: int = 1
    views_handling: str = CLIPPED_TOGETHER
    copies: int = 0
    max_copies_per_unit: int = 0
    epsilon_claimed: float | None = None
    max_records_per_unit: int | None = None
    records_left_out: int = 0
    repeated_units: int = 0
    epsilon_of_two: float | None = None
    optimizer: str = NOT_STATED
    clipping: str = NOT_STATED
    noise_generator: str = NOT_STATED
    repeatable: bool = True
    released: str = LAST_WEIGHTS
    not_covered: tuple[str, ...] = NOT_COVERED
    weights: str = NOT_STATED

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
            "epsilon_prv": self.epsilon_prv is None or 0 <= self.epsilon_prv < math.inf,
            "max_views_per_unit": self.max_views_per_unit >= 1,
            "copies": 0 <= self.copies < self.units,
            "max_copies_per_unit": (self.copies > 0) <= self.max_copies_per_unit <= self.copies,
            "epsilon_claimed": self.epsilon_claimed is None or 0 <= self.epsilon_claimed < math.inf,
            "max_records_per_unit": self.max_records_per_unit is None or self.max_records_per_unit >= 1,
            "records_left_out": self.records_left_out >= 0,
            "repeated_units": 0 <= self.repeated_units <= self.originals,
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
    def originals(self) -> int:
        """The units that are no copies: all of them, unless copies are units."""
        return self.units - self.copies

    @property
    def delta_times_units(self) -> float:
        """Delta in multiples of 1/N, N without copies; a guarantee worth its name is well below 1."""
        return self.delta * self.originals

    def prose(self) -> str:
        """The statement as a paragraph for a report or a model card."""
        return prose_of(self)

    def summary(self) -> str:
        """The statement in one line, for a terminal."""
        return summary_of(self)

    def caveat(self) -> str:
        """What limits the claim even where it holds; empty where nothing does."""
        return caveat_of(self)

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON data; an infinite epsilon is null."""
        data = dataclasses.asdict(self)
        data["not_covered"] = list(self.not_covered)
        data["epsilon"] = self.epsilon if math.isfinite(self.epsilon) else None
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], where: str = "privacy statement") -> PrivacyStatement:
        """The inverse of `as_dict`; also reads statements that people wrote, and older ones with fewer fields.

        "prose" may stand beside the fields, as `write` puts it there; it is not read.

        Raises:
            PrivacyError: a field is missing, unknown, or of another type.
        """
        fields = {field.name: field for field in dataclasses.fields(cls)}
        given = {name: value for name, value in data.items() if name != "prose"}
        missing = [name for name, field in fields.items() if field.default is dataclasses.MISSING and name not in given]
        unknown = sorted(set(given) - set(fields))
        if missing or unknown:
            said = [f"lacks {', '.join(missing)}"] if missing else []
            said += [f"has unknown fields {', '.join(unknown)}"] if unknown else []
            raise PrivacyError(
                f"a privacy statement {' and '.join(said)}", where=where, fix=f"its fields are: {', '.join(fields)}"
            )
        given["epsilon"] = math.inf if given["epsilon"] is None else given["epsilon"]
        for name, value in given.items():
            if not _fits(str(fields[name].type), value):
                raise PrivacyError(
                    f"field {name} of a privacy statement is {value!r}",
                    where=f"{where}, field {name}",
                    fix=f"give a value of type {fields[name].type}",
                )
        return cls(**given)

    def write(self, path: Path | str) -> None:
        """Writes the statement as JSON, its prose beside the numbers; whole or not at all.

        Raises:
            PrivacyError: the file cannot be written.
        """
        path = Path(path)
        text = json.dumps({**self.as_dict(), "prose": self.prose()}, indent=2, allow_nan=False) + "\n"
        unfinished = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
        try:
            unfinished.write_text(text, encoding="utf-8")
            unfinished.replace(path)
        except OSError as error:
            raise PrivacyError(
                f"a privacy statement cannot be written: {error.strerror or error}",
                where=str(path),
                fix="name a file in a directory that exists and can be written",
            ) from error
        finally:
            unfinished.unlink(missing_ok=True)

    @classmethod
    def read(cls, path: Path | str) -> PrivacyStatement:
        """Reads what `write` wrote, or what a person did.

        Raises:
            PrivacyError: no such file, not JSON, or not a statement.
        """
        where = str(path)
        try:
            data = json.loads(Path(path).read_text(encoding="utf-8"), parse_constant=_refuse_constant)
        except OSError as error:
            raise PrivacyError(
                f"a privacy statement cannot be read: {error.strerror or error}", where=where, fix="name its JSON file"
            ) from error
        except ValueError as error:
            raise PrivacyError(
                f"a privacy statement is not JSON: {error}", where=where, fix="repair the file, or write it again"
            ) from error
        if not isinstance(data, dict):
            raise PrivacyError(
                f"a privacy statement is a JSON object, and this is a {type(data).__name__}",
                where=where,
                fix="give the fields of the statement by name",
            )
        return cls.from_dict(data, where=where)


def statement_of(
    plan: PrivacyPlan,
    *,
    max_grad_norm: float,
    unit: str,
    max_grad_norm_chosen: str = NOT_STATED,
    max_views_per_unit: int = 1,
    max_records_per_unit: int | None = None,
    records_left_out: int = 0,
    repeated_units: int = 0,
    epsilon_of_two: float | None = None,
    copies: CopiesSpent | None = None,
    sampler_actual: str = POISSON,
    optimizer: str = NOT_STATED,
    clipping: str = NOT_STATED,
    noise_generator: str | None = None,
    repeatable: bool = True,
    released: str = LAST_WEIGHTS,
) -> PrivacyStatement:
    """The statement of a run that followed a plan, with the views of a unit clipped together; or, with `copies`, each
    counterfactual as a unit of its own, and epsilon then what it is for a unit and its copies.

    `epsilon_of_two` is what `accounting.pair_epsilon` gives; an infinite one is stated as not known. `noise_generator`
    is that of fairtest's own trainer unless named: seeded where the run is `repeatable`, else from the system's
    entropy.
    """
    claimed = plan.epsilon if math.isfinite(plan.epsilon) else None
    return PrivacyStatement(
        unit=unit,
        epsilon=plan.epsilon if copies is None else copies.epsilon,
        epsilon_prv=plan.epsilon_prv if copies is None else None,
        views_handling=CLIPPED_TOGETHER if copies is None else CLIPPED_SEPARATELY,
        copies=0 if copies is None else copies.copies,
        max_copies_per_unit=0 if copies is None else copies.most,
        epsilon_claimed=None if copies is None else claimed,
        delta=plan.delta,
        units=plan.units,
        batch_size=plan.batch_size,
        sample_rate=plan.sample_rate,
        steps=plan.steps,
        noise_multiplier=plan.noise_multiplier,
        max_grad_norm=max_grad_norm,
        max_grad_norm_chosen=max_grad_norm_chosen,
        accountant=plan.accountant if copies is None else copies.accountant,
        max_views_per_unit=max_views_per_unit,
        max_records_per_unit=max_records_per_unit,
        records_left_out=records_left_out,
        repeated_units=repeated_units,
        epsilon_of_two=None if epsilon_of_two == math.inf else epsilon_of_two,
        sampler_actual=sampler_actual,
        optimizer=optimizer,
        clipping=clipping,
        noise_generator=noise_generator or (NOISE_SEEDED if repeatable else NOISE_RELEASE),
        repeatable=repeatable,
        released=released,
    )


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number (an infinite epsilon is null)")


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
