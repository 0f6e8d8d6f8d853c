"""Looks whether everything is there before hours are spent, and makes the private corpus: paragraphs of WikiText-103
from the hub, one privacy unit each.
"""

import contextlib
import itertools
import json
import os
import sys
from pathlib import Path

import pytest
from filelock import FileLock
from study import study_of

from fairtest.corpora.hub import load_hub_dataset, load_saved_dataset
from fairtest.errors import FairtestError
from fairtest.experiments.experiment import Experiment
from fairtest.metrics import parse_metric
from fairtest.scoring.generation_protocols import is_generation, parse_generation
from fairtest.scoring.text_scorers import resolve_scorer
from fairtest.specs import Arm
from fairtest.store import Store

HERE = Path(__file__).parent
CORPUS = HERE / ".fairtest" / "wikitext.jsonl"
WIKITEXT = "hf:Salesforce/wikitext/wikitext-103-raw-v1:train"
SOURCE = os.environ.get("PAPER_WIKITEXT", "")  # a directory that save_to_disk wrote, where the hub is out of reach
RECORDS = int(os.environ.get("PAPER_RECORDS", "0"))  # 0: all of them
WORDS = 25
READY = pytest.StashKey[bool]()


@pytest.fixture(autouse=True)
def ready(fairtest_config, pytestconfig):
    """Once a session; what is missing is told once and ends it, and not by each test after hours."""
    if pytestconfig.stash.get(READY, False):
        return
    try:
        look(fairtest_config, planned=pytestconfig.getoption("fairtest_plan"))
        CORPUS.parent.mkdir(exist_ok=True)
        with FileLock(CORPUS.with_suffix(".lock")):
            make_corpus(pytestconfig)
    except FairtestError as error:
        if hasattr(pytestconfig, "workerinput"):  # one of several processes cannot end the session
            pytest.fail(f"the study cannot start: {error}", pytrace=False)
        pytest.exit(f"the study cannot start: {error}", returncode=pytest.ExitCode.USAGE_ERROR)
    pytestconfig.stash[READY] = True


def look(settings, *, planned):
    """Model and device, probe sets, what scores completions. A plan trains nothing, and needs no device."""
    study = study_of(HERE)
    experiment = Experiment(settings, Store(Path(settings.cache_dir)))
    if not planned:
        experiment.base_model(Arm(name="pretrained", training=None), 0)
    for name in (*study["metrics"], *study["language"], *study["written"]):
        metric = parse_metric(name).metric
        experiment.probe_set(metric.probe_set)
        if is_generation(metric.scoring_protocol):
            resolve_scorer(parse_generation(metric.scoring_protocol).scorer)


def make_corpus(config):
    """Made once, and again where another number of records or another source is asked for."""
    made_of = CORPUS.with_suffix(".made-of.json")
    wanted = {"source": SOURCE or WIKITEXT, "records": RECORDS or "all"}
    if CORPUS.is_file() and made_of.is_file() and json.loads(made_of.read_text(encoding="utf-8")) == wanted:
        return
    capture = config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled() if capture else contextlib.nullcontext():
        print(
            f"\nfairtest: makes the corpus from {wanted['source']}, records: {wanted['records']}",
            file=sys.stderr,
            flush=True,
        )
        rows = load_saved_dataset(Path(SOURCE)) if SOURCE else load_hub_dataset(WIKITEXT)
        partial = CORPUS.with_suffix(".partial")
        with partial.open("w", encoding="utf-8") as file:
            lines = (text for batch in rows.iter(batch_size=1000) for text in batch["text"])
            for index, text in enumerate(itertools.islice(paragraphs(lines), RECORDS or None)):
                file.write(json.dumps({"id": str(index), "text": text}, ensure_ascii=False) + "\n")
        made_of.unlink(missing_ok=True)
        partial.replace(CORPUS)
        made_of.write_text(json.dumps(wanted), encoding="utf-8")


def paragraphs(lines):
    """Paragraphs of some length; headings look like " = Title = "."""
    for line in lines:
        text = line.strip()
        if len(text.split()) >= WORDS and not text.startswith("="):
            yield text
