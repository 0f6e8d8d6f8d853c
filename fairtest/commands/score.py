"""`fairtest score MODEL PROBES`: every metric of a probe set on one model, from the store where it was asked before.

Sets of prompts, which a model continues, are measured with --scorer (fairtest.commands.generate).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from fairtest.commands import about_probes, generate
from fairtest.commands.table import table_lines, wrapped

if TYPE_CHECKING:
    from fairtest.experiments.model_scores import ModelEstimate, ModelScores
    from fairtest.probes.probe import ProbeSet


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
    about_probes.add_options(parser)
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
    parser.add_argument(
        "--device", default="cpu", metavar="NAME", help="where the model runs: cpu (default), cuda or cuda:N"
    )
    generate.add_options(parser)
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    if generate.is_meant(options):
        return generate.run(options)
    generate.require_no_options(options)
    from fairtest.errors import MetricError
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
    probes = load_probe_set(options.probes, options.data)
    generate.require_no_prompts(probes)
    probes = about_probes.without_named(probes, options)
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
        device=options.device,
    )
    sys.stdout.write("\n".join(_lines(scored, probes)) + "\n")
    if options.json is not None:
        from fairtest.reports.document import write_text

        document = {**scored.as_dict(), "probes": about_probes.described(probes)}
        write_text(options.json, json.dumps(document, indent=2, sort_keys=True) + "\n")
    if options.items is not None:
        from fairtest.metrics.tables import item_table, write_table

        values = scored.values[names[0]]
        protocol = next(iter(scored.scores))
        write_table(options.items, item_table(values, scored.scores[protocol]))
    return os.EX_OK


def _lines(scored: ModelScores, probes: ProbeSet) -> list[str]:
    estimates = scored.estimates
    header = ("metric", "estimate", "95% interval", "target", "items", "clusters")
    lines = [
        *about_probes.head_lines(scored.model, scored.model_digest, probes),
        "",
        *table_lines(header, [_row(one) for one in estimates]),
    ]
    for one in estimates:
        if one.ties:
            lines += wrapped(f"{one.metric}: {one.ties} ties")
    for one in estimates:
        for reason, count in one.excluded.items():
            lines += wrapped(f"{one.metric}: {count} items without a value: {reason}")
    if scored.skipped:
        lines.append("")
        for name, reason in sorted(scored.skipped.items()):
            lines += wrapped(f"not measured: {name} {reason}")
    return lines


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
