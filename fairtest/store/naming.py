"""What a person calls an entry: a run by its arm and seed, scores by the run that they are of."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from fairtest.digests import digest_of
from fairtest.specs import Arm
from fairtest.store.listing import Listed

PRETRAINED = "pretrained"
# A name ends before this where the settings of today have no arm like it.
_SCORED = {"scores": "scores of {}", "held-out": "held-out losses of {}"}


def arm_names(entries: Iterable[Listed], arms: Mapping[str, Arm]) -> dict[str, tuple[str, int | None]]:
    """(arm, seed) of runs by digest. An arm that `arms` do not have is described by what it does; the pretrained model
    is a run without a seed.
    """
    known = {_text(arm.as_dict()): name for name, arm in arms.items()}
    names: dict[str, tuple[str, int | None]] = {}
    for entry in entries:
        key = entry.key
        if "model" in key:
            names.setdefault(digest_of({"model": key["model"]}), (PRETRAINED, None))
        if entry.kind == "run" and "arm" in key:
            names[entry.digest] = (known.get(_text(key["arm"])) or described(key["arm"]), key.get("seed"))
    return names


def entry_name(entry: Listed, runs: Mapping[str, tuple[str, int | None]]) -> str:
    """The name of one entry, "" where nothing is known; `runs` from `arm_names`."""
    digest = entry.digest if entry.kind == "run" else str(entry.key.get("run", ""))
    if digest in runs:
        arm, seed = runs[digest]
        run = arm if seed is None else f"{arm}, seed {seed}"
        return _SCORED.get(entry.kind, "{}").format(run)
    if "run" in entry.key:
        return f"{_SCORED.get(entry.kind, '{}').format('a run that is gone')} ({digest[:12]})"
    if "model" in entry.key:
        model = f"model {str(entry.key['model'])[:12]}"
        return f"frozen layers of {model}" if entry.kind == "trunk" else model
    return ""


def described(arm: Mapping[str, Any]) -> str:
    """An arm by what it does: "epsilon 3, cda gender, 40 steps"."""
    training, cda, other = arm.get("training") or {}, arm.get("cda"), arm.get("matched_to")
    parts = [_protection(arm)]
    if arm.get("ablation") is not None:
        parts[0] = f"not private, {arm['ablation']}" + ("" if arm.get("dp") is None else f" of {parts[0]}")
    if other is not None:
        parts.append(f"stopped at the loss of {_protection(other)}")
    if cda is not None:
        parts.append(f"cda {'+'.join(map(str, cda.get('axes', ())))}")
    length = training.get("steps")
    parts.append(f"{training.get('epochs')} epochs" if length is None else f"{length} steps")
    return ", ".join(parts)


def _protection(arm: Mapping[str, Any]) -> str:
    dp = arm.get("dp")
    if dp is None:
        return "not private"
    if dp.get("noise_multiplier") is not None:
        return f"sigma {dp['noise_multiplier']:g}"
    return f"epsilon {dp.get('epsilon')}"


def _text(arm: Mapping[str, Any]) -> str:
    return json.dumps(arm, sort_keys=True)
