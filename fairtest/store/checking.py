"""Checks the entries of a store as far as they can be checked without making them again."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fairtest.digests import digest_of
from fairtest.store.listing import Listed
from fairtest.store.store import SCHEMA, sha256_of
from fairtest.store.use import ENTRY_FILE

_TENSORS = ".safetensors"
_CHUNK = 1 << 20
# numpy has no bfloat16: its values are looked at as whole numbers.
_FLOATS = {"F64": "<f8", "F32": "<f4", "F16": "<f2"}
_EXPONENT = 0x7F80


@dataclass(frozen=True)
class Damage:
    """An entry that nobody should use, and why."""

    entry: Listed
    problems: tuple[str, ...]


def damage_of(entry: Listed) -> Damage | None:
    """What is wrong with an entry; None where nothing is, or where it has been removed meanwhile.

    Checked are the digest of its key, size and SHA-256 of each file, that no file is missing or added, that JSON is
    JSON and tensors are whole, and that all numbers are finite.
    """
    problems = tuple(_problems(entry))
    return Damage(entry, problems) if problems and entry.path.is_dir() else None


def _problems(entry: Listed) -> Iterator[str]:
    try:
        document = _json(entry.path / ENTRY_FILE)
        schema, files = document["schema"], dict(document["files"])
        same = (document["kind"], document["digest"]) == (entry.kind, entry.digest)
        key = document["key"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        yield f"{ENTRY_FILE} cannot be read: {_reason(error)}"
        return
    if schema != SCHEMA:
        yield f"{ENTRY_FILE} has schema {schema!r}, not {SCHEMA}"
    if not same or digest_of(key) != entry.digest:
        yield f"{ENTRY_FILE} is of another entry"
    there = {path.relative_to(entry.path).as_posix() for path in entry.path.rglob("*") if not path.is_dir()}
    for name in sorted(there - set(files) - {ENTRY_FILE}):
        yield f"{name} does not belong to it"
    for name, facts in sorted(files.items()):
        problem = f"{name} is missing" if name not in there else _file_problem(entry.path / name, facts)
        if problem:
            yield problem


def _file_problem(path: Path, facts: Any) -> str:
    try:
        size = path.stat().st_size
        if size != facts["bytes"]:
            return f"{path.name} has {size} bytes, and {facts['bytes']} were written"
        if sha256_of(path) != facts["sha256"]:
            return f"{path.name} is not what was written (SHA-256)"
        if path.suffix == _TENSORS:
            return _tensor_problem(path)
        if not _finite(_json(path)):
            return f"{path.name} holds a number that is not finite"
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"{path.name} cannot be read: {_reason(error)}"
    return ""


def _tensor_problem(path: Path) -> str:
    import numpy as np
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy"):
            pass  # it looks at the header and at the length of the file
    except SafetensorError as error:
        return f"{path.name} is no safetensors file: {error}"
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        header = json.loads(stream.read(length))
        for name, tensor in header.items():
            kind = tensor.get("dtype")
            if kind not in _FLOATS and kind != "BF16":
                continue
            begin, end = tensor["data_offsets"]
            stream.seek(8 + length + begin)
            for start in range(begin, end, _CHUNK):
                values = np.frombuffer(stream.read(min(_CHUNK, end - start)), dtype=_FLOATS.get(kind, "<u2"))
                finite = np.isfinite(values) if kind in _FLOATS else (values & _EXPONENT) != _EXPONENT
                if not finite.all():
                    return f"{path.name}: tensor {name} holds a value that is not finite"
    return ""


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _finite(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, dict):
        return all(map(_finite, value.values()))
    return all(map(_finite, value)) if isinstance(value, list) else True


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return f"no {error} in it" if isinstance(error, KeyError) else str(error)
