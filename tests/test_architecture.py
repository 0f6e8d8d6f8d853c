"""Imports point one way, and only two rooms import torch at module level."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import fairtest

ROOT = Path(fairtest.__file__).parent
# A room may import from rooms to its left, and from itself.
ORDER = [
    "errors", "digests", "specs", "settings", "store", "corpora", "probes", "tiny", "augmentation", "privacy",
    "training", "scoring", "metrics", "statistics", "experiments", "gates", "reports", "commands", "__main__",
]  # fmt: skip
HEAVY = {"torch", "transformers", "opacus", "datasets", "peft", "dp_accounting"}
TORCH_ROOMS = {"training", "scoring"}


def imports_of(path: Path, *, top_level: bool) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = tree.body if top_level else ast.walk(tree)
    names: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


def room_of(path: Path) -> str:
    relative = path.relative_to(ROOT)
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


MODULES = sorted(path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(path):
    room = room_of(path)
    assert room in ORDER, f"{path}: a new room belongs into ORDER and docs/architecture.md"
    allowed = set(ORDER[: ORDER.index(room) + 1])
    wrong = {
        name for name in imports_of(path, top_level=False)
        if name.startswith("fairtest.") and name.split(".")[1] not in allowed
    }  # fmt: skip
    assert not wrong, f"{path.relative_to(ROOT)} ({room}) imports {wrong} from rooms to its right"


@pytest.mark.parametrize(
    "path", [path for path in MODULES if room_of(path) not in TORCH_ROOMS], ids=lambda path: str(path.relative_to(ROOT))
)
def test_only_training_and_scoring_import_heavy_packages(path):
    heavy = {name for name in imports_of(path, top_level=True) if name.partition(".")[0] in HEAVY}
    assert not heavy


def modules_after(code: str) -> set[str]:
    run = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys\nprint(*sorted(sys.modules))"],
        check=True,
        capture_output=True,
        text=True,
    )
    return set(run.stdout.split())


@pytest.mark.parametrize("code", ["import fairtest", "import pytest_fairtest.plugin"])
def test_importing_the_library_or_the_plugin_loads_nothing_heavy(code):
    assert not modules_after(code) & (HEAVY | {"numpy", "scipy", "safetensors", "fairtest.settings"})


def test_every_public_name_can_be_had():
    for name in fairtest.__all__:
        assert getattr(fairtest, name) is not None
    assert set(fairtest.__all__) <= set(dir(fairtest))
    with pytest.raises(AttributeError, match="nonsense"):
        _ = fairtest.nonsense
