"""The benchmark of diagnostics runs and says what it measured; how fast anything is, is not tested."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from repository import REPOSITORY

SCRIPT = REPOSITORY / "benchmarks" / "diagnostics.py"

pytestmark = pytest.mark.skipif(not SCRIPT.is_file(), reason="the benchmarks are not part of the installed package")


def test_every_way_of_looking_has_a_row_and_leaves_the_weights_alone(tmp_path):
    target = tmp_path / "rows.json"
    options = ("--quick", "--rounds", "1", "--threads", "1", "--no-memory")
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *options, "--json", str(target)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    assert done.returncode == 0, done.stderr  # it fails where a weight differs
    rows = json.loads(target.read_text(encoding="utf-8"))
    assert all(row.keys() == {"case", "method", "seconds", "peak_mib", "ratio"} for row in rows)
    both = ["no diagnostics", "held-out groups"]
    assert [row["method"] for row in rows] == [*both, "units' own norms", "with excess loss", *both]
    assert all(row["seconds"] > 0 for row in rows)
    assert {row["ratio"] for row in rows if row["method"] == "no diagnostics"} == {1.0}
    assert "3 looks, expected 12%" in done.stdout
