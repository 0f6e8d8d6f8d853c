"""`fairtest score MODEL PROMPTS --scorer vader`: gaps between two groups in what a model writes."""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fairtest.experiments.generation_scores import AxisGaps, GapEstimate, GenerationScores
    from fairtest.probes.probe import ProbeSet
    from fairtest.scoring.completions import Decoding

_WIDTH = 80
_SCORER_FIX = (
    "say what scores the completions: --scorer vader (sentiment), or --scorer hf:MODEL:LABEL (a text classifier)"
)
_DECODING = ("samples", "max_new_tokens", "temperature", "top_p", "seed")
_OWN = ("groups", "axis", "threshold", *_DECODING)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds what a set of prompts needs and a set of pairs does not have."""
    options = parser.add_argument_group(
        "sets of prompts", "prompts, occupation_prompts, bold, or a file with the columns prompt and group"
    )
    options.add_argument(
        "--scorer",
        metavar="NAME",
        help="what scores the completions: vader, or hf:MODEL:LABEL (label 'toxic' if left out)",
    )
    options.add_argument(
        "--groups",
        nargs=2,
        metavar=("FIRST", "SECOND"),
        help="the difference is FIRST - SECOND (default: masculine feminine)",
    )
    options.add_argument("--axis", metavar="AXIS", help="this axis alone (default: every axis that has both groups)")
    options.add_argument("--samples", type=int, metavar="K", help="completions of each prompt (default 5)")
    options.add_argument("--max-new-tokens", type=int, metavar="N", help="longest completion (default 20)")
    options.add_argument(
        "--temperature", type=float, metavar="T", help="of the draws (default 1); 0: the likeliest token, one sample"
    )
    options.add_argument("--top-p", type=float, metavar="P", help="nucleus to draw from (default 1)")
    options.add_argument("--seed", type=int, metavar="S", help="of the draws (default 0)")
    options.add_argument(
        "--threshold", type=float, metavar="X", help="scores of at least X count in the share (default 0.5)"
    )


def require_no_options(options: argparse.Namespace) -> None:
    """Checks that nothing was asked that only a scorer of completions can answer.

    Raises:
        MetricError: such an option without --scorer.
    """
    from fairtest.errors import MetricError

    given = [f"--{name.replace('_', '-')}" for name in _OWN if getattr(options, name) is not None]
    if given:
        raise MetricError(
            f"{given[0]} is about completions of prompts, and no scorer of completions is given",
            where=given[0],
            fix=f"leave it out, or {_SCORER_FIX}",
        )


def require_no_prompts(probes: ProbeSet) -> None:
    """Checks that a set that was given without --scorer is no set of prompts.

    Raises:
        MetricError: it is one.
    """
    from fairtest.probes.prompts import PROMPT

    if probes.roles == (PROMPT,):
        raise _without_scorer(probes.name)


def require_no_prompts_file(name: str, data: Path | None) -> None:
    """Checks that a file that holds no pairs does not hold prompts instead.

    Raises:
        MetricError: it has the columns of prompts.
    """
    from fairtest.errors import FairtestError
    from fairtest.probes.own import is_probe_file

    if not is_probe_file(name):
        return
    try:
        _prompts(name, data)
    except FairtestError:
        return
    raise _without_scorer(name)


def run(options: argparse.Namespace) -> int:
    """Measures, writes the table, and the JSON where it was asked for."""
    from fairtest.errors import MetricError
    from fairtest.experiments.generation_scores import score_generations_of_model
    from fairtest.experiments.progress import Progress
    from fairtest.metrics.generation import THRESHOLD
    from fairtest.store import Store

    for name in ("metric", "items"):
        if getattr(options, name) is not None:
            raise MetricError(
                f"--{name} is about probability metrics, and --scorer asks for completions",
                where=f"--{name}",
                fix="leave one of the two out",
            )
    prompts = _prompts(options.probes, options.data)
    first, second = options.groups or (None, None)
    scored = score_generations_of_model(
        options.model,
        prompts,
        options.scorer,
        decoding=_decoding(options),
        first=first,
        second=second,
        store=Store(options.cache_dir),
        axis=options.axis,
        threshold=THRESHOLD if options.threshold is None else options.threshold,
        progress=Progress(lambda: sys.stderr),
        threads=options.threads,
    )
    sys.stdout.write("\n".join(_lines(scored)) + "\n")
    if options.json is not None:
        from fairtest.reports.document import write_text

        write_text(options.json, json.dumps(scored.as_dict(), indent=2, sort_keys=True) + "\n")
    return os.EX_OK


def _without_scorer(name: str) -> Exception:
    from fairtest.errors import MetricError

    return MetricError(
        f"{name!r} is a set of prompts: a model is measured by what it writes after them",
        where="--scorer",
        fix=_SCORER_FIX,
    )


def _prompts(name: str, data: Path | None) -> ProbeSet:
    from fairtest.errors import ProbeError
    from fairtest.probes.own import is_probe_file
    from fairtest.probes.prompts import PROMPT, read_prompts
    from fairtest.probes.registry import DATA_DIR_VARIABLE, PROMPTS, load_probe_set

    if is_probe_file(name):
        directory = data or os.environ.get(DATA_DIR_VARIABLE)
        inside = Path(directory) / name if directory else Path(name)
        return read_prompts(inside if inside.exists() and not Path(name).exists() else Path(name))
    probes = load_probe_set(name, data)
    if probes.roles != (PROMPT,):
        raise ProbeError(
            f"probe set {name!r} holds texts to compare and no prompts to continue, so --scorer has nothing to score",
            where="--scorer",
            fix=f"leave --scorer out, or give a set of prompts: {', '.join(PROMPTS)}, bold, or a file of your own",
        )
    return probes


def _decoding(options: argparse.Namespace) -> Decoding:
    from fairtest.scoring.completions import Decoding

    given: dict[str, Any] = {name: getattr(options, name) for name in _DECODING if getattr(options, name) is not None}
    if given.get("temperature") == 0:
        given.setdefault("samples", 1)  # all samples would be the same text
    return Decoding(**given)


def _lines(scored: GenerationScores) -> list[str]:
    lines = [
        *_wrapped(f"{scored.model} (SHA-256 {scored.model_digest[:12]}) on {scored.probe_set}"),
        *_wrapped(f"scorer: {scored.scorer}, revision {scored.revision[:12]}"),
        *_wrapped(f"completions: {_how(scored.decoding)}"),
    ]
    for axis in scored.axes:
        lines += ["", *_axis_lines(scored, axis)]
    return lines


def _how(decoding: Decoding) -> str:
    length = f"{decoding.min_new_tokens} to {decoding.max_new_tokens} tokens"
    if decoding.temperature == 0:
        return f"{decoding.samples} of each prompt, {length}, always the likeliest token (temperature 0)"
    draws = f"temperature {decoding.temperature:g}, top-p {decoding.top_p:g}, seed {decoding.seed}"
    return f"{decoding.samples} of each prompt, {length}, {draws}"


def _axis_lines(scored: GenerationScores, axis: AxisGaps) -> list[str]:
    made_of = f"{axis.items} pairs of prompts" if axis.paired else f"{axis.items} prompts"
    lines = [
        *_wrapped(f"{axis.axis}: first is {scored.first}, second is {scored.second}"),
        *_wrapped(f"{made_of} in {axis.clusters} clusters, {axis.completions} completions scored"),
        "",
    ]
    interval = f"{scored.confidence:.0%} interval"
    header = ("statistic", "first", "second", "first - second", interval, "first / second")
    rows = [_row(one, scored) for one in axis.gaps]
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    lines += [_placed(row, widths) for row in (header, *rows)]
    if any(one.ratio is None for one in axis.gaps):
        lines += _wrapped("no ratio where a value is below 0 or the second is 0")
    if not axis.paired:
        lines += _wrapped("prompts are not paired: the difference also holds whatever else they differ in")
    if axis.without_text:
        lines += _wrapped(f"{axis.without_text} completions without a text are not scored")
    for reason, count in sorted(axis.excluded.items()):
        lines += _wrapped(f"{count} prompts left out: {reason}")
    return lines


def _placed(row: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = (
        f"{cell:>{width}}" if place else f"{cell:<{width}}"
        for place, (cell, width) in enumerate(zip(row, widths, strict=True))
    )
    return "  ".join((first, *others)).rstrip()


def _row(one: GapEstimate, scored: GenerationScores) -> tuple[str, ...]:
    labels = {"share": f"share >= {scored.threshold:g}", "maximum": f"maximum of {scored.decoding.samples}"}
    if one.degenerate:
        interval = "nothing varied"
    elif math.isfinite(one.low) and math.isfinite(one.high):
        interval = f"[{one.low:.3f}, {one.high:.3f}]"
    else:
        interval = "too few clusters"
    return (
        labels.get(one.statistic, one.statistic),
        f"{one.first_value:.3f}",
        f"{one.second_value:.3f}",
        f"{one.difference:.3f}",
        interval,
        "none" if one.ratio is None else f"{one.ratio:.3f}",
    )


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, subsequent_indent="  ", break_on_hyphens=False)
