"""Minimum detectable effects before training, against published figures and simulated power."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import nct, norm, t

from fairtest.errors import ComparisonError
from fairtest.statistics.components import Contrast
from fairtest.statistics.power import (
    detectable,
    minimum_detectable,
    plan_se,
    planned_contrast,
    preference_mde,
    seeds_needed,
)

# Points at power 80%, one-sided 5%, discordance 0.15: alone, and in Holm's hardest step of eight gates.
GOLDEN = {
    "CrowS-Pairs, all": (1508, 1.0, 2.5, 3.3),
    "CrowS-Pairs, race": (516, 1.0, 4.2, 5.7),
    "CrowS-Pairs, gender": (262, 1.0, 5.9, 8.0),
    "CrowS-Pairs, religion": (105, 1.0, 9.4, 12.6),
    "StereoSet, race": (962, 1.12, 3.3, 4.4),
    "StereoSet, gender": (255, 1.09, 6.3, 8.5),
    "StereoSet, religion": (79, 3.0, 18.8, 25.2),
}


@pytest.mark.parametrize("case", GOLDEN)
def test_detectable_changes_of_the_public_sets_are_the_known_ones(case):
    items, design_effect, alone, of_eight = GOLDEN[case]
    assert round(preference_mde(items, design_effect=design_effect), 1) == alone
    assert round(preference_mde(items, design_effect=design_effect, tests=8), 1) == of_eight


def test_with_many_degrees_of_freedom_it_is_the_normal_formula():
    expected = 2.0 * (norm.ppf(0.975) + norm.ppf(0.8))
    assert minimum_detectable(2.0, 1e6, 0.95) == pytest.approx(expected)
    assert minimum_detectable(2.0, 5e3, 0.95) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("df", [1.0, 2.0, 4.7, 30.0])
@pytest.mark.parametrize("power", [0.5, 0.8, 0.95])
@pytest.mark.parametrize("tests", [1, 13])
def test_the_effect_has_the_power_that_the_noncentral_t_gives_it(df, power, tests):
    effect = minimum_detectable(1.0, df, 0.95, power, tests=tests)
    critical = t.ppf(1 - 0.025 / tests, df)
    assert nct.sf(critical, df, effect) == pytest.approx(power, abs=1e-3)


def test_what_is_detected_grows_with_power_and_tests_and_shrinks_with_seeds():
    effects = [minimum_detectable(1.0, 5.0, 0.95, power) for power in (0.3, 0.5, 0.8, 0.9)]
    assert effects == sorted(effects)
    assert minimum_detectable(1.0, 5.0, 0.95, tests=8) > effects[2]
    planned = [plan_se(500, 80, seeds, discordance=0.15, seed_sd=1.5) for seeds in (2, 3, 5, 8, 20)]
    changes = [minimum_detectable(plan.se, plan.df, 0.95) for plan in planned]
    assert changes == sorted(changes, reverse=True)


def test_variances_of_items_and_seeds_add_up():
    planned = plan_se(400, 50, 4, discordance=0.15, seed_sd=2.0, design_effect=1.5)
    assert planned.se == pytest.approx(math.sqrt(1500 * 1.5 / 400 + 4.0 / 4))
    assert plan_se(400, 50, 4, item_sd=3.0).se == pytest.approx(3.0 / 20)
    assert plan_se(400, 50, 4, item_sd=3.0).df == 49.0
    assert 3.0 <= planned.df <= 52.0


def test_one_seed_is_about_that_checkpoint():
    assert plan_se(400, 50, 1, item_sd=3.0, seed_sd=2.0) == plan_se(400, 50, 1, item_sd=3.0)


@pytest.mark.parametrize("tests", [1, 8])
@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
@pytest.mark.parametrize("seeds", [3, 5])
def test_the_stated_effect_is_detected_as_often_as_stated(seeds, share, tests):
    rng = np.random.default_rng([seeds, int(100 * share)])
    seed_sd, cluster_se = math.sqrt(share * seeds), math.sqrt(1 - share)
    effect = detectable(planned_contrast(100, 40, seeds, item_sd=10 * cluster_se, seed_sd=seed_sd), 0.95, tests=tests)
    repeats = 3000
    means = effect + rng.normal(size=repeats)
    spreads = seed_sd * np.sqrt(rng.chisquare(seeds - 1, repeats) / (seeds - 1))
    errors = cluster_se * np.sqrt(rng.chisquare(39, repeats) / 39)
    confidence = 1 - 0.05 / tests
    found = sum(
        mean > Contrast(mean, seeds, spread, error, 0.0, 39.0).half_width(confidence)
        for mean, spread, error in zip(means, spreads, errors, strict=True)
    )
    assert 0.77 <= found / repeats <= 0.9


def test_a_family_costs_more_than_the_degrees_of_freedom_of_one_gate_say():
    contrast = planned_contrast(100, 40, 3, item_sd=5.0, seed_sd=1.0)
    se = math.sqrt(contrast.variance)
    assert detectable(contrast, 0.95) == pytest.approx(minimum_detectable(se, contrast.df, 0.95))
    assert detectable(contrast, 0.95, tests=8) > minimum_detectable(se, contrast.df, 0.95, tests=8)


def test_seeds_needed_are_the_fewest_that_detect_the_change():
    plan = {"discordance": 0.15, "seed_sd": 1.5}
    seeds = seeds_needed(4.5, 1508, 1508, **plan)
    assert seeds is not None
    detected = []
    for count in (seeds - 1, seeds):
        planned = plan_se(1508, 1508, count, **plan)
        detected.append(minimum_detectable(planned.se, planned.df, 0.95))
    assert detected[1] <= 4.5 < detected[0]
    assert seeds_needed(4.5, 1508, 1508, **plan, tests=8) > seeds


def test_too_few_items_are_not_mended_by_seeds():
    assert seeds_needed(2.0, 105, 105, discordance=0.15, seed_sd=1.0) is None


def test_without_degrees_of_freedom_nothing_is_detected():
    planned = plan_se(20, 1, 3, item_sd=1.0, seed_sd=1.0)
    assert minimum_detectable(planned.se, planned.df, 0.95) == math.inf


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plan_se(10, 10, 3), "either the discordance"),
        (lambda: plan_se(10, 10, 3, discordance=0.1, item_sd=1.0), "either the discordance"),
        (lambda: plan_se(10, 10, 3, discordance=15), "discordance is 15"),
        (lambda: plan_se(10, 10, 3, item_sd=math.nan), "item_sd is nan"),
        (lambda: plan_se(0, 10, 3, item_sd=1.0), "items is 0"),
        (lambda: plan_se(10, 10, 3, item_sd=1.0, seed_sd=-1.0), "seed_sd is -1"),
        (lambda: minimum_detectable(1.0, 3.0, 95), "confidence is 95"),
        (lambda: minimum_detectable(1.0, 3.0, 0.95, 80), "power is 80"),
        (lambda: minimum_detectable(1.0, 3.0, 0.95, tests=0), "number of tests is 0"),
        (lambda: minimum_detectable(math.nan, 3.0, 0.95), "standard error is nan"),
        (lambda: preference_mde(10, alpha=5), "alpha is 5"),
    ],
)
def test_a_plan_of_numbers_without_meaning_is_refused(call, message):
    with pytest.raises(ComparisonError, match=message):
        call()
