"""How near an arm that was stopped at another one's held-out loss comes to it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from fairtest.experiments.arms import Measured
from fairtest.gates.guards import start_of
from fairtest.gates.result import Guard

COARSE = 0.05  # a match further off than this share of what was gained is no match


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
    """From the records of its runs, and from the held-out losses of both."""
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
    # The records tell of the arm it was matched to, which need not be this candidate.
    gaps += _gaps(candidate, matched)
    apart = max(gaps) if gaps and all(map(math.isfinite, gaps)) else None
    return Matching(steps, of_steps, apart, _gained(candidate), missed, len(records))


def match_guards(candidate: Measured, reference: Measured) -> list[Guard]:
    """Of a reference that was stopped at a held-out loss: that this is the candidate's, in every seed."""
    if getattr(getattr(reference, "spec", None), "matched_to", None) is None:
        return []
    gaps, gained = _gaps(candidate, reference), _gained(candidate)
    apart = max(gaps, default=math.inf)
    return [
        Guard(
            f"{reference.name} has the held-out loss of {candidate.name}",
            gained is not None and apart <= COARSE * gained,
            f"at most {apart:.4f} nats a token apart"
            + ("" if gained is None else f", of {gained:.3f} that were gained"),
            f"compare with {candidate.name}.matched(); where that never gets there, training without DP learned less",
        )
    ]


def _gaps(candidate: Measured, matched: Measured) -> list[float]:
    """By seed, how far the held-out losses are apart."""
    ours, theirs = _losses(candidate), _losses(matched)
    if not ours or not theirs:
        return []
    longest = max(len(ours), len(theirs))
    paired = zip(*(one * longest if len(one) == 1 else one for one in (ours, theirs)), strict=True)
    return [abs(one - other) for one, other in paired]


def _gained(candidate: Measured) -> float | None:
    """Nats a token that the candidate gained over its start; None where it gained nothing, or nobody knows."""
    start, ours = start_of(candidate), _losses(candidate)
    before = [] if start is None else _losses(start)
    gained = math.fsum(before) / len(before) - math.fsum(ours) / len(ours) if before and ours else 0.0
    return gained if gained > 0 else None


def _losses(arm: Measured) -> list[float]:
    """Held-out loss of each seed, nats a token."""
    held = arm.held_out()
    return [] if held is None else [math.fsum(row) / sum(held.tokens) for row in held.nll]
