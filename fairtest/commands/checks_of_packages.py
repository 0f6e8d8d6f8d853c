"""What the doctor looks at in the environment: Python, packages, extras, torch, pytest's plugin, a build server."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import os
import platform
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fairtest.commands.tested import TESTED

if TYPE_CHECKING:
    from fairtest.settings import Settings

OK, ABSENT, PROBLEM = "ok", "missing", "problem"
_NEEDED_BY = {"lora": "trainable = 'lora'", "smollm2": "model = 'smollm2-135m'"}
_FOR = {
    "classification": "rates of classifiers by group",
    "lora": 'trainable = "lora"',
    "mlflow": "fairtest report --mlflow",
    "ray": "arms trained by Ray",
    "reports": "pages and their drawings",
    "sentiment": "--scorer vader",
    "smollm2": 'model = "smollm2-135m"',
}
_NOT_A_USERS = ("dev", "docs")
_EXTRA = re.compile(r"""extra\s*==\s*['"]([\w-]+)['"]""")


@dataclass(frozen=True)
class Check:
    """One thing that was looked at. `needed`: the settings cannot do without it."""

    name: str
    status: str
    text: str
    fix: str = ""
    needed: bool = True

    def as_dict(self) -> dict[str, Any]:
        """Plain data."""
        return dataclasses.asdict(self)


def checks(settings: Settings | None) -> Iterator[Check]:
    """One after the other, as each is found."""
    yield _python()
    yield from _packages(settings)
    yield _torch(settings)
    yield _plugin()
    yield _build_server(settings)


def _python() -> Check:
    version = platform.python_version()
    wanted = importlib.metadata.metadata("fairtest")["Requires-Python"] or ""
    if not _meets(version, wanted):
        return Check("python", PROBLEM, f"Python {version}; fairtest needs {wanted}", "install a newer Python")
    return Check("python", OK, f"Python {version}, {platform.system()} {platform.machine()}")


def _packages(settings: Settings | None) -> Iterator[Check]:
    from packaging.requirements import Requirement

    yield Check("fairtest", OK, f"fairtest {importlib.metadata.version('fairtest')}")
    extras: dict[str, list[Requirement]] = {}
    core: list[Requirement] = []
    for text in importlib.metadata.requires("fairtest") or ():
        requirement = Requirement(text)
        named = _EXTRA.search(str(requirement.marker or ""))
        if named is not None:
            extras.setdefault(named[1], []).append(requirement)
        elif requirement.marker is None or requirement.marker.evaluate():
            core.append(requirement)
    for requirement in sorted(core, key=lambda one: one.name.lower()):
        yield _package(requirement.name, str(requirement.specifier))
    needed = _needed_extras(settings)
    for extra in sorted(set(extras) - set(_NOT_A_USERS)):
        wanted = [(one.name, str(one.specifier)) for one in extras[extra]]
        yield _extra(extra, wanted, needed=extra in needed)


def _package(name: str, specifier: str) -> Check:
    found = _version(name)
    if found is None:
        return Check(name, ABSENT, f"{name} is not installed", f'pip install "{name}{specifier}"')
    if not _meets(found, specifier):
        fix = f'pip install "{name}{specifier}"'
        return Check(name, PROBLEM, f"{name} {found}; fairtest needs {specifier}", fix)
    return Check(name, OK, f"{name} {found}{_compared(name, found)}")


def _extra(extra: str, wanted: list[tuple[str, str]], *, needed: bool) -> Check:
    absent = [name for name, specifier in wanted if not _meets(_version(name), specifier)]
    purpose = _FOR.get(extra, "")
    about = f"extra {extra}{f' ({purpose})' if purpose else ''}"
    if not absent:
        versions = ", ".join(f"{name} {_version(name)}{_compared(name, str(_version(name)))}" for name, _ in wanted)
        return Check(f"extra {extra}", OK, f"{about}: {versions}", needed=needed)
    use = f"and {_NEEDED_BY[extra]} needs it" if needed else "no setting needs it"
    fix = f'pip install "fairtest[{extra}]"'
    return Check(f"extra {extra}", ABSENT, f"{about}: no {', '.join(absent)}; {use}", fix, needed=needed)


def _needed_extras(settings: Settings | None) -> set[str]:
    if settings is None:
        return set()
    return {
        name
        for name, needed in (("lora", settings.trainable == "lora"), ("smollm2", settings.model == "smollm2-135m"))
        if needed
    }


def _torch(settings: Settings | None) -> Check:
    try:
        import torch
    except (ImportError, OSError) as error:
        return Check("torch", PROBLEM, f"torch cannot be imported: {error}", "install it again: pip install torch")
    cores = os.cpu_count() or 1
    threads = (settings.threads if settings is not None else 0) or cores
    workers = settings.workers if settings is not None else 1
    device = "no GPU: training runs on the CPU"
    if torch.cuda.is_available():
        device = f"CUDA {torch.version.cuda}, {torch.cuda.get_device_name(0)}"
        if settings is None or settings.device == "cpu":
            device += ' (not used: set device = "cuda")'
    each = "" if workers == 1 else f" in each of {workers} workers"
    text = f"torch runs {threads} thread(s){each} on {cores} core(s); {device}"
    if threads * workers > cores:
        fix = f"set threads and workers so that their product is at most {cores}"
        return Check("threads", PROBLEM, f"{text}: they wait for each other", fix, needed=False)
    return Check("threads", OK, text)


def _plugin() -> Check:
    found = list(importlib.metadata.entry_points(group="pytest11", name="fairtest"))
    values = sorted(point.value for point in found)
    if values == ["pytest_fairtest.plugin"]:
        off = "PYTEST_DISABLE_PLUGIN_AUTOLOAD"
        if os.environ.get(off):
            fix = f"unset {off}, or run pytest -p pytest_fairtest.plugin"
            return Check("plugin", PROBLEM, f"{off} is set, so pytest does not load the plugin", fix)
        return Check("plugin", OK, "pytest's plugin is registered once")
    fix = "install fairtest once: pip uninstall fairtest until there is none, then pip install it"
    told = "is not registered" if not found else f"is registered {len(found)} times ({', '.join(values)})"
    return Check("plugin", PROBLEM, f"pytest's plugin {told}", fix)


def _build_server(settings: Settings | None) -> Check:
    from fairtest.gates.assertions import undecided_policy
    from fairtest.settings import Settings as Defaults

    used = settings if settings is not None else Defaults()
    policy = undecided_policy(used)
    effect = {"fail": "fails its test", "warn": "is a warning", "pass": "passes", "skip": "skips"}[policy]
    if used.undecided != "auto":
        return Check("ci", OK, f"an undecided gate {effect} (setting undecided)")
    server = "a build server (CI is set)" if policy == "fail" else "no build server"
    return Check("ci", OK, f"{server}: an undecided gate {effect}")


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _meets(version: str | None, specifier: str) -> bool:
    from packaging.specifiers import SpecifierSet

    return version is not None and SpecifierSet(specifier).contains(version, prereleases=True)


def _compared(name: str, found: str) -> str:
    """Nothing where it is the version that was tested."""
    tested = {key.lower(): value for key, value in TESTED.items()}.get(name.lower())
    return "" if tested is None or found.partition("+")[0] == tested else f" (tested with {tested})"
