"""Damage of each kind is found and named; sound entries are left in peace."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest
from safetensors.numpy import save_file

from fairtest.store import Store
from fairtest.store.checking import damage_of
from fairtest.store.listing import listed
from fairtest.store.store import sha256_of


@pytest.fixture
def made(tmp_path):
    """An entry with JSON and tensors of several types, and its directory."""

    def make(directory):
        (directory / "value.json").write_text('{"loss": [1.5, 2.0]}')
        tensors = {
            "a": np.ones((3, 4), np.float32),
            "b": np.ones(2, np.float16),
            "c": np.arange(3),
            "d": np.ones((0,), np.float32),
        }
        save_file(tensors, directory / "trained.safetensors")
        return {"seconds": 1.0}

    return Store(tmp_path / "store").obtain("run", {"seed": 0}, make).path


def problems(path):
    (entry,) = listed(path.parents[2])
    found = damage_of(entry)
    return () if found is None else found.problems


def rewritten(path, name, content):
    """A file with other content that its entry.json knows of: what a faulty writer would have left."""
    (path / name).write_bytes(content)
    document = json.loads((path / "entry.json").read_text())
    document["files"][name] = {"bytes": len(content), "sha256": sha256_of(path / name)}
    (path / "entry.json").write_text(json.dumps(document))


def test_a_sound_entry_has_no_problem(made):
    assert problems(made) == ()


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda path: (path / "value.json").unlink(), "value.json is missing"),
        (lambda path: (path / "value.json").write_text("{}"), "value.json has 2 bytes, and 20 were written"),
        (
            lambda path: (path / "value.json").write_text('{"loss": [1.5, 3.0]}'),
            "value.json is not what was written (SHA-256)",
        ),
        (lambda path: (path / "more.json").write_text("{}"), "more.json does not belong to it"),
        (lambda path: (path / "entry.json").write_text("{"), "entry.json cannot be read: Expecting property name"),
        (lambda path: (path / "entry.json").unlink(), "entry.json cannot be read: No such file or directory"),
        (lambda path: (path / "entry.json").write_text("{}"), "entry.json cannot be read: no 'schema' in it"),
        (
            lambda path: (path / "entry.json").write_text(
                (path / "entry.json").read_text().replace('"seed": 0', '"seed": 1')
            ),
            "entry.json is of another entry",
        ),
        (lambda path: rewritten(path, "value.json", b"[1, 2"), "value.json cannot be read: Expecting ',' delimiter"),
        (lambda path: rewritten(path, "value.json", b'{"a": [NaN]}'), "value.json holds a number that is not finite"),
        (lambda path: rewritten(path, "value.json", b'{"a": 1e999}'), "value.json holds a number that is not finite"),
        (
            lambda path: rewritten(path, "trained.safetensors", (path / "trained.safetensors").read_bytes()[:-4]),
            "trained.safetensors is no safetensors file",
        ),
        (lambda path: rewritten(path, "trained.safetensors", b"\xff" * 40), "trained.safetensors is no safetensors"),
    ],
)
def test_damage_is_named(made, damage, told):
    damage(made)
    (problem,) = problems(made)
    assert problem.startswith(told)


@pytest.mark.parametrize("kind", ["F64", "F32", "F16", "BF16"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 3.0])
def test_a_tensor_with_a_value_that_is_not_finite_is_damage(made, kind, value):
    if kind == "BF16":
        last = struct.pack("<f", value)[2:]
        first = struct.pack("<f", 1.0)[2:]
    else:
        code = {"F64": "<d", "F32": "<f", "F16": "<e"}[kind]
        first, last = struct.pack(code, 1.0), struct.pack(code, value)
    data = first * 2_000_001 + last
    header = json.dumps({"w": {"dtype": kind, "shape": [2_000_002], "data_offsets": [0, len(data)]}}).encode()
    header += b" " * (-len(header) % 8)
    rewritten(made, "trained.safetensors", len(header).to_bytes(8, "little") + header + data)
    wanted = () if value == 3.0 else ("trained.safetensors: tensor w holds a value that is not finite",)
    assert problems(made) == wanted


def test_an_entry_that_was_removed_meanwhile_is_no_damage(made):
    import shutil

    (entry,) = listed(made.parents[2])
    shutil.rmtree(made)
    assert damage_of(entry) is None


def test_an_entry_that_cannot_be_read_is_listed_with_what_is_known(made):
    (made / "entry.json").write_text("{")
    (entry,) = listed(made.parents[2])
    assert (entry.kind, entry.digest, entry.key) == ("run", made.name, {})
    assert entry.size > 100
