"""Per-unit gradient clipping in a single backward pass, for layers that may share weights.

`terms` writes a unit's gradient as a short sum of outer products and knows its norm; `rules` says for each kind of
layer what its outer products are, and `registry` finds the rule of a layer; `recording` keeps what a rule needs during
forward and backward pass; `engine` adds up the clipped gradients; `verify` compares all this with plain autograd. A
further kind of layer needs one `register_rule` function.
"""

from __future__ import annotations

from fairtest.errors import NotFiniteError
from fairtest.training.clipping import rules as _rules  # noqa: F401 - registers them
from fairtest.training.clipping.engine import Clipped, PerUnitClipping
from fairtest.training.clipping.registry import LayerRule, register_flattened, register_refusal, register_rule
from fairtest.training.clipping.terms import OneHot, Outer, PerUnit, Term
from fairtest.training.clipping.verify import HALF_TOLERANCE, verify_against_autograd

__all__ = [
    "HALF_TOLERANCE",
    "Clipped",
    "LayerRule",
    "NotFiniteError",
    "OneHot",
    "Outer",
    "PerUnit",
    "PerUnitClipping",
    "Term",
    "register_flattened",
    "register_refusal",
    "register_rule",
    "verify_against_autograd",
]
