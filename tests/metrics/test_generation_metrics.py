"""Gaps of completions against their definitions in plain Python."""

import math
import re
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairtest.errors import MetricError
from fairtest.metrics.generation import gap, gap_metric, group_scores, honest, prompt_items, regard_gap
from fairtest.metrics.metric import MetricRef, item_values
from fairtest.probes.probe import ProbeSet
from fairtest.probes.prompts import prompt
from fairtest.scoring.completions import Decoding, Generation, Generations
from fairtest.scoring.scores import ProbeScores

EMPTY = None


def scores(*rows, name="own"):
    """Rows of (id, group, pair, values by sample); a value of None is a completion without text."""
    samples = range(len(rows[0][3]))
    return ProbeScores(
        probe_set=name,
        probe_digest="d",
        protocol="generate",
        ids=tuple(row[0] for row in rows),
        axes=("gender",) * len(rows),
        clusters=tuple(f"c{row[2] or row[0]}" for row in rows),
        log_probs={f"completion-{n}": tuple(0.0 if row[3][n] is EMPTY else row[3][n] for row in rows) for n in samples},
        tokens={f"completion-{n}": tuple(0 if row[3][n] is EMPTY else 5 for row in rows) for n in samples},
        fields=tuple({"group": row[1], **({"pair": row[2]} if row[2] else {})} for row in rows),
    )


PAIRED = scores(
    ("m1", "m", "one", (0.1, 0.7, 0.4)),
    ("f1", "f", "one", (0.2, 0.3, 0.1)),
    ("m2", "m", "two", (0.9, EMPTY, 0.5)),
    ("f2", "f", "two", (0.0, 0.1, 0.8)),
    ("f3", "f", "two", (0.2, 0.2, 0.2)),
)


def test_a_paired_gap_is_the_mean_over_pairs_of_the_difference():
    found = gap(PAIRED, "m", "f")
    first = [1.2 / 3 - 0.6 / 3, 1.4 / 2 - (0.9 / 3 + 0.2) / 2]
    assert found.items.ids == ("one", "two")
    assert found.items.clusters == ("cone", "ctwo")
    assert found.items.values == pytest.approx(first)
    assert found.difference == pytest.approx(statistics.mean(first))
    assert found.first_value == pytest.approx((0.4 + 0.7) / 2)
    assert found.second_value == pytest.approx((0.2 + 0.25) / 2)
    assert found.ratio == pytest.approx(0.55 / 0.225)
    assert (found.paired, found.prompts, found.completions, found.excluded) == (True, 5, 14, {})
    assert found.direction == "m - f"


@pytest.mark.parametrize(
    ("statistic", "first", "second"),
    [("share", (1 / 3 + 1) / 2, (0 + 1 / 6) / 2), ("maximum", (0.7 + 0.9) / 2, (0.3 + 0.5) / 2)],
)
def test_share_and_expected_maximum_are_taken_over_the_completions_of_a_prompt(statistic, first, second):
    found = gap(PAIRED, "m", "f", statistic=statistic)
    assert (found.first_value, found.second_value) == pytest.approx((first, second))
    assert found.difference == pytest.approx(first - second) == found.items.estimate


def test_the_threshold_itself_counts():
    assert prompt_items(PAIRED, "m", statistic="share", threshold=0.4).values == pytest.approx((2 / 3, 1.0))


def test_a_pair_that_has_lost_a_side_is_left_out_of_both_values_and_named():
    lost = scores(
        ("m1", "m", "one", (0.5,)),
        ("f1", "f", "one", (0.25,)),
        ("m2", "m", "two", (0.9,)),
        ("f2", "f", "two", (EMPTY,)),
        ("x", "other", "two", (EMPTY,)),
    )
    found = gap(lost, "m", "f")
    assert (found.first_value, found.second_value, found.ratio) == (0.5, 0.25, 2.0)
    assert (
        found.excluded
        == found.items.excluded
        == {
            "f2": "no completion has a text",
            "m2": "its pair has no prompt of the other group",
        }
    )


def test_pairs_whose_prompts_are_in_two_clusters_are_their_own():
    rows = scores(("a", "m", "p", (1.0,)), ("b", "f", "p", (0.0,)))
    split = ProbeScores(**{**rows.__dict__, "clusters": ("Ann", "Bo")})
    assert gap(split, "m", "f").items.clusters == ("p",)


values = st.lists(st.floats(0, 1), min_size=2, max_size=2)
groups = st.lists(values, min_size=2, max_size=7)


@given(groups, groups)
def test_an_unpaired_gap_is_the_difference_of_means_and_its_items_have_the_variance_of_two_samples(first, second):
    rows = [(f"a{i}", "a", "", v) for i, v in enumerate(first)] + [(f"b{i}", "b", "", v) for i, v in enumerate(second)]
    found = gap(scores(*rows), "a", "b")
    means = [[statistics.mean(v) for v in side] for side in (first, second)]
    difference = statistics.mean(means[0]) - statistics.mean(means[1])
    assert not found.paired
    assert found.difference == pytest.approx(difference, abs=1e-12)
    assert found.items.estimate == pytest.approx(difference, abs=1e-9)
    assert found.items.ids == tuple(row[0] for row in rows)
    welch = sum(statistics.pvariance(side) / len(side) for side in means)
    assert statistics.pvariance(found.items.values) / len(rows) == pytest.approx(welch, abs=1e-9)


@given(groups)
def test_swapping_the_groups_turns_the_gap_round(rows):
    table = scores(
        *((f"{g}{i}", g, f"p{i // 2 * 2}", v) for i, v in enumerate(rows[: len(rows) // 2 * 2]) for g in "mf")
    )
    there, back = gap(table, "m", "f"), gap(table, "f", "m")
    assert there.difference == -back.difference
    assert there.items.values == pytest.approx([-value for value in back.items.values])
    if there.ratio and back.ratio:
        assert there.ratio == pytest.approx(1 / back.ratio)


def test_the_order_of_prompts_changes_no_gap():
    rows = [
        ("m1", "m", "one", (0.1,)),
        ("f1", "f", "one", (0.2,)),
        ("m2", "m", "two", (0.9,)),
        ("f2", "f", "two", (0.4,)),
    ]
    there, back = gap(scores(*rows), "m", "f"), gap(scores(*rows[::-1]), "m", "f")
    assert there.difference == back.difference
    assert dict(zip(there.items.ids, there.items.values, strict=True)) == dict(
        zip(back.items.ids, back.items.values, strict=True)
    )


@pytest.mark.parametrize(("first", "second"), [(-0.2, 0.1), (0.2, -0.1), (0.2, 0.0)])
def test_there_is_no_ratio_where_a_mean_is_negative_or_the_second_is_zero(first, second):
    found = gap(scores(("a", "m", "", (first,)), ("b", "f", "", (second,))), "m", "f")
    assert found.ratio is None
    assert found.difference == pytest.approx(first - second)


def test_difference_and_ratio_can_disagree():
    """The published table: eps 3 has the larger difference than no DP, and the smaller ratio."""
    no_dp, eps_3 = (
        gap(scores(("f", "female", "p", (f,)), ("m", "male", "p", (m,))), "female", "male")
        for m, f in ((0.0189, 0.0350), (0.0681, 0.1197))
    )
    assert no_dp.difference == pytest.approx(0.0161)
    assert eps_3.difference == pytest.approx(0.0516)
    assert no_dp.ratio == pytest.approx(1.85, abs=0.005)
    assert eps_3.ratio == pytest.approx(1.76, abs=0.005)


def test_groups_are_described_one_by_one_with_what_was_left_out():
    rows = scores(
        ("m1", "m", "", (0.1, 0.7)),
        ("m2", "m", "", (EMPTY, 0.5)),
        ("m3", "m", "", (EMPTY, EMPTY)),
        ("f1", "f", "", (0.2, 0.3)),
    )
    found = group_scores(rows)
    assert list(found) == ["f", "m"]
    m = found["m"]
    assert (m.mean, m.share, m.maximum) == pytest.approx((0.45, 0.75, 0.6))
    assert (m.prompts, m.completions, m.excluded) == (2, 3, {"m3": "no completion has a text"})
    assert m.items.values == pytest.approx((0.4, 0.5))
    assert (found["f"].share, found["f"].excluded) == (0.0, {})
    assert group_scores(rows, threshold=0.25)["f"].share == 0.5


def test_more_than_nine_completions_are_taken_in_any_case():
    many = scores(("a", "m", "", tuple(n / 10 for n in range(12))), ("b", "f", "", (0.0,) * 12))
    assert prompt_items(many, "m").values == pytest.approx((0.55,))
    assert prompt_items(many).ids == ("a", "b")


def test_regard_is_the_gap_of_each_class():
    negative = scores(("a", "m", "p", (0.75,)), ("b", "f", "p", (0.5,)))
    positive = scores(("a", "m", "p", (0.25,)), ("b", "f", "p", (0.5,)))
    found = regard_gap({"negative": negative, "positive": positive}, "m", "f")
    assert {name: one.difference for name, one in found.items()} == {"negative": 0.25, "positive": -0.25}
    with pytest.raises(MetricError, match="no class was scored"):
        regard_gap({}, "m", "f")


def completions(*texts):
    """Two completions of each prompt; prompts alternate between two groups."""
    count = len(texts) // 2
    probes = ProbeSet(
        "own",
        "1",
        "",
        "here",
        tuple(prompt(f"p{i}", "gender", "mf"[i % 2], f"He {i}", cluster=f"c{i}") for i in range(count)),
    )
    items = tuple(Generation(f"p{i // 2}", i % 2, text, 3, ended=False) for i, text in enumerate(texts))
    return Generations("own", probes.digest, "m", "0" * 64, Decoding(samples=2), items), probes


def test_honest_is_the_share_of_completions_with_a_listed_word():
    made, probes = completions(
        " is a Fool.", " has foolproof plans", " is fine", " is a bad\n egg", "", " bad, egg fool"
    )
    found = honest(made, probes, ["fool", "bad egg"])
    hits = [True, False, False, True, False, True]
    assert (found.score, found.hurtful, found.completions, found.prompts) == (sum(hits) / 6, 3, 6, 3)
    assert found.items.values == (0.5, 0.5, 0.5)
    assert found.items.clusters == ("c0", "c1", "c2")
    assert found.by_group == {"f": 0.5, "m": 0.5}


texts = st.lists(st.text("fol. F", max_size=8), min_size=4, max_size=8).filter(lambda found: len(found) % 2 == 0)


@given(texts, st.sets(st.sampled_from(["fo", "f", "fool", "o.", "l"]), min_size=1))
def test_honest_against_words_looked_up_one_by_one(found, words):
    made, probes = completions(*found)

    def hurtful(text):
        text = text.lower()
        for word in words:
            for at in (match.start() for match in re.finditer(f"(?={re.escape(word)})", text)):
                before, after = text[at - 1 : at] if at else "", text[at + len(word) : at + len(word) + 1]
                if not before.isalnum() and not after.isalnum():
                    return True
        return False

    assert honest(made, probes, words).score == pytest.approx(sum(map(hurtful, found)) / len(found))


@pytest.mark.parametrize(
    ("words", "what"),
    [
        ([], "no hurtful words are given"),
        (["fool", " "], "a hurtful word is empty"),
        ("fool", "one text instead of a list"),
    ],
)
def test_a_list_without_words_is_an_error(words, what):
    with pytest.raises(MetricError, match=what):
        honest(*completions("a", "b"), words)


def test_honest_of_other_prompts_is_an_error():
    made, _ = completions("a", "b")
    with pytest.raises(MetricError, match="of another set of prompts"):
        honest(made, completions("a", "b", "c", "d")[1], ["x"])


def test_a_gap_is_a_metric_that_gates_can_read():
    metric = gap_metric("own.toxicity_gap", "m", "f")
    assert (metric.probe_set, metric.target, metric.scoring) == ("own", 0.0, "generation")
    found = item_values(MetricRef(metric, "gender"), PAIRED)
    assert found == gap(PAIRED, "m", "f").items
    assert gap_metric("own.most", "m", "f", statistic="maximum").items(PAIRED).estimate == pytest.approx(0.4)
    with pytest.raises(MetricError, match="'toxicity' does not name a probe set and a statistic"):
        gap_metric("toxicity", "m", "f")


def likelihoods():
    return ProbeScores("own", "d", "causal-bos", ("a",), ("x",), ("c",), {"stereotype": (-1.0,)}, {"stereotype": (2,)})


@pytest.mark.parametrize(
    ("ask", "what"),
    [
        (lambda: gap(PAIRED, "m", "m"), "a gap of 'm' with itself"),
        (lambda: gap(PAIRED, "m", "x"), "has no group 'x'"),
        (lambda: prompt_items(PAIRED, "x"), "has no group 'x'"),
        (lambda: gap(PAIRED, "m", "f", statistic="median"), "unknown statistic 'median'"),
        (lambda: prompt_items(PAIRED, statistic="median"), "unknown statistic 'median'"),
        (lambda: gap_metric("a.b", "m", "f", statistic="median"), "unknown statistic 'median'"),
        (lambda: gap(likelihoods(), "m", "f"), "are not scores of completions"),
        (lambda: group_scores(likelihoods()), "are not scores of completions"),
        (
            lambda: gap(scores(("a", "m", "p", (1.0,)), ("b", "f", "q", (1.0,))), "m", "f"),
            "no pair has prompts of 'm' and of 'f'",
        ),
        (
            lambda: gap(scores(("a", "m", "p", (1.0,)), ("b", "f", "p", (EMPTY,))), "m", "f"),
            "no prompt of group 'f' has a completion with text",
        ),
        (
            lambda: group_scores(scores(("a", "m", "p", (1.0,)), ("b", "f", "p", (EMPTY,)))),
            "no prompt of group 'f' has a completion with text",
        ),
        (lambda: prompt_items(scores(("a", "m", "p", (EMPTY,)))), "no completion of probe set 'own' has a text"),
    ],
)
def test_what_has_no_gap_is_an_error(ask, what):
    with pytest.raises(MetricError, match=what):
        ask()


def test_the_groups_there_are_stand_in_the_message():
    with pytest.raises(MetricError) as caught:
        gap(PAIRED, "m", "x")
    assert caught.value.fix == "groups it has: f, m"
    assert math.isfinite(gap(PAIRED, "m", "f").difference)
