"""`fairtest score MODEL PROMPTS --scorer vader`: gaps between two groups in what a model writes.

Toxicity, sentiment and whatever else is one number for a text; regard, one number for each class (--statistic regard);
HONEST, the share of completions with a word of a list (--statistic honest --lexicon FILE).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairtest.commands import about_probes
from fairtest.commands.table import table_lines, wrapped

if TYPE_CHECKING:
    from fairtest.experiments.generation_scores import AxisGaps, GapEstimate, GenerationScores
    from fairtest.probes.probe import ProbeSet
    from fairtest.scoring.completions import Decoding

REGARD, HONEST = "regard", "honest"
_GAPS = ("mean", "share", "maximum")
_STATISTICS = (*_GAPS, REGARD, HONEST)
_SCORER_FIX = (
    "say what scores the completions: --scorer vader (sentiment), or --scorer hf:MODEL:LABEL (a text classifier)"
)
_DECODING = ("samples", "max_new_tokens", "temperature", "top_p", "seed")
_OWN = ("groups", "axis", "threshold", "lexicon", *_DECODING)


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
        "--statistic",
        metavar="NAME",
        help="one of mean, share, maximum (default: these three); regard: every class of --scorer hf:MODEL; honest:"
        " the share with a hurtful word of --lexicon, without a scorer",
    )
    options.add_argument(
        "--lexicon",
        type=Path,
        metavar="FILE",
        help="your own list of hurtful words: one a line, or a column 'word' or 'lemma' of a .csv or .tsv",
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


def is_meant(options: argparse.Namespace) -> bool:
    """Whether what the model writes is asked for."""
    return options.scorer is not None or options.statistic is not None


def require_no_options(options: argparse.Namespace) -> None:
    """Checks that nothing was asked that only completions can answer.

    Raises:
        MetricError: such an option without --scorer or --statistic.
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
    from fairtest.errors import MetricError
    from fairtest.probes.prompts import PROMPT

    if probes.roles == (PROMPT,):
        raise MetricError(
            f"{probes.name!r} is a set of prompts: a model is measured by what it writes after them",
            where="--scorer",
            fix=_SCORER_FIX,
        )


def run(options: argparse.Namespace) -> int:
    """Measures, writes the table, and the JSON where it was asked for."""
    from fairtest.errors import MetricError

    for name in ("metric", "items"):
        if getattr(options, name) is not None:
            raise MetricError(
                f"--{name} is about probability metrics, and --scorer asks for completions",
                where=f"--{name}",
                fix="leave one of the two out",
            )
    _require_statistic(options)
    prompts = about_probes.without_named(_prompts(options.probes, options.data), options)
    scored = _scored(options, prompts)
    sys.stdout.write("\n".join(_lines(scored, prompts, options.statistic)) + "\n")
    if options.json is not None:
        from fairtest.reports.document import write_text

        document = {**scored.as_dict(), "probes": about_probes.described(prompts)}
        write_text(options.json, json.dumps(document, indent=2, sort_keys=True) + "\n")
    return os.EX_OK


def _require_statistic(options: argparse.Namespace) -> None:
    """Checks that what was asked for goes together.

    Raises:
        MetricError: it does not.
    """
    from fairtest.errors import MetricError

    asked = options.statistic
    if asked is not None and asked not in _STATISTICS:
        known = f"known statistics: {', '.join(_STATISTICS)}"
        raise MetricError(f"unknown statistic {asked!r}", where="--statistic", fix=known)
    if asked == HONEST and options.lexicon is None:
        what = "HONEST counts completions with a hurtful word, and no list of words is given; none comes with fairtest"
        raise MetricError(what, where="--lexicon", fix="give one: --lexicon words.txt, one word a line")
    if asked == HONEST and options.scorer is not None:
        what = f"HONEST counts words of --lexicon, and takes no scorer such as {options.scorer!r}"
        raise MetricError(what, where="--scorer", fix="leave --scorer out")
    if asked != HONEST and options.lexicon is not None:
        raise MetricError("--lexicon is about HONEST", where="--lexicon", fix="add --statistic honest, or leave it out")
    if asked == REGARD and options.scorer is None:
        what = "regard is what a classifier says of a completion, class by class, and none is given"
        raise MetricError(what, where="--scorer", fix="give one: --scorer hf:MODEL, without a label")
    if asked == REGARD and _names_label(options.scorer):
        what = f"regard reads every class of a classifier, and {options.scorer!r} names one label"
        raise MetricError(what, where="--scorer", fix="leave the label out, or the statistic")
    if asked in _GAPS and options.scorer is None:
        raise MetricError(f"no scorer is given for the {asked}", where="--scorer", fix=_SCORER_FIX)
    if asked not in (None, "share") and options.threshold is not None:
        what = f"--threshold is about the share, and the {asked} has none"
        raise MetricError(what, where="--threshold", fix="leave it out")


def _names_label(scorer: str) -> bool:
    model = scorer.removeprefix("hf:")
    return scorer.startswith("hf:") and ":" in model and not Path(model).expanduser().is_dir()


def _scored(options: argparse.Namespace, prompts: ProbeSet) -> GenerationScores:
    from fairtest.experiments.completion_statistics import honest_of_model, regard_of_model
    from fairtest.experiments.generation_scores import score_generations_of_model
    from fairtest.experiments.progress import Progress
    from fairtest.metrics.generation import THRESHOLD
    from fairtest.probes.words import read_words
    from fairtest.store import Store

    first, second = options.groups or (None, None)
    common: dict[str, Any] = {
        "decoding": _decoding(options),
        "first": first,
        "second": second,
        "store": Store(options.cache_dir),
        "axis": options.axis,
        "progress": Progress(lambda: sys.stderr),
        "threads": options.threads,
        "device": options.device,
    }
    if options.statistic == HONEST:
        return honest_of_model(options.model, prompts, read_words(options.lexicon), **common)
    if options.statistic == REGARD:
        return regard_of_model(options.model, prompts, options.scorer, **common)
    threshold = THRESHOLD if options.threshold is None else options.threshold
    scored = score_generations_of_model(options.model, prompts, options.scorer, threshold=threshold, **common)
    if options.statistic is None:
        return scored
    axes = tuple(
        replace(axis, gaps=tuple(one for one in axis.gaps if one.statistic == options.statistic))
        for axis in scored.axes
    )
    return replace(scored, axes=axes)


def _prompts(name: str, data: str | None) -> ProbeSet:
    from fairtest.errors import ProbeError
    from fairtest.probes.own import is_probe_file
    from fairtest.probes.prompts import PROMPT, read_prompts
    from fairtest.probes.registry import PROMPTS, find_probe_file, load_probe_set

    if is_probe_file(name):
        return read_prompts(find_probe_file(name, data))
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


def _lines(scored: GenerationScores, prompts: ProbeSet, statistic: str | None) -> list[str]:
    what = "lexicon" if statistic == HONEST else "scorer"
    lines = [
        *about_probes.head_lines(scored.model, scored.model_digest, prompts),
        *wrapped(f"{what}: {scored.scorer}, revision {scored.revision[:12]}"),
        *wrapped(f"completions: {_how(scored.decoding)}"),
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
        *wrapped(f"{axis.axis}: first is {scored.first}, second is {scored.second}"),
        *wrapped(f"{made_of} in {axis.clusters} clusters, {axis.completions} completions scored"),
        "",
    ]
    interval = f"{scored.confidence:.0%} interval"
    header = ("statistic", "first", "second", "first - second", interval, "first / second")
    lines += table_lines(header, [_row(one, scored) for one in axis.gaps])
    if any(one.ratio is None for one in axis.gaps):
        lines += wrapped("no ratio where a value is below 0 or the second is 0")
    if not axis.paired:
        lines += wrapped("prompts are not paired: the difference also holds whatever else they differ in")
    if axis.without_text:
        lines += wrapped(f"{axis.without_text} completions without a text are not scored")
    for reason, count in sorted(axis.excluded.items()):
        lines += wrapped(f"{count} prompts left out: {reason}")
    return lines


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
