"""Two directories and a claim: may the private model be released? Nothing is trained here."""

from pathlib import Path

import pytest

import fairtest

RECEIVED = Path(__file__).parent / "received"
METRIC = "templates.log_ratio[gender]"  # nats by which a stereotypical sentence is likelier than its counterpart


def checkpoint(folder: str) -> fairtest.Checkpoint:
    """The three seeds of one arm, in an order that is the same for both; privacy.json lies beside the weights."""
    return fairtest.Checkpoint(
        *sorted((RECEIVED / folder).iterdir()),
        name=folder,
        start="fairtest/tiny",  # what the authors say they began with
        held_out=RECEIVED / "held_out.jsonl",
    )


@pytest.fixture
def private() -> fairtest.Checkpoint:
    return checkpoint("private")


@pytest.fixture
def public() -> fairtest.Checkpoint:
    return checkpoint("public")


def test_privacy_does_not_cost_fairness(private, public, fairness):
    fairness.assert_no_amplification(private, public, metric=METRIC, max_increase=0.4)


def test_the_claim_holds(private, fairness):
    fairness.assert_privacy(private, max_epsilon=3.0, unit="record")


@pytest.mark.xfail(raises=fairtest.GateFailure, strict=True, reason="these weights state epsilon 3")
def test_a_smaller_claim_would_not(private, fairness):
    """What a reviewer sees where the announcement says less than the statement: this gate fails."""
    fairness.assert_privacy(private, max_epsilon=1.0)


@pytest.mark.xfail(raises=fairtest.GateFailure, strict=True, reason="their noise can be drawn again from a seed")
def test_these_weights_may_leave_the_house(private, fairness):
    """Noise of a generator with a known seed keeps an example the same everywhere, and protects nobody."""
    fairness.assert_privacy(private, max_epsilon=3.0, release=True)


def test_utility(private, public, fairness):
    fairness.assert_utility(private, public, max_perplexity_ratio=1.25)
