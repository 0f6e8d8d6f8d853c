"""The sentences of an explanation."""

from __future__ import annotations

import math
from collections.abc import Iterator

from fairtest.gates.explain import (
    ABOVE,
    BELOW,
    LESS_TRAINING,
    MEANS_NOTHING,
    OWN,
    Explanation,
    Part,
    would_show,
)
from fairtest.gates.matching import COARSE, Matching
from fairtest.gates.messages import number
from fairtest.gates.result import Estimate

_NAMES = {
    "sampling": "Sampling",
    "clipping": "Clipping",
    "noise": "Noise",
    "noise alone": "Noise without clipping",
    "clipping with noise": "What clipping and noise do together beyond their sum",
    "under-training": "Training less",
    "DP's own": "DP's own part, at equal held-out loss",
}


def sentences(found: Explanation) -> Iterator[str]:
    """The total, each part, what of it is training less, and what the intervals are worth."""
    yield _of_total(found)
    if found.whole is not None:
        yield (
            f"From shuffled batches on it is {_sized(found.whole, found.unit)}; sampling is no part of "
            f"{found.candidate} against {found.reference}, which sample alike."
        )
    yield from (_of_part(part, found.unit) for part in found.parts)
    if found.part(OWN) is not None:
        yield _of_training(found)
    if found.matching is not None:
        yield from _of_matching(found.matching, found)
    yield _of_intervals(found)


def ends(estimate: Estimate) -> tuple[str, str]:
    """Both bounds as a person reads them, with the decimals of the estimate."""
    low, _, high = estimate.text(sign=True).partition("[")[2].rstrip("]").partition(", ")
    return low, high


def _of_total(found: Explanation) -> str:
    total, unit = found.total, found.unit
    sides = f"{found.candidate} against {found.reference}"
    amount = f"{total.estimate.text(sign=True)} {unit}"
    if total.says == ABOVE:
        return f"{found.candidate} is further from the target of {found.metric} than {found.reference}, by {amount}."
    if total.says == BELOW:
        return (
            f"{found.candidate} is nearer to the target of {found.metric} than {found.reference} ({amount}): there is "
            "no amplification, and the parts are those of a reduction."
        )
    if total.says == MEANS_NOTHING:
        return f"{found.metric}, {sides}, means nothing: {total.reason}. So its parts add up to nothing either."
    seen = would_show(total.estimate, found.confidence)
    size = f"; this data would have shown one of {number(seen)} {unit}" if math.isfinite(seen) else ""
    told = "; ".join(filter(None, (total.reason, _not_excluded(total.estimate, unit), total.advice)))
    return (
        f"No amplification of {found.metric} is shown, {sides}: {amount}; {told}{size}. "
        "A total that may be zero has no shares."
    )


def _of_part(part: Part, unit: str) -> str:
    name = f"{_NAMES.get(part.name, part.name)} ({part.of} against {part.against})"
    amount = _sized(part, unit)
    if part.says == ABOVE:
        return f"{name} adds {amount}{_share(part)}."
    if part.says == BELOW:
        return f"{name} brings it nearer to the target: {amount}{_share(part)}."
    if part.says == MEANS_NOTHING:
        return f"{name} means nothing: {part.reason}."
    told = "; ".join(filter(None, (part.reason, _not_excluded(part.estimate, unit), part.advice)))
    return f"{name} is open: {amount}; {told}."


def _sized(part: Part, unit: str) -> str:
    return f"{part.estimate.text(sign=True)} {unit}"


def _share(part: Part) -> str:
    return "" if part.share_of_total is None else f", {100 * part.share_of_total:.0f}% of the total"


def _not_excluded(estimate: Estimate, unit: str) -> str:
    """How large it may be."""
    if not math.isfinite(estimate.low) or not math.isfinite(estimate.high):
        return "no size of it is excluded"
    return f"up to {ends(estimate)[1]} {unit} is not excluded"


def _of_training(found: Explanation) -> str:
    """Whether the amplification is what training less keeps, or DP's own."""
    less, own = found.part(LESS_TRAINING), found.part(OWN)
    if less is None or own is None:
        return ""
    if MEANS_NOTHING in {found.total.says, less.says, own.says}:
        return "Whether it is training less or DP's own cannot be said: a comparison that it rests on means nothing."
    residual = f"{own.estimate.text(sign=True)} {found.unit}"
    if found.total.says == ABOVE:
        told = _divided(found, less, own)
        coarse = found.matching is not None and found.matching.coarse > COARSE
        return f"As far as so coarse a match tells, {told[0].lower()}{told[1:]}" if coarse else told
    if own.says == ABOVE:
        return f"At equal held-out loss {found.candidate} is further from the target all the same: {residual}."
    if found.total.says == BELOW:
        return f"There is no amplification that training less or DP could be the cause of; DP's own part is {residual}."
    return "There is no shown amplification to divide into training less and DP's own: the null result stands."


def _divided(found: Explanation, less: Part, own: Part) -> str:
    """The same where there is an amplification."""
    if own.says == ABOVE:
        also = {
            ABOVE: f"both: what training less does{_kept(found)}, and DP's own on top of it.",
            BELOW: "DP's own: training less alone brings the model nearer to the target.",
        }
        return "The amplification is " + also.get(
            less.says, "DP's own: at equal held-out loss it is there as well; whether training less adds to it is open."
        )
    if less.says != ABOVE:
        return "What of the amplification is training less and what is DP's own cannot be decided by this data."
    if own.says == BELOW:
        return (
            f"The amplification is all training less{_kept(found)}: at equal held-out loss {found.candidate} is nearer "
            "to the target."
        )
    return (
        f"The amplification is what training less does{_kept(found)}; DP's own part is not told from zero, but a "
        f"residual up to {ends(own.estimate)[1]} {found.unit} is not excluded."
    )


def _kept(found: Explanation) -> str:
    """Where training takes bias away, training less keeps it; said only where the start shows it."""
    start = found.from_start
    if start is None or start.says != ABOVE:
        return ""
    return (
        f" (it keeps bias: {start.of} is further from the target than {found.reference} by "
        f"{start.estimate.text(sign=True)}, which full training takes away)"
    )


def _of_matching(matching: Matching, found: Explanation) -> Iterator[str]:
    less = found.part(LESS_TRAINING)
    name = "the matched arm" if less is None else less.of
    apart = "" if matching.apart is None else f"at most {number(max(round(matching.apart, 4), 1e-4))} nats a token"
    if matching.steps:
        first, last = min(matching.steps), max(matching.steps)
        at = f"step {first}" if first == last else f"steps {first} to {last}"
        at += f" of {matching.of_steps}" if matching.of_steps else ""
        near = f"; its held-out loss there and {found.candidate}'s are {apart} apart" if apart else ""
        yield f"{name} stopped at {at}{near}."
    elif apart:
        yield f"The held-out losses of {name} and {found.candidate} are {apart} apart in any seed."
    if matching.coarse > COARSE:
        yield (
            f"That is {100 * matching.coarse:.0f}% of what {found.candidate} gained: so coarse a match may move about "
            "as large a part of the change between training less and DP's own."
        )
    if matching.missed:
        yield (
            f"In {matching.missed} of {matching.runs} seeds the run without DP never got to {found.candidate}'s "
            "held-out loss, so that it is not matched there."
        )


def _of_intervals(found: Explanation) -> str:
    clusters = " x ".join(map(str, found.factors))
    percent = f"{100 * found.confidence:g}%"
    seeds = "one seed" if found.seeds == 1 else f"{found.seeds} paired seeds"
    scope = "; with one seed they are about these checkpoints and not about training" if found.seeds == 1 else ""
    return (
        f"Each interval is a {percent} interval on its own, over {seeds} x {found.items} items in {clusters} "
        f"clusters{scope}. Parts explain and are no gates: of several, one errs by chance more often than one does."
    )
