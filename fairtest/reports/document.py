"""The result document: one JSON-able dictionary, the source of every rendering."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import math
import os
import platform
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fairtest.errors import StoreError
from fairtest.settings import Settings

SCHEMA = 1
_PACKAGES = ("fairtest", "torch", "transformers", "opacus", "dp-accounting", "peft", "numpy", "scipy", "pytest")


def build_document(
    *,
    gates: Iterable[Mapping[str, Any]],
    measurements: Iterable[Mapping[str, Any]],
    arms: Mapping[str, Mapping[str, Any]],
    ledger: Mapping[str, Mapping[str, Any]],
    failed_otherwise: Sequence[str] = (),
    explanations: Iterable[Mapping[str, Any]] = (),
    settings: Settings,
    seconds: float,
) -> dict[str, Any]:
    """Everything a report shows; plain data, no NaN. `failed_otherwise`: tests that asked for a verdict and ended
    without one. `explanations`: what amplifications are made of (fairtest.gates.explain), as plain data.
    """
    gates = list(gates)
    verdicts = Counter(gate["verdict"] for gate in gates)
    return {
        "schema": SCHEMA,
        "made_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "summary": {
            "gates": len(gates),
            "failed_otherwise": len(failed_otherwise),
            **{verdict: verdicts.get(verdict, 0) for verdict in ("PASS", "FAIL", "UNDECIDED")},
            "runs_trained": sum(1 for run in ledger.values() if run["seconds"] is not None),
            "runs_from_store": sum(1 for run in ledger.values() if run["seconds"] is None),
            "training_seconds": round(sum(run["seconds"] or 0.0 for run in ledger.values()), 1),
            "seconds": round(seconds, 1),
        },
        "gates": gates,
        "measurements": list(measurements),
        "explanations": list(explanations),
        "failed_otherwise": list(failed_otherwise),
        "arms": {name: dict(arm) for name, arm in arms.items()},
        "settings": {
            name: {"value": _without_directory(name, value), "origin": settings.origin.get(name, "default")}
            for name, value in settings.as_dict().items()
            if name not in ("baseline_dir", "cache_dir", "report_dir", "data_dir")
        },
        "environment": environment(),
    }


def _without_directory(name: str, value: Any) -> Any:
    """A report is read on other machines: of a path only the last part means anything there."""
    return (
        Path(value).name
        if name in ("model", "corpus") and isinstance(value, str) and Path(value).is_absolute()
        else value
    )


def environment() -> dict[str, Any]:
    """Versions and machine, as metadata of a result; no package is imported for it."""
    versions = {}
    for name in _PACKAGES:  # one by one: to go through all that is installed takes longer than a gate
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return {
        "python": platform.python_version(),
        "system": platform.system(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "packages": versions,
    }


def write_text(path: Path, text: str) -> Path:
    """Writes a file whole or not at all.

    Raises:
        StoreError: the directory cannot be written.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise StoreError(
            f"a report cannot be written: {error.strerror or error}",
            where=str(path),
            fix="choose a writable directory with the setting report_dir or --fairtest-report",
        ) from error
    return path


def dump(document: Mapping[str, Any]) -> str:
    """The document as JSON text, in its own order (arms and levels are listed as they were asked for)."""
    return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def finite(value: Any) -> Any:
    """The same plain data with infinities and NaN as text, which JSON can hold."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return value
