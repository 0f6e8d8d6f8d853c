"""The arms that take an amplification apart, where a test names one arm or all of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fairtest.experiments.arms import Measured
from fairtest.gates.result import GateSetupError

OF_CANDIDATE = ("clip_only", "noise_only", "matched")
PARTS = (*OF_CANDIDATE, "shuffled")


def parts_of(
    candidate: Any, reference: Measured | None, parts: Mapping[str, Measured | None]
) -> tuple[Any, Measured, dict[str, Measured | None]]:
    """(DP arm, its baseline, the arms between them by name) of what a test wrote; trains nothing.

    `candidate`: a DP arm, or all arms, whose `dp` and `baseline` are then meant.

    Raises:
        GateSetupError: no reference, or a part that there is not.
        SpecError: the candidate is no arm that can be taken apart.
    """
    unknown = sorted(set(parts) - set(PARTS))
    if unknown:
        raise GateSetupError(
            f"an amplification has no part {', '.join(unknown)}",
            where="explain_amplification(...)",
            fix=f"arms that take it apart: {', '.join(PARTS)}",
        )
    found = dict(parts)
    if reference is None:
        if not hasattr(candidate, "baseline_matched"):
            raise GateSetupError(
                "an amplification is against something, and no reference was given",
                where="explain_amplification(candidate, reference)",
                fix="give the same arm without DP, or all arms: fairness.explain_amplification(arms, metric=...)",
            )
        found.setdefault("shuffled", candidate.shuffled)
        candidate, reference = candidate.dp, candidate.baseline
    for name in OF_CANDIDATE:
        if name not in found:
            found[name] = getattr(candidate, name)()
    return candidate, reference, found
