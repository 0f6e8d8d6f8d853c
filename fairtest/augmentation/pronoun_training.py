"""Writes data/gender_pronouns.tsv: `python -m fairtest.augmentation.pronoun_training --data DIR --out FILE`.

Text labels itself: where it says him or his, me or my, them or their, it says whether "her" would be the object or the
possessive there; ours and theirs say the same of "hers". DIR holds the published texts named in `pronoun_corpus`.
The figures in the file come from models that did not see what they are measured on; the weights in it are trained on
everything. Every choice is seeded or sorted: the same texts give the same file.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, sparse

from fairtest.augmentation import pronoun_corpus, pronouns
from fairtest.augmentation.disambiguation import her, her_by_rule, his, his_by_rule
from fairtest.augmentation.pronoun_corpus import HELD_OUT_FROM, Example, Paragraph
from fairtest.augmentation.pronouns import Model, Pronouns

CLASSES, DIMENSIONS, NEIGHBOURS = 100, 60, 200
LEAST_WORD, LEAST_FEATURE = 6, 3
KEPT = {"her": 9000, "his": 600}
PENALTY = 0.5
# What other pronouns weigh in the place of "her": they stand in other phrases than him and his do.
WEIGHT_OF_OTHERS = 0.5
_DECIDE = {"her": her, "his": his}
_RULES = {"her": her_by_rule, "his": his_by_rule}
_YES = {"her": "his", "his": "hers"}


def word_classes(paragraphs: Iterable[Paragraph]) -> dict[str, str]:
    """Frequent words in classes by the common words that stand on either side of them (k-means of their profiles)."""
    tokens, names = pronoun_corpus.tokens(paragraphs)
    counts = Counter(tokens)
    common = {word: column for column, (word, _) in enumerate(_ranked(counts)[:NEIGHBOURS])}
    rows = sorted(word for word, n in counts.items() if n >= LEAST_WORD and word != "." and word not in names)
    row_of = {word: row for row, word in enumerate(rows)}
    profile = np.zeros((len(rows), 2 * len(common)))
    for left, right in itertools.pairwise(tokens):
        if left in common and right in row_of:
            profile[row_of[right], common[left]] += 1
        if right in common and left in row_of:
            profile[row_of[left], len(common) + common[right]] += 1
    total = np.array([counts[word] for word in rows], dtype=float)[:, None]
    usual = profile.sum(axis=0, keepdims=True) / total.sum()
    points = np.sqrt((profile + 3 * usual) / (total + 3)) - np.sqrt(usual)
    axes = np.linalg.svd(points.T @ points)[0][:, :DIMENSIONS]
    points = points @ axes
    points /= np.linalg.norm(points, axis=1, keepdims=True) + 1e-9
    found = _k_means(points, np.sqrt(total), np.argsort(-total[:, 0], kind="stable")[:CLASSES])
    return {word: str(found[row]) for word, row in row_of.items()}


def fit(examples: Sequence[Example], classes: dict[str, str], word: str) -> Model:
    """Logistic regression with a square penalty; the features that weigh most are kept and fitted again."""
    active = [_features(example, classes) for example in examples]
    target = np.array([1.0 if example.label == _YES[word] else -1.0 for example in examples])
    own = np.array([e.word == "his" or e.written in ("him", "his") for e in examples])
    shares = np.where(own, 1.0, WEIGHT_OF_OTHERS)
    counts = Counter(feature for row in active for feature in row)
    names = sorted(feature for feature, n in counts.items() if n >= LEAST_FEATURE)
    weights, _ = _regress(active, target, shares, names)
    weight = np.abs(weights) * np.sqrt([counts[name] for name in names])
    kept = sorted(names[column] for column in np.argsort(-weight, kind="stable")[: KEPT[word]])
    weights, bias = _regress(active, target, shares, kept)
    rounded = {name: round(100 * float(value)) for name, value in zip(kept, weights, strict=True)}
    return Model(round(100 * bias), {name: value for name, value in rounded.items() if value})


def train(paragraphs: Sequence[Paragraph], examples: Sequence[Example]) -> Pronouns:
    """Classes and both models from these texts."""
    classes = word_classes(paragraphs)
    models = {word: fit([e for e in examples if e.word == word], classes, word) for word in _RULES}
    return Pronouns({}, classes, models["her"], models["his"])


def right(model: Pronouns | None, examples: Sequence[Example]) -> float:
    """The share of examples the model has right, or with None the rules alone."""
    return sum(_answer(model, example) == example.label for example in examples) / len(examples)


def measure(paragraphs: Sequence[Paragraph], examples: Sequence[Example], data: Path) -> dict[str, str]:
    """Figures on text that was not trained on: a fifth of the blocks, each novel, WinoBias and Winogender."""
    facts: dict[str, str] = {}
    held = [example for example in examples if example.held_out]
    model = train(
        [p for p in paragraphs if not p.held_out],
        [e for e in examples if not e.held_out],
    )
    for name, pairs in {
        "him/his": ("him", "his"),
        "me/my, us/our, them/their": ("me", "my", "us", "our", "them", "their"),
        "ours, theirs, yours, mine, hers/our, their, your, my": None,
    }.items():
        chosen = [e for e in held if (e.word == "his" if pairs is None else e.word == "her" and e.written in pairs)]
        facts[f"held-out {name}"] = _figures(model, chosen)
    for name, rows in pronoun_corpus.test_sets(data).items():
        facts[f"{name}, him/his"] = _figures(model, rows)
    for source in HELD_OUT_FROM:
        rest = [example for example in examples if example.source != source]
        left_out = train([p for p in paragraphs if p.source != source], rest)
        facts[f"left out {source}, him/his"] = _figures(left_out, _masculine(examples, source))
    return facts


def write(model: Pronouns) -> str:
    """The file, as `pronouns.parse` reads it."""
    lines = [f"# {name}\t{value}" for name, value in model.facts.items()]
    words: dict[str, list[str]] = {}
    for word, name in sorted(model.classes.items()):
        words.setdefault(name, []).append(word)
    lines += [f"class\t{name}\t{' '.join(words[name])}" for name in sorted(words, key=int)]
    for word, found in (("her", model.her), ("his", model.his)):
        lines.append(f"{word}\tbias\t{found.bias}")
        lines += [f"{word}\t{feature}\t{weight}" for feature, weight in sorted(found.weights.items())]
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Trains, measures and writes the file."""
    parser = argparse.ArgumentParser(prog="python -m fairtest.augmentation.pronoun_training", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the folder of published texts")
    parser.add_argument("--out", type=Path, required=True, help="the weights' file to write")
    options = parser.parse_args(arguments)
    paragraphs = pronoun_corpus.paragraphs(options.data)
    examples = pronoun_corpus.examples(paragraphs)
    trained = train(paragraphs, examples)
    facts = {
        "trained on": f"{len(examples)} words of {len(paragraphs)} paragraphs",
        "digest of the texts": pronoun_corpus.digest(paragraphs),
        **measure(paragraphs, examples, options.data),
        "seen in training, him/his of novels and WikiText-2": _figures(trained, _masculine(examples, *HELD_OUT_FROM)),
    }
    finished = Pronouns(facts, trained.classes, trained.her, trained.his)
    options.out.write_text(write(finished), encoding="utf-8", newline="\n")
    for name, value in facts.items():
        sys.stdout.write(f"{name}: {value}\n")
    return 0


def _masculine(examples: Sequence[Example], *sources: str) -> list[Example]:
    return [e for e in examples if e.source in sources and e.word == "her" and e.written in ("him", "his")]


def _figures(model: Pronouns, examples: Sequence[Example]) -> str:
    commoner = Counter(example.label for example in examples).most_common(1)[0]
    return (
        f"n {len(examples)}, model {right(model, examples):.4f}, rules alone {right(None, examples):.4f}, "
        f"always {commoner[0]!r} {commoner[1] / len(examples):.4f}"
    )


def _answer(model: Pronouns | None, example: Example) -> str:
    if model is None:
        return _RULES[example.word](example.context)[1]
    return _DECIDE[example.word](example.context, model)


def _features(example: Example, classes: dict[str, str]) -> list[str]:
    return pronouns.features(example.context, " ".join(_RULES[example.word](example.context)), classes)


def _regress(
    active: Sequence[Sequence[str]],
    target: NDArray[np.float64],
    shares: NDArray[np.float64],
    names: Sequence[str],
) -> tuple[NDArray[np.float64], float]:
    columns = {name: column for column, name in enumerate(names)}
    found = [[columns[feature] for feature in row if feature in columns] for row in active]
    ends = np.cumsum([0, *map(len, found)])
    indices = np.array([column for row in found for column in row], dtype=np.int64)
    matrix = sparse.csr_matrix((np.ones(len(indices)), indices, ends), shape=(len(found), len(names)))
    transposed = matrix.T.tocsr()

    def loss(values: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        weights, bias = values[:-1], values[-1]
        margin = target * (matrix @ weights + bias)
        slope = -shares * target / (1 + np.exp(np.minimum(margin, 500)))
        gradient = np.append(transposed @ slope + PENALTY * weights, slope.sum())
        return float(shares @ np.logaddexp(0, -margin) + PENALTY / 2 * (weights @ weights)), gradient

    result = optimize.minimize(
        loss,
        np.zeros(len(names) + 1),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": 150},
    )
    return result.x[:-1], float(result.x[-1])


def _k_means(points: NDArray[np.float64], weights: NDArray[np.float64], start: NDArray[np.int64]) -> NDArray[np.int64]:
    centres = points[start].copy()
    nearest: NDArray[np.int64] = np.empty(0, dtype=np.int64)
    for _ in range(25):
        nearest = (points @ centres.T).argmax(axis=1)
        for number in range(len(centres)):
            members = nearest == number
            if members.any():
                centre = (points[members] * weights[members]).sum(axis=0)
                centres[number] = centre / (np.linalg.norm(centre) + 1e-9)
    return nearest


def _ranked(counts: Counter[str]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


if __name__ == "__main__":
    sys.exit(main())
