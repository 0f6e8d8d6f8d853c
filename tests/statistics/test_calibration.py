"""Known truth in, right verdict out at the stated rates: the fast version of benchmarks/calibration.py."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from repository import REPOSITORY

BENCHMARKS = REPOSITORY / "benchmarks"
if not BENCHMARKS.is_dir():
    pytest.skip("the benchmarks are not part of the installed package", allow_module_level=True)
sys.path.append(str(BENCHMARKS))

from _calibration_families import adaptive_rows, family_rows  # noqa: E402
from _calibration_rows import Rate  # noqa: E402
from _calibration_rules import BOOTSTRAP, FAIRTEST, world_rows  # noqa: E402
from _calibration_worlds import GATES, STEREOSET, TEMPLATES, WORLDS  # noqa: E402

REPEATS = 300
# Seeds are fixed, so a test gives the same figures each time; the bounds leave room for another set of seeds.
ERROR = 0.05
COVERAGE = 0.93
POWER = 0.75  # stated: 0.8, less two standard errors


@pytest.mark.parametrize("world", WORLDS, ids=lambda world: world.name)
def test_verdicts_err_as_rarely_and_find_as_much_as_stated(world):
    (row,) = world_rows(world, 3, REPEATS, 0, (FAIRTEST,))
    assert row.unchanged.share <= ERROR
    assert row.false_fail.share <= ERROR
    assert row.false_pass.share <= ERROR
    assert row.covered.share >= COVERAGE
    assert row.power.share >= POWER


def test_worlds_are_as_measured_on_public_models():
    pilot = STEREOSET.pilot(-1.0)
    assert pilot.discordance == pytest.approx(0.145, abs=0.007)
    assert pilot.design_effect == pytest.approx(1.16, abs=0.03)
    latent = STEREOSET.latent(np.random.default_rng(0), 40)
    values, _ = STEREOSET.observed(latent, STEREOSET.reference)
    flips = np.mean(values[::2] != values[1::2])
    assert 0.06 <= flips <= 0.07
    assert np.std(values.mean(axis=1), ddof=1) == pytest.approx(1.5, abs=0.5)
    means = [STEREOSET.observed(STEREOSET.latent(np.random.default_rng(i), 1), 59.0)[0].mean() for i in range(200)]
    assert np.mean(means) == pytest.approx(59.0, abs=0.5)


def test_other_rules_fire_on_nothing_or_miss_what_there_is():
    rows = {row.method: row for row in world_rows(STEREOSET, 3, 60, 60)}
    assert 0.3 < rows["candidate > baseline"].unchanged.share < 0.7
    assert rows["more than allowed"].false_fail.share > 0.3
    assert rows["intervals do not overlap"].false_pass.share > 0.9
    assert rows["items alone"].covered.share < 0.85
    assert rows[BOOTSTRAP].covered.share < rows[FAIRTEST].covered.share


@pytest.mark.parametrize("world", [STEREOSET, TEMPLATES], ids=lambda world: world.name)
def test_adaptive_seeds_keep_the_error_rate(world):
    adaptive, naive = adaptive_rows(world, 200)
    for rate in (adaptive.unchanged, adaptive.false_fail, adaptive.false_pass):
        assert rate.share <= ERROR
    assert adaptive.covered.share >= COVERAGE
    assert adaptive.power.share >= POWER
    assert naive.false_fail.share + naive.false_pass.share > adaptive.false_fail.share + adaptive.false_pass.share


@pytest.mark.parametrize(
    ("gates", "gate"), list(zip((8, 13), GATES, strict=True)), ids=["8", "13, seeds differ by far"]
)
def test_holm_keeps_the_error_rate_of_a_family_whatever_the_seeds(gates, gate):
    alone, holm, moving, moving_holm = family_rows(gate, gates, 120)
    assert max(alone.false_fail.share, alone.false_pass.share) > ERROR
    assert max(moving.false_fail.share, moving.false_pass.share) > ERROR
    for row in (holm, moving_holm):
        assert row.false_fail.share <= ERROR
        assert row.false_pass.share <= ERROR


def test_rates_have_exact_intervals():
    rate = Rate(0, 20)
    assert rate.interval() == pytest.approx((0.0, 1 - 0.025 ** (1 / 20)))
    assert Rate(1, 40).text() == "2.5 (0.1-13.2)"
    assert Rate(1, 40).text(independent=False) == "2.5"


def run(tmp_path, *options):
    target = tmp_path / "rows.json"
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / "calibration.py"), "--json", str(target), *options],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(target.read_text(encoding="utf-8")), done.stdout


def test_the_benchmark_prints_what_it_writes(tmp_path):
    rows, table = run(tmp_path, "--quick", "--part", "adaptive", "families", "--repeats", "4")
    assert len(rows) == 2 * 2 + 4 * 4
    for row in rows:
        assert row["case"] in table
        assert row["method"] in table
        assert row["false_fail"]["of"] == (2 if "gates" in row["case"] else 4)


@pytest.mark.skipif(not os.environ.get("FAIRTEST_SLOW"), reason="trains 24 models: set FAIRTEST_SLOW=1")
def test_baselines_against_baselines_rarely_fail_and_are_trained_once(tmp_path):
    options = ("--part", "null-training", "--runs", "24", "--store", str(tmp_path / "store"))
    rows, _ = run(tmp_path, *options)
    ours, bare, ours_random, bare_random = rows
    assert ours["unchanged"]["of"] == bare["unchanged"]["of"] == 4
    assert ours["unchanged"]["hits"] <= 1
    assert ours_random["unchanged"]["hits"] / ours_random["unchanged"]["of"] <= 0.08
    assert bare_random["unchanged"]["hits"] / bare_random["unchanged"]["of"] > 0.3
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "store" / "entries" / "run").rglob("*.safetensors")}
    assert len(before) == 24
    again, _ = run(tmp_path, *options)
    assert again == rows
    assert all(path.stat().st_mtime_ns == then for path, then in before.items())
