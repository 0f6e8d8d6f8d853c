"""The published metric of masked models on CrowS-Pairs, against a plain reading of it."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairtest.errors import MetricError
from fairtest.metrics import item_values, parse_metric
from fairtest.metrics.crows_pairs import nangia2020_score
from fairtest.scoring.scores import ProbeScores

# Scores that differ in the third decimal, in the fourth, and not at all.
values = st.sampled_from([-7.0, -7.0004, -7.0006, -7.001, -7.1, -9.0])
pairs = st.lists(st.tuples(values, values, st.sampled_from(["age", "gender"])), min_size=1)


def scores_of(rows, protocol="mlm-unmodified"):
    more, less, axes = zip(*rows, strict=True)
    return ProbeScores(
        probe_set="crows_pairs",
        probe_digest="d",
        protocol=protocol,
        ids=tuple(str(index) for index in range(len(rows))),
        axes=axes,
        clusters=tuple(f"c{index}" for index in range(len(rows))),
        log_probs={"stereotype": more, "anti_stereotype": less},
        tokens={"stereotype": (5,) * len(rows), "anti_stereotype": (5,) * len(rows)},
    )


@given(pairs)
def test_a_tie_after_rounding_is_no_preference_and_stays_in_the_denominator(rows):
    found = item_values(parse_metric("crows_pairs.nangia2020"), scores_of(rows))
    rounded = [(round(more, 3), round(less, 3)) for more, less, _ in rows]
    assert found.values == tuple(100.0 if more > less else 0.0 for more, less in rounded)
    assert found.ties == sum(more == less for more, less in rounded)
    assert not found.excluded
    assert found.estimate == pytest.approx(nangia2020_score(scores_of(rows)), abs=1e-9)


@given(pairs)
def test_an_axis_is_the_metric_of_its_items(rows):
    axis = rows[0][-1]
    found = item_values(parse_metric(f"crows_pairs.nangia2020[{axis}]"), scores_of(rows))
    alone = item_values(parse_metric("crows_pairs.nangia2020"), scores_of([row for row in rows if row[-1] == axis]))
    assert found.values == alone.values
    assert found.ids == tuple(str(index) for index, row in enumerate(rows) if row[-1] == axis)


def test_the_definition_says_what_it_reads():
    metric = parse_metric("crows_pairs.nangia2020").metric
    assert (metric.protocol, metric.version, metric.unit, metric.target) == ("nangia2020", "1", "points", 50.0)
    assert (metric.scoring, metric.scoring_protocol) == ("masked", "mlm-unmodified")


@pytest.mark.parametrize("protocol", ["causal-bos", "mlm-pll"])
def test_scores_of_another_protocol_are_refused(protocol):
    with pytest.raises(MetricError) as caught:
        item_values(parse_metric("crows_pairs.nangia2020"), scores_of([(-1.0, -2.0, "age")], protocol))
    assert caught.value.what == f"this metric reads scores of protocol 'mlm-unmodified', and got those of {protocol!r}"


def test_a_missing_role_is_named():
    scores = scores_of([(-1.0, -2.0, "age")])
    half = dataclasses.replace(scores, log_probs={"stereotype": scores.log_probs["stereotype"]})
    with pytest.raises(MetricError, match="no text with role 'anti_stereotype'"):
        item_values(parse_metric("crows_pairs.nangia2020"), half)
