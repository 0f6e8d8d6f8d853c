"""What several tests say of one arm is put together, whichever came last."""

from pytest_fairtest.recording import Collected

NOTHING = {"gates": [], "measurements": [], "ledger": {}}
SERIES = [{"name": "loss", "unit": "nats", "groups": {"a": [[0, 1.0]]}}]
DIAGNOSED = {
    "diagnostics": SERIES,
    "diagnostics_notes": ["not for release"],
    "diagnostics_note": "not for release",
    "diagnostics_findings": [],
}


def record(**arm):
    return {**NOTHING, "arms": {"dp": arm}}


def test_a_diagnosis_is_kept_when_another_test_compares_the_arm():
    collected = Collected(began=0.0)
    collected.add(record(data="x", **DIAGNOSED))
    collected.add(record(data="x", privacy="epsilon 3"))
    collected.add(record())
    assert collected.arms["dp"] == {"data": "x", **DIAGNOSED, "privacy": "epsilon 3"}


def test_a_session_that_only_diagnoses_has_something_to_report():
    collected = Collected(began=0.0)
    collected.add(record(data="x"))
    assert collected.empty
    collected.add(record(**DIAGNOSED))
    assert not collected.empty


def test_arms_of_one_name_and_other_settings_are_two_in_a_report():
    def gated(test, run, epsilon, allowed):
        gate = {"candidate": "dp", "reference": "baseline", "allowed": allowed, "levels": {"dp": 1, "baseline": 2}}
        arms = {"dp": {"run": run, "statement": {"epsilon": epsilon}}, "baseline": {"run": "b"}}
        return {**NOTHING, "test": f"test_it.py::{test}", "gates": [gate], "arms": arms}

    collected = Collected(began=0.0)
    collected.add(gated("test_strict", "1", 3.0, 1.0))
    collected.add(gated("test_weak", "2", 8.0, 2.0))
    collected.add(gated("test_weak_again", "1", 3.0, 3.0))
    stated = {name: arm["statement"]["epsilon"] for name, arm in collected.arms.items() if "statement" in arm}
    assert stated == {"dp": 3.0, "dp (test_weak)": 8.0}
    assert [gate["candidate"] for gate in collected.gates] == ["dp", "dp (test_weak)", "dp"]
    assert [list(gate["levels"]) for gate in collected.gates][1] == ["dp (test_weak)", "baseline"]
    assert all(gate["reference"] == "baseline" for gate in collected.gates)
