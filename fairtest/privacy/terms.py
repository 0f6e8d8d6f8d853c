"""The words of a privacy statement that more than one place has to agree on."""

from __future__ import annotations

ADD_OR_REMOVE_ONE = "add or remove one unit"
CLIPPED_TOGETHER = "clipped together, once"
CLIPPED_SEPARATELY = "clipped one by one"
POISSON = "poisson"
SHUFFLE = "shuffle"
NOT_STATED = "not stated"
NOISE_SEEDED = "torch Mersenne twister, state derived from the run's seed"
NOISE_RELEASE = (
    "torch Mersenne twister, state drawn from the operating system's entropy (not a cryptographic generator)"
)
NOISE_SEEDED_GPU = (
    "torch Philox on a GPU, a 64-bit seed for each step and tensor derived from the run's seed (a GPU's noise is not"
    " that of a CPU)"
)
NOISE_RELEASE_GPU = (
    "torch Philox on a GPU, a 64-bit seed for each step and tensor drawn from the operating system's entropy (not a"
    " cryptographic generator)"
)
LAST_WEIGHTS = "the trained weights after the last step"

NOT_COVERED = (
    "the data the base model was pretrained on",
    "choices made by looking at earlier runs on the same units (tuning is not counted in epsilon)",
    "the held-out units and what is measured on them",
    "diagnostics that read unclipped or noiseless gradients, and the training losses",
)
