"""Per-unit gradient clipping in a single backward pass, for layers that may share weights.

`terms` writes a unit's gradient as a short sum of outer products and knows its norm; `rules` says for each kind of
layer what its outer products are; `engine` collects them during a backward pass and adds up the clipped gradients;
`verify` compares a model's rules with plain autograd. A further kind of layer needs one `register_rule` function.
"""

from __future__ import annotations

from fairtest.training.clipping.engine import Clipped, PerUnitClipping
from fairtest.training.clipping.rules import LayerRule, register_rule
from fairtest.training.clipping.terms import OneHot, Outer, PerUnit, Term
from fairtest.training.clipping.verify import verify_against_autograd

__all__ = [
    "Clipped",
    "LayerRule",
    "OneHot",
    "Outer",
    "PerUnit",
    "PerUnitClipping",
    "Term",
    "register_rule",
    "verify_against_autograd",
]
