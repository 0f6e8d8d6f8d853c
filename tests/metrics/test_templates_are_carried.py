"""The second factor of clusters, from probes to item values."""

from __future__ import annotations

import dataclasses

import pytest

from fairtest.digests import digest_of
from fairtest.errors import MetricError, ProbeError
from fairtest.metrics import item_values, parse_metric
from fairtest.metrics.metric import ItemValues
from fairtest.probes.probe import Probe, ProbeSet
from fairtest.scoring.scores import ProbeScores, join_scores

ROLES = ("stereotype", "anti_stereotype", "unrelated")
AXES = ("gender", "race", "gender", "race", "race")


def probe_set(*templates, name="stereoset"):
    texts = dict.fromkeys(ROLES, "text")
    probes = (
        Probe(str(i), axis, f"t{i % 2}", texts, template)
        for i, (axis, template) in enumerate(zip(AXES, templates, strict=True))
    )
    return ProbeSet(name, "1", "none", "here", tuple(probes))


WITH, WITHOUT = probe_set(*"abcab"), probe_set(*[""] * 5)


def scores_of(probes):
    n = len(probes)
    return ProbeScores(
        probe_set=probes.name,
        probe_digest=probes.digest,
        protocol="causal-bos",
        ids=tuple(probe.id for probe in probes.probes),
        axes=tuple(probe.axis for probe in probes.probes),
        clusters=tuple(probe.cluster for probe in probes.probes),
        log_probs={role: (-float(i),) * n for i, role in enumerate(ROLES)},
        tokens=dict.fromkeys(ROLES, (3,) * n),
        templates=probes.templates,
    )


def test_a_set_without_templates_has_the_digest_it_always_had():
    items = [[p.id, p.axis, p.cluster, dict(p.texts)] for p in WITHOUT.probes]
    assert WITHOUT.digest == digest_of(["stereoset", "1", items])
    assert len({WITHOUT.digest, WITH.digest, probe_set(*"abcaa").digest}) == 3


def test_a_template_on_some_probes_only_is_an_error():
    with pytest.raises(ProbeError, match="probe '2' has no template"):
        probe_set("a", "b", "", "a", "b")


def test_scores_come_back_from_json_with_and_without_templates():
    for probes in (WITH, WITHOUT):
        scores = scores_of(probes)
        assert ProbeScores.from_json(scores.to_json()) == scores
    stored = scores_of(WITHOUT).to_json()
    del stored["templates"]
    assert ProbeScores.from_json(stored) == scores_of(WITHOUT)


@pytest.mark.parametrize("probes", [WITH, WITHOUT])
def test_scores_of_axes_are_joined_in_the_order_of_the_set(probes):
    parts = [scores_of(probes.only(axis)) for axis in ("race", "gender")]
    assert join_scores(probes, parts) == scores_of(probes)


def test_scores_with_and_without_templates_are_not_joined():
    with pytest.raises(MetricError, match="with templates and scores without"):
        join_scores(WITH, [scores_of(WITH.only("race")), scores_of(WITHOUT.only("gender"))])


@pytest.mark.parametrize("name", ["ss", "ss_norm", "log_ratio", "lms", "lms_norm"])
def test_every_metric_hands_templates_on(name):
    assert item_values(parse_metric(f"stereoset.{name}"), scores_of(WITH)).templates == tuple("abcab")
    assert item_values(parse_metric(f"stereoset.{name}[race]"), scores_of(WITH)).templates == tuple("bab")
    assert item_values(parse_metric(f"stereoset.{name}[race]"), scores_of(WITHOUT)).templates == ()


def test_too_few_templates_are_an_error():
    with pytest.raises(MetricError, match="ragged"):
        dataclasses.replace(scores_of(WITH), templates=("a",))
    with pytest.raises(MetricError, match="2 items and 1 templates"):
        ItemValues(("a", "b"), ("t", "t"), (1.0, 2.0), ("f",))
