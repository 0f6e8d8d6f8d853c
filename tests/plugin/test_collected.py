"""What several tests say of one arm is put together, whichever came last."""

from pytest_fairtest.recording import Collected

NOTHING = {"gates": [], "measurements": [], "ledger": {}}
SERIES = [{"name": "loss", "unit": "nats", "groups": {"a": [[0, 1.0]]}}]


def record(**arm):
    return {**NOTHING, "arms": {"dp": arm}}


def test_a_diagnosis_is_kept_when_another_test_compares_the_arm():
    collected = Collected(began=0.0)
    collected.add(record(data="x", diagnostics=SERIES, diagnostics_note="not for release"))
    collected.add(record(data="x", privacy="epsilon 3"))
    collected.add(record())
    assert collected.arms["dp"] == {
        "data": "x", "diagnostics": SERIES, "diagnostics_note": "not for release", "privacy": "epsilon 3"
    }  # fmt: skip


def test_a_session_that_only_diagnoses_has_something_to_report():
    collected = Collected(began=0.0)
    collected.add(record(data="x"))
    assert collected.empty
    collected.add(record(diagnostics=SERIES))
    assert not collected.empty
