"""Known truth in, coverage out: simulated seeds and clusters with fixed random numbers."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import stdtrit

from fairtest.statistics.components import Contrast
from fairtest.statistics.intervals import amplification_interval, mean_interval, perplexity_ratio_interval

REPEATS = 800
# Standard deviations of seeds, clusters, seed times cluster, item noise.
SCENARIOS = {
    "seeds dominate": (1.0, 0.3, 0.1, 1.0),
    "seeds a little": (0.2, 1.0, 0.3, 1.0),
    "no seed variance": (0.0, 1.0, 0.3, 1.0),
    "interaction alone": (0.0, 0.0, 1.0, 0.5),
    "clusters alone": (0.0, 1.0, 0.0, 0.0),
    "items alone": (0.0, 0.0, 0.0, 1.0),
    "seeds and clusters alike": (0.3, 1.0, 0.0, 0.0),
}


def unequal_clusters(rng, groups, skew):
    return np.repeat(np.arange(groups), np.maximum(1, rng.lognormal(1.5, skew, groups)).astype(int))


def crossed(rng, seeds, clusters, sds):
    seed_sd, cluster_sd, interaction_sd, item_sd = sds
    groups, items = clusters[-1] + 1, len(clusters)
    return (
        rng.normal(size=(seeds, 1)) * seed_sd
        + (rng.normal(size=groups) * cluster_sd)[clusters]
        + (rng.normal(size=(seeds, groups)) * interaction_sd)[:, clusters]
        + rng.normal(size=items) * item_sd
        + rng.normal(size=(seeds, items)) * item_sd
    )


@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_95_percent_interval_holds_the_truth(scenario, seeds):
    rng = np.random.default_rng([seeds, *map(ord, scenario)])
    below = above = 0
    for repeat in range(REPEATS):
        clusters = unequal_clusters(rng, groups=20 + 20 * (repeat % 2), skew=0.5 + 0.7 * (repeat // 2 % 2))
        interval = mean_interval(crossed(rng, seeds, clusters, SCENARIOS[scenario]), clusters)
        below += interval.high < 0
        above += interval.low > 0
    most = 0.998 if scenario in {"interaction alone", "items alone"} else 0.99  # without a variance between seeds
    assert 0.93 <= 1 - (below + above) / REPEATS <= most
    assert max(below, above) / REPEATS <= 0.042  # 2.5%, and three standard errors of the simulation


@pytest.mark.parametrize("seeds", [2, 3, 4, 5, 8])
@pytest.mark.parametrize("share", [0.0, 0.03, 0.1, 0.2, 0.5, 0.9])
def test_any_mixture_of_seed_and_cluster_variance_is_covered(seeds, share):
    rng = np.random.default_rng(7)
    repeats, clusters = 4000, 30
    hits = 0
    spread = np.sqrt((1 - share) * seeds * rng.chisquare(seeds - 1, repeats) / (seeds - 1))
    errors = np.sqrt(share * rng.chisquare(clusters - 1, repeats) / (clusters - 1))
    for estimate, seed_sd, error in zip(rng.normal(size=repeats), spread, errors, strict=True):
        contrast = Contrast(estimate, seeds, seed_sd, error, 0.0, clusters - 1.0)
        hits += abs(estimate) < contrast.half_width(0.95)
    assert hits / repeats > 0.94


def normal_parts(rng, draws, seeds, clusters, shares):
    """Estimates with mean 0 and variance 1, and the three standard deviations that a contrast holds of each."""
    of_seeds, of_clusters, of_both = shares
    parts = (
        (of_seeds + of_both, seeds - 1),
        (of_clusters + of_both, clusters - 1),
        (of_both, (seeds - 1) * (clusters - 1)),
    )
    spreads = [np.sqrt(share * rng.chisquare(df, draws) / df) for share, df in parts]
    return rng.normal(size=draws), spreads[0] * np.sqrt(seeds), spreads[1], spreads[2]


@pytest.mark.parametrize("shares", [(0.97, 0.03, 0.0), (0.9, 0.1, 0.0), (0.5, 0.5, 0.0), (0.9, 0.0, 0.1)])
@pytest.mark.parametrize("seeds", [3, 5])
def test_the_small_errors_of_families_and_looks_are_kept_too(seeds, shares):
    """Where Satterthwaite's degrees of freedom err up to 2.3 times as often as they say."""
    rng = np.random.default_rng([seeds, int(100 * shares[0])])
    draws, level = 20000, 0.025 / 8
    wrong = 0
    for estimate, *sds in zip(*normal_parts(rng, draws, seeds, 40, shares), strict=True):
        contrast = Contrast(estimate, seeds, *sds, 39.0)
        wrong += abs(estimate) > contrast.half_width(1 - 2 * level)
    assert wrong / draws / 2 <= level * 1.27  # three standard errors of the simulation


def simulate_amplification(ours, theirs, seeds, repeats=REPEATS):
    rng = np.random.default_rng([seeds, int(100 * ours) + 500, int(100 * theirs) + 500])
    truth = abs(ours) - abs(theirs)
    too_low = too_high = 0
    for _ in range(repeats):
        clusters = unequal_clusters(rng, 30, 0.6)
        shared = crossed(rng, 1, clusters, (0.0, 0.5, 0.0, 1.0))
        arms = [50 + mean + shared + crossed(rng, seeds, clusters, (0.1, 0.2, 0.2, 0.4)) for mean in (ours, theirs)]
        interval = amplification_interval(*arms, clusters, 50.0)
        assert interval.low <= interval.estimate <= interval.high
        too_low += interval.high < truth
        too_high += interval.low > truth
    return too_low / repeats, too_high / repeats


@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize(("ours", "theirs"), [(2.0, 1.0), (1.0, -1.0), (-2.0, 0.9)])
def test_away_from_the_target_a_gate_at_the_boundary_fails_in_2_5_percent(ours, theirs, seeds):
    assert max(simulate_amplification(ours, theirs, seeds)) <= 0.042


@pytest.mark.parametrize(("ours", "theirs"), [(0.0, 0.0), (0.1, 0.1), (0.2, -0.2), (0.3, 0.0), (0.0, 0.3)])
def test_at_the_target_an_error_on_either_side_stays_within_5_percent(ours, theirs):
    assert max(simulate_amplification(ours, theirs, seeds=3)) <= 0.05


# Standard deviations of seeds; occupations, frames, both; seeds times each of these; what is left of an item and seed.
TWO_FACTORS = {
    "frames dominate": (0.1, 0.2, 1.0, 0.2, 0.2, 0.2, 0.2, 0.5),
    "occupations and frames alike": (0.1, 1.0, 0.63, 0.3, 0.3, 0.3, 0.3, 0.5),
    "main effects alone": (0.0, 1.0, 0.63, 0.0, 0.0, 0.0, 0.0, 0.0),
    "seeds dominate": (0.5, 0.3, 0.5, 0.2, 0.2, 0.2, 0.2, 0.5),
    "seeds times frames": (0.3, 0.2, 0.7, 0.2, 0.3, 1.0, 0.3, 0.5),
}
LABELS = np.array(np.meshgrid(np.arange(40), np.arange(16), indexing="ij")).reshape(2, -1)


def crossed_twice(rng, seeds, sds):
    shapes = [(seeds, 1, 1), (1, 40, 1), (1, 1, 16), (1, 40, 16), (seeds, 40, 1), (seeds, 1, 16)]
    shapes += [(seeds, 40, 16)] * 2
    effects = [sd * rng.normal(size=shape) for sd, shape in zip(sds, shapes, strict=True)]
    return sum(effects).reshape(seeds, -1)


@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize("scenario", TWO_FACTORS)
def test_two_crossed_factors_cover_where_one_covers_too_little(scenario, seeds):
    rng = np.random.default_rng([seeds, *map(ord, scenario)])
    both = one = 0
    for _ in range(REPEATS):
        values = crossed_twice(rng, seeds, TWO_FACTORS[scenario])
        both_ways, by_occupation = mean_interval(values, LABELS), mean_interval(values, LABELS[0])
        both += both_ways.low <= 0 <= both_ways.high
        one += by_occupation.low <= 0 <= by_occupation.high
    assert 0.93 <= both / REPEATS <= 0.99
    if "seeds" not in scenario:  # where seeds count for much, leaving out the frames does less harm
        assert one / REPEATS < (0.7 if scenario == "frames dominate" else 0.92)


def percentile_bootstrap(rng, values, clusters, draws=200):
    seeds, groups = len(values), clusters[-1] + 1
    sums = np.stack([np.bincount(clusters, weights=row, minlength=groups) for row in values])
    sizes = np.bincount(clusters, minlength=groups)
    rows = rng.integers(0, seeds, (draws, seeds))
    columns = rng.integers(0, groups, (draws, groups))
    picked = sums[rows[:, :, None], columns[:, None, :]].sum(axis=(1, 2)) / (seeds * sizes[columns].sum(axis=1))
    return np.quantile(picked, [0.025, 0.975])


def test_a_percentile_bootstrap_over_three_seeds_covers_far_too_little():
    rng = np.random.default_rng(11)
    ours = bootstrap = 0
    for _ in range(300):
        clusters = unequal_clusters(rng, 30, 0.5)
        values = crossed(rng, 3, clusters, (0.5, 0.5, 0.2, 1.0))
        low, high = percentile_bootstrap(rng, values, clusters)
        bootstrap += low <= 0 <= high
        interval = mean_interval(values, clusters)
        ours += interval.low <= 0 <= interval.high
    assert bootstrap / 300 < 0.85
    assert ours / 300 >= 0.93


def test_a_perplexity_ratio_of_long_and_short_records_is_covered():
    rng = np.random.default_rng(13)
    hits = 0
    repeats = 2500
    for _ in range(repeats):
        tokens = rng.integers(5, 120, 200).astype(float)
        before = rng.normal(3.0, 0.5, 200)
        change = np.log(1.2) + rng.normal(size=(3, 1)) * 0.02 + rng.normal(size=(3, 200)) * 0.1
        interval = perplexity_ratio_interval((before + change) * tokens, (before * tokens)[None, :], tokens)
        hits += interval.low <= 1.2 <= interval.high
    assert 0.93 <= hits / repeats <= 0.99


def test_quantiles_are_those_of_t():
    contrast = Contrast(0.0, 1, None, 2.0, 0.0, 9.0)
    assert contrast.half_width(0.9) == pytest.approx(2.0 * stdtrit(9.0, 0.95))
    assert contrast.half_width(0.9) == pytest.approx(2.0 * 1.8331129)  # printed tables: t(9), 5% on a side


def test_with_either_part_alone_the_quantiles_are_those_of_its_t():
    seeds, clusters = Contrast(0.0, 4, 2.0, 0.0, 0.0, 30.0), Contrast(0.0, 4, 0.0, 1.0, 0.0, 30.0)
    assert seeds.half_width(0.95) == pytest.approx(stdtrit(3.0, 0.975))
    assert clusters.half_width(0.95) == pytest.approx(stdtrit(30.0, 0.975))
    assert (seeds.df, clusters.df) == pytest.approx((3.0, 30.0))


@pytest.mark.parametrize("parts", [(3, 1.0, 0.4, 0.2, 20.0), (5, 0.1, 0.4, 0.3, 8.0), (2, 3.0, 0.1, 0.0, 100.0)])
def test_p_values_turn_the_interval_round_down_to_the_tails(parts):
    seeds, *sds, df = parts
    for confidence in (0.5, 0.9, 0.95, 0.99, 0.9999, 1 - 1e-9):
        width = Contrast(0.0, seeds, *sds, df).half_width(confidence)
        above, below = Contrast(width, seeds, *sds, df), Contrast(-width, seeds, *sds, df)
        assert above.p_above(0.0) == pytest.approx((1 - confidence) / 2, rel=1e-6)
        assert below.p_above(0.0) == pytest.approx((1 + confidence) / 2)
    assert Contrast(0.0, seeds, *sds, df).p_above(0.0) == 0.5


def test_as_wide_a_t_interval_has_the_degrees_of_freedom_stated():
    contrast = Contrast(0.0, 3, 1.0, 0.4, 0.0, 20.0)
    for confidence in (0.8, 0.95, 0.999):
        df = contrast.df_at(confidence)
        t_width = contrast.variance**0.5 * stdtrit(df, 0.5 + confidence / 2)
        assert contrast.half_width(confidence) == pytest.approx(t_width)
    assert 2.0 < contrast.df_at(0.999) < contrast.df == contrast.df_at(0.95) < contrast.df_at(0.8) < 20.0
