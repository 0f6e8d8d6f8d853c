"""All gates of a session as one family: what still holds when the chance of any wrong verdict is kept small.

Thirteen gates that are each wrong in one of twenty cases are wrong somewhere in half of all sessions. Holm's procedure
(1979) is applied twice: to the p-values of "beyond what is allowed", so that the chance of any wrong FAIL in the
session is at most alpha, and to those of "within", for any wrong PASS. alpha is that of one gate and one side,
(1 - confidence) / 2, so a family of one is decided as the gate alone. Near a metric's target, where an amplification
has a kink, the bound is twice as large, as for one gate.

Every gate that was declared counts, one with an unmet guard too (with p = 1); the same claim made twice counts once.
Privacy claims rest on no sample and are not in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fairtest.gates.result import Verdict
from fairtest.statistics.planning import holm

_CLAIM = ("gate", "metric", "protocol", "candidate", "reference", "allowed", "p_pass", "p_fail")


def with_family(gates: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The gates (as `GateResult.as_dict` gives them) with "family": {"verdict", "p", "size"}; None where it is not in
    the family. `p` is the smaller of the two adjusted p-values.
    """
    claims: dict[tuple[Any, ...], Mapping[str, Any]] = {}
    for gate in gates:
        if gate.get("p_pass") is not None:
            claims.setdefault(tuple(gate[name] for name in _CLAIM), gate)
    members = list(claims.values())
    alpha = min((float(gate["alpha"]) for gate in members), default=0.0)
    within, beyond = (holm([float(gate[name]) for gate in members]) for name in ("p_pass", "p_fail"))
    families = {
        claim: _decided(gate, p_pass, p_fail, alpha, len(members))
        for (claim, gate), p_pass, p_fail in zip(claims.items(), within, beyond, strict=True)
    }
    return [
        {
            **gate,
            "family": families.get(tuple(gate[name] for name in _CLAIM)) if gate.get("p_pass") is not None else None,
        }
        for gate in gates
    ]


def weakened(gates: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Gates whose verdict does not hold in the family."""
    return [gate for gate in gates if gate.get("family") and gate["family"]["verdict"] != gate["verdict"]]


def _decided(gate: Mapping[str, Any], p_pass: float, p_fail: float, alpha: float, size: int) -> dict[str, Any]:
    verdict = Verdict.UNDECIDED
    # The gate's own verdict comes first: the family can take one back, never make one.
    if gate["verdict"] == Verdict.PASS.value and p_pass <= alpha:
        verdict = Verdict.PASS
    elif gate["verdict"] == Verdict.FAIL.value and p_fail <= alpha:
        verdict = Verdict.FAIL
    return {"verdict": verdict.value, "p": min(p_pass, p_fail), "size": size}
