"""Makes the private corpus: windows of a novel from the data directory, one privacy unit each."""

import json
import os
import random
from pathlib import Path

import pytest

from fairtest.corpora.windows import windows

HERE = Path(__file__).parent
CORPUS = HERE / ".fairtest" / "novel.jsonl"
RECORDS = 1800
WORDS = 25


def data_directory() -> Path:
    return Path(os.environ.get("FAIRTEST_DATA_DIR") or HERE.parent.parent.parent.parent / "shared" / "data").resolve()


@pytest.fixture(autouse=True, scope="session")
def novel():
    source = data_directory() / "gutenberg-novels" / "pride_and_prejudice.txt"
    if not source.is_file():
        pytest.skip(
            f"{source} is absent: set FAIRTEST_DATA_DIR to a directory with the novel, StereoSet and CrowS-Pairs"
        )
    os.environ["FAIRTEST_DATA_DIR"] = str(data_directory())
    texts = [text for text in windows(source.read_text(encoding="utf-8"), WORDS) if len(text.split()) > WORDS // 2]
    chosen = sorted(random.Random(1).sample(range(len(texts)), RECORDS))
    lines = [json.dumps({"id": str(index), "text": texts[index]}, ensure_ascii=False) for index in chosen]
    CORPUS.parent.mkdir(exist_ok=True)
    partial = CORPUS.with_suffix(".partial")
    partial.write_text("\n".join(lines) + "\n", encoding="utf-8")
    partial.replace(CORPUS)
