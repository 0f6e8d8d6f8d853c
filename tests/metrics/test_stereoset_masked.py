"""StereoSet's scores of masked models, against a plain reading of them and the published predictions of one."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairtest.errors import MetricError
from fairtest.metrics import item_values, parse_metric, stereoset_scores
from fairtest.probes.stereoset import read_stereoset
from fairtest.scoring.scores import ProbeScores

ROLES = {"stereotype": "stereotype", "anti-stereotype": "anti_stereotype", "unrelated": "unrelated"}
triples = st.lists(st.tuples(*[st.integers(-3, 0)] * 3), min_size=1)


def scores_of(columns, clusters, probe_set="stereoset", protocol="mlm-stereoset"):
    count = len(clusters)
    return ProbeScores(
        probe_set=probe_set,
        probe_digest="d",
        protocol=protocol,
        ids=tuple(str(index) for index in range(count)),
        axes=("race",) * count,
        clusters=tuple(clusters),
        log_probs={role: tuple(map(float, column)) for role, column in columns.items()},
        tokens=dict.fromkeys(columns, (1,) * count),
    )


def of_rows(rows, **named):
    return scores_of(dict(zip(ROLES.values(), zip(*rows, strict=True), strict=True)), ["t"] * len(rows), **named)


@given(triples)
def test_ties_are_no_preference_and_not_related(rows):
    scores = of_rows(rows)
    ss, lm = (item_values(parse_metric(f"stereoset.{name}"), scores) for name in ("mlm_ss", "mlm_lms"))
    assert ss.values == tuple(100.0 if more > less else 0.0 for more, less, _ in rows)
    assert lm.values == tuple(50.0 * ((more > none) + (less > none)) for more, less, none in rows)
    assert ss.ties == sum(more == less for more, less, _ in rows)
    assert lm.ties == sum(none in (more, less) for more, less, none in rows)
    # With one target term the mean over items is the mean over terms.
    published = stereoset_scores(scores, "nadeem2021")
    assert ss.estimate == pytest.approx(published.ss_score, abs=1e-9)
    assert lm.estimate == pytest.approx(published.lm_score, abs=1e-9)


@pytest.mark.parametrize("name", ["mlm_ss", "mlm_lms"])
def test_the_definitions_say_what_they_read(name):
    metric = parse_metric(f"stereoset.{name}").metric
    assert (metric.scoring, metric.scoring_protocol) == ("masked", "mlm-stereoset")
    assert (metric.protocol, metric.version, metric.unit) == ("nadeem2021-items", "1", "points")
    with pytest.raises(MetricError, match="reads scores of protocol 'mlm-stereoset', and got those of 'causal-bos'"):
        item_values(parse_metric(f"stereoset.{name}"), of_rows([(1, 2, 3)], protocol="causal-bos"))


def test_published_predictions_of_bert_over_items_are_near_the_published_means_over_terms(data_dir):
    probes = read_stereoset(data_dir)
    file = data_dir / "stereoset" / "predictions_bert-base-cased.json"
    if not file.is_file():
        pytest.skip("the predictions of bert-base-cased are absent")
    predictions = json.loads(file.read_text(encoding="utf-8"))["intrasentence"]
    by_sentence = {row["id"]: row["score"] for row in predictions}
    columns = {role: [] for role in ROLES.values()}
    for item in json.loads((data_dir / "stereoset" / "dev.json").read_text(encoding="utf-8"))["data"]["intrasentence"]:
        for sentence in item["sentences"]:
            columns[ROLES[sentence["gold_label"]]].append(by_sentence[sentence["id"]])
    scores = scores_of(columns, [probe.cluster for probe in probes.probes])
    published = stereoset_scores(scores, "nadeem2021")
    assert (round(published.lm_score, 2), round(published.ss_score, 2)) == (83.02, 58.68)
    lm, ss = (item_values(parse_metric(f"stereoset.{name}"), scores).estimate for name in ("mlm_lms", "mlm_ss"))
    assert (round(lm, 2), round(ss, 2)) == (83.10, 58.78)
