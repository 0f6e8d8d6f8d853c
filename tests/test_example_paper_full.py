"""The paper's own design runs from its first to its last line, on a stand-in of the hub's cache on disk."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys

import pytest
from hub_stand_in import make_home, paragraphs
from repository import CI_VARIABLES, REPOSITORY, smaller_copy

from fairtest.training.sources import resolve_model

EXAMPLE = REPOSITORY / "examples" / "paper"
RECORDS = 160
SCORER = "hf:unitary/toxic-bert:toxic"
# A small machine and few, short runs; what is asked, and of which model, corpus and probes, stays as it is.
SMALLER = (
    ('device = "cuda"', 'device = "cpu"\nthreads = 1'),
    ("seeds = 5", "seeds = 2"),
    ("epochs = 1", "steps = 5"),
    ("batch_size = 1024 ", "batch_size = 24 "),
    ("max_length = 128", "max_length = 48"),
    ("learning_rate = 5e-4", "learning_rate = 1e-2"),
    ("held_out = 0.01", "held_out = 0.2"),
    ("epsilons = [3.0, 10.0, 20.0]", "epsilons = [3.0]"),
    ("matched = [3.0, 10.0, 20.0]", "matched = [3.0]"),
    ('diagnosed = ["baseline", "dp_eps3", "dp_cda_eps3"]', 'diagnosed = ["dp_cda_eps3"]'),
    ("diagnosed_seeds = [0, 1, 2]", "diagnosed_seeds = [0]"),
    ('parts = ["clip_only", "noise_only", "shuffled"]', 'parts = ["clip_only"]'),
)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return make_home(tmp_path_factory.mktemp("home"), RECORDS)


def copied(where):
    """The example in another place, made smaller."""
    return smaller_copy(EXAMPLE, where, "full", SMALLER)


def session(where, home, *options, **variables):
    """The documented command, on a machine that is offline."""
    named = {name: value for name, value in os.environ.items() if not name.startswith(("FAIRTEST_", "PAPER_", "HF_"))}
    environment = {name: value for name, value in named.items() if name not in CI_VARIABLES}
    offline = {"HF_HOME": str(home), "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    return subprocess.run(
        [sys.executable, "-m", "pytest", str(where / "full"), *options],
        cwd=where.parent,
        capture_output=True,
        text=True,
        check=False,
        env={**environment, **offline, "FAIRTEST_TOXICITY_SCORER": SCORER, **variables},
    )


@pytest.fixture(scope="module")
def study(tmp_path_factory, home):
    where = copied(tmp_path_factory.mktemp("example") / "paper")
    run = session(where, home)
    assert run.returncode == 0, run.stdout + run.stderr
    return where, run


def report_of(where):
    return json.loads((where / "full/.fairtest/report/report.json").read_text())


def test_the_corpus_is_the_paragraphs_of_the_data_set(study):
    where, run = study
    lines = (where / "full/.fairtest/wikitext.jsonl").read_text().splitlines()
    assert [json.loads(line)["text"] for line in lines] == paragraphs(RECORDS)
    assert run.stderr.count("makes the corpus from hf:Salesforce/wikitext/wikitext-103-raw-v1:train, records: all") == 1
    assert not list((where / "full/.fairtest").glob("*.partial"))


def test_every_claim_of_the_design_is_asked(study):
    where, run = study
    report = report_of(where)
    asked = {(gate["gate"], gate["candidate"], gate["reference"], gate["metric"]) for gate in report["gates"]}
    metrics = [f"stereoset.ss[{axis}]" for axis in ("gender", "race", "religion")]
    metrics += ["crows_pairs.preference[gender]", "prompts.toxicity_gap[gender]", "completions.pronoun_gap[gender]"]
    for metric in metrics:
        assert {
            ("no_amplification", "dp_eps3", "baseline", metric),
            ("no_amplification", "dp_eps3", "baseline_matched_dp_eps3", metric),
            ("no_amplification", "dp_eps3", "pretrained", metric),
            ("no_amplification", "dp_cda_eps3", "baseline", metric),
            ("mitigated", "dp_cda_eps3", "dp_eps3", metric),
        } <= asked, metric
        assert any(one["metric"] == metric and one["candidate"] == "dp_eps3" for one in report["explanations"])
    assert not re.search(r"\d (failed|error)", run.stdout)
    assert report["failed_otherwise"] == []


def test_the_report_says_which_classifier_found_the_completions_toxic(study, home):
    where, _ = study
    (place,) = (home / "hub/models--unitary--toxic-bert/snapshots").iterdir()
    told = f"scored by {SCORER}@{resolve_model(str(place)).digest[:12]}"
    written = [gate for gate in report_of(where)["gates"] if gate["metric"] == "prompts.toxicity_gap[gender]"]
    assert all(gate["protocol"].endswith(told) for gate in written)
    assert {"dp_eps3 writes text", "baseline writes text"} <= {guard["name"] for guard in written[0]["guards"]}
    assert told in (where / "full/.fairtest/report/report.md").read_text().replace("\\", "")


def test_the_report_says_which_model_of_the_hub_it_was(study, home):
    where, _ = study
    report = report_of(where)
    (place,) = (home / "hub/models--distilgpt2/snapshots").iterdir()
    data = report["arms"]["dp_eps3"]["data"]
    assert (data["model"], data["model_digest"]) == ("distilgpt2", resolve_model(str(place)).digest)
    assert report["settings"]["model"]["value"] == "distilgpt2"


def test_naive_copies_cost_more_than_they_claim(study):
    where, _ = study
    report = report_of(where)
    gate = next(one for one in report["gates"] if one["candidate"] == "copies_eps3")
    statement = report["arms"]["copies_eps3"]["statement"]
    assert gate["verdict"] == "FAIL"
    assert statement["epsilon_claimed"] <= 3.0 < 1.5 * statement["epsilon_claimed"] < statement["epsilon"]


def test_groups_are_told_apart_by_the_words_of_their_texts(study):
    where, _ = study
    found = {one["name"]: one for one in report_of(where)["arms"]["dp_cda_eps3"]["diagnostics"]}
    assert set(found["loss"]["groups"]) == {"feminine", "masculine"}
    assert {one["by"] for one in found.values()} == {"words of axis 'gender'"}


def test_the_page_answers_the_questions(study):
    where, _ = study
    page = where / "paper-full.md"
    run = subprocess.run(
        [sys.executable, str(where / "render.py"), "full", "--out", str(page)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    text = page.read_text().replace("\\", "")
    for heading in (
        "Does privacy amplify bias here?",
        "Why?",
        "Does CDA undo it?",
        "What do naive copies cost?",
        "What the model writes",
        "Language",
    ):
        assert heading in text
    for metric in ("stereoset.ss[race]", "prompts.toxicity_gap[gender]"):
        assert f"**{metric}**, dp_eps3 against baseline" in text
    assert re.search(r"epsilon is \*\*\d", text)


def ends_at_once(run):
    """One message, whatever the number of tests, and nothing trained."""
    assert run.returncode == pytest.ExitCode.USAGE_ERROR, run.stdout + run.stderr
    assert "no tests ran" in run.stdout
    assert "Traceback" not in run.stdout + run.stderr
    assert run.stdout.count("the study cannot start: ") == run.stdout.count("  do:    ") == 1
    return run.stdout


def test_without_a_gpu_it_says_so_once_and_before_anything_is_made(tmp_path, home):
    shutil.copytree(EXAMPLE, tmp_path / "paper", ignore=shutil.ignore_patterns(".fairtest", "__pycache__"))
    assert "the study cannot start: torch sees 0 CUDA devices" in ends_at_once(
        session(tmp_path / "paper", home, CUDA_VISIBLE_DEVICES="")
    )
    assert not (tmp_path / "paper/full/.fairtest/wikitext.jsonl").exists()


def test_without_the_classifier_or_the_corpus_it_says_so_once(tmp_path, home):
    where = copied(tmp_path / "paper")
    told = ends_at_once(session(where, home, FAIRTEST_TOXICITY_SCORER="hf:unitary/absent:toxic"))
    assert "where: text scorer 'hf:unitary/absent'" in told
    told = ends_at_once(session(where, home, PAPER_WIKITEXT=str(tmp_path)))
    assert "the directory is no saved dataset" in told
    assert not (where / "full/.fairtest/wikitext.jsonl").exists()
