"""A section of a model card: verdicts, privacy statement and levels of the arm that is released, and the same numbers
as evaluation results in the card's metadata.

A card that is there is kept: the section stands between two marks and is replaced there; of the metadata only the
results that fairtest itself wrote are, and every other byte stays.
"""

from __future__ import annotations

import importlib
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairtest.errors import StoreError
from fairtest.gates.messages import number
from fairtest.reports import sections
from fairtest.reports.document import write_text
from fairtest.reports.markdown import escape, table
from fairtest.reports.reading import showable
from fairtest.reports.terminal import estimate_text, gate_name

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

BEGIN = "<!-- fairtest: begin -->"
END = "<!-- fairtest: end -->"
_OURS = "fairtest "  # how the configuration of a metric begins that this module wrote
_TASK = "text-generation"
_FRONT = re.compile(r"\A---[ \t]*\r?\n(.*?)^---[ \t]*(?:\r?\n|\Z)", re.DOTALL | re.MULTILINE)
_INDEX = re.compile(r"^([\"']?)model-index\1[ \t]*:.*(?:\r?\n|\Z)(?:(?:[ \t#-].*)?\r?\n)*", re.MULTILINE)


def released_arm(document: Mapping[str, Any], named: str | None = None) -> str:
    """The arm that a card is about: the named one, or the only candidate of a privacy gate, or of any gate.

    Raises:
        StoreError: the report has no such arm, or several could be meant.
    """
    gates = document["gates"]
    candidates = list(dict.fromkeys(gate["candidate"] for gate in gates))
    if named is not None:
        if named not in {*document["arms"], *candidates}:
            raise StoreError(
                f"the report has no arm {named!r}", where="--arm", fix=f"name one: {', '.join(candidates)}"
            )
        return named
    private = list(dict.fromkeys(gate["candidate"] for gate in gates if gate["gate"] == "privacy"))
    for found in (private, candidates):
        if len(found) == 1:
            return str(found[0])
    raise StoreError(
        f"a model card is about one arm, and the report has gates on {len(candidates)}",
        where="--arm",
        fix=f"name the one that is released with --arm: {', '.join(candidates) or 'the report has no gate'}",
    )


def section(document: Mapping[str, Any], arm: str) -> str:
    """The section as Markdown, with its marks."""
    document = showable(document)
    arm = showable(arm)
    gates = [gate for gate in document["gates"] if gate["candidate"] == arm]
    found = document["arms"].get(arm) or {}
    version = document["environment"].get("packages", {}).get("fairtest", "")
    lines = [BEGIN, "## Fairness and privacy", ""]
    lines += [f"Measured with fairtest {escape(version)} on {escape(document['made_at'])}, as arm {escape(arm)}.", ""]
    lines += _verdicts(gates) + _privacy(found) + _levels(document, arm)
    limits = sections.limits(gates, by_number=False)
    if limits:
        lines += ["### What limits these verdicts", "", *(f"- {escape(text)}" for text in limits), ""]
    described = sections.data_lines({arm: found})
    if described:
        lines += ["### Data", "", *(f"- {escape(text)}" for text in described), ""]
    return "\n".join([*lines[:-1], END])


def _verdicts(gates: Sequence[Mapping[str, Any]]) -> list[str]:
    if not gates:
        return ["No gate was judged on this arm.", ""]
    rows = []
    for gate in gates:
        what, arms = gate_name(gate)
        family = gate.get("family")
        together = family["verdict"] if family else "-"
        measured = (sections.measured_text(gate), sections.allowed_text(gate))
        rows.append((gate["verdict"], together, arms, what, *measured, gate["protocol"]))
    header = ("verdict", "in the family", "arms", "measured", "value and interval", "allowed at most", "protocol")
    return ["### Verdicts", "", *table(header, rows), ""]


def _privacy(arm: Mapping[str, Any]) -> list[str]:
    stated = arm.get("statement")
    if not stated:
        return []
    epsilon = "none" if stated["epsilon"] is None else number(stated["epsilon"])
    numbers = (epsilon, f"{stated['delta']:.3g}", stated["unit"], stated["neighbouring"], stated["accountant"])
    header = ("epsilon", "delta", "privacy unit", "neighbouring corpora", "accountant")
    return ["### Privacy", "", *table(header, [numbers]), "", escape(arm["privacy"]), ""]


def _levels(document: Mapping[str, Any], arm: str) -> list[str]:
    rows = [
        (metric, estimate_text(level), _target(document, metric), level.get("seeds", "-"), level.get("items", "-"))
        for metric, level in _levels_of(document, arm).items()
    ]
    header = ("metric", f"level with its {_percent(document)} interval", "target", "seeds", "items")
    return ["### Levels", "", *table(header, rows), ""] if rows else []


def _levels_of(document: Mapping[str, Any], arm: str) -> dict[str, dict[str, Any]]:
    """Metric -> level of this arm; of those that a gate compared, on how much it rests."""
    counted = {
        gate["metric"]: {"seeds": gate["seeds"], "items": gate["items"], "protocol": gate["protocol"]}
        for gate in document["gates"]
        if arm in gate["levels"]
    }
    levels = sections.levels_by_metric(document)
    return {metric: {**counted.get(metric, {}), **found[arm]} for metric, found in levels.items() if arm in found}


def _target(document: Mapping[str, Any], metric: str) -> str:
    target = sections.targets(document["gates"]).get(metric)
    return "-" if target is None else f"{target:g}"


def _percent(document: Mapping[str, Any]) -> str:
    return f"{100 * float(document['settings']['confidence']['value']):g}%"


# -- metadata ---------------------------------------------------------------------------------------------------------


def results(document: Mapping[str, Any], arm: str) -> list[EvalResult]:
    """Levels of an arm, and its epsilon, as evaluation results with intervals as arguments of the metric."""
    from huggingface_hub import EvalResult

    document = showable(document)
    found = document["arms"].get(arm) or {}
    corpus = str((found.get("data") or {}).get("corpus", "the training corpus"))
    made = []
    for metric, level in _levels_of(document, arm).items():
        value = float(level["value"])
        if math.isfinite(value):
            name, _, group = metric.partition("[")
            probes = name.partition(".")[0]
            held_out = metric == sections.PERPLEXITY
            arguments = {"confidence": float(document["settings"]["confidence"]["value"])}
            arguments |= {key: level[key] for key in ("low", "high", "seeds", "items") if key in level}
            made.append(
                EvalResult(
                    task_type=_TASK,
                    dataset_type=corpus if held_out else probes,
                    dataset_name=f"{corpus}, held out" if held_out else probes,
                    dataset_config=group.removesuffix("]") or None,
                    metric_type=name,
                    metric_name=metric,
                    metric_value=value,
                    metric_config=f"{_OURS}{level.get('protocol', 'measurement')}",
                    metric_args=arguments,
                )
            )
    stated = found.get("statement")
    if stated and stated["epsilon"] is not None:
        arguments = {key: stated[key] for key in ("delta", "unit", "neighbouring", "accountant")}
        made.append(
            EvalResult(
                task_type=_TASK,
                dataset_type=corpus,
                dataset_name=corpus,
                metric_type="epsilon",
                metric_name="differential privacy, epsilon",
                metric_value=stated["epsilon"],
                metric_config=f"{_OURS}privacy statement",
                metric_args=arguments,
            )
        )
    return made


def write_card(path: Path, document: Mapping[str, Any], *, arm: str | None = None) -> Path:
    """Adds the section and the results to the card at `path`, which is made where there is none.

    Raises:
        StoreError: the card cannot be read or written, its metadata are not YAML, or its marks are damaged.
    """
    chosen = released_arm(document, arm)
    text = ""
    if path.exists():
        try:
            text = path.read_bytes().decode("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise StoreError(
                f"a model card cannot be read: {error}", where=str(path), fix="name a README.md in UTF-8"
            ) from error
    return write_text(path, merged(text, document, chosen, name=path.resolve().parent.name, where=str(path)))


def merged(text: str, document: Mapping[str, Any], arm: str, *, name: str = "model", where: str = "README.md") -> str:
    """The text of a card with the section and the results of an arm in it; merging twice changes nothing more.

    Raises:
        StoreError: the card's metadata are not YAML or no model index, or its marks are damaged.
    """
    newline = "\r\n" if "\r\n" in text else "\n"
    front = _FRONT.match(text)
    metadata, body = (front[1], text[front.end() :]) if front else ("", text)
    metadata = _with_results(metadata, results(document, arm), name=name, where=where, newline=newline)
    body = _with_section(body, section(document, arm).replace("\n", newline), where=where, newline=newline)
    gap = "" if front else newline
    return f"---{newline}{metadata}---{newline}{gap}{body}"


def _with_section(body: str, ours: str, *, where: str, newline: str) -> str:
    marks = (body.count(BEGIN), body.count(END))
    if marks == (0, 0):
        kept = body.rstrip("\r\n")
        return f"{kept}{newline * 2 if kept else ''}{ours}{newline}"
    before, _, rest = body.partition(BEGIN)
    _, closed, after = rest.partition(END)
    if marks != (1, 1) or not closed:
        raise StoreError(
            f"the marks of fairtest's section are damaged: {BEGIN} stands {marks[0]} times, {END} {marks[1]} times",
            where=where,
            fix="leave each once, in this order, or remove both with what is between them",
        )
    return f"{before}{ours}{after}"


def _with_results(metadata: str, made: Sequence[EvalResult], *, name: str, where: str, newline: str) -> str:
    """The metadata with these results in the model index; every line outside the index stays as it is."""
    from huggingface_hub.repocard_data import eval_results_to_model_index

    index = _without_ours(_read(metadata, where).get("model-index"), where)
    if made:
        ours = eval_results_to_model_index(name, list(made))[0]["results"]
        if not index:
            index = [{"name": name, "results": []}]
        index[0]["results"] = [*index[0]["results"], *ours]
    rest = _INDEX.sub("", metadata)
    if "model-index" in _read(rest, where):
        raise StoreError("the model index of this card is written in a way that cannot be replaced", where=where,
                         fix="write it as a block: model-index: on a line of its own")  # fmt: skip
    if rest and not rest.endswith("\n"):
        rest += newline
    if not index:
        return rest
    dumped: str = _yaml().safe_dump({"model-index": index}, sort_keys=False, allow_unicode=True)
    return rest + dumped.replace("\n", newline)


def _read(metadata: str, where: str) -> Mapping[str, Any]:
    yaml = _yaml()
    try:
        found = yaml.safe_load(metadata) or {}
    except yaml.YAMLError as error:
        raise StoreError(
            f"the metadata of this model card are not YAML: {error}", where=where, fix="correct what is between the ---"
        ) from error
    if not isinstance(found, dict):
        raise StoreError("the metadata of this model card are no mapping", where=where, fix="write them as key: value")
    return found


def _yaml() -> Any:
    """PyYAML, which huggingface_hub brings; it has no types of its own."""
    return importlib.import_module("yaml")


def _without_ours(index: Any, where: str) -> list[dict[str, Any]]:
    """Other people's results; a model of which none are left is kept while it is the first, for its name."""
    kept = []
    try:
        for model in index or ():
            found = []
            for result in model.get("results") or ():
                metrics = [one for one in result["metrics"] if not str(one.get("config", "")).startswith(_OURS)]
                if metrics:
                    found.append({**result, "metrics": metrics})
            kept.append({**model, "results": found})
    except (AttributeError, KeyError, TypeError) as error:
        raise StoreError(
            f"the model index of this card is no model index: {type(error).__name__} {error}",
            where=where,
            fix="correct it, or remove the key model-index",
        ) from error
    return kept
