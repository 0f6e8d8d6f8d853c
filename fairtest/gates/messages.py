"""The sentences of a verdict."""

from __future__ import annotations

from fairtest.gates.result import GateResult, Verdict

_CLAIMS = {
    "no_amplification": {
        Verdict.PASS: "{candidate} does not amplify {metric} against {reference} by more than is allowed",
        Verdict.FAIL: "{candidate} amplifies {metric} against {reference} by more than is allowed",
        Verdict.UNDECIDED: "it is not decided whether {candidate} amplifies {metric} against {reference}",
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
    return f"+{number(value)}" if value >= 0 else number(value)


def claim(result: GateResult) -> str:
    """One sentence: what the verdict says."""
    return _CLAIMS[result.gate][result.verdict].format(
        candidate=result.candidate, reference=result.reference, metric=result.metric
    )


def basis(result: GateResult) -> str:
    """On how much the interval rests."""
    if not result.items:
        return ""
    percent = f"{100 * result.confidence:g}%"
    seeds = "one seed, this checkpoint only" if result.seeds == 1 else f"{result.seeds} paired seeds"
    clusters = " x ".join(map(str, result.factors or (result.clusters,)))
    return f"{percent} interval over {seeds} x {result.items} items in {clusters} clusters"


def explain(result: GateResult) -> str:
    """Several lines, verdict first; every line has a label so that an eye finds it."""
    lines = [f"{result.verdict.value}: {claim(result)}"]

    def add(label: str, text: str) -> None:
        if text:
            lines.append(f"  {label:<9} {text}")

    signed = result.gate == "no_amplification"
    if result.change is not None:
        rests_on = basis(result)
        shown = result.change.text(sign=signed) if result.items else number(result.change.value)
        add("measured", f"{shown} {result.unit}" + (f" ({rests_on})" if rests_on else ""))
    add("allowed", f"at most {signed_number(result.allowed) if signed else number(result.allowed)} {result.unit}")
    if result.levels:
        target = "" if result.target is None else f"; target {result.target:g}"
        add("levels", ", ".join(f"{name} {value.text()}" for name, value in result.levels.items()) + target)
    add("why", result.reason)
    add("meaning", result.finding)
    for guard in result.guards:
        add("guard" if guard.met else "GUARD", f"{guard.name}: {guard.detail}" + ("" if guard.met else " - NOT MET"))
    if result.worst:
        add("worst", ", ".join(f"{item.id} ({item.change:+.2f})" for item in result.worst))
    add("next", result.advice)
    return "\n".join(lines)
