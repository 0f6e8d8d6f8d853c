"""A report as one run of MLflow: settings as parameters, what was measured as metrics, the files as artefacts."""

from __future__ import annotations

import importlib
import math
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fairtest.errors import StoreError
from fairtest.reports import sections
from fairtest.reports.reading import showable

EXPERIMENT = "fairtest"
_VERDICTS = {"PASS": 1.0, "UNDECIDED": 0.0, "FAIL": -1.0}
_MOST_AT_ONCE = 100  # parameters and tags of one request; MLflow takes ten times as many metrics
_LONGEST_NAME, _LONGEST_VALUE = 250, 500
_FORBIDDEN = re.compile(r"[^\w\-. /]", re.ASCII)


def log_report(
    document: Mapping[str, Any],
    *,
    files: Iterable[Path] = (),
    experiment: str = EXPERIMENT,
    tracking_uri: str | None = None,
) -> str:
    """Logs a report as a finished run and returns the run's identifier. `tracking_uri` None: MLflow's own setting
    (MLFLOW_TRACKING_URI). Whatever run the caller has open is left alone.

    Raises:
        StoreError: MLflow is not installed, or the server refuses.
    """
    try:
        entities, client_of, refused = _mlflow()
    except ImportError as error:
        raise StoreError(
            "MLflow is not installed", where="fairtest.reports.mlflow", fix='pip install "fairtest[mlflow]"'
        ) from error
    shown = showable(document)
    now = int(time.time() * 1000)
    try:
        client = client_of(tracking_uri=tracking_uri)
        found = client.get_experiment_by_name(experiment)
        identifier = client.create_experiment(experiment) if found is None else found.experiment_id
        run = client.create_run(identifier, run_name=f"fairtest {shown['made_at']}").info.run_id
        try:
            for part in _parts([entities.Param(key, value) for key, value in params(shown).items()]):
                client.log_batch(run, params=part)
            for part in _parts([entities.Metric(key, value, now, 0) for key, value in metrics(shown).items()]):
                client.log_batch(run, metrics=part)
            for part in _parts([entities.RunTag(key, value) for key, value in tags(shown).items()]):
                client.log_batch(run, tags=part)
            client.log_dict(run, dict(document), "report.json")
            for file in files:
                client.log_artifact(run, str(file))
        except BaseException:
            client.set_terminated(run, status="FAILED")
            raise
        client.set_terminated(run)
    except (refused, OSError) as error:
        raise StoreError(
            f"MLflow did not take the report: {error}",
            where=tracking_uri or "MLFLOW_TRACKING_URI",
            fix="check the tracking server and its address",
        ) from error
    return str(run)


def _mlflow() -> tuple[Any, Any, type[Exception]]:
    """Entities, the client, and what it raises: an optional package, so nothing knows it before a report is logged."""
    client = importlib.import_module("mlflow.tracking").MlflowClient
    return (
        importlib.import_module("mlflow.entities"),
        client,
        importlib.import_module("mlflow.exceptions").MlflowException,
    )


def params(document: Mapping[str, Any]) -> dict[str, str]:
    """Settings, and what was trained on."""
    values = {name: row["value"] for name, row in document["settings"].items()}
    for arm in document["arms"].values():
        if arm.get("data"):
            values |= {name: arm["data"][name] for name in ("model_digest", "corpus_digest", "training_units")}
            break
    return {name_of(name): str(value)[:_LONGEST_VALUE] for name, value in values.items()}


def metrics(document: Mapping[str, Any]) -> dict[str, float]:
    """Verdicts (1 holds, 0 not decided, -1 does not hold), changes with their intervals, levels, and epsilon."""
    found = {f"gates/{verdict}": document["summary"].get(verdict, 0) for verdict in _VERDICTS}
    for gate in document["gates"]:
        against = f"_against_{gate['reference']}" if gate["reference"] else ""
        name = f"{gate['gate']}/{gate['metric']}/{gate['candidate']}{against}"
        found |= {f"{name}/verdict": _VERDICTS[gate["verdict"]], f"{name}/allowed": gate["allowed"]}
        found |= _ends(name, gate["change"] or {})
    for metric, levels in sections.levels_by_metric(document).items():
        for arm, level in levels.items():
            found |= _ends(f"level/{metric}/{arm}", level)
    for arm, one in document["arms"].items():
        stated = one.get("statement")
        if stated and stated["epsilon"] is not None:
            found |= {f"epsilon/{arm}": stated["epsilon"], f"delta/{arm}": stated["delta"]}
    numbers = {name_of(name): float(value) for name, value in found.items()}
    return {name: value for name, value in numbers.items() if math.isfinite(value)}


def _ends(name: str, level: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{name}/{key}": level[key] for key in ("value", "low", "high") if key in level}


def tags(document: Mapping[str, Any]) -> dict[str, str]:
    """The verdict in words, and versions."""
    packages = document["environment"].get("packages", {})
    named = {f"version.{name}": str(version) for name, version in packages.items()}
    told = {"fairtest.verdict": sections.overall(document["summary"])}
    told["mlflow.note.content"] = sections.headline(document["summary"])
    return told | {name_of(name): value[:_LONGEST_VALUE] for name, value in named.items()}


def name_of(text: str) -> str:
    """A name that MLflow takes: `stereoset.ss[gender]` is `stereoset.ss.gender`."""
    plain = _FORBIDDEN.sub("_", text.replace("[", ".").replace("]", ""))
    # A name is a path to MLflow, and must be written as the shortest one.
    parts = [part for part in plain.split("/") if part not in {"", ".", ".."}]
    return "/".join(parts)[:_LONGEST_NAME].rstrip("/") or "_"


def _parts(rows: Sequence[Any]) -> list[Sequence[Any]]:
    return [rows[start : start + _MOST_AT_ONCE] for start in range(0, len(rows), _MOST_AT_ONCE)]
