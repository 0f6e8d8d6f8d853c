"""One model on one probe set: what is measured, and that nothing is scored twice or lost."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest

from fairtest.errors import MetricError
from fairtest.experiments.model_scorer import ModelScorer, model_kind
from fairtest.experiments.model_scores import score_model
from fairtest.metrics import item_values, parse_metric
from fairtest.metrics.metric import MetricRef
from fairtest.metrics.pairs import pair_metrics
from fairtest.probes.probe import Probe, ProbeSet
from fairtest.scoring.likelihood import score_probe_set
from fairtest.statistics.intervals import mean_interval
from fairtest.store import Store
from fairtest.tiny import model_directory
from fairtest.training.models import load_model
from fairtest.training.sources import resolve_model


def ref_of(metric):
    return MetricRef(metric)


def pairs_of(*axes, name="mine"):
    probes = []
    for axis in axes:
        for number, job in enumerate(("nurse", "pilot", "baker", "miner")):
            texts = {
                "stereotype": f"The {job} came. She was happy.",
                "anti_stereotype": f"The {job} came. He was happy.",
            }
            probes.append(Probe(f"{axis}-{number}", axis, job, texts))
    return ProbeSet(name, "1", "none", "here", tuple(probes))


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


def test_estimates_are_those_of_the_scores_and_the_interval_over_clusters(store):
    probes = pairs_of("gender", "race")
    found = score_model("fairtest/tiny", probes, store=store, threads=1)
    oracle = score_probe_set(load_model(resolve_model("fairtest/tiny")), probes)
    for metric in pair_metrics("mine"):
        values = item_values(ref_of(metric), oracle)
        written = metric.name.replace(".", ":")
        (one,) = [estimate for estimate in found.estimates if estimate.metric == written]
        interval = mean_interval([values.values], list(values.clusters))
        assert one.estimate == pytest.approx(interval.estimate, abs=1e-4)
        assert (one.low, one.high) == pytest.approx((interval.low, interval.high), abs=1e-3)
        assert (one.items, one.clusters, one.ties) == (8, 4, 0)
    assert [one.metric for one in found.estimates if one.metric.startswith("mine:log_ratio")] == [
        "mine:log_ratio",
        "mine:log_ratio[gender]",
        "mine:log_ratio[race]",
    ]


def test_asking_twice_scores_nothing_whatever_the_path(store, tmp_path, monkeypatch):
    probes = pairs_of("gender")
    first = score_model("fairtest/tiny", probes, store=store, threads=1)
    copied = tmp_path / "copy"
    shutil.copytree(model_directory(), copied)
    monkeypatch.setattr(ModelScorer, "_scoring", lambda _: pytest.fail("a forward pass"))
    again = score_model(str(copied), probes, store=store, threads=1)
    assert again.estimates == first.estimates


def test_a_warm_command_imports_no_torch(store, tmp_path):
    command = [sys.executable, "-X", "importtime", "-m", "fairtest", "score", "fairtest/tiny", "templates"]
    command += ["--metric", "templates.log_ratio[gender]", "--cache-dir", str(tmp_path / "store"), "--threads", "1"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout
    warm = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "templates.log_ratio[gender]" in warm.stdout
    assert " torch\n" not in warm.stderr
    assert " transformers\n" not in warm.stderr


def test_an_interruption_loses_no_axis_that_was_scored(store, monkeypatch):
    probes = pairs_of("gender", "race", "religion")
    real = score_probe_set
    done = []

    def interrupted(loaded, part, **options):
        if part.axes == ("race",) and "race" not in done:
            done.append("race")
            raise KeyboardInterrupt
        done.append(f"{part.axes[0]} scored")
        return real(loaded, part, **options)

    monkeypatch.setattr("fairtest.scoring.likelihood.score_probe_set", interrupted)
    with pytest.raises(KeyboardInterrupt):
        score_model("fairtest/tiny", probes, store=store, threads=1)
    score_model("fairtest/tiny", probes, store=store, threads=1)
    assert done == ["gender scored", "race", "race scored", "religion scored"]


def test_other_items_or_another_model_are_scored_anew(store, tmp_path, monkeypatch):
    asked = []
    real = ModelScorer._scoring
    monkeypatch.setattr(ModelScorer, "_scoring", lambda self: asked.append(1) or real(self))
    score_model("fairtest/tiny", pairs_of("gender"), store=store, threads=1)
    score_model("fairtest/tiny", pairs_of("gender"), store=store, threads=1)
    assert len(asked) == 1
    score_model("fairtest/tiny", pairs_of("race"), store=store, threads=1)
    assert len(asked) == 2


def test_a_metric_of_the_other_kind_of_model_is_skipped_and_alone_an_error(store):
    from dataclasses import replace

    causal = pair_metrics("mine")
    masked = replace(causal[0], name="mine.masked", scoring="masked")
    found = score_model(
        "fairtest/tiny", pairs_of("gender"), metrics=tuple(map(ref_of, (*causal, masked))), store=store, threads=1
    )
    assert found.skipped == {"mine.masked": "reads scores of a masked model"}
    with pytest.raises(MetricError, match="no metric of probe set 'mine' reads scores of a causal language model"):
        score_model("fairtest/tiny", pairs_of("gender"), metrics=(ref_of(masked),), store=store, threads=1)


def test_the_kind_of_a_model_is_read_from_its_configuration(tmp_path):
    copied = tmp_path / "copy"
    shutil.copytree(model_directory(), copied)
    assert model_kind(resolve_model(str(copied))) == "causal"
    config = json.loads((copied / "config.json").read_text())
    (copied / "config.json").write_text(json.dumps({**config, "architectures": ["BertForMaskedLM"]}))
    assert model_kind(resolve_model(str(copied))) == "masked"


def test_an_interval_of_too_few_clusters_is_null_in_json(store):
    probes = ProbeSet("mine", "1", "none", "here", pairs_of("gender").probes[:1])
    (first, *_) = score_model("fairtest/tiny", probes, store=store, threads=1).estimates
    assert first.as_dict()["low"] is None
    assert json.dumps(first.as_dict(), allow_nan=False)


def test_an_axis_that_nobody_asks_for_is_not_scored(store, monkeypatch):
    scored = []
    real = ModelScorer._axis
    monkeypatch.setattr(
        ModelScorer,
        "_axis",
        lambda self, probes, protocol: scored.append(probes.axes) or real(self, probes, protocol),
    )
    ref = MetricRef(pair_metrics("mine")[0], "race")
    found = score_model("fairtest/tiny", pairs_of("gender", "race"), metrics=(ref,), store=store, threads=1)
    assert (scored, [one.metric for one in found.estimates]) == ([("race",)], ["mine.preference[race]"])


def test_every_metric_of_a_set_is_measured():
    from fairtest.metrics.registry import metrics_of

    assert {metric.name for metric in metrics_of("templates")} >= {"templates.log_ratio", "templates.preference"}
    assert metrics_of("nothing") == ()
    assert parse_metric("templates.log_ratio").metric in metrics_of("templates")
