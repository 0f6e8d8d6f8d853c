"""What a planned gate needs for its threshold, and the table that a person reads."""

from __future__ import annotations

import dataclasses
import math
import re

import pytest
from plan_builders import gate_of

from fairtest.gates.planning import table as plan_table
from fairtest.gates.planning.planned_gate import (
    RATIO,
    PlannedRun,
    detectable,
    family_size,
    needs,
)
from fairtest.gates.planning.table import duration, plan_lines, wall_seconds
from fairtest.statistics.components import Contrast

RATIOS = "templates.log_ratio[gender]"


PROBES = Contrast(0.0, 5, 0.2, 1.0, 0.0, 200.0)


@pytest.mark.parametrize(
    ("gate", "words"),
    [
        (gate_of(allowed=3.5), "needs nothing more: it passes with 80% or more where nothing changed"),
        (gate_of(allowed=3.5, gate="bias_within"), "needs nothing more: it passes with 80% or more at the target"),
        (gate_of(allowed=1.8), r"needs \d+ seeds"),
        (gate_of(allowed=1.8, seeds=(3, 5)), r"needs \d+ seeds \(setting max_seeds\)"),
        (
            gate_of(allowed=1.6, spread=PROBES),
            r"cannot be decided with this probe set: about \d\.\d times as many clusters would do \(\d+\)",
        ),
        (
            gate_of(allowed=1.3),
            r"cannot be decided with this probe set: about \d\.\d times as many clusters would do with \d+ seeds .*",
        ),
        (
            gate_of(allowed=0.1),
            "cannot be decided with this probe set, nor with 100 seeds and any number of clusters",
        ),
        (gate_of(factors=(3,)), "cannot be decided with this probe set: 3 clusters, and at least 5 are needed"),
        (gate_of(allowed=0.0), r"needs a change of -2\.\d+ or less, to pass with 80%"),
        (gate_of(allowed=-1.0, gate="mitigated"), r"needs a change of -3\.\d+ or less, to pass with 80%"),
        (gate_of(gate="privacy", finding="within the budget: epsilon 3"), "within the budget: epsilon 3"),
        (dataclasses.replace(gate_of(), spread=None, basis="no basis"), "not planned: no basis"),
    ],
)
def test_a_threshold_needs(gate, words):
    assert re.fullmatch(words, needs(gate)), needs(gate)


def test_the_seeds_that_are_named_are_enough_and_one_less_is_not():
    gate = gate_of(allowed=1.8)
    seeds = int(needs(gate).split()[1])
    assert detectable(gate, seeds=seeds) <= 1.8 < detectable(gate, seeds=seeds - 1)


@pytest.mark.parametrize("gate", [gate_of(allowed=1.6, spread=PROBES), gate_of(allowed=1.3)])
def test_the_probes_that_are_named_are_enough_and_fewer_are_not(gate):
    said = re.search(r"about ([\d.]+) times .* would do(?: with (\d+) seeds)?", needs(gate))
    factor, seeds = float(said[1]), int(said[2] or gate.seeds)
    assert detectable(gate, seeds=seeds, factor=factor + 0.1) <= gate.allowed
    assert detectable(gate, seeds=seeds, factor=factor - 0.2) > gate.allowed


def test_only_an_enforced_family_needs_more():
    gate = gate_of(allowed=2.4)
    assert needs(gate).startswith("needs nothing more")
    assert needs(gate, tests=20) == needs(gate)
    assert needs(dataclasses.replace(gate, enforced=True), tests=20) != needs(gate)


def test_the_family_counts_a_claim_once_and_no_privacy():
    gates = [gate_of(), gate_of(), gate_of(allowed=3.0), gate_of(gate="privacy"), gate_of(gate="measure")]
    assert family_size(gates) == 2


def test_a_ratio_is_planned_as_a_ratio():
    gate = gate_of(unit=RATIO, gate="utility", allowed=1.5, spread=Contrast(0.0, 5, 0.02, 0.01, 0.0, 200.0))
    log = detectable(dataclasses.replace(gate, unit="nats"))
    assert detectable(gate) == pytest.approx(math.expm1(log))
    assert needs(gate).startswith("needs nothing more")
    below = needs(dataclasses.replace(gate, allowed=1.0))
    assert below == f"needs a ratio of {math.exp(-log):.3g} or less, to pass with 80%"


def test_workers_train_the_seeds_of_an_arm_side_by_side():
    runs = [PlannedRun(f"{arm}{seed}", arm, seed, stored=False, seconds=10.0) for arm in "ab" for seed in range(5)]
    assert wall_seconds(runs, 1) == 100.0
    assert wall_seconds(runs, 2) == 60.0
    assert wall_seconds([*runs, PlannedRun("c", "c", 0, stored=True, seconds=None)], 5) == 20.0
    assert wall_seconds([PlannedRun("c", "c", 0, stored=False)], 1) is None


@pytest.mark.parametrize(
    ("seconds", "text"), [(8, "8 s"), (119, "119 s"), (210, "3.5 min"), (2400, "40 min"), (9000, "2.5 h")]
)
def test_a_duration_reads_like_one(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize("width", [80, 120, 200])
def test_the_table_fits(width):
    gates = [
        gate_of(metric=RATIOS, unit="nats", candidate="dp_cda", factors=(40, 16), basis="assumed: " + "words " * 60),
        gate_of(gate="bias_within", reference="", candidate="dp_cda"),
        gate_of(gate="mitigated", allowed=-1.0, reference="dp"),
        gate_of(gate="no_regression", reference=""),
        dataclasses.replace(
            gate_of(),
            gate="privacy",
            spread=None,
            looks=(),
            items=0,
            factors=(),
            finding="within the budget: " + "w " * 90,
        ),
    ]
    lines = plan_lines(gates, width)
    assert max(map(len, lines)) <= width
    text = "\n".join(lines)
    for words in (
        "is near the target",
        "mitigates against dp",
        "against its stored baseline",
        "dp: epsilon",
        "[a]",
        "[b]",
    ):
        assert words in text
    assert text.count("made up") == 1
    numbers = [line for line in lines if line.rstrip().endswith("0 s")]
    assert len(numbers) == 5
    assert len({len(line) for line in numbers}) == 1


def test_a_plan_without_any_gate_has_totals_alone():
    assert (
        plan_lines([gate_of(gate="measure")], 80)[-1]
        == "0 gates and 1 measurement; 0 distinct runs: 0 in the store, 0 to train"
    )


def test_notes_are_lettered_beyond_the_alphabet():
    gates = [gate_of(basis=f"basis {index}") for index in range(30)]
    assert "[29]" in "\n".join(plan_lines(gates, 100))
    assert plan_table.duration(0) == "0 s"
