"""The sentences of a verdict."""

from __future__ import annotations

from collections.abc import Sequence

from fairtest.gates.result import Flips, GateResult, Verdict

_MOST_FLIPS = 3

# Gates whose change has a sign that a reader needs.
SIGNED = frozenset({"no_amplification", "mitigated", "no_regression"})
_CLAIMS = {
    "no_amplification": {
        Verdict.PASS: "{candidate} does not amplify {metric} against {reference} by more than is allowed",
        Verdict.FAIL: "{candidate} amplifies {metric} against {reference} by more than is allowed",
        Verdict.UNDECIDED: "it is not decided whether {candidate} amplifies {metric} against {reference}",
    },
    "bias_within": {
        Verdict.PASS: "{candidate} is as near to the target of {metric} as it has to be",
        Verdict.FAIL: "{candidate} is further from the target of {metric} than is allowed",
        Verdict.UNDECIDED: "it is not decided whether {candidate} is near enough to the target of {metric}",
    },
    "mitigated": {
        Verdict.PASS: "{candidate} is nearer to the target of {metric} than {reference}, by as much as it has to be",
        Verdict.FAIL: "{candidate} does not bring {metric} as much nearer to its target than {reference} as it has to",
        Verdict.UNDECIDED: "it is not decided whether {candidate} mitigates what {reference} raised in {metric}",
    },
    "no_regression": {
        Verdict.PASS: "{candidate} is no more biased on {metric} than its stored baseline, beyond what is allowed",
        Verdict.FAIL: "{candidate} is more biased on {metric} than its stored baseline, by more than is allowed",
        Verdict.UNDECIDED: "it is not decided whether {candidate} is more biased on {metric} than its stored baseline",
    },
    "utility": {
        Verdict.PASS: "{candidate} keeps the utility of {reference}",
        Verdict.FAIL: "{candidate} loses more utility against {reference} than is allowed",
        Verdict.UNDECIDED: "it is not decided whether {candidate} keeps the utility of {reference}",
    },
    "privacy": {
        Verdict.PASS: "{candidate} keeps its privacy budget",
        Verdict.FAIL: "{candidate} does not keep the privacy budget",
        Verdict.UNDECIDED: "it is not decided whether {candidate} keeps the privacy budget",
    },
}


def number(value: float) -> str:
    """A number for a person: three significant digits, no exponent in the usual range."""
    return f"{value:.1f}" if abs(value) >= 100 else f"{value:.3g}"


def signed_number(value: float) -> str:
    """The same with its sign."""
    value += 0.0  # there is no -0 for a reader
    return f"+{number(value)}" if value >= 0 else number(value)


def claim(result: GateResult) -> str:
    """One sentence: what the verdict says."""
    if result.recorded:
        return f"nothing was compared: the values of {result.candidate} on {result.metric} become its baseline"
    return _CLAIMS[result.gate][result.verdict].format(
        candidate=result.candidate, reference=result.reference, metric=result.metric
    )


def basis(result: GateResult) -> str:
    """On how much the interval rests."""
    if not result.items:
        return ""
    percent = f"{100 * result.confidence:g}%"
    paired = "paired seeds" if result.reference else "seeds"
    seeds = "one seed, this checkpoint only" if result.seeds == 1 else f"{result.seeds} {paired}"
    clusters = " x ".join(map(str, result.factors or (result.clusters,)))
    return f"{percent} interval over {seeds} x {result.items} items in {clusters} clusters"


def flips(rows: Sequence[Flips]) -> str:
    """The items whose preference differs, by seed."""
    if not rows:
        return ""
    counts = "; ".join(f"{row.up} up, {row.down} down (p {number(row.p)})" for row in rows[:_MOST_FLIPS])
    more = f"; and {len(rows) - _MOST_FLIPS} more seeds" if len(rows) > _MOST_FLIPS else ""
    return f"{counts}{more}: items by seed, exact McNemar, which takes items for independent"


def explain(result: GateResult) -> str:
    """Several lines, verdict first; every line has a label so that an eye finds it."""
    lines = [f"{result.verdict.value}: {claim(result)}"]

    def add(label: str, text: str) -> None:
        if text:
            lines.append(f"  {label:<9} {text}")

    signed = result.gate in SIGNED
    if result.change is not None:
        rests_on = basis(result)
        shown = result.change.text(sign=signed) if result.items else number(result.change.value)
        add("measured", f"{shown} {result.unit}" + (f" ({rests_on})" if rests_on else ""))
    add("allowed", f"at most {signed_number(result.allowed) if signed else number(result.allowed)} {result.unit}")
    add("look", result.look)
    if result.levels:
        target = "" if result.target is None else f"; target {result.target:g}"
        add("levels", ", ".join(f"{name} {value.text()}" for name, value in result.levels.items()) + target)
    add("flips", flips(result.flips))
    add("why", result.reason)
    add("meaning", result.finding)
    for guard in result.guards:
        add("guard" if guard.met else "GUARD", f"{guard.name}: {guard.detail}" + ("" if guard.met else " - NOT MET"))
    if result.worst:
        add("worst", ", ".join(f"{item.id} ({item.change:+.2f})" for item in result.worst))
    add("next", result.advice)
    return "\n".join(lines)
