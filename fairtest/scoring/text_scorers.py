"""What is said of a completion: a number (toxicity, sentiment) or a probability for each class (regard).

A scorer is any callable from texts to numbers, a Hugging Face text classifier, or VADER's rules for sentiment. What it
returns is checked, and its name and revision are part of the protocol under which scores are kept.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import math
import numbers
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairtest.errors import MetricError
from fairtest.probes.probe import ProbeSet
from fairtest.probes.prompts import PROMPT
from fairtest.scoring.completions import COMPLETION, Generations
from fairtest.scoring.scores import ProbeScores

if TYPE_CHECKING:
    from fairtest.scoring.text_classifier import TextClassifier

VADER, HUGGING_FACE = "vader", "hf:"


@dataclass(frozen=True)
class TextScorer:
    """A named way to turn texts into one number each. `revision` changes whenever the numbers could."""

    name: str
    revision: str
    score: Callable[[Sequence[str]], Iterable[float]]


@dataclass(frozen=True)
class ClassScorer:
    """A named way to turn texts into a probability for each class."""

    name: str
    revision: str
    score: Callable[[Sequence[str]], Iterable[Mapping[str, float]]]


def resolve_scorer(scorer: str | TextScorer | Callable[[Sequence[str]], Iterable[float]]) -> TextScorer:
    """The scorer that a user names.

    "vader": sentiment in [-1, 1], the compound value of VADER (Hutto and Gilbert 2014), from the package
    vaderSentiment. "hf:MODEL:LABEL": the probability of a label (any case; "toxic" if left out) from a text classifier
    in a directory or on the hub; sigmoid where labels are not exclusive, else softmax, and the plain number of a
    regression. A callable gives one number per text.

    Raises:
        MetricError: an unknown name, a package that is not installed, or a label that the model does not have.
        ModelError: the model cannot be found or loaded, or lacks the weights of a classifier.
    """
    if isinstance(scorer, TextScorer):
        return scorer
    if callable(scorer):
        return TextScorer(_name(scorer), "unversioned", scorer)
    if scorer == VADER:
        return _vader()
    if isinstance(scorer, str) and scorer.startswith(HUGGING_FACE):
        model, label = _split(scorer.removeprefix(HUGGING_FACE))
        classifier = _classifier(model)
        place = classifier.place_of(label)
        name = f"{HUGGING_FACE}{model}:{classifier.labels[place]}"
        return TextScorer(name, classifier.revision, lambda texts: [row[place] for row in classifier(texts)])
    raise MetricError(
        f"unknown text scorer {scorer!r}",
        where="text scorer",
        fix=f"give {VADER!r}, 'hf:MODEL:LABEL' or a callable from a list of texts to a list of numbers",
    )


def resolve_class_scorer(
    scorer: str | ClassScorer | Callable[[Sequence[str]], Iterable[Mapping[str, float]]],
) -> ClassScorer:
    """The scorer of classes that a user names: "hf:MODEL" with all its labels, or a callable.

    Raises:
        MetricError: an unknown name.
        ModelError: as `resolve_scorer`.
    """
    if isinstance(scorer, ClassScorer):
        return scorer
    if callable(scorer):
        return ClassScorer(_name(scorer), "unversioned", scorer)
    if isinstance(scorer, str) and scorer.startswith(HUGGING_FACE):
        classifier = _classifier(scorer.removeprefix(HUGGING_FACE))
        return ClassScorer(
            scorer,
            classifier.revision,
            lambda texts: [dict(zip(classifier.labels, row, strict=True)) for row in classifier(texts)],
        )
    raise MetricError(
        f"unknown scorer of classes {scorer!r}",
        where="text scorer",
        fix="give 'hf:MODEL' or a callable from a list of texts to a list of {class: probability}",
    )


def score_generations(
    generations: Generations,
    probes: ProbeSet,
    scorer: str | TextScorer | Callable[[Sequence[str]], Iterable[float]],
    *,
    with_prompt: bool = False,
) -> ProbeScores:
    """One number for each completion, item by item, in the form that metrics read.

    Sample i of every prompt is the column `completion-i`: its number stands in `log_probs`, and its length, 0 for a
    completion without text, in `tokens`. Such a completion is not scored and counts nowhere. `with_prompt` scores
    prompt and completion as one text; by default the words that name the group are not seen by the scorer.

    Raises:
        MetricError: completions of other prompts, no completion with text, or a scorer that returns the wrong number of
            values or one that is no finite number (the message names the item).
    """
    chosen = resolve_scorer(scorer)
    texts = _texts(generations, probes, with_prompt=with_prompt)
    values = _checked(chosen, texts)
    return _scores(generations, probes, _protocol(generations, chosen, with_prompt=with_prompt), values)


def score_classes(
    generations: Generations,
    probes: ProbeSet,
    scorer: str | ClassScorer | Callable[[Sequence[str]], Iterable[Mapping[str, float]]],
    *,
    with_prompt: bool = False,
) -> dict[str, ProbeScores]:
    """For each class, sorted by name, what `score_generations` gives for its probability.

    Raises:
        MetricError: as `score_generations`, or no classes, or texts with different ones.
    """
    chosen = resolve_class_scorer(scorer)
    texts = _texts(generations, probes, with_prompt=with_prompt)
    rows = _as_many(chosen, texts)
    classes = sorted(rows[0]) if isinstance(rows[0], Mapping) else []
    for place, row in zip(texts, rows, strict=True):
        if not classes or not isinstance(row, Mapping) or sorted(row) != classes:
            raise MetricError(
                f"scorer {chosen.name!r} gives {_item(place)} {row!r:.60}, and should give probabilities by class"
                f"{f' of {classes}, as for the first text' if classes else ''}",
                where=_item(place),
                fix="return the same classes for every text",
            )
    protocol = _protocol(generations, chosen, with_prompt=with_prompt)
    found: dict[str, ProbeScores] = {}
    for name in classes:
        values = {place: _finite(chosen, place, row[name]) for place, row in zip(texts, rows, strict=True)}
        found[name] = _scores(generations, probes, f"{protocol}:{name}", values)
    return found


_Place = tuple[str, int]  # prompt id, number of the sample


def _texts(generations: Generations, probes: ProbeSet, *, with_prompt: bool) -> dict[_Place, str]:
    if generations.probe_digest != probes.digest:
        raise MetricError(
            f"the completions are of another set of prompts than {probes.name!r} as given",
            where=f"probe set {generations.probe_set!r}",
            fix="give the set that they were generated from",
        )
    before = {probe.id: probe.texts[PROMPT] if with_prompt else "" for probe in probes.probes}
    texts = {(g.prompt_id, g.sample): before[g.prompt_id] + g.text for g in generations if g.text.strip()}
    if not texts:
        raise MetricError(
            f"no completion of {len(generations)} has a text",
            where=f"probe set {generations.probe_set!r}, model {generations.model!r}",
            fix="check the model: it ends every text at once",
        )
    return texts


def _checked(scorer: TextScorer, texts: Mapping[_Place, str]) -> dict[_Place, float]:
    values = _as_many(scorer, texts)
    return {place: _finite(scorer, place, value) for place, value in zip(texts, values, strict=True)}


def _as_many(scorer: TextScorer | ClassScorer, texts: Mapping[_Place, str]) -> list[Any]:
    """What the scorer says of the texts, each distinct text once."""
    distinct = list(dict.fromkeys(texts.values()))
    returned: Any = scorer.score(distinct)
    if not isinstance(returned, Iterable) or isinstance(returned, (str, Mapping)):
        raise MetricError(
            f"scorer {scorer.name!r} returned a {type(returned).__name__} for {len(distinct)} texts",
            where=f"text scorer {scorer.name!r}",
            fix="return a list with one value for each text, in order",
        )
    found = list(returned)
    if len(found) != len(distinct):
        first = next(place for place, text in texts.items() if text == distinct[min(len(found), len(distinct) - 1)])
        raise MetricError(
            f"scorer {scorer.name!r} returned {len(found)} values for {len(distinct)} texts",
            where=f"from {_item(first)} on",
            fix="return one value for each text, in order",
        )
    of_text = dict(zip(distinct, found, strict=True))
    return [of_text[text] for text in texts.values()]


def _finite(scorer: TextScorer | ClassScorer, place: _Place, value: Any) -> float:
    value = value.item() if hasattr(value, "item") else value  # a number of numpy or torch
    if not isinstance(value, numbers.Real) or not math.isfinite(value):
        raise MetricError(
            f"scorer {scorer.name!r} gives {_item(place)} the value {value!r:.60}",
            where=_item(place),
            fix="return one finite number for each text",
        )
    return float(value)


def _item(place: _Place) -> str:
    return f"prompt {place[0]!r}, sample {place[1]}"


def _protocol(generations: Generations, scorer: TextScorer | ClassScorer, *, with_prompt: bool) -> str:
    what = "prompt+completion" if with_prompt else "completion"
    return f"generate({generations.decoding})/{what}/{scorer.name}@{scorer.revision}"


def _scores(generations: Generations, probes: ProbeSet, protocol: str, values: Mapping[_Place, float]) -> ProbeScores:
    length = {(g.prompt_id, g.sample): g.tokens for g in generations}
    samples = range(generations.decoding.samples)
    ids = [probe.id for probe in probes.probes]
    return ProbeScores(
        probe_set=probes.name,
        probe_digest=probes.digest,
        protocol=protocol,
        ids=tuple(ids),
        axes=tuple(probe.axis for probe in probes.probes),
        clusters=tuple(probe.cluster for probe in probes.probes),
        log_probs={f"{COMPLETION}{n}": tuple(values.get((one, n), 0.0) for one in ids) for n in samples},
        tokens={f"{COMPLETION}{n}": tuple(length[one, n] * ((one, n) in values) for one in ids) for n in samples},
        templates=probes.templates,
        fields=tuple(probe.fields for probe in probes.probes),
    )


def _name(scorer: Any) -> str:
    return str(getattr(scorer, "__qualname__", type(scorer).__qualname__))


def _classifier(name: str) -> TextClassifier:
    from fairtest.scoring.text_classifier import TextClassifier  # loads torch

    return TextClassifier(name)


def _vader() -> TextScorer:
    if importlib.util.find_spec("vaderSentiment") is None:
        raise MetricError(
            "text scorer 'vader' needs the package vaderSentiment, and it is not installed",
            where="text scorer",
            fix="pip install vaderSentiment",
        )
    analyser = importlib.import_module("vaderSentiment.vaderSentiment").SentimentIntensityAnalyzer()
    return TextScorer(
        VADER,
        importlib.metadata.version("vaderSentiment"),
        lambda texts: [float(analyser.polarity_scores(text)["compound"]) for text in texts],
    )


def _split(written: str) -> tuple[str, str]:
    """MODEL and LABEL; a directory may have a colon in its name."""
    model, colon, label = written.rpartition(":")
    if not colon or Path(written).expanduser().is_dir():
        return written, ""
    return model, label
