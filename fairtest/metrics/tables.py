"""Item scores as an Arrow table, one row an item, and what a metric says of them in one line."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from fairtest.errors import MetricError, StoreError
from fairtest.metrics.metric import ItemValues, MetricRef
from fairtest.scoring.scores import ProbeScores

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class MetricSummary:
    """A metric's estimate and what it rests on.

    Args:
        metric: its name as written, with the axis.
        protocol: whose definition it is.
        version: of the definition.
        estimate: the mean over items, in the metric's unit.
        n: items that count.
        ties: those of them whose texts scored alike.
        excluded: items that do not count, by reason.
    """

    metric: str
    protocol: str
    version: str
    estimate: float
    n: int
    ties: int
    excluded: Mapping[str, int] = field(default_factory=dict)


def metric_summary(ref: MetricRef, values: ItemValues) -> MetricSummary:
    """The summary of what `item_values(ref, scores)` gave."""
    return MetricSummary(
        metric=str(ref),
        protocol=ref.metric.protocol,
        version=ref.metric.version,
        estimate=values.estimate,
        n=values.n,
        ties=values.ties,
        excluded=dict(sorted(Counter(values.reasons.values()).items())),
    )


def item_table(values: ItemValues, scores: ProbeScores) -> pa.Table:
    """Every item of the scores as a row, in their order.

    Columns: `probe_id`, `axis`, `cluster`, `template` (null: none); for each role `log_prob_<role>` (nats) and
    `tokens_<role>`; `field_<name>` for each of the probes' own fields (null where a probe lacks it); `value`, in the
    metric's unit, and `excluded`, the reason where an item does not count: exactly one of the two is null, and the mean
    of `value` is the estimate. The schema's metadata has the probe set, its digest and the scoring protocol.

    Raises:
        MetricError: an item has both a value and a reason, or neither, or is not among the scores.
    """
    import pyarrow as pa

    found = _values_by_id(values, scores)
    columns: dict[str, pa.Array] = {
        "probe_id": pa.array(scores.ids, pa.string()),
        "axis": pa.array(scores.axes, pa.string()),
        "cluster": pa.array(scores.clusters, pa.string()),
        "template": pa.array(scores.templates or [None] * len(scores.ids), pa.string()),
    }
    for role, log_probs in scores.log_probs.items():
        columns[f"log_prob_{role}"] = pa.array(log_probs, pa.float64())
        columns[f"tokens_{role}"] = pa.array(scores.tokens[role], pa.int64())
    for name in sorted({name for fields in scores.fields for name in fields}):
        columns[f"field_{name}"] = pa.array([fields.get(name) for fields in scores.fields], pa.string())
    columns["value"] = pa.array([found.get(item) for item in scores.ids], pa.float64())
    columns["excluded"] = pa.array([values.reasons.get(item) for item in scores.ids], pa.string())
    metadata = {
        "fairtest.probe_set": scores.probe_set,
        "fairtest.probe_digest": scores.probe_digest,
        "fairtest.protocol": scores.protocol,
    }
    return pa.table(columns).replace_schema_metadata(metadata)


def _values_by_id(values: ItemValues, scores: ProbeScores) -> dict[str, float]:
    """The values of items that count, once it is known that values and reasons together name each item of the scores
    once.
    """
    named = Counter((*values.ids, *values.excluded))
    for item in scores.ids:
        if named[item] == 0:
            raise MetricError(
                f"item {item!r} of probe set {scores.probe_set!r} has neither a value nor a reason why not",
                where=f"item {item!r}",
                fix="give the scores that the values were made from: those of one axis are `on_axis(scores, axis)`",
            )
    known = set(scores.ids)
    for item, times in named.items():
        if times > 1 or item not in known:
            problem = "has more than one value or reason" if times > 1 else f"is not in probe set {scores.probe_set!r}"
            raise MetricError(
                f"item {item!r} {problem}", where=f"item {item!r}", fix="give values and scores of the same items"
            )
    return {item: value for item, value in zip(values.ids, values.values, strict=True) if item not in values.uncounted}


def write_table(path: Path, table: pa.Table) -> None:
    """Writes a table as Parquet (.parquet) or as an Arrow IPC file (.arrow); it appears complete or not at all.

    Raises:
        StoreError: another suffix, or the file cannot be written.
    """
    path = Path(path)
    writers: dict[str, Callable[[pa.Table, Path], None]] = {".parquet": _write_parquet, ".arrow": _write_arrow}
    if path.suffix.lower() not in writers:
        raise StoreError(
            f"a table cannot be written as {path.suffix or 'a file without a suffix'}",
            where=str(path),
            fix=f"name the file with one of: {', '.join(writers)}",
        )
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        writers[path.suffix.lower()](table, partial)
        partial.replace(path)
    except OSError as error:
        raise StoreError(
            f"a table cannot be written: {error.strerror or error}",
            where=str(path),
            fix="choose a writable directory with enough space",
        ) from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()


def _write_parquet(table: pa.Table, path: Path) -> None:
    from pyarrow import parquet

    parquet.write_table(table, path)


def _write_arrow(table: pa.Table, path: Path) -> None:
    import pyarrow as pa

    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
