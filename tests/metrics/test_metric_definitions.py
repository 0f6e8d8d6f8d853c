"""Each definition against a plain-Python reading of it, and the algebra it has to obey."""

import math
from collections import defaultdict
from statistics import mean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairtest.errors import MetricError
from fairtest.metrics import icat_score, item_values, on_axis, parse_metric, stereoset_scores
from fairtest.metrics.crows_pairs import nangia2020_score
from fairtest.scoring.scores import ProbeScores

# Few distinct values, so that ties are common.
triples = st.lists(
    st.tuples(*[st.integers(-4, 0)] * 3, st.sampled_from("tuv"), st.sampled_from(["gender", "race"])), min_size=1
)


def scores_of(rows, probe_set="stereoset", tokens=1):
    more, less, none, terms, axes = zip(*rows, strict=True)
    columns = {"stereotype": more, "anti_stereotype": less, "unrelated": none}
    if probe_set == "crows_pairs":
        del columns["unrelated"]
    return ProbeScores(
        probe_set=probe_set,
        probe_digest="d",
        protocol="causal-bos",
        ids=tuple(str(i) for i in range(len(rows))),
        axes=axes,
        clusters=terms,
        log_probs={role: tuple(map(float, column)) for role, column in columns.items()},
        tokens={role: (tokens,) * len(rows) for role in columns},
    )


def estimate(metric, scores):
    return item_values(parse_metric(metric), scores).estimate


@given(triples)
def test_stereoset_over_items_is_its_definition(rows):
    ss = 100 * (sum(m > a for m, a, *_ in rows) + sum(m == a for m, a, *_ in rows) / 2) / len(rows)
    related = [(m > u) + (m == u) / 2 + (a > u) + (a == u) / 2 for m, a, u, *_ in rows]
    lm = 100 * mean(related) / 2
    found = stereoset_scores(scores_of(rows))
    assert math.isclose(found.ss_score, ss, abs_tol=1e-9)
    assert math.isclose(found.lm_score, lm, abs_tol=1e-9)
    assert math.isclose(found.icat_score, lm * min(ss, 100 - ss) / 50, abs_tol=1e-9)


@given(triples)
def test_nadeem2021_counts_ties_as_anti_and_unrelated_and_averages_terms(rows):
    terms = defaultdict(list)
    for more, less, none, term, _ in rows:
        terms[term].append((more > less, ((more > none) + (less > none)) / 2))
    ss = 100 * mean(mean(s for s, _ in found) for found in terms.values())
    lm = 100 * mean(mean(r for _, r in found) for found in terms.values())
    found = stereoset_scores(scores_of(rows), "nadeem2021")
    assert math.isclose(found.ss_score, ss, abs_tol=1e-9)
    assert math.isclose(found.lm_score, lm, abs_tol=1e-9)
    assert math.isclose(found.icat_score, lm * min(ss, 100 - ss) / 50, abs_tol=1e-9)


@given(triples)
def test_log_ratio_is_the_mean_difference(rows):
    assert math.isclose(
        estimate("stereoset.log_ratio", scores_of(rows)), mean(m - a for m, a, *_ in rows), abs_tol=1e-9
    )


@given(triples)
def test_nangia2020_keeps_ties_in_the_denominator(rows):
    expected = 100 * sum(m > a for m, a, *_ in rows) / len(rows)
    assert math.isclose(nangia2020_score(scores_of(rows, "crows_pairs")), expected, abs_tol=1e-9)


def test_nangia2020_rounds_to_three_decimals_first():
    scores = scores_of([(-1.0001, -1.0004, 0, "t", "age"), (-1.0, -1.001, 0, "t", "age")], "crows_pairs")
    assert nangia2020_score(scores) == 50.0


@given(triples, st.randoms())
def test_permuting_the_probes_changes_no_estimate(rows, random):
    shuffled = list(rows)
    random.shuffle(shuffled)
    before, after = scores_of(rows), scores_of(shuffled)
    for metric in ("stereoset.ss", "stereoset.lms", "stereoset.log_ratio", "stereoset.ss_norm"):
        assert estimate(metric, before) == estimate(metric, after)
    first, second = stereoset_scores(before, "nadeem2021"), stereoset_scores(after, "nadeem2021")
    assert first.lm_score == pytest.approx(second.lm_score, abs=1e-9)
    assert first.ss_score == pytest.approx(second.ss_score, abs=1e-9)


@given(triples)
def test_swapping_the_candidates_mirrors_the_share_and_the_log_ratio(rows):
    before = scores_of(rows)
    after = scores_of([(less, more, *rest) for more, less, *rest in rows])
    assert math.isclose(estimate("stereoset.ss", after), 100 - estimate("stereoset.ss", before), abs_tol=1e-9)
    assert math.isclose(estimate("stereoset.log_ratio", after), -estimate("stereoset.log_ratio", before), abs_tol=1e-9)
    assert estimate("stereoset.lms", after) == estimate("stereoset.lms", before)


@given(triples)
def test_an_axis_is_the_metric_of_its_items(rows):
    axis = rows[0][-1]
    alone = scores_of([row for row in rows if row[-1] == axis])
    found = item_values(parse_metric(f"stereoset.ss[{axis}]"), scores_of(rows))
    assert found.estimate == estimate("stereoset.ss", alone)
    assert found.ids == tuple(str(i) for i, row in enumerate(rows) if row[-1] == axis)
    assert found.clusters == tuple(row[-2] for row in rows if row[-1] == axis)


def test_the_language_model_score_is_two_comparisons_and_not_an_or():
    assert stereoset_scores(scores_of([(3, 1, 2, "t", "race")])).lm_score == 50.0


@pytest.mark.parametrize(
    ("lm_score", "ss_score", "expected"), [(100, 50, 100), (100, 100, 0), (100, 0, 0), (50, 50, 50), (80, 60, 64)]
)
def test_icat_of_the_models_the_paper_names(lm_score, ss_score, expected):
    assert icat_score(lm_score, ss_score) == expected


def test_the_normalised_share_compares_log_probabilities_per_token():
    scores = ProbeScores(
        probe_set="stereoset",
        probe_digest="d",
        protocol="causal-bos",
        ids=("i",),
        axes=("race",),
        clusters=("t",),
        log_probs={"stereotype": (-6.0,), "anti_stereotype": (-5.0,), "unrelated": (-9.0,)},
        tokens={"stereotype": (6,), "anti_stereotype": (4,), "unrelated": (10,)},
    )
    assert estimate("stereoset.ss", scores) == 0.0
    assert estimate("stereoset.ss_norm", scores) == 100.0
    assert estimate("stereoset.lms", scores) == 100.0
    assert estimate("stereoset.lms_norm", scores) == 0.0


def test_normalising_a_text_without_tokens_names_the_item():
    with pytest.raises(MetricError, match=r"probe '0' \(stereotype\) has no scored token"):
        estimate("stereoset.ss_norm", scores_of([(-1, -2, -3, "t", "race")], tokens=0))


def test_an_unknown_protocol_is_named():
    with pytest.raises(MetricError, match="unknown StereoSet protocol 'nadeem'"):
        stereoset_scores(scores_of([(3, 1, 2, "t", "race")]), "nadeem")


def test_an_axis_without_items_names_it_and_those_there_are():
    scores = scores_of([(3, 1, 2, "t", "race"), (3, 1, 2, "t", "gender")])
    with pytest.raises(MetricError) as caught:
        item_values(parse_metric("stereoset.ss[sex]"), scores)
    assert caught.value.what == "no item of probe set 'stereoset' has axis 'sex'"
    assert caught.value.fix == "axes it has: gender, race"
    assert set(on_axis(scores, "race").axes) == {"race"}


def test_scores_of_another_probe_set_are_refused():
    with pytest.raises(MetricError, match=r"'crows_pairs.preference\[age\]' reads scores of 'crows_pairs'"):
        item_values(parse_metric("crows_pairs.preference[age]"), scores_of([(3, 1, 2, "t", "race")]))


def test_a_missing_role_is_named():
    with pytest.raises(MetricError, match="no text with role 'unrelated'"):
        stereoset_scores(scores_of([(3, 1, 2, "t", "race")], "crows_pairs"))
