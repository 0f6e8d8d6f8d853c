"""The embedded model, its generator of records, and their known truth."""

from __future__ import annotations

from pathlib import Path

MODEL_NAME = "fairtest/tiny"


def model_directory() -> Path:
    """Where the embedded model lies: a directory in Hugging Face format, part of the installed package."""
    return Path(__file__).parent / "model"
