"""The site of the documentation: every page is in it, and it builds without a warning where mkdocs is installed."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys

import pytest
from repository import REPOSITORY

NAMED = set(re.findall(r"[\w/-]+\.md", (REPOSITORY / "mkdocs.yml").read_text(encoding="utf-8")))


def test_every_page_is_in_the_navigation():
    docs = REPOSITORY / "docs"
    assert {str(page.relative_to(docs)) for page in docs.rglob("*.md")} == NAMED


@pytest.mark.skipif(importlib.util.find_spec("mkdocs") is None, reason="mkdocs is not installed (extra docs)")
def test_it_builds(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "site" / "index.html").is_file()
