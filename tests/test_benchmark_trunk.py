"""The benchmark of frozen layers runs and compares with the plain way; how fast anything is, is not tested."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "benchmarks" / "trunk.py"

pytestmark = pytest.mark.skipif(not SCRIPT.is_file(), reason="the benchmarks are not part of the installed package")


def test_every_way_has_a_row_against_the_plain_one(tmp_path):
    target = tmp_path / "rows.json"
    options = ("--quick", "--rounds", "1", "--threads", "1", "--no-memory", "--json", str(target))
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *options],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    rows = json.loads(target.read_text(encoding="utf-8"))
    assert all(row.keys() == {"case", "method", "seconds", "peak_mib", "ratio"} for row in rows)
    ways = ("plain", "first time", "in memory", "in the store")
    for part, expected in (("step", [*ways, "fill the store"]), ("probes", [*ways])):
        for model in ("last:2", "LoRA on 2"):
            case = f"GPT-2 4 x 64, {model}: {part}"
            assert [row["method"] for row in rows if row["case"] == case] == expected
            assert case in done.stdout
    assert all(row["seconds"] > 0 and row["ratio"] > 0 for row in rows)
    assert {row["ratio"] for row in rows if row["method"] == "plain"} == {1.0}
