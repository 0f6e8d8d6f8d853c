"""Every Python and settings block of the pages in docs/ runs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from repository import REPOSITORY

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

import fairtest
from fairtest.settings import layered

PAGES = sorted((REPOSITORY / "docs").glob("*.md"))


def blocks(kind):
    found = []
    for page in PAGES:
        texts = re.findall(rf"^```{kind}\n(.*?)^```$", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
        found += [pytest.param(text, id=f"{page.stem}-{index}") for index, text in enumerate(texts)]
    return found


@pytest.mark.parametrize("code", blocks("python"))
def test_code_of_the_documentation_runs(code, tmp_path):
    command = [sys.executable, "-W", "error::UserWarning", "-c", code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not done.stderr


@pytest.mark.parametrize("table", blocks("toml"))
def test_settings_of_the_documentation_are_settings(table):
    settings = layered(("documentation", tomllib.loads(table)["tool"]["fairtest"], None))
    assert settings.arms()["dp"].dp == settings.dp


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_of_the_documentation_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


def test_the_reference_names_every_group_of_entry_points_and_every_variable():
    source = "\n".join(path.read_text(encoding="utf-8") for path in Path(fairtest.__file__).parent.rglob("*.py"))
    groups = set(re.findall(r'ENTRY_POINT_GROUP = "([\w.]+)"', source))
    variables = set(re.findall(r"\bFAIRTEST_[A-Z_]+\b", source)) - {"FAIRTEST_SESSION"}  # which sessions set themselves
    assert {"fairtest.scorers", "FAIRTEST_TOXICITY_SCORER", "FAIRTEST_CACHE_DIR"} <= groups | variables
    reference = (REPOSITORY / "docs" / "reference.md").read_text(encoding="utf-8")
    assert [name for name in sorted(groups | variables) if f"| `{name}` |" not in reference] == []
