"""Makes the private corpus: paragraphs of WikiText-103 from the hub, one privacy unit each."""

import itertools
import json
import os
from pathlib import Path

import pytest

HERE = Path(__file__).parent
CORPUS = HERE / ".fairtest" / "wikitext.jsonl"
SOURCE = os.environ.get("PAPER_WIKITEXT", "Salesforce/wikitext")  # or a directory in the hub's layout
RECORDS = int(os.environ.get("PAPER_RECORDS", "0"))  # 0: all of them
WORDS = 25


def paragraphs(lines):
    """Paragraphs of some length; headings look like " = Title = "."""
    for line in lines:
        text = line.strip()
        if len(text.split()) >= WORDS and not text.startswith("="):
            yield text


@pytest.fixture(autouse=True, scope="session")
def wikitext():
    if CORPUS.is_file():  # made once; remove it for another number of records
        return
    from datasets import load_dataset

    rows = load_dataset(SOURCE, "wikitext-103-raw-v1", split="train")
    CORPUS.parent.mkdir(exist_ok=True)
    partial = CORPUS.with_suffix(".partial")
    with partial.open("w", encoding="utf-8") as file:
        chosen = itertools.islice(paragraphs(row["text"] for row in rows), RECORDS or None)
        for index, text in enumerate(chosen):
            file.write(json.dumps({"id": str(index), "text": text}, ensure_ascii=False) + "\n")
    partial.replace(CORPUS)
