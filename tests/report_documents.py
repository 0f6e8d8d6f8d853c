"""Result documents to render: a usual one with every section, and one whose names are all hostile."""

from __future__ import annotations

import copy
import functools

from fairtest.gates.family import with_family
from fairtest.gates.result import Estimate, Flips, GateResult, Guard, Verdict, WorstItem
from fairtest.privacy.statement import PrivacyStatement
from fairtest.reports import build_document, finite
from fairtest.settings import Settings

METRICS = ("stereoset.ss[gender]", "stereoset.ss[race]")
ARMS = ("pretrained", "baseline", "dp", "dp_cda")
SPITEFUL = (
    "<script>alert(1)</script>",
    "'\"><img src=x onerror=alert(1)>",
    "</style></svg><svg onload=alert(1)>",
    "$\\frac{1}{0}$ {{ 7 * 7 }} {% raw %}",
    "-- ]]> <!-- &amp; %0A::error::x",
    "日本語の腕 \U0001f600 \u202edesrever\u202c \x00\x1b[31m \ud800",
    "long " * 60 + "x" * 300,
)


def statement(epsilon):
    return PrivacyStatement(
        unit="record", epsilon=epsilon, delta=5.5e-05, units=1800, batch_size=64, sample_rate=0.0356, steps=40,
        noise_multiplier=0.76, max_grad_norm=1.0, accountant="PLD, dp-accounting 0.6.0",
    )  # fmt: skip


def arm(name, *, epsilon=None, curve=True):
    stated = None if epsilon is None else statement(epsilon)
    row = {
        "steps": 40, "units": 1800, "cut_texts": 0, "seconds": 4.8, "views_per_unit": 1, "trained_parameters": 124224,
        "coverage": {"changed": 0, "records": 1800, "unchanged_by_reason": {"no augmentation asked for": 1800}},
        "mean_clipped_share": None if epsilon is None else 0.93,
        "curve": [[step, 2.0 - 0.02 * step] for step in range(1, 41)] if curve and epsilon is None else [],
    }  # fmt: skip
    data = {
        "model": "fairtest/tiny", "model_digest": "ab" * 32, "corpus": f"{name}.jsonl", "corpus_digest": "cd" * 32,
        "training_units": 1800, "held_out_units": 200, "unit": "record",
    }  # fmt: skip
    return {
        "data": data,
        "training": [row, row],
        "statement": None if stated is None else stated.as_dict(),
        "privacy": "" if stated is None else stated.prose(),
    }


def gate(**changes):
    fields = {
        "gate": "no_amplification",
        "metric": METRICS[0],
        "unit": "points",
        "protocol": "fairtest v1",
        "candidate": "dp_cda",
        "reference": "baseline",
        "verdict": Verdict.PASS,
        "reason": "the whole interval is within what is allowed",
        "allowed": 2.0,
        "confidence": 0.95,
        "change": Estimate(-0.1, -1.2, 1.0),
        "target": 50.0,
        "seeds": 5,
        "items": 640,
        "clusters": 40,
        "factors": (40,),
        "levels": {
            "dp_cda": Estimate(56.0, 54.0, 58.0),
            "baseline": Estimate(56.1, 54.2, 58.0),
            "pretrained": Estimate(60.0, 58.0, 62.0),
        },
        "guards": (Guard("dp_cda was trained", True, "held-out loss fell by 0.5"),),
        "worst": (WorstItem("template-12", "nurse", 3.25),),
        "p_pass": 0.001,
        "p_fail": 0.999,
        "test": "test_release.py::test_privacy_with_cda",
    }
    return GateResult(**{**fields, **changes}).as_dict()


def gates():
    return [
        gate(),
        gate(verdict=Verdict.FAIL, candidate="dp", reason="the whole interval is beyond what is allowed",
             change=Estimate(5.0, 3.5, 6.5), p_pass=0.999, p_fail=0.0001, finding="dp keeps bias",
             advice="compare dp with the same arm and CDA", levels={"dp": Estimate(61.0, 59.0, 63.0)},
             flips=(Flips(30, 4, 0.0001),), test="tests/test_release.py::test_privacy_alone[a,b]"),
        gate(verdict=Verdict.UNDECIDED, metric=METRICS[1], change=Estimate(1.0, float("-inf"), 30.0), p_pass=0.4,
             p_fail=0.6, reason="3 clusters are too few (at least 5)", seeds=1, clusters=3,
             guards=(Guard("dp_cda was trained", False, "held-out loss rose", "train longer"),)),
        gate(gate="privacy", metric="epsilon", unit="delta 5.5e-05, per record", reference="", allowed=3.0, items=0,
             seeds=0, change=Estimate(2.99, 2.99, 2.99), levels={}, target=None, p_pass=None, p_fail=None, worst=(),
             finding="the noise can be drawn again"),
        gate(gate="utility", metric="perplexity", unit="times the reference's", change=Estimate(1.056, 1.044, 1.068),
             allowed=1.25, target=None, levels={"dp_cda": Estimate(3.1, 3.0, 3.2)}, worst=()),
        gate(gate="bias_within", reference="", allowed=8.0, change=Estimate(6.0, 4.0, 7.9), candidate="dp_cda"),
    ]  # fmt: skip


def part(name, kind, between, estimate, says, **more):
    (of, against), (value, low, high) = between, estimate
    return {"name": name, "kind": kind, "of": of, "against": against, "value": value, "low": low, "high": high,
            "share": None, "says": says, "reason": "", "advice": "", **more}  # fmt: skip


def explanation(**changes):
    """An amplification that is mostly training less, of which no clipping is shown."""
    fields = {
        "metric": METRICS[0],
        "unit": "points",
        "target": 50.0,
        "candidate": "dp",
        "reference": "baseline",
        "total": part("total", "total", ("dp", "baseline"), (3.5, 1.5, 5.5), "above zero"),
        "whole": part("total with sampling", "total", ("dp", "shuffled"), (3.7, 1.4, 6.0), "above zero"),
        "parts": [
            part("sampling", "cause", ("baseline", "shuffled"), (0.2, -0.9, 1.3), "open"),
            part("clipping", "cause", ("clip_only", "baseline"), (-0.3, -1.2, 0.6), "open", share=-0.09),
            part("noise", "cause", ("dp", "clip_only"), (3.8, 1.7, 5.9), "above zero", share=1.09),
            part("noise alone", "beside", ("noise_only", "baseline"), (-2.1, -3.9, -0.3), "below zero"),
            part("clipping with noise", "beside", ("dp - clip_only", "noise_only - baseline"),
                 (5.9, float("-inf"), float("inf")), "means nothing", reason="noise_only was trained: loss rose"),
            part("under-training", "training", ("baseline_matched", "baseline"), (3.1, 1.3, 4.9), "above zero",
                 share=0.89),
            part("DP's own", "training", ("dp", "baseline_matched"), (0.4, -0.75, 1.5), "open", share=0.11),
        ],
        "levels": {"pretrained": {"value": 60.7, "low": 58.0, "high": 63.0}},
        "sentences": ["Noise (dp against clip_only) adds +3.8 [+1.7, +5.9] points.",
                      "The amplification is what training less does; a residual up to +1.5 points is not excluded."],
        "confidence": 0.95,
        "seeds": 3,
        "items": 1296,
        "factors": [60],
        "test": "test_study.py::test_why",
    }  # fmt: skip
    return {**fields, **changes}


def diagnosis(**changes):
    """Of two groups: a quantity that an epsilon covers, and one that it does not."""
    steps = (0, 10, 20, 30, 39)
    curves = {
        "held-out loss": ("nats a token", True, ((3.17, 2.6), (2.78, 1.9))),
        "cosine with the batch's clipped mean": ("", False, ((0.12, 0.31), (0.24, 0.44))),
    }
    return {
        "diagnostics": [
            {
                "name": name,
                "unit": unit,
                "groups": {
                    group: [[step, round(first + (last - first) * (step / 39) ** 0.5, 3)] for step in steps]
                    for group, (first, last) in zip(("stereotypical", "other"), ends, strict=True)
                },
                "covered_by_epsilon": covered,
            }
            for name, (unit, covered, ends) in curves.items()
        ],
        "diagnostics_note": "Groups by group, units looked at: stereotypical 24 of 80, other 24 of 120. Held-out units,"
        " without dropout. Read private batches before noise, and are not for release: cosine with the batch's clipped"
        " mean.",
        **changes,
    }


def document(**changes):
    """Two arms with a statement, curves of those without, and one of everything else."""
    rows = [
        {"arm": name, "metric": metric, "value": 55.0 + place, "low": 53.0, "high": 58.0 + place, "seeds": 5,
         "items": 640, "clusters": 40}
        for place, name in enumerate(ARMS) for metric in METRICS
    ]  # fmt: skip
    arms = {
        "pretrained": {},
        "baseline": arm("baseline"),
        "dp": arm("dp", epsilon=8.0),
        "dp_cda": arm("dp_cda", epsilon=2.99),
    }
    arms["dp"] |= diagnosis()
    fields = {
        "gates": with_family(gates()),
        "measurements": rows,
        "explanations": [explanation()],
        "arms": arms,
        "ledger": {"a": {"arm": "dp", "seed": 0, "seconds": 1.5}, "b": {"arm": "dp", "seed": 1, "seconds": None}},
        "settings": Settings(corpus="/somewhere/else/records.jsonl", epsilon=8.0, origin={"epsilon": "command line"}),
        "seconds": 2.0,
        "failed_otherwise": ["test_release.py::test_broken"],
    }
    made = finite(build_document(**{**fields, **changes}))
    made["made_at"] = "2026-01-02T03:04:05Z"
    return made


@functools.cache
def _usual():
    return document(measurements=[], explanations=[], arms={}, failed_otherwise=[])


def of_gates(*chosen, **changes):
    """The usual document with other gates and neither measurements nor arms, made quickly: for many examples."""
    return {**_usual(), "gates": finite(with_family(chosen)), **changes}


def _spiteful_explanation(one, text):
    def told(row):
        return {**row, **{key: text for key, value in row.items() if isinstance(value, str) and key != "kind"}}

    parts = [{**told(row), "low": -1.0, "high": 9.0} for row in one["parts"]]
    whole = {"total": told(one["total"]), "whole": told(one["whole"])}
    return {**told(one), **whole, "parts": parts, "sentences": [text]}


def _make_spiteful(one, text):
    for key in ("model", "corpus", "unit", "model_digest"):
        if one:
            one["data"][key] = text
    if one.get("privacy"):
        one["privacy"] = text
        one["statement"]["accountant"] = one["statement"]["unit"] = text
    for row in one.get("diagnostics", ()):
        row.update(name=text, unit=text, groups={text: [[1, 1.0], [2, 2.0]]})
    if one.get("diagnostics"):
        one["diagnostics_note"] = text


def spiteful(text):
    """The usual document with `text` wherever a user, a corpus, a model or a library may put one."""
    made = copy.deepcopy(document())
    for one in made["gates"]:
        for name in (
            "metric",
            "unit",
            "protocol",
            "candidate",
            "reference",
            "reason",
            "finding",
            "advice",
            "look",
            "test",
        ):
            one[name] = text
        one["levels"] = {text: {"value": 1.0, "low": 0.5, "high": 2.0}} if one["levels"] else {}
        for row in (*one["guards"], *one["worst"]):
            row.update({key: text for key, value in row.items() if isinstance(value, str)})
    for row in made["measurements"]:
        row["arm"] = row["metric"] = text
    for one in made["arms"].values():
        _make_spiteful(one, text)
    made["explanations"] = [_spiteful_explanation(one, text) for one in made["explanations"]]
    made["arms"] = {f"{text}{place}": one for place, one in enumerate(made["arms"].values())}
    made["settings"]["corpus"] = {"value": text, "origin": text}
    made["failed_otherwise"] = [text]
    made["environment"]["packages"] = {text: text}
    made["made_at"] = text
    return made
