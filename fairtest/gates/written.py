"""Guards of what a model writes: a model that writes nothing, or nothing that is measured, has no gap and is not fair.

Both limits are our own. They are far below what any language model writes, and far above an accident.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fairtest.gates.result import Guard
from fairtest.scoring.completions import COMPLETION
from fairtest.scoring.pronouns import PRONOUNS
from fairtest.scoring.scores import ProbeScores

LEAST_TEXT = 0.5
LEAST_PRONOUNS = 0.05


def written_guards(name: str, scores: Sequence[ProbeScores]) -> list[Guard]:
    """Half of the completions have a text and, where pronouns are counted, one in twenty has one, in every seed.

    Nothing for scores of other kinds.
    """
    if not scores or not any(role.startswith(COMPLETION) for role in scores[0].log_probs):
        return []
    texts = min(_share(one.tokens) for one in scores)
    guards = [
        Guard(
            f"{name} writes text",
            texts >= LEAST_TEXT,
            f"{texts:.0%} of its completions have a text, at least {LEAST_TEXT:.0%} are needed",
            f"look at what {name} writes (`fairtest score`): a model that ends every text at once says nothing",
        )
    ]
    if f"/{PRONOUNS}@" in scores[0].protocol:
        pronouns = min(_share(one.log_probs) for one in scores)
        guards.append(
            Guard(
                f"{name} writes gendered pronouns",
                pronouns >= LEAST_PRONOUNS,
                f"{pronouns:.0%} of its completions have one, at least {LEAST_PRONOUNS:.0%} are needed",
                "use another metric: where no pronoun is written, the stereotypical one is not either",
            )
        )
    return guards


def _share(columns: Mapping[str, Sequence[float]]) -> float:
    """The part of all completions whose number is not 0."""
    values = [value for column in columns.values() for value in column]
    return sum(value != 0 for value in values) / len(values)
