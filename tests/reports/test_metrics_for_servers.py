"""OpenMetrics and JUnit: what comes out is read back by a reader of that format."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_documents import SPITEFUL, document, gate, of_gates, spiteful

from fairtest.gates.result import Estimate, Verdict
from fairtest.reports.openmetrics import render
from fairtest.reports.properties import properties

LINE = re.compile(
    r'(?P<name>[a-zA-Z_:][\w:]*)\{(?P<labels>(?:\w+="(?:[^"\\\n]|\\[\\"n])*"(?:,(?=\w))?)*)\} (?P<value>\S+)'
)
LABEL = re.compile(r'(\w+)="((?:[^"\\\n]|\\[\\"n])*)"')


def parsed(text):
    """{family: {labels: value}}, by the grammar of OpenMetrics 1.0 as far as gauges need it."""
    assert text.endswith("# EOF\n")
    lines = text.split("\n")[:-2]
    families, current = {}, None
    for line in lines:
        if line.startswith("# TYPE "):
            _, _, current, kind = line.split(" ")
            assert kind == "gauge"
            assert current not in families
            families[current] = {}
        elif line.startswith("# HELP "):
            assert line.split(" ")[2] == current
        else:
            found = LINE.fullmatch(line)
            assert found, line
            assert found["name"] == current
            labels = {
                name: re.sub(r"\\(.)", lambda one: {"n": "\n"}.get(one[1], one[1]), value)
                for name, value in LABEL.findall(found["labels"])
            }
            key = tuple(sorted(labels.items()))
            assert key not in families[current], line
            families[current][key] = float(found["value"])
    return families


def sample(families, family, **labels):
    found = [value for key, value in families[family].items() if labels.items() <= dict(key).items()]
    assert len(found) == 1, found
    return found[0]


def test_every_number_is_there():
    made = document()
    families = parsed(render(made))
    assert sample(families, "fairtest_gates", verdict="PASS") == 4
    amplified = {
        "gate": "no_amplification",
        "candidate": "dp",
        "reference": "baseline",
        "metric": "stereoset.ss[gender]",
    }
    assert sample(families, "fairtest_gate_change", **amplified) == 5.0
    assert sample(families, "fairtest_gate_change_low", **amplified) == 3.5
    assert sample(families, "fairtest_gate_change_high", **amplified) == 6.5
    assert sample(families, "fairtest_gate_allowed", **amplified) == 2.0
    assert sample(families, "fairtest_gate_verdict", **amplified) == -1
    assert sample(families, "fairtest_gate_verdict", metric="stereoset.ss[race]") == 0
    assert sample(families, "fairtest_gate_change_low", metric="stereoset.ss[race]") == -math.inf
    assert sample(families, "fairtest_epsilon", arm="dp_cda", unit="record", delta="5.5e-05") == 2.99
    assert sample(families, "fairtest_level", arm="dp", metric="stereoset.ss[race]") == 57.0
    assert len(families["fairtest_level"]) == 8


def test_a_library_reads_it_too():
    parser = pytest.importorskip("prometheus_client.openmetrics.parser")
    for text in ("plain", *SPITEFUL):
        made = spiteful(text)
        read = {family.name: family for family in parser.text_string_to_metric_families(render(made))}
        assert read["fairtest_gates"].type == "gauge"
        assert sum(one.value for one in read["fairtest_gates"].samples) == 6


@given(st.text(max_size=30))
def test_any_name_is_read_back(text):
    families = parsed(render(of_gates(gate(candidate=text))))
    assert len(families["fairtest_gate_change"]) == 1


def test_one_claim_in_two_tests_is_one_sample_and_two_results_are_two():
    same = parsed(render(document(gates=[gate(), gate()])))
    assert len(same["fairtest_gate_change"]) == 1
    nan = gate(change=Estimate(math.nan, math.nan, math.nan))
    differ = parsed(render(document(gates=[gate(), gate(change=Estimate(9.0, 8.0, 10.0)), nan, nan])))
    assert sample(differ, "fairtest_gate_change", claim="2") == 9.0
    assert math.isnan(sample(differ, "fairtest_gate_change", claim="3"))
    assert len(differ["fairtest_gate_change"]) == 3


def test_nothing_measured_is_valid_too():
    families = parsed(render(document(gates=[], measurements=[], arms={})))
    assert set(families) == {"fairtest_gates"}


def test_properties_tell_each_gate_of_a_test():
    pairs = dict(properties([gate(), gate(verdict=Verdict.UNDECIDED, change=None, reference="")]))
    assert pairs["fairtest.1.verdict"] == "PASS"
    assert pairs["fairtest.1.value"] == "-0.1"
    assert pairs["fairtest.1.high"] == "1.0"
    assert pairs["fairtest.1.allowed"] == "2.0"
    assert pairs["fairtest.1.metric"] == "stereoset.ss[gender]"
    assert pairs["fairtest.2.verdict"] == "UNDECIDED"
    assert "fairtest.2.value" not in pairs
    assert "fairtest.2.reference" not in pairs


def test_properties_are_read_back_from_junit_xml(pytester):
    hostile = SPITEFUL[0] + SPITEFUL[4] + SPITEFUL[5]
    found = properties([gate(candidate=hostile)])
    pytester.makepyfile(f"def test_one(record_property):\n    for pair in {found!r}: record_property(*pair)\n")
    done = pytester.runpytest_subprocess("--junitxml=junit.xml", "-p", "no:cacheprovider")
    assert done.ret == 0
    tree = ET.parse(pytester.path / "junit.xml")
    read = {one.attrib["name"]: one.attrib["value"] for one in tree.iter("property")}
    assert read == dict(found)
    assert read["fairtest.1.candidate"].startswith("<script>")
