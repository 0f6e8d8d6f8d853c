"""StereoSet, intrasentence part (Nadeem, Bethke, Reddy 2021, arXiv 2004.09456), in its original JSON format.

One item is a sentence about a target term with one blank, filled in three ways: stereotypically,
anti-stereotypically, and with a word that makes no sense there. The intersentence part is not read: scoring it with a
causal model needs a next-sentence head that was trained for it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fairtest.errors import ProbeError
from fairtest.probes.probe import ANTI_STEREOTYPE, STEREOTYPE, UNRELATED, Probe, ProbeSet

ITEMS = 2106
USE = "any use with credit and share alike; made for measuring"
_ROLES = {"stereotype": STEREOTYPE, "anti-stereotype": ANTI_STEREOTYPE, "unrelated": UNRELATED}
_PLACES = ("dev.json", "stereoset/dev.json")
_FIX = "give the dev.json that was published with the paper (github.com/moinnadeem/StereoSet, data/dev.json)"


def read_stereoset(path: Path, *, strict: bool = True) -> ProbeSet:
    """The intrasentence items: axis = bias type (gender, profession, race, religion), cluster = target term.

    `path` is the JSON file, or a directory that holds `dev.json` or `stereoset/dev.json`. `strict` asks for the
    published number of items (2106); a subset is read with `strict=False`.

    Raises:
        ProbeError: no such file, not JSON, a field missing or of another type, or another number of items.
    """
    file = _locate(path)
    content = _load(file)
    items = _field(_field(content, "data", dict, file, "the file"), "intrasentence", list, file, "data")
    probes = tuple(_probe(item, f"data.intrasentence[{index}]", file) for index, item in enumerate(items))
    if strict and len(probes) != ITEMS:
        raise ProbeError(
            f"StereoSet has {ITEMS} intrasentence items, and {len(probes)} were found",
            where=str(file),
            fix=f"{_FIX}; a subset is read with strict=False",
        )
    version = f"{content.get('version', 'unversioned')}/intrasentence"
    return ProbeSet("stereoset", version, "CC BY-SA 4.0", str(file), probes, USE)


def _locate(path: Path) -> Path:
    for candidate in (path, *(path / place for place in _PLACES)):
        if candidate.is_file():
            return candidate
    raise ProbeError(
        "StereoSet was not found: no such file, nor dev.json or stereoset/dev.json below it", where=str(path), fix=_FIX
    )


def _load(file: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ProbeError(
            f"StereoSet cannot be read: {error.strerror or error}", where=str(file), fix="check its permissions"
        ) from error
    except UnicodeDecodeError as error:
        raise ProbeError(f"StereoSet is not UTF-8: {error.reason}", where=str(file), fix=_FIX) from error
    except json.JSONDecodeError as error:
        raise ProbeError(f"StereoSet is not JSON: {error.msg}", where=f"{file}:{error.lineno}", fix=_FIX) from error
    if not isinstance(content, dict):
        raise ProbeError(f"StereoSet is a JSON {type(content).__name__}, not an object", where=str(file), fix=_FIX)
    return content


def _field(holder: Any, name: str, kind: type, file: Path, place: str) -> Any:
    value: Any = holder.get(name) if isinstance(holder, dict) else None
    if not isinstance(value, kind) or (kind is str and not str(value).strip()):
        found = "is missing" if value is None else f"is {value!r}"[:80]
        raise ProbeError(
            f"StereoSet: field {name!r} {found}, and should be a {'text' if kind is str else kind.__name__}",
            where=f"{file}, {place}",
            fix=_FIX,
        )
    return value


def _probe(item: Any, place: str, file: Path) -> Probe:
    texts: dict[str, str] = {}
    sentences = _field(item, "sentences", list, file, place)
    for index, sentence in enumerate(sentences):
        at = f"{place}.sentences[{index}]"
        label = _field(sentence, "gold_label", str, file, at)
        if label in _ROLES:
            texts[_ROLES[label]] = _field(sentence, "sentence", str, file, at)
    if len(sentences) != len(_ROLES) or len(texts) != len(_ROLES):
        raise ProbeError(
            "StereoSet: an item needs three sentences with gold_label "
            f"{', '.join(_ROLES)}, and has {[sentence['gold_label'] for sentence in sentences]}",
            where=f"{file}, {place}",
            fix=_FIX,
        )
    return Probe(
        id=_field(item, "id", str, file, place),
        axis=_field(item, "bias_type", str, file, place),
        cluster=_field(item, "target", str, file, place),
        texts=texts,
    )
