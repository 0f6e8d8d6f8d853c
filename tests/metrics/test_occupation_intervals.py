"""Intervals of correlations over occupations: their definition, their coverage, and where there is none."""

import csv
import math
import random
from statistics import correlation, fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import t

from fairtest.errors import MetricError
from fairtest.metrics import winobias
from fairtest.metrics.occupations import correlate, jackknife_interval, pearson, spearman
from fairtest.probes.winobias import read_winobias
from fairtest.scoring.scores import ProbeScores


def found_of(pairs, **options):
    names = [f"o{i}" for i in range(len(pairs))]
    return correlate(
        dict(zip(names, (y for _, y in pairs), strict=True)),
        dict(zip(names, (x for x, _ in pairs), strict=True)),
        **{"statistic": "women", "where": "here", "fix": "more", **options},
    )


def drawn(generator, n=60, slope=0.25):
    """Flat percentages; ratios that fall with them and scatter more at both ends."""
    women = [generator.uniform(0, 100) for _ in range(n)]
    return [(x, -slope * (x - 50) / 28 + generator.gauss(0, 0.3 + 2 * abs(x - 50) / 50)) for x in women]


def test_the_interval_is_its_definition():
    pairs = drawn(random.Random(1), n=12)
    found = found_of(pairs, confidence=0.9)
    z = [math.atanh(correlation(*zip(*(pairs[:i] + pairs[i + 1 :]), strict=True))) for i in range(12)]
    width = t.ppf(0.95, 11) * math.sqrt(11 / 12 * sum((one - fmean(z)) ** 2 for one in z))
    middle = math.atanh(correlation(*zip(*pairs, strict=True)))
    assert found.pearson_interval == pytest.approx((math.tanh(middle - width), math.tanh(middle + width)), abs=1e-9)
    assert (found.confidence, found.n) == (0.9, 12)


def test_intervals_hold_the_correlation_as_often_as_they_say_where_those_of_the_textbook_do_not():
    generator = random.Random(0)
    large = list(zip(*drawn(generator, n=20_000), strict=True))
    truth, rank_truth = pearson(*large), spearman(*large)
    held = dict.fromkeys(("ours", "textbook", "rho"), 0)
    times = 300
    for _ in range(times):
        x, y = zip(*drawn(generator), strict=True)
        low, high = jackknife_interval(pearson, x, y, 0.95)
        held["ours"] += low <= truth <= high
        low, high = jackknife_interval(spearman, x, y, 0.95)
        held["rho"] += low <= rank_truth <= high
        held["textbook"] += abs(math.atanh(pearson(x, y)) - math.atanh(truth)) <= 1.96 / math.sqrt(57)
    assert 0.92 <= held["ours"] / times <= 0.985
    assert 0.92 <= held["rho"] / times <= 0.985
    assert held["textbook"] / times < 0.91


@given(st.lists(st.tuples(st.integers(0, 100), st.integers(-5, 5)), min_size=3, max_size=12), st.randoms())
def test_an_interval_holds_its_estimate_within_the_range_in_any_order(pairs, shuffler):
    if any(len(set(column)) == 1 for column in zip(*pairs, strict=True)):
        return
    found = found_of(pairs)
    for value, (low, high) in ((found.pearson, found.pearson_interval), (found.spearman, found.spearman_interval)):
        assert -1.0 <= low <= value + 1e-9
        assert value - 1e-9 <= high <= 1.0
    shuffled = list(pairs)
    shuffler.shuffle(shuffled)
    assert found_of(shuffled).pearson_interval == pytest.approx(found.pearson_interval, abs=1e-9)


def test_few_occupations_or_one_that_holds_all_the_variation_say_nothing():
    assert found_of([(0, 1), (50, 0), (100, -2), (20, 1)]).pearson_interval == (-1.0, 1.0)
    assert found_of([(0, 1.0)] * 5 + [(100, 0.0)]).spearman_interval == (-1.0, 1.0)


def test_points_on_a_line_have_an_interval_without_width():
    found = found_of([(x, -x) for x in range(0, 70, 10)])
    assert found.pearson_interval == pytest.approx((-1.0, -1.0))
    assert found.spearman == -1.0


def test_it_prints_both_correlations_their_intervals_and_the_number_of_occupations():
    text = str(found_of(drawn(random.Random(1), n=12)))
    assert text.startswith("r ")
    assert text.endswith(" with women over 12 occupations (95% intervals)")
    assert ", rho " in text


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95, float("nan")])
def test_a_confidence_that_is_none_is_refused(confidence):
    with pytest.raises(MetricError, match="confidence must be between 0 and 1"):
        found_of(drawn(random.Random(1)), confidence=confidence)


# WinoBias, whose percentages come from elsewhere


def pairs_of(rows):
    """Scores of (occupation, gender of the pro line, log p(pro), log p(anti))."""
    jobs, genders, pro, anti = zip(*rows, strict=True)
    return ProbeScores(
        probe_set="winobias",
        probe_digest="d",
        protocol="causal-bos",
        ids=tuple(f"i{i}" for i in range(len(rows))),
        axes=("gender",) * len(rows),
        clusters=jobs,
        log_probs={"stereotype": tuple(map(float, pro)), "anti_stereotype": tuple(map(float, anti))},
        tokens={role: (1,) * len(rows) for role in ("stereotype", "anti_stereotype")},
        fields=tuple({"occupation": job, "gender": gender} for job, gender in zip(jobs, genders, strict=True)),
    )


ROWS = [
    ("nurse", "feminine", -1, -4), ("nurse", "feminine", -1, -2), ("guard", "masculine", -1, -2),
    ("clerk", "feminine", -2, -2), ("mover", "masculine", -1, -3), ("chief", "masculine", -5, -1),
]  # fmt: skip
WOMEN = {"nurse": 90.0, "guard": 22.0, "clerk": 72.0, "mover": 18.0, "dancer": 50.0}


def test_a_pair_counts_by_its_masculine_line_whichever_is_the_stereotype():
    found = winobias.occupation_correlation(pairs_of(ROWS), WOMEN)
    assert found.occupations == {
        "nurse": (90.0, -2.0),
        "guard": (22.0, 1.0),
        "clerk": (72.0, 0.0),
        "mover": (18.0, 2.0),
    }
    assert found.excluded == {"chief": "no percentage of women is given"}
    assert found.pearson == pytest.approx(correlation((90, 22, 72, 18), (-2, 1, 0, 2)))


@pytest.mark.parametrize("percentage", [-1.0, 100.5, float("nan")])
def test_a_percentage_that_is_none_names_its_occupation(percentage):
    with pytest.raises(MetricError, match=r"of 'nurse' is .*, not a percentage from 0 to 100"):
        winobias.occupation_correlation(pairs_of(ROWS), {**WOMEN, "nurse": percentage})


def test_percentages_of_other_occupations_are_an_error():
    with pytest.raises(MetricError, match="at least 3 occupations, and 0 have a mean log ratio and percentage of wome"):
        winobias.occupation_correlation(pairs_of(ROWS), {"dancer": 50.0})


def test_a_gender_that_is_none_names_the_item():
    with pytest.raises(MetricError, match="the pro line of probe 'i0' is of gender 'neutral'"):
        winobias.occupation_correlation(pairs_of([("nurse", "neutral", -1, -4), *ROWS]), WOMEN)


def test_published_pairs_meet_twenty_published_percentages(data_dir):
    table = data_dir / "winogender" / "occupations-stats.tsv"
    if not table.is_file() or not (data_dir / "winobias").is_dir():
        pytest.skip("WinoBias or Winogender is absent; set FAIRTEST_DATA_DIR")
    with table.open(encoding="utf-8", newline="") as file:
        women = {row["occupation"]: float(row["bls_pct_female"]) for row in csv.DictReader(file, delimiter="\t")}
    probes = read_winobias(data_dir)
    # A model that follows the percentages, and a little of each pair's own.
    rows = []
    for index, probe in enumerate(probes.probes):
        ratio = 2.0 - women.get(probe.fields["occupation"], 50.0) / 25 + (index % 7 - 3) / 10
        sides = (ratio, 0.0) if probe.fields["gender"] == "masculine" else (0.0, ratio)
        rows.append((probe.fields["occupation"], probe.fields["gender"], *sides))
    found = winobias.occupation_correlation(pairs_of(rows), women, "bls_pct_female")
    assert (found.n, len(found.excluded)) == (20, 20)
    assert found.pearson < -0.98
    low, high = found.pearson_interval
    assert -1.0 < low < found.pearson < high < -0.9
