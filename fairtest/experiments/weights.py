"""Which weights a model has, whatever lies beside them: a digest of its tensors.

A model that is saved again by another version of a library has another configuration file and the same weights, and
weights in one file or in three are the same weights. Files are read here without torch.
"""

from __future__ import annotations

import hashlib
import json
import mmap
from pathlib import Path
from typing import Any

from fairtest.digests import digest_of
from fairtest.errors import ModelError
from fairtest.training.sources import ModelSource

_HEADER_BYTES = 8
_LONGEST_HEADER = 100_000_000  # the format's own limit
_known: dict[tuple[str, int, int], list[list[Any]]] = {}


def weights_digest(source: ModelSource) -> str:
    """A SHA-256 over names, types, shapes and values of all tensors; of a GGUF file, over the file.

    Raises:
        ModelError: a file cannot be read, or is no safetensors file.
    """
    location = Path(source.location)
    return source.digest if location.is_file() else digest_of_weights(location)


def digest_of_weights(directory: Path) -> str:
    """The same of all safetensors files in a directory.

    Raises:
        ModelError: as `weights_digest`.
    """
    return digest_of(sorted(row for path in sorted(directory.glob("*.safetensors")) for row in _tensors(path)))


def _tensors(path: Path) -> list[list[Any]]:
    """[name, type, shape, SHA-256 of the bytes] of each tensor of a file."""
    try:
        state = path.stat()
        key = (str(path.absolute()), state.st_size, state.st_mtime_ns)
        if key not in _known:
            with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
                _known[key] = _rows(content)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(
            f"a file of the model cannot be read as safetensors: {error}",
            where=str(path),
            fix="save the model again with save_pretrained()",
        ) from error
    return _known[key]


def _rows(content: mmap.mmap) -> list[list[Any]]:
    length = int.from_bytes(content[:_HEADER_BYTES], "little")
    start = _HEADER_BYTES + length
    if length > _LONGEST_HEADER or start > len(content):
        raise ValueError("its header does not end")
    header = json.loads(content[_HEADER_BYTES:start])
    rows = []
    with memoryview(content) as view:
        for name, facts in header.items():
            if name == "__metadata__":
                continue
            first, end = facts["data_offsets"]
            if not 0 <= first <= end <= len(content) - start:
                raise ValueError(f"tensor {name} is cut off")
            with view[start + first : start + end] as part:
                rows.append([name, facts["dtype"], list(facts["shape"]), hashlib.sha256(part).hexdigest()])
    return rows
