"""BBQ, the Bias Benchmark for Question answering (Parrish et al. 2022, arXiv 2110.08193), in its original JSON lines.

One item is a context, a question about it, and three answers: two groups and a wording of UNKNOWN, in any order. An
ambiguous context does not say who it was, so UNKNOWN is right; a disambiguated one does. A "neg" question asks for what
the stereotype says of a group, a "nonneg" one for its opposite. Item and answer are scored as one text,

    {context}
    Question: {question}
    Answer: {answer}

where the prompt ends after "Answer:" and each answer begins with its space. Blanks around a published text (124 answers
of the six categories below 4000 items have one at the end) are left out. Nothing else is mended: 100 contexts of
Nationality hold a stray brace, and 10 items of Disability_status are there twice under two ids, in the same cluster.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from fairtest.errors import ProbeError
from fairtest.probes.probe import Probe, ProbeSet

# Table 2 of the paper; they add up to its 58,492 items.
ITEMS = {
    "Age": 3680,
    "Disability_status": 1556,
    "Gender_identity": 5672,
    "Nationality": 3080,
    "Physical_appearance": 1576,
    "Race_ethnicity": 6880,
    "Race_x_SES": 11160,
    "Race_x_gender": 15960,
    "Religion": 1200,
    "SES": 6864,
    "Sexual_orientation": 864,
}
USE = "any use with credit; made for measuring"
FAULTS: Mapping[str, str] = {
    "duplicate": "an earlier item of the category has the same context, question and answers, in any order",
    "stray_brace": "a curly brace of the template was left in the text",
    "unclear_target": "which answer the stereotype is about cannot be told, so the item is in no bias score",
}
ROLES = ("ans0", "ans1", "ans2")
PROMPT = "{context}\nQuestion: {question}\nAnswer:"
ANSWER = " {answer}"
_VERSION = "2022/prompt-1"  # the prompt's number changes with its wording
_PLACES = (".", "bbq", "data", "BBQ/data")
_FIX = "give the JSON lines of github.com/nyu-mll/BBQ, data/ (one file a category)"
_ONE_WORD = {
    **dict.fromkeys(("man", "men", "boy", "boys"), "m"),
    **dict.fromkeys(("woman", "women", "girl", "girls"), "f"),
}


def read_bbq(path: Path, *, strict: bool = True) -> ProbeSet:
    """The items of all categories found: id = category-example_id, axis = category, cluster = category-question_index
    (the template an item was made from).

    `path` is one JSON lines file, or a directory that holds files named after categories (Age.jsonl, ...), perhaps in a
    folder `bbq` or `data`; not all eleven need to be there. `strict` asks for the published number of items of each
    category found; a subset is read with `strict=False`.

    Fields of an item: `label`, `unknown` and `stereotyped` name the role of the right answer, of UNKNOWN and of the
    group that the stereotype is about; `condition` is "ambig" or "disambig", `polarity` "neg" or "nonneg", `template`
    the question index. Where the stereotyped group cannot be told, `stereotyped` is "" and `unclear` says why.

    Raises:
        ProbeError: no such file, a line that is no such item, an example_id twice in a category, or another number of
            items (messages name file and line).
    """
    return bbq_set([(str(file), _rows(file)) for file in _locate(path)], str(path), strict=strict)


def bbq_set(
    parts: Iterable[tuple[str, Iterable[tuple[str, Mapping[str, Any]]]]], source: str, *, strict: bool
) -> ProbeSet:
    """The probe set of the rows of one or more files or tables, (its name, (where a row stands, the row) of each row).

    Raises:
        ProbeError: as `read_bbq`.
    """
    probes: list[Probe] = []
    places: dict[str, str] = {}
    for place, rows in parts:
        counts: Counter[str] = Counter()
        for where, row in rows:
            probe = _probe(row, where)
            if probe.id in places:
                raise ProbeError(
                    f"BBQ: item {probe.id!r} is there twice, the first time in {places[probe.id]}",
                    where=where,
                    fix="an example_id names one item of its category: leave one of the two out",
                )
            places[probe.id] = where
            probes.append(probe)
            counts[probe.axis] += 1
        if strict:
            _require_all(counts, place)
    return ProbeSet("bbq", _VERSION, "CC BY 4.0", source, tuple(probes), USE)


def find_faults(probes: ProbeSet) -> dict[str, tuple[str, ...]]:
    """Ids of items with a known fault, by the fault's name (`FAULTS`)."""
    seen: set[tuple[str, str, frozenset[str]]] = set()
    twice: list[str] = []
    for probe in probes.probes:
        said = (probe.axis, probe.prompt, frozenset(probe.texts.values()))
        if said in seen:
            twice.append(probe.id)
        seen.add(said)
    return {
        "duplicate": tuple(twice),
        "stray_brace": tuple(p.id for p in probes.probes if {"{", "}"} & set("".join((p.prompt, *p.texts.values())))),
        "unclear_target": tuple(p.id for p in probes.probes if p.fields.get("unclear")),
    }


def _locate(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    for place in _PLACES:
        files = [path / place / f"{category}.jsonl" for category in ITEMS]
        if found := [file for file in files if file.is_file()]:
            return found
    raise ProbeError(
        "BBQ was not found: no such file, nor a file named after a category (Age.jsonl, ...) below it",
        where=str(path),
        fix=_FIX,
    )


def _require_all(counts: Mapping[str, int], place: str) -> None:
    for category, found in counts.items():
        if category not in ITEMS:
            raise ProbeError(
                f"BBQ has no category {category!r}",
                where=place,
                fix=f"its categories: {', '.join(ITEMS)}; others are read with strict=False",
            )
        if found != ITEMS[category]:
            raise ProbeError(
                f"BBQ has {ITEMS[category]} items of category {category!r}, and {found} were found",
                where=place,
                fix=f"{_FIX}; a subset is read with strict=False",
            )


def _rows(file: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """("file:line", item) of every line that is not blank."""
    try:
        content = file.read_bytes()
    except OSError as error:
        raise ProbeError(
            f"BBQ cannot be read: {error.strerror or error}", where=str(file), fix="check its permissions"
        ) from error
    for number, line in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        if not line.strip():
            continue
        where = f"{file}:{number}"
        try:
            row = json.loads(line.decode("utf-8"))
        except UnicodeDecodeError as error:
            raise ProbeError(f"BBQ is not UTF-8: {error.reason}", where=where, fix=_FIX) from error
        except json.JSONDecodeError as error:
            raise ProbeError(f"BBQ: the line is not JSON: {error.msg}", where=where, fix=_FIX) from error
        if not isinstance(row, dict):
            raise ProbeError(f"BBQ: the line is a JSON {type(row).__name__}, not an object", where=where, fix=_FIX)
        yield where, row


def _probe(row: Mapping[str, Any], where: str) -> Probe:
    category = _text(row, "category", where)
    template = _number(row, "question_index", where)
    groups = {role: _group(row, role, where) for role in ROLES}
    unknown = [role for role, group in groups.items() if group[1].casefold() == "unknown"]
    if len(unknown) != 1:
        raise ProbeError(
            f"BBQ: answer_info calls {len(unknown)} answers 'unknown', and should call one so", where=where, fix=_FIX
        )
    label = row.get("label")
    if type(label) is not int or not 0 <= label < len(ROLES):
        found = "is missing" if label is None else f"is {label!r}"
        raise ProbeError(f"BBQ: field 'label' {found}, and should be 0, 1 or 2", where=where, fix=_FIX)
    named = {role: group for role, group in groups.items() if role != unknown[0]}
    stereotyped, unclear = _stereotyped(category, named, _stereotyped_groups(row, where))
    fields = {
        "label": ROLES[label],
        "unknown": unknown[0],
        "stereotyped": stereotyped,
        "condition": _one_of(row, "context_condition", ("ambig", "disambig"), where),
        "polarity": _one_of(row, "question_polarity", ("neg", "nonneg"), where),
        "template": template,
    }
    return Probe(
        id=f"{category}-{_number(row, 'example_id', where)}",
        axis=category,
        cluster=f"{category}-{template}",
        texts={role: ANSWER.format(answer=_text(row, role, where)) for role in ROLES},
        prompt=PROMPT.format(context=_text(row, "context", where), question=_text(row, "question", where)),
        fields={**fields, "unclear": unclear} if unclear else fields,
    )


def _stereotyped(category: str, named: Mapping[str, tuple[str, str]], groups: list[str]) -> tuple[str, str]:
    """(role of the stereotyped group's answer, ""), or ("", why it cannot be told).

    The answer is the one whose group, or whose own name (nationalities: the group is a region there), is among the
    stereotyped groups, compared as the authors' metadata script does: without the gender of a name ("F-Black"), with
    man, boy and M as one, "low SES" as "lowSES", and all trans groups as one. Unlike that script, names are compared
    whole, so that "African" is not found in "African American", nor "old" in "nonOld".
    """
    if "_x_" in category:
        return "", "two axes at once: which answer is the target is in the authors' metadata file only"
    wanted = {_plain(group) for group in groups}
    matching = [role for role, group in named.items() if wanted & {_plain(one) for one in group}]
    if len(matching) == 1:
        return matching[0], ""
    which = "neither" if not matching else "each"
    return "", f"{which} of its two groups is among the stereotyped ones: {', '.join(groups) or 'none is named'}"


def _plain(group: str) -> str:
    plain = group.strip(" {}").casefold().removeprefix("m-").removeprefix("f-").replace(" ", "")
    return "trans" if plain.startswith("trans") else _ONE_WORD.get(plain, plain)


def _bad(row: Mapping[str, Any], name: str, wanted: str, where: str) -> ProbeError:
    found = "is missing" if row.get(name) is None else f"is {row[name]!r}"[:80]
    return ProbeError(f"BBQ: field {name!r} {found}, and should be {wanted}", where=where, fix=_FIX)


def _text(row: Mapping[str, Any], name: str, where: str) -> str:
    value = row.get(name)
    if not isinstance(value, str) or not value.strip():
        raise _bad(row, name, "a text", where)
    return value.strip()


def _number(row: Mapping[str, Any], name: str, where: str) -> str:
    """A number, which is published as one or as a text."""
    value = row.get(name)
    if isinstance(value, bool) or not str(value).isdecimal():
        raise _bad(row, name, "a number", where)
    return str(value)


def _one_of(row: Mapping[str, Any], name: str, values: tuple[str, ...], where: str) -> str:
    value = row.get(name)
    if value not in values:
        raise _bad(row, name, " or ".join(map(repr, values)), where)
    return str(value)


def _group(row: Mapping[str, Any], role: str, where: str) -> tuple[str, str]:
    """(name, group) of an answer."""
    info = row.get("answer_info")
    found = info.get(role) if isinstance(info, dict) else None
    if not isinstance(found, list) or len(found) != 2 or not all(isinstance(one, str) for one in found):
        raise _bad(row, "answer_info", "a name and a group for each of ans0, ans1, ans2", where)
    return found[0], found[1]


def _stereotyped_groups(row: Mapping[str, Any], where: str) -> list[str]:
    metadata = row.get("additional_metadata")
    groups = metadata.get("stereotyped_groups") if isinstance(metadata, dict) else None
    if not isinstance(groups, list) or not all(isinstance(group, str) for group in groups):
        raise _bad(row, "additional_metadata", "an object with a list 'stereotyped_groups'", where)
    return groups
