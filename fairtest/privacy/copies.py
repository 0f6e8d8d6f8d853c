"""What an epsilon is worth where counterfactuals are units of their own, for a person behind a unit and its copies."""

from __future__ import annotations

import math
from dataclasses import dataclass
from importlib.metadata import version

from fairtest.errors import PrivacyError
from fairtest.privacy.accountants import group_epsilon, is_wide, rdp_epsilon, together_rate
from fairtest.privacy.accounting import TOO_WEAK, PrivacyPlan


@dataclass(frozen=True)
class CopiesSpent:
    """`copies` of a plan's units are counterfactuals of others, at most `most` of one unit; `epsilon` is the upper
    bound, at the plan's delta, for a unit together with its copies, and `accountant` what gave it.
    """

    copies: int
    most: int
    epsilon: float
    accountant: str


def copies_spent(plan: PrivacyPlan, copies: int, most: int, *, times: int | None = None) -> CopiesSpent:
    """Epsilon of a plan for a unit and its copies: `times` units (by default 1 + `most`), each in a batch by itself,
    each clipped on its own.

    The plan is that of all units, copies among them. A unit with fewer copies spends less; the largest counts.
    """
    times = 1 + most if times is None else times
    sigma, q = plan.noise_multiplier, plan.sample_rate
    if sigma == 0:
        return CopiesSpent(copies, most, math.inf, "none (no noise)")
    if is_wide(sigma, times) or not plan.epsilon <= TOO_WEAK:
        # Loss distributions of next to no noise need gigabytes; beyond floating point there is no epsilon to speak of.
        try:
            epsilon = rdp_epsilon(sigma / times, together_rate(q, times), plan.steps, plan.delta)
        except PrivacyError:
            epsilon = math.inf
        accountant = f"RDP, opacus {version('opacus')}"
    else:
        epsilon = group_epsilon(sigma, q, plan.steps, plan.delta, times=times, copies="independent")
        accountant = f"PLD, dp-accounting {version('dp-accounting')}"
    return CopiesSpent(copies, most, epsilon, f"{accountant}, {times} units clipped and sampled one by one")
