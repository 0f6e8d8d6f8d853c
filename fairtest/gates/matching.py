"""How near an arm that was stopped at another one's held-out loss comes to it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from fairtest.experiments.arms import Measured
from fairtest.gates.guards import start_of


@dataclass(frozen=True)
class Matching:
    """How near the matched arm is to the candidate's held-out loss (nats a token). `steps`: at which its runs stopped,
    a number a seed, `of_steps` those of the run without DP, 0 where nobody knows; `apart`: the largest difference of a
    seed and `gained` what the candidate gained over its start, None where nobody knows; `missed`: runs that never got
    to the candidate's loss.
    """

    steps: tuple[int, ...]
    of_steps: int
    apart: float | None
    gained: float | None
    missed: int
    runs: int

    @property
    def coarse(self) -> float:
        """How far off the match is, as a share of what the candidate gained; 0 where nobody knows."""
        return self.apart / self.gained if self.apart is not None and self.gained is not None else 0.0


def matching_of(matched: Measured, candidate: Measured) -> Matching:
    """From the records of its runs; of an arm without such records, from the held-out losses."""
    train = getattr(matched, "train", None)
    records = [row for row in train() if row.get("matched_step") is not None] if callable(train) else []
    steps = tuple(int(row["matched_step"]) for row in records)
    of_steps = max((int(row.get("baseline_steps") or 0) for row in records), default=0)
    missed = sum(1 for row in records if row.get("reached") is False)
    gaps = [
        abs(float(row["matched_loss"]) - float(row["target_loss"]))
        for row in records
        if row.get("matched_loss") is not None and row.get("target_loss") is not None
    ]
    ours, theirs = _losses(candidate), _losses(matched)
    if not gaps and ours and theirs:
        longest = max(len(ours), len(theirs))
        paired = zip(*(one * longest if len(one) == 1 else one for one in (ours, theirs)), strict=True)
        gaps = [abs(one - other) for one, other in paired]
    apart = max(gaps) if gaps and all(map(math.isfinite, gaps)) else None
    start = start_of(candidate)
    before = [] if start is None else _losses(start)
    gained = math.fsum(before) / len(before) - math.fsum(ours) / len(ours) if before and ours else None
    return Matching(steps, of_steps, apart, gained if gained is not None and gained > 0 else None, missed, len(records))


def _losses(arm: Measured) -> list[float]:
    """Held-out loss of each seed, nats a token."""
    held = arm.held_out()
    return [] if held is None else [math.fsum(row) / sum(held.tokens) for row in held.nll]
