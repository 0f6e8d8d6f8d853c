"""`fairtest score MODEL PROBES`: every metric of a probe set on one model, from the store where it was asked before.

Sets of prompts, which a model continues, are measured with --scorer (fairtest.commands.generate).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fairtest.commands import generate

if TYPE_CHECKING:
    from fairtest.experiments.model_scores import ModelEstimate, ModelScores


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the options."""
    parser.description = (
        "Scores a model on a probe set and shows every metric with its 95% interval over clusters of items. An interval"
        " is about this checkpoint alone: another training run may differ by more. On a set of prompts, --scorer"
        " compares what the model writes about two groups."
    )
    parser.add_argument(
        "model", metavar="MODEL", help="a directory, a hub id, or an embedded name (fairtest/tiny, smollm2-135m)"
    )
    parser.add_argument(
        "probes", metavar="PROBES", help="templates, stereoset, prompts, ..., or a file of your own probes"
    )
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="where published probe sets lie (default: $FAIRTEST_DATA_DIR)"
    )
    parser.add_argument(
        "--metric",
        action="append",
        metavar="NAME",
        help="this metric alone, perhaps on one axis (templates.log_ratio[race]); may be given several times",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the estimates as JSON")
    parser.add_argument(
        "--items", type=Path, metavar="FILE", help="write a row for every item: .parquet or .arrow (needs one --metric)"
    )
    parser.add_argument(
        "--cache-dir", type=Path, default=Path(".fairtest"), metavar="DIR", help="the store (default .fairtest)"
    )
    parser.add_argument("--threads", type=int, default=0, metavar="N", help="CPU threads (default: all cores)")
    generate.add_options(parser)
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    if options.scorer is not None:
        return generate.run(options)
    generate.require_no_options(options)
    from fairtest.errors import MetricError, ProbeError
    from fairtest.experiments.model_scores import score_model
    from fairtest.experiments.progress import Progress
    from fairtest.metrics import parse_metric
    from fairtest.probes.registry import load_probe_set
    from fairtest.store import Store

    names: list[str] = options.metric or []
    refs = [parse_metric(name) for name in names]
    if options.items is not None and len(refs) != 1:
        raise MetricError(
            f"a table of items is that of one metric, and {len(refs)} are named",
            where="--items",
            fix="name one: --metric templates.log_ratio",
        )
    try:
        probes = load_probe_set(options.probes, options.data)
    except ProbeError:
        generate.require_no_prompts_file(options.probes, options.data)
        raise
    generate.require_no_prompts(probes)
    other = [str(ref) for ref in refs if ref.metric.probe_set != probes.name]
    if other:
        raise MetricError(
            f"metric {other[0]!r} is none of probe set {probes.name!r}",
            where="--metric",
            fix="leave --metric out to see all of them",
        )
    scored = score_model(
        options.model,
        probes,
        metrics=refs or None,
        store=Store(options.cache_dir),
        progress=Progress(lambda: sys.stderr),
        threads=options.threads,
    )
    sys.stdout.write("\n".join(_lines(scored)) + "\n")
    if options.json is not None:
        from fairtest.reports.document import write_text

        write_text(options.json, json.dumps(scored.as_dict(), indent=2, sort_keys=True) + "\n")
    if options.items is not None:
        from fairtest.metrics.tables import item_table, write_table

        values = scored.values[names[0]]
        protocol = next(iter(scored.scores))
        write_table(options.items, item_table(values, scored.scores[protocol]))
    return os.EX_OK


def _lines(scored: ModelScores) -> list[str]:
    estimates = scored.estimates
    lines = [f"{scored.model} (SHA-256 {scored.model_digest[:12]}) on {scored.probe_set}", ""]
    header = ("metric", "estimate", "95% interval", "target", "items", "clusters")
    rows = [_row(one) for one in estimates]
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    for row in (header, *rows):
        cells = [
            f"{cell:<{width}}" if not place else f"{cell:>{width}}" for place, (cell, width) in _placed(row, widths)
        ]
        lines.append("  ".join(cells).rstrip())
    lines += [f"{one.metric}: {one.ties} ties" for one in estimates if one.ties]
    excluded = {(one.metric, reason): count for one in estimates for reason, count in one.excluded.items()}
    lines += [f"{metric}: {count} items without a value: {reason}" for (metric, reason), count in excluded.items()]
    if scored.skipped:
        lines += ["", *(f"not measured: {name} {reason}" for name, reason in sorted(scored.skipped.items()))]
    return lines


def _placed(row: Sequence[str], widths: Sequence[int]) -> list[tuple[int, tuple[str, int]]]:
    return list(enumerate(zip(row, widths, strict=True)))


def _row(one: ModelEstimate) -> tuple[str, ...]:
    digits = 1 if one.unit == "points" else 3
    finite = math.isfinite(one.low) and math.isfinite(one.high)
    interval = f"[{one.low:.{digits}f}, {one.high:.{digits}f}]" if finite else "too few clusters"
    return (
        one.metric,
        f"{one.estimate:.{digits}f}",
        interval,
        f"{one.target:g}",
        str(one.items),
        str(one.clusters),
    )
