"""Baseline entries made of numbers."""

from __future__ import annotations

import math

from fairtest.gates.baselines.entry import BaselineEntry, BaselineKey, rounded
from fairtest.gates.baselines.format import dump
from fairtest.gates.result import Estimate

MODEL = "fairtest/tiny"
METRIC = "templates.log_ratio[gender]"


def key(arm, metric=METRIC):
    return BaselineKey(arm, metric, "fairtest v1, causal-bos", "p")


def entry(rows, *, arm="dp", metric=METRIC, target=0.0, tail=0.5, held_out=None, date="2020-02-02"):
    values = tuple(tuple(row) for row in rounded(rows).tolist())
    mean = round(math.fsum(round(math.fsum(row) / len(row), 4) for row in values) / len(values), 4)
    return BaselineEntry(
        key=key(arm, metric),
        unit="nats",
        target=target,
        estimate=Estimate(mean, mean - tail, mean + tail),
        confidence=0.95,
        runs=tuple(f"run{seed}" for seed in range(len(values))),
        item_digest="ids",
        values=values,
        held_out=held_out,
        made={"date": date, "packages": {"fairtest": "0.1.0"}},
    )


def written(*entries):
    return dump(MODEL, {item.key.text: item.as_dict() for item in entries})
