"""One digest for equal values: what names everything that is kept."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import Any


def digest_of(value: Any) -> str:
    """SHA-256 (64 hexadecimal digits) of a value's canonical JSON: sorted keys, no spaces, no NaN."""
    return hashlib.sha256(_canonical(value)).hexdigest()


def digest_of_lists(head: Sequence[Any], *lists: Iterable[Any]) -> str:
    """`digest_of([*head, [*lists[0]], [*lists[1]], ...])`, an item at a time: the JSON of all of them is never there
    at once.
    """
    digest = hashlib.sha256(b"[" + b",".join(map(_canonical, head)))
    for number, items in enumerate(lists):
        digest.update(b",[" if head or number else b"[")
        for index, item in enumerate(items):
            digest.update(b"," * (index > 0) + _canonical(item))
        digest.update(b"]")
    digest.update(b"]")
    return digest.hexdigest()


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode()
