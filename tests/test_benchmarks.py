"""The benchmarks run and say what they measured; how fast anything is, is not tested."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "benchmarks" / "clipping.py"
COLUMNS = {"case", "method", "seconds", "peak_mib", "ratio"}

pytestmark = pytest.mark.skipif(not SCRIPT.is_file(), reason="the benchmarks are not part of the installed package")


def run(directory, *options):
    target = directory / "rows.json"
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--quick", "--rounds", "1", "--threads", "1", "--json", str(target), *options],
        capture_output=True,
        text=True,
        check=False,
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    return json.loads(target.read_text(encoding="utf-8")), done.stdout


def test_every_method_has_a_row_against_plain_adamw_of_its_case(tmp_path):
    methods = ["fairtest", "Opacus hooks", "Opacus ghost clipping"]
    rows, table = run(tmp_path, "--cases", "quick, tied", "--methods", *methods)
    assert all(row.keys() == COLUMNS for row in rows)
    assert [(row["case"], row["method"]) for row in rows] == [("quick, tied", m) for m in ("plain AdamW", *methods)]
    *measured, refused = rows
    assert refused["seconds"] is refused["peak_mib"] is refused["ratio"] is None
    assert "refused: Parameter tying is not supported" in table
    assert measured[0]["ratio"] == 1.0
    for row in measured:
        assert row["seconds"] > 0
        assert row["ratio"] > 0
        assert math.isfinite(row["ratio"])
        assert row["method"] in table
        if Path("/proc/self/clear_refs").exists():
            assert row["peak_mib"] > 0


def test_cost_by_size_has_the_reference_in_every_case(tmp_path):
    rows, _ = run(tmp_path, "--scale", "--methods", "fairtest", "--no-memory")
    cases = {row["case"] for row in rows}
    assert {case.split()[0] for case in cases} == {"batch", "tokens", "width"}
    assert {(row["case"], row["ratio"]) for row in rows if row["method"] == "plain AdamW"} == {(c, 1.0) for c in cases}
    assert all(row["peak_mib"] is None for row in rows)


def test_counterfactuals_of_every_method_are_counted_and_timed(tmp_path):
    script, target = SCRIPT.with_name("cda.py"), tmp_path / "rows.json"
    methods = ("fairtest", "dictionary swap")
    done = subprocess.run(
        [sys.executable, str(script), "--quick", "--json", str(target), "--methods", "fairtest", "--misses"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads(target.read_text(encoding="utf-8"))
    assert all(row.keys() >= COLUMNS for row in rows)
    assert {row["method"] for row in rows if row["case"].startswith(("Wino", "cases"))} == {*methods}
    given = [row for row in rows if row["exact"] is not None]
    assert all(0 <= row["exact"] <= row["any_case"] <= row["n"] for row in given)
    timed = [row for row in rows if row["mb_per_s"] is not None and row["method"] in methods]
    assert {row["method"] for row in timed} == {*methods}
    assert all(row["seconds"] > 0 for row in timed)
    assert {row["ratio"] for row in timed if row["method"] == "dictionary swap"} == {1.0}
    for row in given:
        if row["method"] == "fairtest":
            assert f"{row['case']}: fairtest misses {row['n'] - row['exact']} of {row['n']}" in done.stdout


def test_scorers_agree_with_one_text_at_a_time_and_are_timed(tmp_path, data_dir):
    script, target = SCRIPT.with_name("scoring.py"), tmp_path / "rows.json"
    parts = ("--parts", "causal", "masked", "masked-all", "--no-memory")
    done = subprocess.run(
        [sys.executable, str(script), "--quick", "--pairs", "20", "--masked-pairs", "3", *parts, "--json", str(target)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "FAIRTEST_DATA_DIR": str(data_dir)},
    )
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    rows = json.loads(target.read_text(encoding="utf-8"))
    assert all(row.keys() >= COLUMNS for row in rows)
    cases = dict.fromkeys(row["case"] for row in rows)
    assert list(cases) == [
        "GPT-2, 20 pairs",
        "BERT, mlm-unmodified, 3 pairs",
        "BERT, mlm-pll, 3 pairs",
        "BERT, mlm-unmodified, 20 pairs",
    ]
    for row in rows:
        assert row["method"] in done.stdout
        if row["seconds"] is None:  # another library, which is optional
            assert row["note"].startswith(("not installed", "does not import"))
            continue
        assert row["seconds"] > 0
        assert row["ratio"] == 1.0 if row["method"] == "fairtest" else row["ratio"] > 0
        assert (row["of_limit"] is not None) == (row["method"] == "fairtest")
        if row["case"] != "BERT, mlm-unmodified, 20 pairs":
            assert row["error"] < 1e-3
            assert row["decisions"] == 0
    assert {row["method"] for row in rows if row["seconds"]} >= {"fairtest", "one at a time"}
