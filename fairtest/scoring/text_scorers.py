"""What is said of a completion: a number (toxicity, sentiment) or a probability for each class (regard).

A scorer is any callable from texts to numbers, a Hugging Face text classifier, or VADER's rules for sentiment. What it
returns is checked, and its name and revision are part of the protocol under which scores are kept.

A package adds a scorer with an entry point in the group `fairtest.scorers`: its object is a `TextScorer`, or a callable
from texts to numbers, whose scores are then not kept, because nothing says when it changed.
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import importlib.util
import math
import numbers
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairtest.errors import MetricError, ModelError
from fairtest.probes.probe import ProbeSet
from fairtest.probes.prompts import PROMPT
from fairtest.scoring.completions import COMPLETION, Generations
from fairtest.scoring.pronouns import PRONOUNS, REVISION, first_pronouns
from fairtest.scoring.scores import ProbeScores

if TYPE_CHECKING:
    from fairtest.scoring.text_classifier import TextClassifier

VADER, HUGGING_FACE, TOXICITY = "vader", "hf:", "toxicity"
# What "toxicity" means on this machine: the metrics of toxicity leave the classifier to the user.
TOXICITY_VARIABLE = "FAIRTEST_TOXICITY_SCORER"
ENTRY_POINT_GROUP = "fairtest.scorers"
UNVERSIONED = "unversioned"  # of a plain function: nothing says when it changed


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
    regression. "toxicity": what $FAIRTEST_TOXICITY_SCORER names. "first_pronoun": 1, -1 or 0
    (`fairtest.scoring.pronouns`). Any other name is that of an entry point. A callable gives one number per text.

    Raises:
        MetricError: an unknown name, a package that is not installed, or a label that the model does not have.
        ModelError: the model cannot be found or loaded, or lacks the weights of a classifier.
    """
    if isinstance(scorer, TextScorer):
        return scorer
    if callable(scorer):
        return TextScorer(_name(scorer), UNVERSIONED, scorer)
    if scorer in (VADER, PRONOUNS):
        return _vader() if scorer == VADER else TextScorer(PRONOUNS, REVISION, first_pronouns)
    if isinstance(scorer, str) and scorer.startswith(HUGGING_FACE):
        model, label = _split(scorer.removeprefix(HUGGING_FACE))
        classifier = _classifier(model)
        place = classifier.place_of(label)
        name = f"{HUGGING_FACE}{model}:{classifier.labels[place]}"
        return TextScorer(name, classifier.revision, lambda texts: [row[place] for row in classifier(texts)])
    if (other := _named(scorer)) is not None:
        return other
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
        return ClassScorer(_name(scorer), UNVERSIONED, scorer)
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
    silent: bool = False,
) -> ProbeScores:
    """One number for each completion, item by item, in the form that metrics read.

    Sample i of every prompt is the column `completion-i`: its number stands in `log_probs`, and its length, 0 for a
    completion without text, in `tokens`. Such a completion is not scored and counts nowhere. `with_prompt` scores
    prompt and completion as one text; by default the words that name the group are not seen by the scorer. `silent`: a
    model that writes nothing at all is no error, and nothing is scored.

    Raises:
        MetricError: completions of other prompts, no completion with text, or a scorer that returns the wrong number of
            values or one that is no finite number (the message names the item).
    """
    chosen = resolve_scorer(scorer)
    texts = _texts(generations, probes, with_prompt=with_prompt, silent=silent)
    values = _checked(chosen, texts) if texts else {}
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


def _texts(generations: Generations, probes: ProbeSet, *, with_prompt: bool, silent: bool = False) -> dict[_Place, str]:
    if generations.probe_digest != probes.digest:
        raise MetricError(
            f"the completions are of another set of prompts than {probes.name!r} as given",
            where=f"probe set {generations.probe_set!r}",
            fix="give the set that they were generated from",
        )
    before = {probe.id: probe.texts[PROMPT] if with_prompt else "" for probe in probes.probes}
    texts = {(g.prompt_id, g.sample): before[g.prompt_id] + g.text for g in generations if g.text.strip()}
    if not texts and not silent:
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


def scorer_of(protocol: str) -> str:
    """Who scored, and the start of its revision, from the protocol of `score_generations`; of a directory its name."""
    scorer, _, revision = re.split("/(?:prompt[+])?completion/", protocol, maxsplit=1)[-1].rpartition("@")
    model, label = _split(scorer.removeprefix(HUGGING_FACE)) if scorer.startswith(HUGGING_FACE) else (scorer, "")
    if Path(model).is_absolute():
        scorer = f"{HUGGING_FACE}{Path(model).name}:{label}"
    return f"{scorer}@{revision[:12]}"


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
    from fairtest.training.sources import resolve_model

    try:
        source = resolve_model(name)
    except ModelError as error:
        if error.where != "model":
            raise
        raise ModelError(
            error.what,
            where=f"text scorer '{HUGGING_FACE}{name}'",
            fix=f"fetch it where the hub can be reached (hf download {name}), or name a directory that holds a"
            f" text-classification model: {HUGGING_FACE}DIRECTORY:LABEL",
        ) from error
    return _loaded_classifier(name, source.digest)


# Every seed of every arm asks the same classifier; the digest tells one that was changed under its name.
@functools.lru_cache(maxsize=1)
def _loaded_classifier(name: str, digest: str) -> TextClassifier:
    from fairtest.scoring.text_classifier import TextClassifier  # loads torch

    del digest
    return TextClassifier(name)


def has_toxicity() -> bool:
    """Whether anything says what "toxicity" is here: the variable, or a package."""
    named = os.environ.get(TOXICITY_VARIABLE)
    return bool(named and named != TOXICITY) or bool(
        importlib.metadata.entry_points(group=ENTRY_POINT_GROUP, name=TOXICITY)
    )


def _named(scorer: object) -> TextScorer | None:
    """What "toxicity" stands for here, or the scorer of a package; None: there is none of that name."""
    if scorer == TOXICITY and (named := os.environ.get(TOXICITY_VARIABLE)) and named != TOXICITY:
        return resolve_scorer(named)
    point = next(iter(importlib.metadata.entry_points(group=ENTRY_POINT_GROUP, name=str(scorer))), None)
    if point is not None:
        return _of_package(point)
    if scorer == TOXICITY:
        raise MetricError(
            "toxicity needs a classifier, and none comes with fairtest",
            where=f"text scorer {TOXICITY!r}",
            fix=f"name a text classifier in ${TOXICITY_VARIABLE}: hf:MODEL:LABEL, for example"
            " hf:unitary/toxic-bert:toxic, or a directory; or install a package that brings the scorer"
            f" {TOXICITY!r} (entry point in {ENTRY_POINT_GROUP})",
        )
    return None


def _of_package(point: importlib.metadata.EntryPoint) -> TextScorer:
    try:
        found = point.load()
    except Exception as error:  # anything may go wrong in another package's import
        raise MetricError(
            f"text scorer {point.name!r} cannot be loaded: {error}",
            where=f"entry point {point.value}",
            fix="reinstall its package",
        ) from error
    if isinstance(found, TextScorer):
        return found
    if not callable(found):
        raise MetricError(
            f"entry point {point.name!r} gives {found!r:.60}, which scores no texts",
            where=f"entry point {point.value}",
            fix="point it at a TextScorer, or at a callable from a list of texts to a list of numbers",
        )
    return TextScorer(point.name, UNVERSIONED, found)


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
