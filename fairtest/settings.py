"""The settings of a test session: names, checks, and where each value came from.

Precedence: command line > marker > pyproject.toml ([tool.fairtest]) > default. A relative path of pyproject.toml is
    relative to that file.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fairtest.errors import SettingsError, SpecError
from fairtest.specs import AXIS_FILES, CDA, DP, UNITS, Arm, Training, ablation_arms, standard_arms

UNDECIDED_CHOICES = ("auto", "fail", "warn", "pass", "skip")
FAMILY_CHOICES = ("show", "enforce")
TRAIN_CHOICES = ("auto", "never", "always")
PROCESSES = "processes"
AUTO = "auto"
# Seeds that seeds="auto" begins with: two give no variance to speak of.
FIRST_LOOK = 3


@dataclass(frozen=True, kw_only=True)
class Settings:
    """One consistent set of settings.

    Args:
        model: a directory, a hub id, or an embedded name ("fairtest/tiny", "smollm2-135m").
        corpus: the private corpus: a path (text, JSONL, CSV, Parquet), or "hf:org/name".
        text_field: the column that holds a record's text.
        unit: the privacy unit, "record", "document" or "user"; None: "record", or what `unit_field` is called.
        unit_field: the column that names the privacy unit (a user, a document); None: each record is a unit.
        max_records_per_unit: records of a unit that are trained on at most; None: all.
        group_field: the column by which held-out perplexity is also reported.
        data_dir: where published probe sets lie (StereoSet, CrowS-Pairs).
        epsilon, delta, max_grad_norm, release, clipping: of the DP arms (`fairtest.DP`).
        cda_axes, cda_mode, cda_names, cda_counterfactuals, cda_fraction, cda_seed: of the CDA arms (`fairtest.CDA`). An
            axis may be a file of word lists.
        seeds: number of paired seeds an arm is trained with; "auto": more are trained only while a gate is undecided.
        max_seeds: the most that seeds="auto" trains.
        steps, epochs, batch_size, optimizer, learning_rate, lr_schedule, warmup_steps, weight_decay, momentum,
            max_length, long_texts, precision, trainable, lora_rank, lora_layers, micro_batch_tokens,
            gradient_checkpointing: `fairtest.Training`.
        held_out: share of units never trained on, for perplexity and the guards.
        confidence: of every interval.
        min_improvement: nats per token of held-out loss an arm must gain over the pretrained model to count as trained.
        max_collapse: a candidate whose held-out perplexity is more than this many times the reference's has collapsed.
        family: the verdicts of all gates together (Holm) are shown beside each gate's own; "enforce" also fails the
            session where a gate passes alone and not in its family.
        undecided: what an UNDECIDED verdict does to its test: "fail", "warn", "pass", "skip"; "auto" fails where the
            environment variable CI is set and warns elsewhere.
        threads: CPU threads for torch; 0: all cores.
        device: what arms are trained and scored on, and checkpoints scored: "cpu", "cuda" or "cuda:N". It is no part of
            a run's key. Checked by a pretended device that raises as CUDA does; never run on a GPU.
        workers: processes that train the seeds of an arm side by side, each with `threads` threads and a model of its
            own.
        executor: what trains several runs at once: "processes" (`workers` of them), or one that a package brings.
        train: "auto" trains what is not in the store, "never" refuses to, "always" trains each run anew once a session.
        baseline_dir: where the values lie that `assert_no_regression` compares with; belongs into your repository.
        store_frozen_layers: what layers that do not train put out is kept in the store, for all arms, seeds and later
            sessions; false: in memory only. Such entries give the texts away nearly. No result depends on it.
        cache_dir: the store. report_dir: where reports are written.
    """

    model: str = "fairtest/tiny"
    corpus: str | None = None
    text_field: str = "text"
    unit: str | None = None
    unit_field: str | None = None
    max_records_per_unit: int | None = None
    group_field: str | None = None
    data_dir: str | None = None
    epsilon: float = 3.0
    delta: float | str = "auto"
    max_grad_norm: float | str = 1.0
    release: bool = False
    clipping: str = "fairtest"
    cda_axes: tuple[str, ...] = ("gender",)
    cda_mode: str = "two_sided"
    cda_names: bool = False
    cda_counterfactuals: str = "each"
    cda_fraction: float = 1.0
    cda_seed: int = 0
    seeds: int | str = 3
    max_seeds: int = 8
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
    held_out: float = 0.1
    confidence: float = 0.95
    min_improvement: float = 0.01
    max_collapse: float = 2.0
    family: str = "show"
    undecided: str = "auto"
    threads: int = 0
    device: str = "cpu"
    workers: int = 1
    executor: str = "processes"
    train: str = "auto"
    baseline_dir: str = "fairtest-baselines"
    store_frozen_layers: bool = True
    cache_dir: str = ".fairtest"
    report_dir: str = ".fairtest/report"
    origin: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)

    def __post_init__(self) -> None:
        for item in dataclasses.fields(self):
            if item.name != "origin":
                _check_type(item.name, getattr(self, item.name), self.origin.get(item.name, "Settings()"))
        _check_range(self, "held_out", 0.0, 1.0)
        _check_range(self, "confidence", 0.5, 1.0)
        if not 0 < self.min_improvement < math.inf:
            raise _bad(self, "min_improvement", "a number above 0 (a guard that cannot fire guards nothing)")
        if not 1 < self.max_collapse < math.inf:
            raise _bad(self, "max_collapse", "a finite number above 1")
        for name, least in (("workers", 1), ("threads", 0), ("max_seeds", FIRST_LOOK)):
            if getattr(self, name) < least:
                raise _bad(self, name, f"a whole number of at least {least}")
        for name, choices in (
            ("undecided", UNDECIDED_CHOICES),
            ("family", FAMILY_CHOICES),
            ("train", TRAIN_CHOICES),
        ):
            if getattr(self, name) not in choices:
                raise _bad(self, name, f"one of {', '.join(choices)}")
        if not re.fullmatch(r"cpu|cuda(:\d+)?", self.device):
            raise _bad(self, "device", '"cpu", "cuda" or "cuda:N"')
        _check_seeds(self)
        _check_unit(self)
        _check_arms(self)

    @property
    def first_seeds(self) -> int:
        """Seeds an arm has unless a gate asks for more."""
        return self.seeds if isinstance(self.seeds, int) else FIRST_LOOK

    @property
    def training(self) -> Training:
        """The `Training` that every tuned arm shares."""
        names = {item.name for item in dataclasses.fields(Training)}
        return Training(**{name: getattr(self, name) for name in names})

    @property
    def dp(self) -> DP:
        """The `DP` of the DP arms."""
        names = ("epsilon", "delta", "max_grad_norm", "unit", "release", "clipping")
        return DP(**{name: getattr(self, name) for name in names})

    @property
    def cda(self) -> CDA:
        """The `CDA` of the CDA arms."""
        return CDA(
            axes=self.cda_axes,
            mode=self.cda_mode,
            names=self.cda_names,
            counterfactuals=self.cda_counterfactuals,
            fraction=self.cda_fraction,
            seed=self.cda_seed,
        )

    def arms(self) -> dict[str, Arm]:
        """The five named arms under these settings."""
        return standard_arms(self.training, self.dp, self.cda)

    def ablations(self) -> dict[str, Arm]:
        """What takes the DP arm apart: clip_only, noise_only, shuffled, baseline_matched."""
        return ablation_arms(self.training, self.dp)

    def as_dict(self) -> dict[str, Any]:
        """Values by name, as plain data."""
        values = {item.name: getattr(self, item.name) for item in dataclasses.fields(self) if item.name != "origin"}
        values["cda_axes"] = list(self.cda_axes)
        return values


_TYPES: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "str | None": (str, type(None)),
    "float": (float, int),
    "float | str": (float, int, str),
    "int": (int,),
    "int | str": (int, str),
    "int | None": (int, type(None)),
    "bool": (bool,),
    "tuple[str, ...]": (tuple, list),
}
_KINDS = {item.name: str(item.type) for item in dataclasses.fields(Settings)}
# What is decided at the end of a session, for all of its tests together.
_OF_A_SESSION = ("family", "report_dir")
_PATHS = ("corpus", "cda_axes", "data_dir", "baseline_dir", "cache_dir", "report_dir", "model")


def setting_names() -> tuple[str, ...]:
    """Names a user can set, in the order of the class."""
    return tuple(item.name for item in dataclasses.fields(Settings) if item.name != "origin")


def layered(*layers: tuple[str, Mapping[str, Any], Path | None]) -> Settings:
    """Settings from layers of (origin, values, directory of relative paths), the weakest first.

    Raises:
        SettingsError: an unknown name (with a suggestion) or a value it cannot have.
    """
    values: dict[str, Any] = {}
    origin: dict[str, str] = dict.fromkeys(setting_names(), "default")
    for source, layer, base in layers:
        for name, value in layer.items():
            if name not in setting_names():
                close = difflib.get_close_matches(name, setting_names(), n=1, cutoff=0.5)
                hint = f"did you mean {close[0]!r}? " if close else ""
                raise SettingsError(
                    f"unknown setting {name!r}", where=source, fix=f"{hint}settings: {', '.join(setting_names())}"
                )
            _check_type(name, value, source)
            values[name] = _absolute(name, tuple(value) if isinstance(value, list) else value, base)
            origin[name] = source
    _refuse_without_effect(values)
    return Settings(**values, origin=origin)


def _refuse_without_effect(values: Mapping[str, Any]) -> None:
    """A setting that would be ignored is an error, not a surprise."""
    lora = values.get("trainable", Settings.trainable) == "lora"
    drawn = (
        values.get("cda_mode") == "substitute"
        or values.get("cda_counterfactuals") == "one"
        or values.get("cda_fraction", Settings.cda_fraction) < 1
    )
    for name, useless, instead in (
        ("lora_rank", not lora, 'set trainable = "lora", or leave it out'),
        ("lora_layers", not lora, 'set trainable = "lora", or leave it out'),
        ("epochs", values.get("steps") is not None, "give steps or epochs, not both"),
        ("max_seeds", values.get("seeds") != AUTO, 'set seeds = "auto", or leave it out'),
        (
            "cda_names",
            values.get("cda_names") is True and "gender" not in values.get("cda_axes", Settings.cda_axes),
            'name the axis "gender" in cda_axes, whose names they are, or leave it out',
        ),
        (
            "cda_seed",
            not drawn,
            'set cda_mode = "substitute", cda_counterfactuals = "one" or cda_fraction below 1, or leave it out',
        ),
    ):
        if name in values and useless:
            raise SettingsError(f"setting {name!r} has no effect here", where="settings", fix=instead)


def _check_type(name: str, value: Any, where: str) -> None:
    kind = _KINDS[name]
    allowed = _TYPES[kind]
    if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed):
        raise SettingsError(
            f"setting {name!r} must be of type {kind}, got {value!r}",
            where=where,
            fix="correct the value (numbers are written without quotes)",
        )
    if isinstance(value, float) and not math.isfinite(value):
        raise SettingsError(f"setting {name!r} must be finite, got {value!r}", where=where, fix="correct the value")


def _absolute(name: str, value: Any, base: Path | None) -> Any:
    """A relative path of a settings file means: relative to that file. A model name stays a name unless such a
    directory is there.
    """
    if base is None or name not in _PATHS:
        return value
    if name == "cda_axes":
        return tuple(str(base / Path(axis).expanduser()) if str(axis).endswith(AXIS_FILES) else axis for axis in value)
    if not isinstance(value, str) or value.startswith("hf:") or (name == "data_dir" and value == "hf"):
        return value
    path = base / Path(value).expanduser()
    if name == "model" and not path.is_dir():
        return value
    return str(path)


def _bad(settings: Settings, name: str, wanted: str) -> SettingsError:
    return SettingsError(
        f"setting {name!r} must be {wanted}, got {getattr(settings, name)!r}",
        where=settings.origin.get(name, "settings"),
        fix="correct the value",
    )


def _check_seeds(settings: Settings) -> None:
    if settings.seeds != AUTO and (isinstance(settings.seeds, str) or settings.seeds < 1):
        raise _bad(settings, "seeds", 'a whole number of at least 1 (at least 5 for a claim about training), or "auto"')


def _check_unit(settings: Settings) -> None:
    unit, unit_field, cap = settings.unit, settings.unit_field, settings.max_records_per_unit
    if unit is not None and unit not in UNITS:
        raise _bad(settings, "unit", f"one of {', '.join(UNITS)}")
    if unit == "user" and unit_field is None:
        raise SettingsError(
            "the privacy unit is a user, and no column names the user of a record",
            where=_place(settings, "unit"),
            fix='set unit_field to the column with the user\'s identifier, for example unit_field = "user_id"',
        )
    if unit == "record" and unit_field is not None:
        raise SettingsError(
            f"the privacy unit is a record, and unit_field = {unit_field!r} groups records into larger ones",
            where=_place(settings, "unit"),
            fix='leave unit_field out, or set unit = "user" or "document"',
        )
    if cap is not None and cap < 1:
        raise _bad(settings, "max_records_per_unit", "a whole number of at least 1")
    if cap is not None and unit_field is None:
        raise SettingsError(
            "setting 'max_records_per_unit' has no effect here: without unit_field each record is a unit",
            where=_place(settings, "max_records_per_unit"),
            fix="set unit_field to the column that names the privacy unit, or leave max_records_per_unit out",
        )


def _check_arms(settings: Settings) -> None:
    """An arm that the settings describe and that cannot be is an error of the settings, with the place of its value."""
    try:
        settings.arms()
    except SpecError as error:
        named = re.search(r"(\w+)\((\w+)=", error.where)
        name = "" if named is None else named[2] if named[1] != "CDA" else f"cda_{named[2]}"
        raise SettingsError(error.what, where=_place(settings, name), fix=error.fix) from error


def _place(settings: Settings, name: str) -> str:
    return f"setting {name!r}, {settings.origin.get(name, 'Settings()')}"


def _check_range(settings: Settings, name: str, low: float, high: float) -> None:
    if not low < getattr(settings, name) < high:
        raise _bad(settings, name, f"a number between {low:g} and {high:g}")


def session_settings(
    *,
    root: Path,
    invocation: Path,
    marker: Mapping[str, Any] | None = None,
    marker_origin: str = "marker",
    command_line: Mapping[str, Any] | None = None,
) -> Settings:
    """The settings of a project: command line > marker > environment > [tool.fairtest] of `root`/pyproject.toml >
    default.

    Relative paths mean: relative to pyproject.toml there and in a marker, to the working directory on the command line.

    Raises:
        SettingsError: pyproject.toml is not TOML, or holds a setting that cannot be; the marker of a test has one that
            is a whole session's.
    """
    for name in _OF_A_SESSION:
        if name in (marker or {}):
            raise SettingsError(
                f"setting {name!r} is one of the whole session, and has no effect on a single test",
                where=marker_origin,
                fix="set it in [tool.fairtest] of pyproject.toml",
            )
    defaults = {name: getattr(Settings, name) for name in ("baseline_dir", "cache_dir", "report_dir")}
    environment = {
        name: os.environ[variable]
        for name, variable in (("cache_dir", "FAIRTEST_CACHE_DIR"), ("data_dir", "FAIRTEST_DATA_DIR"))
        if os.environ.get(variable)
    }
    return layered(
        ("default", defaults, root),
        ("pyproject.toml [tool.fairtest]", read_pyproject(root / "pyproject.toml"), root),
        ("environment", environment, invocation),
        (marker_origin, marker or {}, root),
        ("command line", command_line or {}, invocation),
    )


def settings_root(start: Path) -> Path | None:
    """The nearest directory at or above `start` whose pyproject.toml has a [tool.fairtest] table.

    pytest's own root directory is not asked: the value of an option that names an existing directory moves it.

    Raises:
        SettingsError: a pyproject.toml on the way is not TOML.
    """
    for directory in (start, *start.parents):
        if _fairtest_table(directory / "pyproject.toml") is not None:
            return directory
    return None


def read_pyproject(path: Path) -> dict[str, Any]:
    """The [tool.fairtest] table of a pyproject.toml; {} where there is none.

    Raises:
        SettingsError: the file is not TOML, or the table is no table.
    """
    return _fairtest_table(path) or {}


def _fairtest_table(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"pyproject.toml is not valid TOML: {error}", where=str(path), fix="correct it") from error
    tools = document.get("tool", {})
    table = tools.get("fairtest") if isinstance(tools, dict) else tools
    if table is not None and not isinstance(table, dict):
        raise SettingsError("tool.fairtest is not a table", where=str(path), fix="write [tool.fairtest]")
    return table
