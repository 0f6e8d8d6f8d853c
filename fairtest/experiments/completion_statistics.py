"""Regard and HONEST of what a model writes about two groups, with completions that are kept by content.

Both are gaps between two groups as in `fairtest.experiments.generation_scores`, whose completions they share: asking
for another statistic of the same prompts and decoding generates nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fairtest.digests import digest_of
from fairtest.errors import MetricError
from fairtest.experiments.generation_scores import (
    AxisGaps,
    CompletionWriter,
    GenerationScores,
    axis_gaps,
    compared_groups,
    on_axis_and_groups,
    score_generations_of_model,
    writer_of,
)
from fairtest.experiments.model_scorer import MASKED, model_kind
from fairtest.experiments.progress import SILENT, Progress
from fairtest.metrics.generation import THRESHOLD, honest
from fairtest.probes.probe import ProbeSet
from fairtest.probes.prompts import require_prompts
from fairtest.scoring.completions import COMPLETION, Decoding
from fairtest.scoring.scores import ProbeScores, join_scores
from fairtest.scoring.text_scorers import ClassScorer, TextScorer, resolve_class_scorer
from fairtest.store import Store
from fairtest.training.sources import resolve_model

HONEST = "honest"


def regard_of_model(
    model: str,
    prompts: ProbeSet,
    scorer: str | ClassScorer | Callable[[Sequence[str]], Iterable[Mapping[str, float]]],
    **options: Any,
) -> GenerationScores:
    """For each class of the scorer the gap in its mean probability; options as of `score_generations_of_model`.

    The statistics are named "regard[CLASS]". Source: Sheng et al. 2019, as `fairtest.metrics.generation.regard_gap`.

    Raises:
        MetricError: as `score_generations_of_model`, or a scorer without classes.
    """
    chosen = resolve_class_scorer(scorer)
    classes = _Classes(chosen, {})
    found = {
        name: score_generations_of_model(
            model, prompts, TextScorer(f"{chosen.name}:{name}", chosen.revision, classes.scores_of(name)), **options
        )
        for name in classes.names()
    }
    first = next(iter(found.values()))
    axes = tuple(
        replace(
            axis,
            gaps=tuple(
                replace(one.axes[place].gaps[0], statistic=f"regard[{name}]")  # the mean is the first statistic
                for name, one in found.items()
            ),
        )
        for place, axis in enumerate(first.axes)
    )
    return replace(first, scorer=chosen.name, axes=axes)


@dataclass(frozen=True)
class _Classes:
    """A scorer of classes asked once for the same texts, and then class by class."""

    scorer: ClassScorer
    known: dict[tuple[str, ...], list[Mapping[str, float]]]

    def names(self) -> list[str]:
        rows = list(self.scorer.score(["."]))
        if len(rows) != 1 or not isinstance(rows[0], Mapping) or not rows[0]:
            raise MetricError(
                f"scorer {self.scorer.name!r} gives {rows!r:.60} for one text, and should give probabilities by class",
                where=f"text scorer {self.scorer.name!r}",
                fix="return one mapping from class to probability for each text",
            )
        return sorted(rows[0])

    def scores_of(self, name: str) -> Callable[[Sequence[str]], list[float]]:
        def score(texts: Sequence[str]) -> list[float]:
            key = tuple(texts)
            if key not in self.known:
                self.known[key] = list(self.scorer.score(texts))
            # A class that is missing becomes an error that names the item.
            return [float(row.get(name, "nan")) for row in self.known[key]]

        return score


def honest_of_model(
    model: str,
    prompts: ProbeSet,
    words: Sequence[str],
    *,
    decoding: Decoding,
    first: str | None = None,
    second: str | None = None,
    store: Store,
    axis: str | None = None,
    progress: Progress = SILENT,
    confidence: float = 0.95,
    threads: int = 0,
    device: str = "cpu",
) -> GenerationScores:
    """The gap in HONEST, the share of completions with one of the words; completions without text count as harmless.

    Source: Nozza, Bianchi, Hovy 2021, as `fairtest.metrics.generation.honest`.

    Raises:
        MetricError: no words, groups that no axis has, or a masked model.
        ModelError, ProbeError: as `score_generations_of_model`.
    """
    require_prompts(prompts)
    two, axes = compared_groups(prompts, first, second, axis)
    source = resolve_model(model)
    if model_kind(source) == MASKED:
        raise MetricError(
            f"{model!r} is a masked language model, which continues no prompt",
            where=f"probe set {prompts.name!r}",
            fix="give a causal language model",
        )
    listed = TextScorer(HONEST, digest_of(sorted(words)), lambda texts: [0.0] * len(texts))
    writer = CompletionWriter(writer_of(source, threads, device), decoding, listed, store=store, progress=progress)
    found: list[AxisGaps] = []
    for name in axes:
        of_axis = on_axis_and_groups(prompts, name, two)
        parts = [_shares(writer, on_axis_and_groups(prompts, name, (group,)), words) for group in two]
        gaps = axis_gaps(join_scores(of_axis, parts), two, THRESHOLD, confidence, 0)
        mean = replace(gaps.gaps[0], statistic=HONEST)
        found.append(replace(gaps, completions=gaps.prompts * decoding.samples, gaps=(mean,)))
    return GenerationScores(
        model=source.name,
        model_digest=source.digest,
        probe_set=prompts.name,
        probe_digest=prompts.digest,
        scorer=f"{len(words)} words",
        revision=listed.revision,
        decoding=decoding,
        first=two[0],
        second=two[1],
        threshold=THRESHOLD,
        confidence=confidence,
        axes=tuple(found),
    )


def _shares(writer: CompletionWriter, prompts: ProbeSet, words: Sequence[str]) -> ProbeScores:
    """The share of each prompt's completions with one of the words, in the form that gaps are made of."""
    written = writer.completions(prompts)
    shares = honest(written, prompts, words).items
    return ProbeScores(
        probe_set=prompts.name,
        probe_digest=prompts.digest,
        protocol=f"generate({written.decoding})/{HONEST}",
        ids=shares.ids,
        axes=tuple(probe.axis for probe in prompts.probes),
        clusters=shares.clusters,
        log_probs={f"{COMPLETION}0": shares.values},
        tokens={f"{COMPLETION}0": (1,) * len(shares.ids)},
        fields=tuple(probe.fields for probe in prompts.probes),
    )
