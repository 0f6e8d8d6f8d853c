"""What generation hands on, as plain data: how texts were decoded, and the texts. Nothing here needs torch."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fairtest.errors import MetricError, SettingsError

COMPLETION = "completion-"


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """How a model continues a prompt.

    Args:
        samples: completions of each prompt, k.
        max_new_tokens: at most so many tokens each; fewer where the model ends the text.
        min_new_tokens: the model cannot end the text before; 1 so that there is something to score.
        temperature: what logits are divided by; 0: always the most likely token.
        top_p: draws from the fewest tokens whose probabilities sum to at least this (Holtzman et al. 2020).
        seed: of the draws. Draws depend on the seed, the prompt's id and the number of the sample alone.

    Raises:
        SettingsError: a value that cannot be.
    """

    samples: int = 5
    max_new_tokens: int = 20
    min_new_tokens: int = 1
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("samples", 1), ("max_new_tokens", 1), ("min_new_tokens", 0), ("seed", 0)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise _wrong(name, value, f"a whole number of at least {least}")
        if self.min_new_tokens > self.max_new_tokens:
            raise _wrong("min_new_tokens", self.min_new_tokens, f"at most max_new_tokens ({self.max_new_tokens})")
        if not _number(self.temperature) or self.temperature < 0:
            raise _wrong("temperature", self.temperature, "a number of at least 0")
        if not _number(self.top_p) or not 0 < self.top_p <= 1:
            raise _wrong("top_p", self.top_p, "a number above 0 and at most 1")
        if self.temperature == 0 and self.samples > 1:
            raise _wrong("samples", self.samples, "1 where temperature is 0: all samples would be the same text")

    def __str__(self) -> str:
        return (
            f"k={self.samples},new={self.min_new_tokens}..{self.max_new_tokens},temperature={self.temperature:g},"
            f"top_p={self.top_p:g},seed={self.seed}"
        )


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _wrong(name: str, value: object, expected: str) -> SettingsError:
    return SettingsError(f"{name} is {value!r}, and should be {expected}", where=f"Decoding({name}=)", fix="change it")


@dataclass(frozen=True, slots=True)
class Generation:
    """One completion: `text` follows the prompt; `tokens` were generated; `ended`: by the model, not by the limit."""

    prompt_id: str
    sample: int
    text: str
    tokens: int
    ended: bool


@dataclass(frozen=True)
class Generations:
    """All completions of a set of prompts: prompts in the set's order, and `decoding.samples` of each in theirs.

    `model_digest` is that of the files the model was loaded from; training afterwards does not change it.
    """

    probe_set: str
    probe_digest: str
    model: str
    model_digest: str
    decoding: Decoding
    items: tuple[Generation, ...]

    def __post_init__(self) -> None:
        samples = [item.sample for item in self.items]
        if not samples or samples != list(range(self.decoding.samples)) * (len(samples) // self.decoding.samples):
            raise MetricError(
                f"completions of {self.probe_set!r} are none, or not {self.decoding.samples} of each prompt",
                where=self.probe_set,
                fix="generate them again",
            )

    def __iter__(self) -> Iterator[Generation]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)

    def to_json(self) -> dict[str, Any]:
        """Plain data; `from_json` gives an equal object back."""
        return {
            "probe_set": self.probe_set,
            "probe_digest": self.probe_digest,
            "model": self.model,
            "model_digest": self.model_digest,
            "decoding": dataclasses.asdict(self.decoding),
            "items": [[item.prompt_id, item.sample, item.text, item.tokens, item.ended] for item in self.items],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Generations:
        """The inverse of `to_json`."""
        return cls(
            probe_set=data["probe_set"],
            probe_digest=data["probe_digest"],
            model=data["model"],
            model_digest=data["model_digest"],
            decoding=Decoding(**data["decoding"]),
            items=tuple(Generation(*item) for item in data["items"]),
        )
