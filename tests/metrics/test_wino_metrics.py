"""WinoBias and Winogender metrics against plain readings of their definitions, and on the real items."""

import dataclasses
import math
from collections import defaultdict
from statistics import correlation, fmean

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import pearsonr, spearmanr
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from fairtest.errors import MetricError
from fairtest.metrics import winobias, winogender
from fairtest.metrics.metric import MetricRef, item_values
from fairtest.metrics.winobias import winobias_by
from fairtest.metrics.winogender import log_ratio, masculine_preference, occupation_correlation
from fairtest.probes.winobias import read_winobias
from fairtest.probes.winogender import read_winogender
from fairtest.scoring.likelihood import score_probe_set
from fairtest.scoring.scores import ProbeScores
from fairtest.training.models import LoadedModel
from fairtest.training.sources import ModelSource

BY_NAME = {metric.name: metric for metric in (*winobias.METRICS, *winogender.METRICS)}
# Few distinct values, so that ties are common.
numbers = st.integers(-4, 0)
bias_rows = st.lists(
    st.tuples(numbers, numbers, st.sampled_from("12"), st.sampled_from(["masculine", "feminine"])), min_size=1
)
gender_rows = st.lists(
    st.tuples(numbers, numbers, st.sampled_from("tuvwx"), st.sampled_from(["occupation", "participant"])), min_size=1
)
WOMEN = {"t": "0", "u": "12.5", "v": "12.5", "w": "80", "x": ""}


def scores_of(probe_set, columns, clusters, fields, templates=()):
    return ProbeScores(
        probe_set=probe_set,
        probe_digest="d",
        protocol="causal-bos",
        ids=tuple(f"item {i}" for i in range(len(clusters))),
        axes=("gender",) * len(clusters),
        clusters=tuple(clusters),
        log_probs={role: tuple(map(float, column)) for role, column in columns.items()},
        tokens={role: (1,) * len(clusters) for role in columns},
        templates=tuple(templates),
        fields=tuple(fields),
    )


def bias_scores(rows):
    pro, anti, types, genders = zip(*rows, strict=True)
    fields = [{"type": kind, "gender": gender} for kind, gender in zip(types, genders, strict=True)]
    return scores_of("winobias", {"stereotype": pro, "anti_stereotype": anti}, ["welder"] * len(rows), fields)


def gender_scores(rows, women=WOMEN):
    masculine, feminine, occupations, answers = zip(*rows, strict=True)
    fields = [
        {"occupation": o, "answer": a, "bls_pct_female": women[o], "bergsma_pct_female": ""}
        for o, a in zip(occupations, answers, strict=True)
    ]
    columns = {"masculine": masculine, "feminine": feminine, "neutral": [0] * len(rows)}
    return scores_of("winogender", columns, occupations, fields)


def refused(call, *arguments) -> MetricError:
    with pytest.raises(MetricError) as caught:
        call(*arguments)
    return caught.value


def about_occupation(rows):
    return [row for row in rows if row[3] == "occupation"]


@pytest.mark.parametrize(
    ("name", "unit", "target"),
    [
        ("winobias.preference", "points", 50.0),
        ("winobias.preference_norm", "points", 50.0),
        ("winobias.log_ratio", "nats", 0.0),
        ("winogender.masculine_preference", "points", 50.0),
        ("winogender.log_ratio", "nats", 0.0),
    ],
)
def test_each_metric_has_its_name_unit_and_target(name, unit, target):
    metric = BY_NAME[name]
    assert (metric.unit, metric.target, metric.probe_set) == (unit, target, name.partition(".")[0])


@given(bias_rows)
def test_winobias_is_the_share_of_pro_lines_and_the_mean_difference(rows):
    scores = bias_scores(rows)
    share = 100 * sum((p > a) + (p == a) / 2 for p, a, *_ in rows) / len(rows)
    found = item_values(MetricRef(BY_NAME["winobias.preference"]), scores)
    assert math.isclose(found.estimate, share, abs_tol=1e-9)
    assert found.ties == sum(p == a for p, a, *_ in rows)
    ratio = item_values(MetricRef(BY_NAME["winobias.log_ratio"]), scores)
    assert math.isclose(ratio.estimate, fmean(p - a for p, a, *_ in rows), abs_tol=1e-9)


@given(bias_rows, st.sampled_from(["type", "gender"]))
def test_winobias_by_a_field_is_the_metric_of_its_items(rows, field):
    place = {"type": 2, "gender": 3}[field]
    groups = defaultdict(list)
    for row in rows:
        groups[row[place]].append(row)
    found = winobias_by(bias_scores(rows), field)
    assert list(found) == sorted(groups)
    for value, members in groups.items():
        alone, summary = bias_scores(members), found[value]
        assert (summary.items, summary.ties) == (len(members), sum(p == a for p, a, *_ in members))
        for name in ("preference", "log_ratio"):
            expected = item_values(MetricRef(BY_NAME[f"winobias.{name}"]), alone).estimate
            assert math.isclose(getattr(summary, name), expected, abs_tol=1e-9)


def test_one_pronoun_for_all_is_no_preference_but_shows_by_gender():
    always_he = [(0, -3, "1", "masculine"), (-3, 0, "1", "feminine")] * 4
    scores = bias_scores(always_he)
    assert item_values(MetricRef(BY_NAME["winobias.preference"]), scores).estimate == 50.0
    assert item_values(MetricRef(BY_NAME["winobias.log_ratio"]), scores).estimate == 0.0
    by_gender = winobias_by(scores, "gender")
    assert (by_gender["masculine"].preference, by_gender["feminine"].preference) == (100.0, 0.0)


def test_a_field_that_items_do_not_have_is_named_with_those_they_have():
    scores = bias_scores([(0, -1, "1", "masculine")])
    error = refused(winobias_by, scores, "kind")
    assert error.what == "probe 'item 0' has no field 'kind'"
    assert (error.where, error.fix) == ("probe set 'winobias'", "fields it has: gender, type")
    bare = scores_of("winobias", {"stereotype": [0], "anti_stereotype": [0]}, ["welder"], [])
    assert refused(winobias_by, bare).fix == "fields it has: none"


@given(gender_rows.filter(about_occupation))
def test_winogender_reads_sentences_about_the_occupation_alone(rows):
    scores, read = gender_scores(rows), about_occupation(rows)
    share, ratio = masculine_preference(scores), log_ratio(scores)
    assert math.isclose(share.estimate, 100 * fmean((m > f) + (m == f) / 2 for m, f, *_ in read), abs_tol=1e-9)
    assert math.isclose(ratio.estimate, fmean(m - f for m, f, *_ in read), abs_tol=1e-9)
    for found in (share, ratio):
        assert found.clusters == tuple(row[2] for row in read)
        assert found.ties == sum(m == f for m, f, *_ in read)
        assert found.ids == tuple(f"item {i}" for i, row in enumerate(rows) if row[3] == "occupation")
        left_out = [f"item {i}" for i, row in enumerate(rows) if row[3] == "participant"]
        assert found.excluded == dict.fromkeys(left_out, "the pronoun refers to the participant")


@given(gender_rows.filter(about_occupation))
def test_exchanging_the_genders_mirrors_both_winogender_metrics(rows):
    before, after = gender_scores(rows), gender_scores([(f, m, *rest) for m, f, *rest in rows])
    share, mirrored = masculine_preference(before).estimate, masculine_preference(after).estimate
    assert math.isclose(mirrored, 100 - share, abs_tol=1e-9)
    assert math.isclose(log_ratio(after).estimate, -log_ratio(before).estimate, abs_tol=1e-9)


def test_templates_of_items_that_are_left_out_are_left_out():
    columns = {"masculine": [0, 1, 2], "feminine": [0, 0, 0]}
    fields = [{"answer": answer} for answer in ("occupation", "participant", "occupation")]
    scores = scores_of("winogender", columns, "tuv", fields, "abc")
    assert log_ratio(scores).templates == ("a", "c")


def test_items_about_participants_alone_are_an_error():
    error = refused(masculine_preference, gender_scores([(0, -1, "t", "participant")]))
    assert error.what == "none of 1 items has a pronoun that refers to the occupation"
    assert error.where == "probe set 'winogender'"


@pytest.mark.parametrize("metric", [masculine_preference, log_ratio])
def test_an_item_that_does_not_say_to_whom_its_pronoun_refers_is_named(metric):
    columns = {"masculine": [0, 0], "feminine": [0, 0]}
    error = refused(metric, scores_of("winogender", columns, "tu", [{"answer": "occupation"}, {}]))
    assert error.what == "probe 'item 1' has no field 'answer'"
    error = refused(metric, scores_of("winogender", columns, "tu", []))
    assert error.what == "probe 'item 0' has no field 'answer'"
    error = refused(metric, scores_of("winogender", columns, "tu", [{"answer": "occupation"}, {"answer": "1"}]))
    assert error.what == "the pronoun of probe 'item 1' refers to '1'"
    assert error.fix == "its field 'answer' has to be 'occupation' or 'participant'"


def test_a_missing_role_is_named():
    scores = scores_of("winogender", {"masculine": [0]}, "t", [{"answer": "occupation"}])
    assert "no text with role 'feminine'" in refused(log_ratio, scores).what


def ranks(values):
    """Mean rank of equals, by counting."""
    return [sum(other < v for other in values) + (sum(other == v for other in values) + 1) / 2 for v in values]


@given(gender_rows.filter(about_occupation))
def test_the_correlation_is_over_means_of_occupations_with_statistics(rows):
    means = defaultdict(list)
    for m, f, occupation, answer in rows:
        if answer == "occupation":
            means[occupation].append(m - f)
    pairs = {o: (float(WOMEN[o]), fmean(values)) for o, values in sorted(means.items()) if WOMEN[o]}
    scores = gender_scores(rows)
    x, y = [p[0] for p in pairs.values()], [p[1] for p in pairs.values()]
    if len(pairs) < 3:
        assert "at least 3 occupations" in refused(occupation_correlation, scores).what
    elif len(set(y)) == 1:
        assert "its correlation is not defined" in refused(occupation_correlation, scores).what
    else:
        found = occupation_correlation(scores)
        assert found.statistic == "bls_pct_female"
        assert math.isclose(found.pearson, correlation(x, y), abs_tol=1e-9)
        assert math.isclose(found.spearman, correlation(ranks(x), ranks(y)), abs_tol=1e-9)
        assert found.occupations.keys() == pairs.keys()
        assert found.excluded == ({"x": "no bls_pct_female is given"} if "x" in means else {})
        for occupation, (women, mean) in found.occupations.items():
            assert (women, mean) == pytest.approx(pairs[occupation], abs=1e-12)


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(-1e6, 1e6)), min_size=3, max_size=30))
def test_any_numbers_have_a_correlation_within_its_range(pairs):
    x, y = zip(*pairs, strict=True)
    rows = [(ratio, 0.0, str(i), "occupation") for i, ratio in enumerate(y)]
    scores = gender_scores(rows, {str(i): repr(value) for i, value in enumerate(x)})
    if len(set(x)) == 1 or len(set(y)) == 1:
        assert "its correlation is not defined" in refused(occupation_correlation, scores).what
        return
    found = occupation_correlation(scores)
    assert -1.0 <= found.pearson <= 1.0
    assert math.isclose(found.spearman, correlation(ranks(x), ranks(y)), abs_tol=1e-9)


def test_a_model_that_follows_the_statistics_correlates_negatively():
    rows = [(-float(women), 0, occupation, "occupation") for occupation, women in WOMEN.items() if women]
    found = occupation_correlation(gender_scores(rows))
    assert found.pearson == pytest.approx(-1.0)
    assert found.spearman == pytest.approx(-1.0)


def test_an_unknown_statistic_is_answered_with_those_there_are():
    error = refused(occupation_correlation, gender_scores([(0, -1, "t", "occupation")]), "bls_year")
    assert error.what == "unknown occupation statistic 'bls_year'"
    assert error.fix == "known statistics: bergsma_pct_female, bls_pct_female"


def test_statistics_that_no_item_has_are_an_error():
    rows = [(0, -i, occupation, "occupation") for i, occupation in enumerate("tuvw")]
    error = refused(occupation_correlation, gender_scores(rows), "bergsma_pct_female")
    assert error.what == (
        "a correlation takes at least 3 occupations, and 0 have a mean log ratio and bergsma_pct_female"
    )


@pytest.mark.parametrize("text", ["half", "nan", "101"])
def test_a_statistic_that_is_no_percentage_names_the_item(text):
    rows = [(0, -i, occupation, "occupation") for i, occupation in enumerate("tuv")]
    error = refused(occupation_correlation, gender_scores(rows, {**WOMEN, "v": text}))
    assert error.what == f"bls_pct_female of probe 'item 2' is {text!r}, not a percentage from 0 to 100"


def test_an_item_without_its_statistic_field_is_named():
    columns = {"masculine": [0], "feminine": [0]}
    scores = scores_of("winogender", columns, "t", [{"answer": "occupation", "occupation": "t"}])
    assert refused(occupation_correlation, scores).what == "probe 'item 0' has no field 'bls_pct_female'"


# The real items, scored by invented numbers and by a small model with random weights.


def invented(probes):
    """A number for each text that depends on the text alone."""
    columns = {
        role: tuple(-float(sum(map(ord, probe.texts[role])) * 7919 % 1009) for probe in probes.probes)
        for role in probes.roles
    }
    return ProbeScores(
        probe_set=probes.name,
        probe_digest=probes.digest,
        protocol="causal-bos",
        ids=tuple(p.id for p in probes.probes),
        axes=tuple(p.axis for p in probes.probes),
        clusters=tuple(p.cluster for p in probes.probes),
        log_probs=columns,
        tokens={role: (1,) * len(probes) for role in probes.roles},
        templates=probes.templates,
        fields=tuple(p.fields for p in probes.probes),
    )


def small_model(probes):
    """A GPT-2 that knows each word of the texts, with weights wide enough that scores differ by more than rounding."""
    pieces = pre_tokenizers.Whitespace()
    words = {word for p in probes.probes for text in p.texts.values() for word, _ in pieces.pre_tokenize_str(text)}
    raw = Tokenizer(models.WordLevel({word: i for i, word in enumerate(["<s>", *sorted(words)])}, unk_token="<s>"))
    raw.pre_tokenizer = pieces
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(words) + 1, n_positions=48, n_embd=16, n_layer=2, n_head=2, initializer_range=0.4,
        bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, bos_token="<s>", eos_token="<s>")
    return LoadedModel(GPT2LMHeadModel(config).eval(), tokenizer, ModelSource("test", "directory", "x", "0" * 64))


def plain_log_prob(loaded, text):
    """The text alone, BOS in front, all logits: no padding, no prefix that is shared."""
    ids = torch.tensor([[0, *loaded.tokenizer(text, add_special_tokens=False)["input_ids"]]])
    with torch.inference_mode():
        log_probs = loaded.model(ids).logits.double().log_softmax(-1)
    return float(log_probs[0, :-1].gather(1, ids[0, 1:, None]).sum())


@pytest.fixture(scope="module")
def published_winogender(data_dir):
    if not (data_dir / "winogender").is_dir():
        pytest.skip("Winogender is absent; set FAIRTEST_DATA_DIR")
    return read_winogender(data_dir)


def test_published_winogender_items_about_occupations(published_winogender):
    scores = invented(published_winogender)
    found = masculine_preference(scores)
    assert (len(found.ids), len(found.excluded), len(set(found.clusters))) == (120, 120, 60)
    assert all(item.endswith(".0") for item in found.ids)
    assert all(item.endswith(".1") for item in found.excluded)


@pytest.mark.parametrize("statistic", ["bls_pct_female", "bergsma_pct_female"])
def test_the_correlation_over_published_occupations_is_scipys(published_winogender, statistic):
    scores = invented(published_winogender)
    ratios, women = defaultdict(list), {}
    for index, fields in enumerate(scores.fields):
        if fields["answer"] == "occupation":
            difference = scores.log_probs["masculine"][index] - scores.log_probs["feminine"][index]
            ratios[fields["occupation"]].append(difference)
            women[fields["occupation"]] = float(fields[statistic])
    x, y = [women[o] for o in ratios], [fmean(values) for values in ratios.values()]
    found = occupation_correlation(scores, statistic)
    assert len(found.occupations) == 60
    assert not found.excluded
    assert found.pearson == pytest.approx(pearsonr(x, y).statistic, abs=1e-12)
    assert found.spearman == pytest.approx(spearmanr(x, y).statistic, abs=1e-12)


def test_published_winobias_by_type_makes_up_the_whole(data_dir):
    if not (data_dir / "winobias").is_dir():
        pytest.skip("WinoBias is absent; set FAIRTEST_DATA_DIR")
    scores = invented(read_winobias(data_dir))
    by_type = winobias_by(scores)
    assert {kind: summary.items for kind, summary in by_type.items()} == {"1": 792, "2": 792}
    found = item_values(MetricRef(BY_NAME["winobias.preference"]), scores)
    assert math.isclose(fmean(s.preference for s in by_type.values()), found.estimate, abs_tol=1e-9)
    assert sum(summary.ties for summary in by_type.values()) == found.ties
    assert found.templates == scores.templates
    assert len(set(found.templates)) == len(set(found.clusters)) == 40


def test_a_model_prefers_a_published_text_where_it_is_likelier_on_its_own(published_winogender):
    loaded = small_model(published_winogender)
    scores = score_probe_set(loaded, published_winogender)
    differences = {
        p.id: plain_log_prob(loaded, p.texts["masculine"]) - plain_log_prob(loaded, p.texts["feminine"])
        for p in published_winogender.probes
        if p.fields["answer"] == "occupation"
    }
    found = log_ratio(scores)
    assert dict(zip(found.ids, found.values, strict=True)) == pytest.approx(differences, abs=1e-4)
    assert min(map(abs, differences.values())) > 1e-4
    shares = masculine_preference(scores)
    assert shares.values == tuple(100.0 * (difference > 0) for difference in differences.values())
    by_occupation = defaultdict(list)
    for item, value in differences.items():
        by_occupation[item.partition(".")[0]].append(value)
    means = {occupation: mean for occupation, (_, mean) in occupation_correlation(scores).occupations.items()}
    assert means == pytest.approx({o: fmean(values) for o, values in by_occupation.items()}, abs=1e-4)


def test_a_model_prefers_a_published_pro_line_where_it_is_likelier_on_its_own(data_dir):
    if not (data_dir / "winobias").is_dir():
        pytest.skip("WinoBias is absent; set FAIRTEST_DATA_DIR")
    everything = read_winobias(data_dir)
    probes = dataclasses.replace(everything, probes=everything.probes[::10])
    loaded = small_model(probes)
    scores = score_probe_set(loaded, probes)
    differences = [
        plain_log_prob(loaded, p.texts["stereotype"]) - plain_log_prob(loaded, p.texts["anti_stereotype"])
        for p in probes.probes
    ]
    ratio = item_values(MetricRef(BY_NAME["winobias.log_ratio"]), scores)
    share = item_values(MetricRef(BY_NAME["winobias.preference"]), scores)
    assert ratio.values == pytest.approx(differences, abs=1e-4)
    assert share.values == tuple(100.0 * (difference > 0) for difference in differences)
    assert {kind: summary.items for kind, summary in winobias_by(scores).items()} == {"1": 80, "2": 79}
