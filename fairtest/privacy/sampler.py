"""How a loop of one's own draws its batches, in the words of a privacy statement."""

from __future__ import annotations

from typing import Any

from fairtest.errors import PrivacyError
from fairtest.privacy.terms import POISSON, SHUFFLE

SEQUENTIAL = "sequential"
WITH_REPLACEMENT = "shuffle with replacement"
_FULL_NAMES = {
    "opacus.utils.uniform_sampler.UniformWithReplacementSampler": POISSON,
    "opacus.utils.uniform_sampler.DistributedUniformWithReplacementSampler": POISSON,
    "torch.utils.data.sampler.SubsetRandomSampler": SHUFFLE,
    "torch.utils.data.sampler.SequentialSampler": SEQUENTIAL,
}
_RANDOM = "torch.utils.data.sampler.RandomSampler"
_DISTRIBUTED = "torch.utils.data.distributed.DistributedSampler"
_BATCHES_OF = "torch.utils.data.sampler.BatchSampler"
# By their own name, wherever they are defined: copies of them and classes made from them are as wrong.
_REFUSED = {
    "WeightedRandomSampler": "draws a unit the more often the larger its weight is",
    "LengthGroupedSampler": "puts units of like length into one batch",
    "DistributedLengthGroupedSampler": "puts units of like length into one batch",
}


def sampler_actual_of(sampler_or_loader: Any) -> str:
    """How a DataLoader or a sampler of torch, opacus or transformers draws: "poisson", "shuffle", "sequential", ...

    A sampler that nobody here knows is called by its class, so that a statement with it equals no declared sampling.
    What it returns belongs into `PrivacyStatement.sampler_actual`.

    Raises:
        PrivacyError: a sampler that gives units chances of their own (weights, lengths), so that no single q describes
            a batch, or something that draws nothing.
    """
    drawn = sampler_or_loader
    for name in ("batch_sampler", "sampler"):  # a loader, then a sampler of batches that asks another one for units
        inner = getattr(drawn, name, None)
        if inner is not None and (name == "batch_sampler" or _full_name(drawn) == _BATCHES_OF or _is_loader(drawn)):
            drawn = inner
    for kind in type(drawn).__mro__:
        if kind.__name__ in _REFUSED:
            raise PrivacyError(
                f"{type(drawn).__name__} {_REFUSED[kind.__name__]}, so a unit's chance to be in a batch is not one q"
                " and epsilon cannot be accounted for",
                where="the sampler of training",
                fix="draw by Poisson sampling (opacus' UniformWithReplacementSampler, or let fairtest train); sorting"
                " by length inside a batch that was drawn so is free",
            )
    if isinstance(drawn, (str, bytes)) or not hasattr(drawn, "__iter__"):
        raise PrivacyError(
            f"{type(drawn).__name__} is neither a DataLoader nor a sampler",
            where="sampler_actual_of",
            fix="give the loader that training iterates over",
        )
    name = _full_name(drawn)
    if name == _RANDOM:
        return WITH_REPLACEMENT if drawn.replacement else SHUFFLE
    if name == _DISTRIBUTED:
        return SHUFFLE if drawn.shuffle else SEQUENTIAL
    return _FULL_NAMES.get(name, name)


def _full_name(value: object) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"


def _is_loader(value: object) -> bool:
    return hasattr(value, "dataset") and hasattr(value, "batch_size") and hasattr(value, "sampler")
