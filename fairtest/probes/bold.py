"""BOLD prompts (Dhamala, Sun, Kumar and others 2021, arXiv 2101.11718), in their original JSON format.

A prompt is the beginning of a sentence from a Wikipedia article about a person, a belief or a profession. A file holds
one domain: {group: {article: [prompt, ...]}}. Groups do not share prompts, so they are not paired: a gap between two
groups also holds what the articles are about.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fairtest.errors import ProbeError
from fairtest.probes.probe import Probe, ProbeSet
from fairtest.probes.prompts import GROUP, PROMPT, prompt

# Published numbers of prompts (table 1 of the paper), 23,679 in all.
PROMPTS: Mapping[str, int] = {
    "gender": 3204,
    "race": 7657,
    "religious_ideology": 639,
    "political_ideology": 1984,
    "profession": 10195,
}
# Among these there are prompts without a word. They tell a model nothing of a group and are left out.
EMPTY: Mapping[str, int] = {"religious_ideology": 2, "political_ideology": 3}
USE = "any use with credit and share alike; made for measuring open-ended text"
FAULTS: Mapping[str, str] = {
    "one_word": "less than two words",
    "repeated": "an earlier prompt of the same axis and group has the same text",
    "in_two_groups": "another group of the axis has the same text, so it does not tell the groups apart",
}
_FOLDERS = ("", "bold", "prompts", "bold/prompts")
_FIX = "give the folder prompts/ of github.com/amazon-science/bold, or one of its *_prompt.json files"


def read_bold(path: Path, *, strict: bool = True) -> ProbeSet:
    """All prompts that have a word: axis = domain, field `group` = sub-group, cluster = article, all as published.

    The prompts end in a space, which is dropped. An id is domain/group/article/number, counted as in the file.
    `path` is one file, or a directory that holds the five files, perhaps in a folder `bold` or `prompts`. `strict` asks
    for the published number of prompts in each file, and for all five files of a directory.

    Raises:
        ProbeError: no such file, not such JSON, or another number of prompts.
    """
    files = _locate(path, strict=strict)
    articles = [article for axis, file in files.items() for article in _articles(axis, file)]
    return bold_set(articles, str(path), strict=strict, files={axis: str(file) for axis, file in files.items()})


@dataclass(frozen=True, slots=True)
class Article:
    """The prompts of one article of a group, as published, and where they stand."""

    axis: str
    group: str
    name: str
    prompts: tuple[str, ...]
    where: str


def bold_set(
    articles: Iterable[Article], source: str, *, strict: bool, files: Mapping[str, str] | None = None
) -> ProbeSet:
    """The probe set of these articles, domain by domain; `files` says where a domain is from, else all are wanted.

    Raises:
        ProbeError: an unknown domain or another number of prompts, where `strict` asks for the published ones.
    """
    found: dict[str, list[Probe]] = {axis: [] for axis in PROMPTS if files is None or axis in files}
    for article in articles:
        if article.axis not in found:
            raise ProbeError(
                f"BOLD has no domain {article.axis!r}", where=article.where, fix=f"its domains: {', '.join(PROMPTS)}"
            )
        for number, text in enumerate(article.prompts):
            probe_id = f"{article.axis}/{article.group}/{article.name}/{number}"
            found[article.axis].append(prompt(probe_id, article.axis, article.group, text, cluster=article.name))
    for axis, prompts in found.items():
        numbers = (len(prompts), sum(not one.texts[PROMPT] for one in prompts))
        expected = (PROMPTS[axis], EMPTY.get(axis, 0))
        if strict and numbers != expected:
            raise ProbeError(
                f"BOLD has {expected[0]} {axis} prompts, {expected[1]} of them empty, and {numbers[0]} were found,"
                f" {numbers[1]} of them empty",
                where=files[axis] if files else source,
                fix=f"{_FIX}; a subset is read with strict=False",
            )
    probes = tuple(one for prompts in found.values() for one in prompts if one.texts[PROMPT])
    return ProbeSet("bold", "2021", "CC BY-SA 4.0", source, probes, USE)


def find_faults(probes: ProbeSet) -> dict[str, tuple[str, ...]]:
    """Ids of prompts with a known fault, by the fault's name (`FAULTS`)."""
    first: set[tuple[str, str, str]] = set()
    repeated: list[str] = []
    groups: dict[tuple[str, str], set[str]] = {}
    for probe in probes.probes:
        key = (probe.axis, probe.fields[GROUP], probe.texts[PROMPT])
        if key in first:
            repeated.append(probe.id)
        first.add(key)
        groups.setdefault((key[0], key[2]), set()).add(key[1])
    return {
        "one_word": tuple(p.id for p in probes.probes if len(p.texts[PROMPT].split()) < 2),
        "repeated": tuple(repeated),
        "in_two_groups": tuple(p.id for p in probes.probes if len(groups[p.axis, p.texts[PROMPT]]) > 1),
    }


def _locate(path: Path, *, strict: bool) -> dict[str, Path]:
    if path.is_file():
        axis = path.name.removesuffix("_prompt.json")
        if axis not in PROMPTS:
            raise ProbeError(
                f"BOLD has no file {path.name!r}",
                where=str(path),
                fix=f"its files: {', '.join(f'{name}_prompt.json' for name in PROMPTS)}",
            )
        return {axis: path}
    for folder in _FOLDERS:
        files = {axis: path / folder / f"{axis}_prompt.json" for axis in PROMPTS}
        there = {axis: file for axis, file in files.items() if file.is_file()}
        if there:
            missing = [file for file in files.values() if not file.is_file()]
            if strict and missing:
                raise ProbeError(
                    f"BOLD has five files, and {missing[0].name} is missing",
                    where=str(path / folder),
                    fix=f"{_FIX}; a part is read with strict=False",
                )
            return there
    raise ProbeError(
        "BOLD was not found: no such file, nor gender_prompt.json and its like below it", where=str(path), fix=_FIX
    )


def _articles(axis: str, file: Path) -> Iterator[Article]:
    for group, articles in _object(_load(file), file, "the file").items():
        for article, texts in _object(articles, file, repr(group)).items():
            place = f"{group!r}, {article!r}"
            if not isinstance(texts, list):
                raise _wrong(texts, "a list of texts", file, place)
            for number, text in enumerate(texts):
                if not isinstance(text, str):
                    raise _wrong(text, "a text", file, f"{place}, prompt {number}")
            yield Article(axis, group, article, tuple(texts), f"{file}, {place}")


def _load(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"), object_pairs_hook=_once)
    except OSError as error:
        raise ProbeError(
            f"BOLD cannot be read: {error.strerror or error}", where=str(file), fix="check its permissions"
        ) from error
    except UnicodeDecodeError as error:
        raise ProbeError(f"BOLD is not UTF-8: {error.reason}", where=str(file), fix=_FIX) from error
    except json.JSONDecodeError as error:
        raise ProbeError(f"BOLD is not JSON: {error.msg}", where=f"{file}:{error.lineno}", fix=_FIX) from error
    except ProbeError as error:
        raise ProbeError(error.what, where=str(file), fix=_FIX) from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # JSON keeps the last of two equal keys without a word; here that would lose an article's prompts.
    twice = [key for key, count in Counter(key for key, _ in pairs).items() if count > 1]
    if twice:
        raise ProbeError(f"BOLD: {twice[0]!r} stands twice in one object")
    return dict(pairs)


def _object(value: Any, file: Path, place: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise _wrong(value, "an object", file, place)
    return value


def _wrong(value: Any, expected: str, file: Path, place: str) -> ProbeError:
    return ProbeError(f"BOLD: {value!r:.60} should be {expected}", where=f"{file}, {place}", fix=_FIX)
