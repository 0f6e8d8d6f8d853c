"""`fairtest score MODEL PROBES` as a user meets it."""

from __future__ import annotations

import json
import re

import pytest

from fairtest.commands import main


@pytest.fixture
def score(tmp_path, capsys):
    def run(*arguments, model="fairtest/tiny", probes="templates"):
        status = main(
            ["score", model, probes, "--cache-dir", str(tmp_path / "store"), "--threads", "1", *map(str, arguments)]
        )
        return status, *capsys.readouterr()

    return run


AXIS = ("--metric", "templates.log_ratio[gender]")


def test_the_table_names_model_metric_interval_and_target(score):
    status, out, _ = score(*AXIS)
    assert status == 0
    lines = out.splitlines()
    assert lines[0].startswith("fairtest/tiny (SHA-256 ")
    assert lines[2].split() == ["metric", "estimate", "95%", "interval", "target", "items", "clusters"]
    assert re.fullmatch(r"templates\.log_ratio\[gender\] +1\.7\d\d +\[1\.\d+, 1\.\d+\] +0 +640 +16", lines[3])
    assert max(map(len, lines)) <= 80


def test_json_holds_the_estimates_and_no_path(score, tmp_path):
    file = tmp_path / "out" / "scores.json"
    assert score(*AXIS, "--json", file)[0] == 0
    document = json.loads(file.read_text())
    (one,) = document["estimates"]
    assert (one["metric"], one["items"], one["unit"]) == ("templates.log_ratio[gender]", 640, "nats")
    assert str(tmp_path) not in file.read_text()


def test_items_are_written_as_a_table(score, tmp_path):
    from pyarrow import parquet

    file = tmp_path / "items.parquet"
    assert score(*AXIS, "--items", file)[0] == 0
    assert parquet.read_table(file).num_rows == 640


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((), {"probes": "templatse"}, "unknown probe set 'templatse'"),
        ((), {"model": "no such model"}, "model 'no such model' does not exist"),
        (("--metric", "stereoset.ss"), {}, "metric 'stereoset.ss' is none of probe set 'templates'"),
        (("--metric", "templates.ratio"), {}, "unknown metric 'templates.ratio'"),
        (("--metric", "templates.log_ratio[height]"), {}, "has no item with axis 'height'"),
        (("--items", "x.parquet"), {}, "a table of items is that of one metric, and 0 are named"),
    ],
)
def test_a_user_error_is_told_without_a_traceback(score, arguments, options, message):
    status, out, err = score(*arguments, **options)
    assert (status, out) == (2, "")
    assert message in err
    assert "Traceback" not in err
