"""Writes a study's results from its report: `python examples/paper/render.py tiny --out docs/results/paper-tiny.md`.

The three questions are answered first, each from gates and intervals alone; then the table as in the paper, what the
amplification is made of, and the whole report. With --against FILE.json the numbers are compared with those of an
earlier run, and the exit status is 1 where a verdict or a number differs by more than rounding.
"""

import argparse
import json
import math
import sys
from pathlib import Path

from study import lengths_of, rows, study_of

from fairtest.gates.explain import would_show
from fairtest.gates.result import Estimate
from fairtest.reports.document import write_text
from fairtest.reports.markdown import escape, render, table
from fairtest.reports.reading import read_document
from fairtest.reports.study import study_table

HERE = Path(__file__).parent
ROUNDING = 1e-3
SAME = 1e-9


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("size", help="a directory beside this file: tiny, smollm2, full")
    parser.add_argument("--out", type=Path, required=True, help="the Markdown file; the report is copied beside it")
    parser.add_argument("--against", type=Path, help="an earlier report.json whose numbers should come out again")
    options = parser.parse_args(arguments)
    directory = HERE / options.size
    document = read_document(directory / ".fairtest" / "report" / "report.json")
    before = None if options.against is None else read_document(options.against)
    write_text(options.out, page(document, study_of(directory)))
    write_text(options.out.with_suffix(".json"), json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    return 0 if before is None else compare(document, before)


def page(document, study):
    """The whole page."""
    metrics, written = study["metrics"], study.get("written", {})
    whole = render(document, title="The whole report", command=study["command"]).replace("\n## ", "\n### ")
    model = document["settings"]["model"]["value"]
    lines = [f"# {study['title']}", "", f"Model: {escape(model)}. Made by:", "", f"    {study['command']}", ""]
    lines += ["## The three questions", ""]
    for claim, answers in (
        ("Does privacy amplify bias here?", amplified(document, study)),
        ("Why?", causes(document, study)),
        ("Is it so when one trains less, or longer?", lengths(document, study)),
        ("Does CDA undo it?", cured(document, study)),
        ("What do naive copies cost?", copies(document, study)),
    ):
        lines += [f"### {claim}", "", *answers, ""]
    names = rows(study)
    lines += [study_table(document, metrics=list(metrics), rows=names, reference=study["reference"],
                          title="Sentence scoring"), ""]  # fmt: skip
    if written:
        shown = {name: names[name] for name in study.get("written_arms", names)}
        lines += [study_table(document, metrics=list(written), rows=shown, reference=study["reference"],
                              title="What the model writes"), ""]  # fmt: skip
    if language := study.get("language"):
        lines += [study_table(document, metrics=language, rows=names, reference=study["reference"],
                              title="Language"), ""]  # fmt: skip
    lines += ["#" + whole]
    return "\n".join(lines)


def gates_of(document, kind, candidate, reference):
    return [
        gate
        for gate in document["gates"]
        if (gate["gate"], gate["candidate"], gate["reference"]) == (kind, candidate, reference) and gate["change"]
    ]


def told(change, confidence):
    """What an interval says of zero, and what would have been seen where it says nothing."""
    if change["high"] - change["low"] <= SAME:
        return "the same in every seed and cluster"
    if change["low"] > 0:
        return "further from the target"
    if change["high"] < 0:
        return "nearer to the target"
    seen = would_show(Estimate(change["value"], change["low"], change["high"]), confidence)
    return f"not told from none (a change of {seen:.2g} would have been)" if math.isfinite(seen) else "not told"


def numbers(change, *, sign=True):
    return Estimate(change["value"], change["low"], change["high"]).text(sign=sign)


def compared(document, study, kind, against, header):
    """A row a metric and budget: against the baseline, the matched baseline, the pretrained model."""
    found = []
    for metric in (*study["metrics"], *study.get("written", {})):
        for epsilon in study["epsilons"]:
            candidate = f"{kind}_eps{epsilon:g}"
            cells = []
            for reference in against:
                name = reference.format(epsilon=f"{epsilon:g}")
                gates = [g for g in gates_of(document, "no_amplification", candidate, name) if g["metric"] == metric]
                cells.append(
                    f"{numbers(gates[0]['change'])}: {told(gates[0]['change'], gates[0]['confidence'])};"
                    f" {gates[0]['verdict']}"
                    if gates
                    else "-"
                )
            if set(cells) != {"-"}:
                found.append([metric, f"{epsilon:g}", *cells])
    return table(("metric", "epsilon", *header), found)


def amplified(document, study):
    against = ("baseline", "baseline_matched_dp_eps{epsilon}", "pretrained")
    header = ("against no DP", "against no DP with the same loss", "against the pretrained model")
    about = "Change of the distance from the target under DP without CDA, its 95% interval, what that says of zero, and"
    lines = [
        f"{about} the verdict on the increase that the study allows.",
        "",
        *compared(document, study, "dp", against, header),
        "",
    ]
    lines += [
        f"- {escape(gate['metric'])}: {escape(gate['finding'])}."
        for gate in document["gates"]
        if gate["gate"] == "no_amplification" and gate.get("finding") and gate["reference"] == study["reference"]
    ]
    return lines


def causes(document, study):
    lines = []
    elsewhere = {dp for _, _, _, dp, _ in lengths_of(study)}
    for one in document.get("explanations", ()):
        if one["candidate"] in elsewhere:
            continue
        lines.append(f"**{escape(one['metric'])}**, {escape(one['candidate'])} against {escape(one['reference'])}:")
        lines += ["", *(f"- {escape(sentence)}" for sentence in one["sentences"]), ""]
    gaps = []
    for name, arm in document["arms"].items():
        if findings := arm.get("diagnostics_findings"):
            lines += [f"**Groups while {escape(name)} is trained**, the loss at the end and the rest over the run:", ""]
            lines += [*(f"- {escape(finding)}" for finding in findings), ""]
        for series in arm.get("diagnostics") or ():
            points = [(group, values) for group, values in series["groups"].items() if values]
            if points:
                ends = "; ".join(f"{g}: {v[0][1]:.3g} to {v[-1][1]:.3g}" for g, v in points)
                gaps.append((name, series["name"] + f" ({series['unit']})" * bool(series["unit"]), ends))
    if gaps:
        lines += ["Sub-groups while they are trained, first look to last look (before the update of a step):", ""]
        lines += table(("arm", "quantity", "groups"), gaps)
        notes = [(name, arm["diagnostics_note"]) for name, arm in document["arms"].items() if arm.get("diagnostics")]
        lines += ["", *(f"- {escape(name)}: {escape(note)}" for name, note in notes)]
    return lines or ["Nothing was taken apart."]


def lengths(document, study):
    """A row a metric and number of steps: how far DP is from no DP, and what of it is training less."""
    others = lengths_of(study)
    if not others:
        return ["Not part of this size of the study."]
    usual = [("baseline", f"dp_eps{e:g}", f"baseline_matched_dp_eps{e:g}") for e in study["explained"]]
    perplexity = {row["arm"]: row for row in document["measurements"] if row["metric"] == "perplexity"}
    names = [*usual, *(one[2:] for one in others)]
    steps = {dp: max(int(run["steps"]) for run in document["arms"][dp]["training"]) for _, dp, _ in names}
    found, stopped = [], []
    for metric in study["metrics"]:
        for baseline, dp, matched in sorted(names, key=lambda one: (one[1].split("_steps")[0], steps[one[1]])):
            for one in document["explanations"]:
                if (one["metric"], one["candidate"], one["reference"]) != (metric, dp, baseline):
                    continue
                parts = {part["name"]: part for part in (one["total"], *one["parts"])}
                shown = [
                    f"{numbers(parts[name])}: {parts[name]['says']}" for name in ("total", "under-training", "DP's own")
                ]
                epsilon = document["arms"][dp]["statement"]["epsilon"]
                found.append([metric, f"{epsilon:.2f}", str(steps[dp]), *shown])
                stopped += [one for one in one["sentences"] if one.startswith(f"{matched} stopped")]
    about = "How much further from the target DP is than no DP, each trained for so many steps, with noise for the same"
    header = ("metric", "epsilon", "steps", "DP against no DP", "what of it is under-training", "what is DP's own")
    lines = [f"{about} epsilon; each interval has 95% on its own.", "", *table(header, found), ""]
    lines += [f"- {escape(sentence)}" for sentence in dict.fromkeys(stopped)]
    levels = [
        [str(steps[dp]), *(numbers(perplexity[name], sign=False) for name in (baseline, dp, matched))]
        for baseline, dp, matched in sorted(names, key=lambda one: (one[1].split("_steps")[0], steps[one[1]]))
    ]
    return [*lines, "", "Perplexity:", "", *table(("steps", "no DP", "DP", "no DP, stopped at DP's loss"), levels)]


def cured(document, study):
    lines = ["DP with CDA, against the same budget without it and against no DP:", ""]
    found = []
    for metric in (*study["metrics"], *study.get("written", {})):
        for epsilon in study["epsilons"]:
            cured, plain = f"dp_cda_eps{epsilon:g}", f"dp_eps{epsilon:g}"
            gates = [g for g in gates_of(document, "mitigated", cured, plain) if g["metric"] == metric]
            others = [g for g in gates_of(document, "no_amplification", cured, "baseline") if g["metric"] == metric]
            utility = gates_of(document, "utility", cured, "baseline")
            if gates:
                found.append(
                    [
                        metric,
                        f"{epsilon:g}",
                        f"{numbers(gates[0]['change'])}: {told(gates[0]['change'], gates[0]['confidence'])}",
                        f"{gates[0]['verdict']}"
                        + (f" ({gates[0]['reason']})" if gates[0]["verdict"] != "PASS" else ""),
                        f"{numbers(others[0]['change'])}: {others[0]['verdict']}" if others else "-",
                        f"{utility[0]['change']['value']:.3g}: {utility[0]['verdict']}" if utility else "-",
                    ]
                )
    alone = [
        f"- {escape(gate['metric'])}: {escape(numbers(gate['change']))}, {told(gate['change'], gate['confidence'])};"
        f" {gate['verdict']}"
        for gate in gates_of(document, "no_amplification", "cda", "baseline")
    ]
    after = ["", "CDA without DP, against no DP:", "", *alone] if alone else []
    header = ("metric", "epsilon", "change by CDA", "mitigated", "against no DP", "perplexity ratio to no DP")
    return [*lines, *table(header, found), *after]


def copies(document, study):
    lines = []
    for epsilon in study["copies"]:
        statement = (document["arms"].get(f"copies_eps{epsilon:g}") or {}).get("statement")
        if statement:
            records = statement["units"] - statement["copies"]
            lines.append(
                "Counterfactuals as records of their own, with noise for a claimed epsilon of"
                f" {statement['epsilon_claimed']:.3g}: {statement['copies']} copies beside {records} records. For the"
                f" person behind a record and its copy epsilon is **{statement['epsilon']:.3g}**, at delta"
                f" {statement['delta']:.2g}. As a second view of its unit, a counterfactual costs no epsilon."
            )
    return lines or ["Not part of this size of the study."]


def compare(document, before):
    """Says how far the numbers are from an earlier run's."""

    def values(one):
        found = {}
        for row in one["measurements"]:
            found["level", row["arm"], row["metric"]] = row["value"]
        for gate in one["gates"]:
            key = (gate["gate"], gate["candidate"], gate["reference"], gate["metric"])
            found[key] = (gate["change"] or {}).get("value")
            found[("verdict", *key)] = gate["verdict"]
        return found

    ours, theirs = values(document), values(before)
    other = sorted(map(str, ours.keys() ^ theirs.keys()))
    largest, verdicts = 0.0, []
    for key in ours.keys() & theirs.keys():
        if isinstance(ours[key], float) and isinstance(theirs[key], float):
            largest = max(largest, abs(ours[key] - theirs[key]))
        elif ours[key] != theirs[key]:
            verdicts.append(str(key))
    print(f"{len(ours)} numbers and verdicts; largest difference {largest:.2g}; other verdicts: {len(verdicts)};"
          f" in one run only: {len(other)}")  # fmt: skip
    return 1 if verdicts or other or largest > ROUNDING else 0


if __name__ == "__main__":
    sys.exit(main())
