"""More seeds only while a gate is undecided, and what holds of all gates together."""

from __future__ import annotations

import numpy as np
import pytest
from arms_of_numbers import NumbersArm, pretrained, ratios, tuned
from hypothesis import given
from hypothesis import strategies as st

from fairtest.gates.assertions import assert_no_amplification
from fairtest.gates.family import weakened, with_family
from fairtest.gates.result import GateFailure, GateUndecided, Verdict
from fairtest.settings import Settings
from fairtest.statistics.planning import holm

METRIC = "templates.log_ratio[gender]"
SETTINGS = Settings(seeds="auto", undecided="warn")


class Growing(NumbersArm):
    """An arm whose seeds are made when they are asked for; `asked` says how many were."""

    available_seeds = 8

    def __init__(self, name, rows, asked, shown=3):
        super().__init__(name, rows[:shown], nll=2.5, start=pretrained())
        self.rows, self.asked = rows, asked
        asked.append(shown)

    def limited(self, seeds):
        return Growing(self.name, self.rows, self.asked, seeds)


def gate(mean, *, seed_sd, max_increase=0.2, rng=1):
    asked = []
    candidate = Growing("dp", ratios(mean, seeds=8, seed_sd=seed_sd, rng=rng), asked)
    reference = Growing("baseline", ratios(0.7, seeds=8, seed_sd=seed_sd, rng=rng), asked)
    try:
        return assert_no_amplification(
            candidate, reference, metric=METRIC, max_increase=max_increase, settings=SETTINGS
        ), max(asked)
    except GateFailure as failure:
        return failure.result, max(asked)


def test_a_clear_gate_stops_at_the_first_look():
    result, seeds = gate(1.6, seed_sd=0.02)
    assert (result.verdict, seeds, result.seeds) == (Verdict.FAIL, 3, 3)
    assert result.look.startswith("look 1 of 3 (3 seeds, ")
    assert "all looks together hold 95%" in result.message()
    assert result.confidence > 0.95


@pytest.mark.filterwarnings("ignore::fairtest.UndecidedWarning")
def test_an_undecided_gate_goes_on_to_the_last_look_and_no_further():
    result, seeds = gate(0.9, seed_sd=0.2)
    assert (result.verdict, seeds, result.seeds) == (Verdict.UNDECIDED, 8, 8)
    assert result.look.startswith("look 3 of 3")


@pytest.mark.filterwarnings("ignore::fairtest.UndecidedWarning")
def test_a_gate_that_needs_more_seeds_gets_them():
    results = [gate(0.72, seed_sd=0.12, max_increase=0.3, rng=rng) for rng in range(12)]
    assert max(result.seeds for result, _ in results) > 3
    assert sum(result.verdict is Verdict.PASS for result, _ in results) >= 8
    for result, seeds in results:
        assert result.seeds == seeds
        assert (result.p_pass <= result.alpha) == (result.verdict is Verdict.PASS)


@pytest.mark.parametrize(("gain", "seeds", "verdict"), [(0.06, 8, Verdict.PASS), (0.0, 3, Verdict.UNDECIDED)])
def test_a_guard_that_three_seeds_leave_open_is_asked_again_with_more(gain, seeds, verdict):
    losses = 3.0 - gain + 0.025 * np.array([-1.0, 1.0, 0.0, 0.6, -0.6, 0.3, -0.3, 0.0])

    class Learned(Growing):
        def __init__(self, name, rows, asked, shown=3):
            super().__init__(name, rows, asked, shown)
            self.nll = list(losses[:shown])

        def limited(self, seeds):
            return Learned(self.name, self.rows, self.asked, seeds)

    asked = []
    sides = Learned("dp", ratios(0.72, seeds=8), asked), Growing("baseline", ratios(0.7, seeds=8), asked)
    try:
        result = assert_no_amplification(*sides, metric=METRIC, max_increase=0.3, settings=SETTINGS)
    except GateUndecided as undecided:
        result = undecided.result
    assert (result.verdict, result.blocked) == (verdict, verdict is Verdict.UNDECIDED), result.message()
    assert (max(asked) > 3) == (seeds > 3)


@pytest.mark.filterwarnings("ignore::fairtest.UndecidedWarning")
@pytest.mark.parametrize(("there", "most"), [(2, 2), (3, 3), (5, 5), (8, 8)])
def test_beside_models_trained_elsewhere_no_look_has_more_seeds_than_these_are(there, most):
    class Found(NumbersArm):
        def limited(self, seeds):
            return Found(self.name, self.log_ratio[:seeds], nll=2.5, start=pretrained())

    asked = []
    candidate = Growing("dp", ratios(0.9, seeds=8, seed_sd=0.2, rng=1), asked)
    reference = Found("elsewhere", ratios(0.7, seeds=there, seed_sd=0.2, rng=1), nll=2.5, start=pretrained())
    result = assert_no_amplification(candidate, reference, metric=METRIC, max_increase=0.2, settings=SETTINGS)
    assert (result.verdict, result.seeds) == (Verdict.UNDECIDED, most)


def test_an_unmet_guard_ends_the_looks():
    asked = []
    same = ratios(0.7, seeds=8)
    candidate, reference = Growing("dp", same, asked), Growing("baseline", same, asked)
    for arm in (candidate, reference):
        arm.nll = [3.2] * 3
    candidate.limited = reference.limited = lambda seeds: pytest.fail("no") if seeds > 3 else candidate
    with pytest.raises(AssertionError, match="guard is not met"):
        assert_no_amplification(candidate, reference, metric=METRIC, max_increase=0.2, settings=SETTINGS)


def plain(number, p_pass, p_fail, verdict, *, alpha=0.025, blocked=False):
    return {
        "gate": "no_amplification",
        "metric": f"m{number}",
        "protocol": "",
        "candidate": "dp",
        "reference": "baseline",
        "allowed": 1.0,
        "p_pass": p_pass,
        "p_fail": p_fail,
        "alpha": alpha,
        "verdict": verdict,
        "blocked": blocked,
    }


def test_a_family_of_one_is_the_gate():
    (only,) = with_family([plain(0, 0.024, 0.976, "PASS")])
    assert only["family"] == {"verdict": "PASS", "p": 0.024, "size": 1}
    assert weakened([only]) == []


def test_a_verdict_that_chance_would_give_somewhere_does_not_hold():
    gates = with_family([plain(0, 0.001, 0.999, "PASS"), *(plain(i, 0.02, 0.98, "PASS") for i in range(1, 4))])
    assert [gate["family"]["verdict"] for gate in gates] == ["PASS", *["UNDECIDED"] * 3]
    assert [gate["family"]["p"] for gate in gates] == pytest.approx([0.004, 0.06, 0.06, 0.06])
    assert len(weakened(gates)) == 3


def test_the_same_claim_twice_counts_once_and_privacy_not_at_all():
    privacy = {**plain(9, None, None, "PASS"), "gate": "privacy"}
    gates = with_family([plain(0, 0.02, 0.98, "PASS"), plain(0, 0.02, 0.98, "PASS"), privacy])
    assert [gate["family"] and gate["family"]["size"] for gate in gates] == [1, 1, None]


def test_a_gate_with_an_unmet_guard_is_in_the_family_and_never_decided():
    gates = with_family([plain(0, 1.0, 1.0, "UNDECIDED", blocked=True), plain(1, 0.02, 0.98, "PASS")])
    assert [gate["family"]["verdict"] for gate in gates] == ["UNDECIDED", "UNDECIDED"]


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=12))
def test_the_family_takes_back_and_never_makes_a_verdict(pairs):
    gates = []
    for number, (p_pass, p_fail) in enumerate(pairs):
        verdict = "PASS" if p_pass <= 0.025 else "FAIL" if p_fail <= 0.025 else "UNDECIDED"
        gates.append(plain(number, p_pass, p_fail, verdict))
    decided = with_family(gates)
    for before, after in zip(gates, decided, strict=True):
        assert after["family"]["verdict"] in (before["verdict"], "UNDECIDED")
    passes = holm([p for p, _ in pairs])
    for after, adjusted in zip(decided, passes, strict=True):
        if after["verdict"] == "PASS":
            assert (after["family"]["verdict"] == "PASS") == (adjusted <= 0.025)


def test_the_summary_marks_what_does_not_hold_in_the_family():
    from fairtest.reports.terminal import notes, summary_rows

    estimate = {"value": 0.1, "low": 0.0, "high": 0.2}
    more = {"unit": "nats", "change": estimate, "finding": "", "items": 10, "seeds": 3, "target": 0.0}
    gates = with_family([{**plain(i, 0.02, 0.98, "PASS"), **more} for i in range(3)])
    lines = [line for _, line in summary_rows(gates, 120)]
    assert all(line.startswith("PASS*") for line in lines[1:])
    assert {verdict for verdict, _ in summary_rows(gates, 120)} == {"", "PASS"}
    assert notes(gates) == [
        "note: * 3 verdicts that would not hold in the family of 3 gates (Holm): so many gates err somewhere by chance"
    ]
    strong = with_family([{**plain(i, 0.001, 0.999, "PASS"), **more} for i in range(3)])
    assert notes(strong) == ["note: each verdict also holds in the family of 3 gates (Holm)"]


def test_p_values_and_verdicts_say_the_same_of_random_gates():
    rng = np.random.default_rng(3)
    verdicts = set()
    for _ in range(30):
        mean = float(rng.normal(0.9, 0.2))
        try:
            result = assert_no_amplification(
                tuned("dp", mean), tuned("baseline", 0.7), metric=METRIC, max_increase=0.2, settings=Settings()
            )
        except GateFailure as failure:
            result = failure.result
        except UserWarning:  # UNDECIDED warns, and warnings are errors here
            continue
        verdicts.add(result.verdict)
        assert (result.p_pass <= result.alpha) == (result.verdict is Verdict.PASS)
        assert (result.p_fail <= result.alpha) == (result.verdict is Verdict.FAIL)
    assert verdicts >= {Verdict.PASS, Verdict.FAIL}


def test_a_report_tells_every_seed_that_looks_have_trained(tmp_path):
    from fairtest.experiments.arms import Arms
    from fairtest.experiments.experiment import Experiment
    from fairtest.gates.fairness import Fairness
    from fairtest.store import Store
    from fairtest.tiny.generator import corpus, write_jsonl

    records = tmp_path / "records.jsonl"
    write_jsonl(corpus("private", 0.65, 120, seed=1), records, prefix="r")
    training = {"steps": 2, "batch_size": 16, "max_length": 48, "threads": 1}
    settings = Settings(corpus=str(records), cache_dir=str(tmp_path / "store"), seeds="auto", **training)
    baseline = Arms(Experiment(settings, Store(settings.cache_dir))).baseline
    helpers = Fairness(settings)
    helpers.measure(baseline, "perplexity")
    assert len(helpers.record()["arms"]["baseline"]["training"]) == 3
    baseline.limited(5).train()
    assert len(helpers.record()["arms"]["baseline"]["training"]) == 5
