"""How many sentences each method turns into exactly what they are to become, and what fairtest gets wrong."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from _cda_methods import Answer, Method
from _cda_pairs import Pair, PairSet
from _cda_rows import Row


def exact_rows(sets: Sequence[PairSet], methods: Mapping[str, Method | str]) -> list[Row]:
    """A row for each method on each set."""
    rows = []
    for pairs in sets:
        for name, method in methods.items():
            row = Row(pairs.name, name)
            if pairs.missing or isinstance(method, str):
                row.note = pairs.missing or str(method)
            else:
                answers = answers_of(pairs.pairs, method)
                row.n = len(answers)
                row.exact = sum(_right(pair.text, pair.expected, answer) for pair, answer in answers)
                row.any_case = sum(
                    _right(pair.text.lower(), pair.expected.lower(), tuple(map(str.lower, answer)))
                    for pair, answer in answers
                )
            rows.append(row)
    return rows


def answers_of(pairs: Sequence[Pair], method: Method) -> list[tuple[Pair, Answer]]:
    """What a method makes of each sentence."""
    return [(pair, method([pair.text], pair.options)[0]) for pair in pairs]


def _right(text: str, expected: str, answer: Answer) -> bool:
    """Of two answers one is enough, but what is to be left alone is to be left alone in both."""
    return all(given == expected for given in answer) if text == expected else expected in answer


def print_misses(sets: Sequence[PairSet], name: str, method: Method) -> None:
    """Each sentence that did not become what it was to become, by what went wrong."""
    for pairs in sets:
        kinds: dict[str, list[tuple[Pair, str]]] = defaultdict(list)
        for pair, answer in answers_of(pairs.pairs, method):
            if not _right(pair.text, pair.expected, answer):
                kinds[_kind(pair.text, answer[0], pair.expected)].append((pair, answer[0]))
        counts = Counter({kind: len(missed) for kind, missed in kinds.items()})
        print(f"\n{pairs.name}: {name} misses {counts.total()} of {len(pairs.pairs)}")
        for kind, count in counts.most_common():
            print(f"  {kind}: {count}")
            for pair, got in kinds[kind]:
                print(f"    {pair.name}\n      given     {pair.text}\n      got       {got}")
                print(f"      expected  {pair.expected}")


def _kind(text: str, got: str, expected: str) -> str:
    if got == text:
        return "left alone"
    if text == expected:
        return "not left alone"
    given, made, wanted = (re.findall(r"\w+|\S", each.lower()) for each in (text, got, expected))
    if not len(given) == len(made) == len(wanted):
        return "another number of words"
    wrong = {f"{a} became {b}, not {c}" for a, b, c in zip(given, made, wanted, strict=True) if b != c}
    return "; ".join(sorted(wrong)) or "capitals or spaces"
