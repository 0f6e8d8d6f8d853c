"""Checkpoints to judge: copies of the embedded model with their weights moved a little."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from fairtest.privacy.statement import PrivacyStatement
from fairtest.tiny import model_directory

STATED = PrivacyStatement(
    unit="record",
    epsilon=2.5,
    delta=1e-5,
    units=1000,
    batch_size=100,
    sample_rate=0.1,
    steps=40,
    noise_multiplier=1.5,
    max_grad_norm=1.0,
    accountant="somebody's",
)


def moved(directory: Path, seed: int, scale: float = 1e-3) -> Path:
    """A copy of the embedded model that differs from it, and from that of any other seed."""
    shutil.copytree(model_directory(), directory)
    weights = load_file(directory / "model.safetensors")
    generator = torch.Generator().manual_seed(seed)
    changed = {
        name: tensor + scale * torch.randn(tensor.shape, generator=generator) if tensor.is_floating_point() else tensor
        for name, tensor in weights.items()
    }
    save_file(changed, directory / "model.safetensors", metadata={"format": "pt"})
    return directory


def with_configuration(directory: Path, **changes: object) -> Path:
    """The same weights beside another configuration."""
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps({**config, **changes}))
    return directory
