"""Trainers of a user's own, quick ones: they move the weights of the embedded model and save it."""

from __future__ import annotations

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from fairtest.tiny import model_directory

SCALE = 1e-3
calls = []


def base():
    """The embedded model and its tokenizer, as a user would load them."""
    return AutoModelForCausalLM.from_pretrained(model_directory()), AutoTokenizer.from_pretrained(model_directory())


def nudge(arm, units, seed, directory):
    """Adds noise that follows from the seed, the arm and the texts."""
    calls.append((arm.name, len(units), seed, sorted(directory.iterdir())))
    model, tokenizer = base()
    longest = max(len(unit.views) for unit in units)
    generator = torch.Generator().manual_seed(100 * seed + 10 * longest + (arm.dp is not None))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(SCALE * torch.randn(parameter.shape, generator=generator))
    model.save_pretrained(directory / "out")
    tokenizer.save_pretrained(directory / "out")
    (directory / "optimizer.pt").write_bytes(b"not to be kept")
    return directory / "out"
