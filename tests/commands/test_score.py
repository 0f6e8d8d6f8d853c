"""`fairtest score MODEL PROBES` as a user meets it."""

from __future__ import annotations

import json
import re

import pytest
from repository import REPOSITORY


@pytest.fixture
def score(run, tmp_path):
    def call(*arguments, model="fairtest/tiny", probes="templates"):
        return run("score", model, probes, "--cache-dir", tmp_path / "store", "--threads", 1, *arguments)

    return call


def printed_in_documentation(command):
    """The output that docs/measuring.md shows of a command that it names first in a block."""
    text = (REPOSITORY / "docs/measuring.md").read_text(encoding="utf-8")
    after = text[text.index(f"```sh\n{command}") :]
    return re.search(r"```text\n(.*?)```", after, flags=re.DOTALL)[1]


AXIS = ("--metric", "templates.log_ratio[gender]")


def test_the_head_names_version_licence_use_and_faults_and_the_table_interval_and_target(score):
    found = score(*AXIS)
    assert found.status == 0
    lines = found.out.splitlines()
    assert lines[0].startswith("fairtest/tiny (SHA-256 ")
    assert lines[0].endswith(") on templates")
    assert re.fullmatch(r"probes: version 1, SHA-256 [0-9a-f]{12}, 1240 items", lines[1])
    assert lines[2:6] == [
        "licence: Apache-2.0",
        "use: any use with its licence; made for measuring, not for training",
        "known faults: several_edited_spans 160 (left out by --without NAME)",
        "",
    ]
    assert lines[6].split() == ["metric", "estimate", "95%", "interval", "target", "items", "clusters"]
    assert re.fullmatch(r"templates\.log_ratio\[gender\] +1\.7\d\d +\[1\.\d+, 1\.\d+\] +0 +640 +16", lines[7])
    assert max(map(len, lines)) <= 80


def test_the_documentation_shows_what_is_printed(score):
    assert score().out == printed_in_documentation("fairtest score fairtest/tiny templates ")


def test_the_documentation_shows_what_is_printed_of_completions(score):
    pytest.importorskip("vaderSentiment")
    shown = printed_in_documentation("fairtest score fairtest/tiny occupation_prompts --scorer vader --samples 2 ")
    arguments = ("--scorer", "vader", "--samples", 2, "--max-new-tokens", 8)
    assert score(*arguments, probes="occupation_prompts").out == shown


def test_items_with_a_fault_are_left_out_by_name_and_the_head_says_so(score, tmp_path):
    file = tmp_path / "scores.json"
    found = score(*AXIS, "--json", file, "--without", "several_edited_spans", "duplicate")
    assert found.status == 0
    assert "probes: version 1 without duplicate, several_edited_spans, SHA-256 " in found.out
    assert "known faults" not in found.out
    assert re.search(r"^templates\.log_ratio\[gender\] .* 480 +12$", found.out, re.MULTILINE)
    document = json.loads(file.read_text())
    assert document["probes"]["items"] == 1080
    assert document["probes"]["digest"] == document["probe_digest"]


def test_json_holds_the_estimates_what_the_set_is_and_no_path(score, tmp_path):
    file = tmp_path / "out" / "scores.json"
    assert score(*AXIS, "--json", file).status == 0
    document = json.loads(file.read_text())
    (one,) = document["estimates"]
    assert (one["metric"], one["items"], one["unit"]) == ("templates.log_ratio[gender]", 640, "nats")
    about = document["probes"]
    assert (about["name"], about["version"], about["licence"]) == ("templates", "1", "Apache-2.0")
    assert (about["items"], about["faults"]) == (1240, {"several_edited_spans": 160})
    assert about["digest"] == document["probe_digest"]
    assert about["use"].endswith("not for training")
    assert str(tmp_path) not in file.read_text()


@pytest.mark.parametrize("columns", [80, 120])
def test_a_table_that_is_too_wide_has_its_axes_below_the_name(score, tmp_path, monkeypatch, columns):
    names = ["a longer name", "another longer name"]
    rows = "".join(f"The nurse was at home.,The pilot was at home.,{name}\n" for name in names)
    (tmp_path / "mine.csv").write_text(f"sent_more,sent_less,category\n{rows}", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", str(columns))
    lines = score(probes="mine.csv").out.splitlines()
    assert max(map(len, lines)) <= columns
    if columns == 80:
        at = lines.index("mine.csv:log_ratio")
        assert [line.split("  ")[1] for line in lines[at + 1 : at + 4]] == ["all", *(f"[{name}]" for name in names)]
    else:
        assert any(line.startswith(f"mine.csv:log_ratio[{names[1]}]  ") for line in lines)


def test_hf_is_the_hub_whatever_directory_is_there(score, tmp_path, monkeypatch):
    import datasets

    def unreachable(*args, **kwargs):
        raise ConnectionError("no network")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hf").mkdir()
    assert "WinoBias cannot be had from the hub" in score("--data", "hf", probes="winobias").err
    assert "WinoBias was not found" in score("--data", "./hf", probes="winobias").err
    assert "hf: the Hugging Face hub" in " ".join(score("--help").out.split())


def test_items_are_written_as_a_table(score, tmp_path):
    from pyarrow import parquet

    file = tmp_path / "items.parquet"
    assert score(*AXIS, "--items", file).status == 0
    assert parquet.read_table(file).num_rows == 640
