"""How a metric of what a model writes is scored, as one line of text: the scorer and the decoding, both fixed.

    generate:vader:samples=5,length=1-20,temperature=1,top_p=1,seed=0

The seed is that of the draws, not of the training. It is the same for all arms and all their seeds, so that two models
are asked with common random numbers, and what differs between them is what they make of these.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from fairtest.errors import MetricError
from fairtest.scoring.completions import Decoding

GENERATION = "generation"  # what a metric's `scoring` says
_START = "generate:"
_DECODING = re.compile(
    r"samples=(?P<samples>\d+),length=(?P<least>\d+)-(?P<most>\d+),temperature=(?P<temperature>[\d.]+),"
    r"top_p=(?P<top_p>[\d.]+),seed=(?P<seed>\d+)"
)


@dataclass(frozen=True)
class GenerationProtocol:
    """A scorer by name, as `fairtest.scoring.text_scorers.resolve_scorer` knows it, and a decoding."""

    scorer: str
    decoding: Decoding

    def __str__(self) -> str:
        how = self.decoding
        return (
            f"{_START}{self.scorer}:samples={how.samples},length={how.min_new_tokens}-{how.max_new_tokens},"
            f"temperature={how.temperature:g},top_p={how.top_p:g},seed={how.seed}"
        )


def is_generation(protocol: str | None) -> bool:
    """Whether texts have to be written for it."""
    return protocol is not None and protocol.startswith(_START)


def parse_generation(protocol: str) -> GenerationProtocol:
    """The inverse of `str`.

    Raises:
        MetricError: it is not written like that.
        SettingsError: a decoding that cannot be.
    """
    scorer, _, how = protocol.removeprefix(_START).rpartition(":")
    found = _DECODING.fullmatch(how)
    if not is_generation(protocol) or not scorer or found is None:
        raise MetricError(
            f"{protocol!r} does not say how completions are made and scored",
            where="protocol",
            fix=f"write it as {GenerationProtocol('vader', Decoding())}",
        )
    return GenerationProtocol(
        scorer,
        Decoding(
            samples=int(found["samples"]),
            min_new_tokens=int(found["least"]),
            max_new_tokens=int(found["most"]),
            temperature=float(found["temperature"]),
            top_p=float(found["top_p"]),
            seed=int(found["seed"]),
        ),
    )
