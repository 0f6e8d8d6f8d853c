"""Fairness and privacy gates for language model fine-tuning.

Did differential privacy make this fine-tuned model more biased than it would have been without it, and how sure can
we be? Importing this package
costs nothing: every public name is loaded on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fairtest.errors import FairtestError
    from fairtest.experiments.arms import Arms, HeldOut, TunedArm
    from fairtest.experiments.checkpoint import Checkpoint
    from fairtest.experiments.contrast import Contrast
    from fairtest.experiments.diagnosis import Diagnosis
    from fairtest.experiments.diagnostics import diagnose
    from fairtest.experiments.experiment import Experiment
    from fairtest.gates.assertions import (
        assert_bias_within,
        assert_mitigated,
        assert_no_amplification,
        assert_no_regression,
        assert_privacy,
        assert_utility,
    )
    from fairtest.gates.decision import ThresholdWarning
    from fairtest.gates.explain import Explanation, explain_amplification
    from fairtest.gates.fairness import Fairness
    from fairtest.gates.result import (
        Estimate,
        GateFailure,
        GateNotPassed,
        GateResult,
        GateUndecided,
        UndecidedWarning,
        Verdict,
    )
    from fairtest.privacy.statement import PrivacyStatement
    from fairtest.settings import Settings
    from fairtest.specs import CDA, DP, Arm, Training
    from fairtest.store import Store

__version__ = "0.1.0"

_HOMES = {
    "Arm": "fairtest.specs",
    "Arms": "fairtest.experiments.arms",
    "CDA": "fairtest.specs",
    "Checkpoint": "fairtest.experiments.checkpoint",
    "DP": "fairtest.specs",
    "Contrast": "fairtest.experiments.contrast",
    "Diagnosis": "fairtest.experiments.diagnosis",
    "Estimate": "fairtest.gates.result",
    "Experiment": "fairtest.experiments.experiment",
    "Explanation": "fairtest.gates.explain",
    "FairtestError": "fairtest.errors",
    "Fairness": "fairtest.gates.fairness",
    "GateFailure": "fairtest.gates.result",
    "GateNotPassed": "fairtest.gates.result",
    "GateResult": "fairtest.gates.result",
    "GateUndecided": "fairtest.gates.result",
    "HeldOut": "fairtest.experiments.arms",
    "PrivacyStatement": "fairtest.privacy.statement",
    "Settings": "fairtest.settings",
    "Store": "fairtest.store",
    "ThresholdWarning": "fairtest.gates.decision",
    "Training": "fairtest.specs",
    "TunedArm": "fairtest.experiments.arms",
    "UndecidedWarning": "fairtest.gates.result",
    "Verdict": "fairtest.gates.result",
    "assert_bias_within": "fairtest.gates.assertions",
    "assert_mitigated": "fairtest.gates.assertions",
    "assert_no_amplification": "fairtest.gates.assertions",
    "assert_no_regression": "fairtest.gates.assertions",
    "assert_privacy": "fairtest.gates.assertions",
    "assert_utility": "fairtest.gates.assertions",
    "diagnose": "fairtest.experiments.diagnostics",
    "explain_amplification": "fairtest.gates.explain",
}

__all__ = [
    "CDA",
    "DP",
    "Arm",
    "Arms",
    "Checkpoint",
    "Contrast",
    "Diagnosis",
    "Estimate",
    "Experiment",
    "Explanation",
    "Fairness",
    "FairtestError",
    "GateFailure",
    "GateNotPassed",
    "GateResult",
    "GateUndecided",
    "HeldOut",
    "PrivacyStatement",
    "Settings",
    "Store",
    "ThresholdWarning",
    "Training",
    "TunedArm",
    "UndecidedWarning",
    "Verdict",
    "assert_bias_within",
    "assert_mitigated",
    "assert_no_amplification",
    "assert_no_regression",
    "assert_privacy",
    "assert_utility",
    "diagnose",
    "explain_amplification",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'fairtest' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
