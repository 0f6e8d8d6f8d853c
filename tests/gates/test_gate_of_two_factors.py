"""Probes with templates: the gate's interval is over new clusters and new templates."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from arms_of_numbers import ITEMS, NumbersArm, pretrained, ratios

from fairtest.gates.claims import judge_utility
from fairtest.gates.judge import judge_amplification
from fairtest.gates.result import Verdict
from fairtest.settings import Settings

METRIC = "templates.log_ratio[gender]"
SETTINGS = Settings()


class CrossedArm(NumbersArm):
    """Item i has template i modulo `frames`, so that templates cross the clusters of consecutive items."""

    frames = 8

    def scores(self, probe_set, axis=None, protocol=None):
        templates = tuple(f"frame-{i % self.frames}" for i in range(ITEMS))
        return tuple(dataclasses.replace(row, templates=templates) for row in super().scores(probe_set, axis, protocol))


class PlainArm(NumbersArm):
    """The same items without their templates."""

    frames = 8


class FewFrames(CrossedArm):
    frames = 4


def pair(kind, *, by_frame=0.0):
    moved = ratios(1.4)
    moved += by_frame * (np.arange(ITEMS) % kind.frames - (kind.frames - 1) / 2)
    return [kind(name, row, nll=2.5, start=pretrained()) for name, row in (("dp", moved), ("baseline", ratios(0.7)))]


def judge(arms, max_increase=0.2):
    return judge_amplification(*arms, metric=METRIC, max_increase=max_increase, settings=SETTINGS)


def test_a_change_that_differs_between_templates_widens_the_interval():
    plain, crossed = (judge(pair(kind, by_frame=0.2)) for kind in (PlainArm, CrossedArm))
    widths = [result.change.high - result.change.low for result in (plain, crossed)]
    assert widths[1] > 2 * widths[0]
    assert plain.change.value == crossed.change.value
    assert (plain.factors, crossed.factors) == ((20,), (20, 8))
    assert (plain.clusters, crossed.clusters) == (20, 8)


def test_the_message_names_both_factors_and_the_worst_items_their_cluster():
    result = judge(pair(CrossedArm))
    assert result.verdict is Verdict.FAIL
    assert "x 200 items in 20 x 8 clusters)" in result.message()
    assert result.as_dict()["factors"] == (20, 8)
    for item in result.worst:
        assert item.cluster == f"term-{int(item.id.removeprefix('item-')) // 10}"
        assert type(item.cluster) is str


def test_too_few_clusters_of_the_smaller_factor_are_not_decided():
    result = judge(pair(FewFrames))
    assert result.verdict is Verdict.UNDECIDED
    assert "4 clusters are too few" in result.reason


def test_held_out_text_has_one_factor():
    result = judge_utility(*pair(CrossedArm), max_perplexity_ratio=1.25, settings=SETTINGS)
    assert result.factors == (result.clusters,) == (50,)


@pytest.mark.parametrize("kind", [PlainArm, CrossedArm])
def test_the_levels_have_the_width_of_the_same_clusters(kind):
    arms = pair(kind, by_frame=0.2)
    dp, baseline = (judge(arms).levels[name] for name in ("dp", "baseline"))
    assert (dp.high - dp.low > 2 * (baseline.high - baseline.low)) == (kind is CrossedArm)
