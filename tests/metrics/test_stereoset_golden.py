"""Published predictions of three models, aggregated again: the published scores have to come out."""

import json
import os
from pathlib import Path

import pytest

from fairtest.metrics import item_values, on_axis, parse_metric, stereoset_scores
from fairtest.probes.stereoset import read_stereoset
from fairtest.scoring.scores import ProbeScores

DATA = Path(os.environ.get("FAIRTEST_DATA_DIR") or Path(__file__).parents[2].parent / "shared" / "data") / "stereoset"
pytestmark = pytest.mark.skipif(
    not (DATA / "predictions_gpt2.json").is_file(), reason="StereoSet predictions are absent; set FAIRTEST_DATA_DIR"
)
ROLES = {"stereotype": "stereotype", "anti-stereotype": "anti_stereotype", "unrelated": "unrelated"}


def published(model):
    """Scores as published (probabilities, here only compared with each other) in place of log-probabilities."""
    probes = read_stereoset(DATA)
    predictions = json.loads((DATA / f"predictions_{model}.json").read_text(encoding="utf-8"))["intrasentence"]
    by_sentence = {row["id"]: row["score"] for row in predictions}
    columns = {role: [] for role in ROLES.values()}
    for item in json.loads((DATA / "dev.json").read_text(encoding="utf-8"))["data"]["intrasentence"]:
        for sentence in item["sentences"]:
            columns[ROLES[sentence["gold_label"]]].append(by_sentence[sentence["id"]])
    return ProbeScores(
        probe_set=probes.name,
        probe_digest=probes.digest,
        protocol="published",
        ids=tuple(probe.id for probe in probes.probes),
        axes=tuple(probe.axis for probe in probes.probes),
        clusters=tuple(probe.cluster for probe in probes.probes),
        log_probs={role: tuple(values) for role, values in columns.items()},
        tokens={role: (1,) * len(probes) for role in columns},
    )


@pytest.mark.parametrize(
    ("model", "lm_score", "ss_score", "icat_score"),
    [("gpt2", 91.11, 61.93, 69.37), ("gpt2-medium", 92.21, 62.74, 68.71), ("bert-base-cased", 83.02, 58.68, 68.61)],
)
def test_published_predictions_give_the_published_scores(model, lm_score, ss_score, icat_score):
    found = stereoset_scores(published(model), "nadeem2021")
    assert (round(found.lm_score, 2), round(found.ss_score, 2), round(found.icat_score, 2)) == (
        lm_score,
        ss_score,
        icat_score,
    )


def test_gpt2_by_domain():
    scores = published("gpt2")
    by_domain = {axis: stereoset_scores(on_axis(scores, axis), "nadeem2021") for axis in sorted(set(scores.axes))}
    assert {axis: round(found.ss_score, 2) for axis, found in by_domain.items()} == {
        "gender": 62.67,
        "profession": 63.97,
        "race": 60.35,
        "religion": 58.02,
    }


def test_gpt2_over_items_differs_from_the_mean_over_terms():
    scores = published("gpt2")
    found = stereoset_scores(scores)
    assert (round(found.lm_score, 2), round(found.ss_score, 2), round(found.icat_score, 2)) == (91.14, 61.97, 69.33)
    assert item_values(parse_metric("stereoset.ss"), scores).estimate == found.ss_score
    assert item_values(parse_metric("stereoset.lms"), scores).estimate == found.lm_score
