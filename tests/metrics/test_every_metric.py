"""What holds for every built-in metric: it says what it is, and gives items, a table and a summary."""

import dataclasses
import math
import random

import pytest

from fairtest.errors import MetricError
from fairtest.metrics import item_values, parse_metric
from fairtest.metrics.generation import gap_metric
from fairtest.metrics.metric import DISTANCE, HIGHER_IS_BETTER, HIGHER_IS_WORSE, Metric, MetricRef
from fairtest.metrics.registry import BUILT_IN
from fairtest.metrics.tables import item_table, metric_summary, write_table
from fairtest.scoring.scores import ProbeScores

METRICS = BUILT_IN
GAP = gap_metric("prompts.toxicity_gap", "feminine", "masculine")
ROLES = {
    "bbq": ("ans0", "ans1", "ans2"),
    "winogender": ("masculine", "feminine", "neutral"),
    "stereoset": ("stereotype", "anti_stereotype", "unrelated"),
    "completions": ("completion-0", "completion-1"),
}
USUAL = {"causal": "causal-bos", "masked": "mlm-pll"}


def fields_of(probe_set, generator):
    if probe_set == "winogender":
        return {"answer": generator.choice(["occupation", "participant"]), "occupation": "nurse"}
    if probe_set == "bbq":
        unknown, stereotyped, other = generator.sample(ROLES["bbq"], 3)
        condition = generator.choice(["ambig", "disambig"])
        return {
            "condition": condition,
            "polarity": generator.choice(["neg", "nonneg"]),
            "unknown": unknown,
            "stereotyped": stereotyped,
            "label": unknown if condition == "ambig" else other,
        }
    if probe_set == "completions":
        return {"group": generator.choice(["masculine", "feminine"])}
    return {}


def scores_for(metric, n=120, seed=0):
    """Scores of the metric's probe set, with few distinct values, so that ties are common."""
    generator = random.Random(seed)
    roles = ROLES.get(metric.probe_set, ("stereotype", "anti_stereotype"))
    low, high = (-1, 1) if metric.scoring == "generation" else (-4, -1)
    fields = tuple(fields_of(metric.probe_set, generator) for _ in range(n))
    return ProbeScores(
        probe_set=metric.probe_set,
        probe_digest="d",
        protocol=metric.scoring_protocol or USUAL[metric.scoring],
        ids=tuple(f"i{i}" for i in range(n)),
        axes=("gender",) * n,
        clusters=tuple(f"t{generator.randrange(9)}" for _ in range(n)),
        log_probs={role: tuple(float(generator.randint(low, high)) for _ in range(n)) for role in roles},
        tokens={role: tuple(generator.randint(1, 2) for _ in range(n)) for role in roles},
        fields=fields if any(fields) else (),
    )


# An item of a gap between groups is a pair of prompts and no probe: test_completion_metrics.py.
OF_PROBES = {
    name: metric
    for name, metric in METRICS.items()
    if metric.scoring != "generation" or name == "completions.pronoun_gap"
}
every = pytest.mark.parametrize("metric", OF_PROBES.values(), ids=OF_PROBES)


@pytest.mark.parametrize("metric", [*METRICS.values(), GAP], ids=[*METRICS, GAP.name])
def test_it_says_formula_range_target_direction_and_source(metric):
    for text in (metric.formula, metric.source, metric.description, metric.unit, metric.protocol, metric.version):
        assert text == text.strip() != ""
    assert metric.unit in ("points", "nats", "score")
    assert metric.low <= metric.target <= metric.high
    # Points have ends, nats have none.
    assert math.isfinite(metric.low) == math.isfinite(metric.high) == (metric.unit == "points")
    # A target at an end can be missed on one side only, so one direction is a good one.
    at_an_end = metric.target in (metric.low, metric.high)
    assert (metric.direction == DISTANCE) != at_an_end
    assert not at_an_end or metric.direction == (HIGHER_IS_BETTER if metric.target == metric.high else HIGHER_IS_WORSE)
    published = "arXiv" in metric.source
    assert published or "our own" in metric.source


@every
def test_the_estimate_is_in_its_range_and_ties_are_counted(metric):
    scores = scores_for(metric)
    found = item_values(MetricRef(metric), scores)
    assert metric.low - 1e-9 <= found.estimate <= metric.high + 1e-9
    assert 0 < found.ties < found.n <= len(scores.ids)


@every
def test_every_item_is_a_row_with_a_value_or_a_reason_and_the_mean_is_the_estimate(metric, tmp_path):
    ref, scores = MetricRef(metric, "gender"), scores_for(metric)
    found = item_values(ref, scores)
    table, summary = item_table(found, scores), metric_summary(ref, found)
    write_table(tmp_path / "items.parquet", table)
    values, reasons = table["value"].to_pylist(), table["excluded"].to_pylist()
    assert table["probe_id"].to_pylist() == list(scores.ids)
    assert all((value is None) != (reason is None) for value, reason in zip(values, reasons, strict=True))
    kept = [value for value in values if value is not None]
    assert math.fsum(kept) / len(kept) == pytest.approx(summary.estimate, abs=1e-9)
    assert summary.n == len(kept)
    assert summary.ties == found.ties
    assert summary.metric == f"{metric.name}[gender]"
    assert (summary.protocol, summary.version) == (metric.protocol, metric.version)
    assert sum(summary.excluded.values()) == len(values) - len(kept)
    assert {role: table.schema.field(f"tokens_{role}").type for role in scores.log_probs}


@every
def test_two_models_have_the_same_items(metric):
    """Gates pair models item by item, so what a model answers decides no item's place."""
    first, second = scores_for(metric), scores_for(metric)
    generator = random.Random(1)
    other = {role: tuple(float(generator.randint(-4, -1)) for _ in values) for role, values in second.log_probs.items()}
    second = dataclasses.replace(second, log_probs=other)
    one, two = (item_values(MetricRef(metric), scores) for scores in (first, second))
    assert (one.ids, one.clusters, one.excluded) == (two.ids, two.clusters, two.excluded)
    assert one.values != two.values


@every
def test_items_in_another_order_have_the_same_estimate(metric):
    scores = scores_for(metric, n=40)
    order = list(range(40))
    random.Random(2).shuffle(order)
    shuffled = dataclasses.replace(
        scores,
        **{name: tuple(getattr(scores, name)[i] for i in order) for name in ("ids", "axes", "clusters")},
        fields=tuple(scores.fields[i] for i in order) if scores.fields else (),
        log_probs={role: tuple(values[i] for i in order) for role, values in scores.log_probs.items()},
        tokens={role: tuple(values[i] for i in order) for role, values in scores.tokens.items()},
    )
    before, after = (item_values(MetricRef(metric), one) for one in (scores, shuffled))
    assert after.estimate == pytest.approx(before.estimate, abs=1e-9)
    assert after.ties == before.ties


@pytest.mark.parametrize("metric", [one for one in OF_PROBES.values() if one.scoring != "generation"])
def test_a_role_that_is_missing_is_named(metric):
    scores = scores_for(metric)
    without = next(iter(scores.log_probs))
    left = {role: values for role, values in scores.log_probs.items() if role != without}
    with pytest.raises(MetricError, match=f"no text with role {without!r}"):
        item_values(MetricRef(metric), dataclasses.replace(scores, log_probs=left))


def test_a_direction_or_target_that_cannot_be_is_refused():
    metric = parse_metric("stereoset.ss").metric
    with pytest.raises(MetricError) as caught:
        dataclasses.replace(metric, direction="up")
    assert caught.value.what == "metric 'stereoset.ss' has the unknown direction 'up'"
    assert caught.value.fix == "known directions: distance from target, higher is better, higher is worse"
    with pytest.raises(MetricError, match=r"the target 0\.5, outside its range from 1\.0 to 100\.0"):
        dataclasses.replace(metric, target=0.5, low=1.0)


def test_a_package_may_leave_out_what_it_does_not_know():
    metric = Metric("own.metric", "own", "points", 50.0, "own", "1", "A share.", item_values)
    assert (metric.low, metric.high, metric.direction) == (-math.inf, math.inf, DISTANCE)
