"""Privacy statements that come with a model and were not made here: found, read, and one made of several."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from fairtest.errors import PrivacyError
from fairtest.privacy.statement import NOT_STATED, PrivacyStatement

# The privacy statement beside the weights of every DP run, in the store and in an exported model.
PRIVACY_FILE = "privacy.json"
# What may differ between the seeds of one arm. All else describes the mechanism and the data: of two that differ there,
# neither is the worse one.
_OF_A_RUN = {
    "epsilon",
    "epsilon_prv",
    "epsilon_claimed",
    "epsilon_of_two",
    "steps",
    "noise_multiplier",
    "max_grad_norm",
    "max_grad_norm_chosen",
    "accountant",
    "optimizer",
    "clipping",
    "records_left_out",
    "released",
    "not_covered",
    "weights",
}


def beside(directory: Path) -> PrivacyStatement | None:
    """The statement in a directory of weights, None where there is none.

    Raises:
        PrivacyError: it is malformed.
    """
    path = directory / PRIVACY_FILE
    return PrivacyStatement.read(path) if path.exists() else None


def require_of_weights(statement: PrivacyStatement | None, weights: str, path: str) -> None:
    """Nothing where the statement is of these weights (by digest), or does not say of which.

    Raises:
        PrivacyError: it is of others.
    """
    if statement is None or statement.weights in (NOT_STATED, weights):
        return
    raise PrivacyError(
        f"the privacy statement of {path} is of other weights: it names {statement.weights[:12]}, and these are"
        f" {weights[:12]}",
        where=path,
        fix="give the statement that was exported with these weights; where they follow from the stated ones without a"
        ' look at the private data (a cast, a merge), take the field "weights" out of the file',
    )


def joint_statement(named: Sequence[tuple[str, PrivacyStatement | None]], where: str) -> PrivacyStatement | None:
    """The statement of several models of one arm: that with the largest epsilon, and what releasing several means.

    `named` has the name of each model and its statement; None where no model has one.

    Raises:
        PrivacyError: some have one and some do not, or they describe different mechanisms.
    """
    stated = [(name, statement) for name, statement in named if statement is not None]
    if not stated:
        return None
    silent = [name for name, statement in named if statement is None]
    if silent:
        raise PrivacyError(
            f"{stated[0][0]} has a privacy statement and {silent[0]} has none",
            where=where,
            fix=f"put a {PRIVACY_FILE} beside the weights of each, or judge them one by one",
        )
    for name, statement in stated[1:]:
        _require_same_mechanism(stated[0], (name, statement), where)
    if len(stated) == 1:
        return stated[0][1]
    name, worst = max(stated, key=lambda one: one[1].epsilon)
    released = worst.released
    if "releasing several adds up" not in released:
        released += f", of one seed ({len(stated)} seeds were trained to measure; releasing several adds up)"
    if len({statement.epsilon for _, statement in stated}) > 1:
        released += f"; stated for {name}, which has the largest epsilon of the {len(stated)}"
    return dataclasses.replace(worst, released=released)


def _require_same_mechanism(
    first: tuple[str, PrivacyStatement], other: tuple[str, PrivacyStatement], where: str
) -> None:
    for field in dataclasses.fields(PrivacyStatement):
        one, two = getattr(first[1], field.name), getattr(other[1], field.name)
        if field.name not in _OF_A_RUN and one != two:
            raise PrivacyError(
                f"the privacy statements of {first[0]} and {other[0]} differ in {field.name} ({one!r} and {two!r}), so"
                " no one statement holds for both",
                where=where,
                fix="correct the one that is wrong, or judge them one by one",
            )
