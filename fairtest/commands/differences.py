"""A text and its counterfactual in one, word by word, in lines of a terminal."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from fairtest.augmentation import Change

_AROUND = 7  # words shown on each side of a change in a long text
_WHOLE_LINES = 3  # a text of so many lines is shown whole
_MOST_LINES = 8
_CUT = "…"

_COLORS = {"old": "\x1b[9;31m", "new": "\x1b[1;32m", "cut": "\x1b[2m", "head": "\x1b[1m", "note": "\x1b[2m"}
_MARKS = {"old": ("[-", "-]"), "new": ("{+", "+}")}
_RESET = "\x1b[0m"

# A text must not steer the terminal: control characters are shown as pictures, marks of direction as a question mark.
_VISIBLE = {code: 0x2400 + code for code in range(0x20)} | {0x7F: 0x2421}
_VISIBLE |= dict.fromkeys([*range(0x80, 0xA0), 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)], 0xFFFD)


def painted(text: str, style: str, *, color: bool) -> str:
    """The text in the colour of a style; as it is without colour."""
    return f"{_COLORS[style]}{text}{_RESET}" if color else text


@dataclass(slots=True)
class _Word:
    """What stands between two spaces: parts of a text that are the same, old or new."""

    parts: list[tuple[str, str]] = field(default_factory=list)
    changes: int = 0

    @property
    def changed(self) -> bool:
        return any(style in ("old", "new") for style, _ in self.parts)


def difference_lines(text: str, changes: Sequence[Change], width: int, *, color: bool) -> list[str]:
    """The text with each change as old and new, wrapped; a long text is shown around its changes alone."""
    words = _words(text, changes, color=color)
    lines = _wrapped(words, width)
    if len(lines) > _WHOLE_LINES:
        lines = _wrapped(_around_changes(words), width)
    shown, hidden = lines[:_MOST_LINES], lines[_MOST_LINES:]
    painted_lines = [" ".join(_painted_word(word, color=color) for word in line) for line in shown]
    further = sum(word.changes for line in hidden for word in line)
    if further:
        painted_lines.append(painted(f"{_CUT} and {further:,} more changed", "note", color=color))
    return painted_lines


def changes_between(text: str, other: str) -> list[Change]:
    """The words that differ, found by comparing."""
    old, new = (re.findall(r"\w+|\s+|.", whole) for whole in (text, other))
    places = [0]
    for piece in old:
        places.append(places[-1] + len(piece))
    return [
        Change(places[first], places[last], "".join(old[first:last]), "".join(new[start:end]))
        for kind, first, last, start, end in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes()
        if kind != "equal"
    ]


def opening_lines(text: str, width: int, lines: int) -> list[str]:
    """The first lines of a text."""
    # More than can be shown is not looked at; a text may be a megabyte.
    found = _wrapped(_words(text[: 2 * width * lines + 200], (), color=False), width)
    shown = [" ".join(part for word in line for _, part in word.parts) for line in found[:lines]]
    if len(found) > lines or len(text) > 2 * width * lines + 200:
        shown[-1] = _shortened(f"{shown[-1]} {_CUT}", width) if _columns(shown[-1]) < width - 1 else _dotted(shown[-1])
    return shown


def _dotted(line: str) -> str:
    return f"{line.rpartition(' ')[0]} {_CUT}"


def _words(text: str, changes: Iterable[Change], *, color: bool) -> list[_Word]:
    words = [_Word()]
    position = 0
    for change in changes:
        _add(words, "same", text[position : change.start])
        words[-1].changes += 1
        for style, part in (("old", change.before), ("new", change.after)):
            before, after = ("", "") if color or not part else _MARKS[style]
            _add(words, style, f"{before}{part}{after}")
            if color and style == "old" and change.before and change.after:
                words.append(_Word())  # a space between the two, which marks tell apart without colour
        position = change.end
    _add(words, "same", text[position:])
    return words if words[-1].parts else words[:-1]


def _add(words: list[_Word], style: str, part: str) -> None:
    for piece in re.split(r"(\s+)", part):
        if not piece.isspace():
            words[-1].parts += [(style, piece.translate(_VISIBLE))] * bool(piece)
        elif words[-1].parts:
            words.append(_Word())


def _around_changes(words: list[_Word]) -> list[_Word]:
    kept = bytearray(len(words))
    for index, word in enumerate(words):
        if word.changed:
            for near in range(max(0, index - _AROUND), min(len(words), index + _AROUND + 1)):
                kept[near] = 1
    found: list[_Word] = []
    for index, word in enumerate(words):
        if kept[index]:
            found.append(word)
        elif index == 0 or kept[index - 1]:
            found.append(_Word([("cut", _CUT)]))
    return found


def _wrapped(words: Iterable[_Word], width: int) -> list[list[_Word]]:
    lines: list[list[_Word]] = []
    used = 0
    for word in words:
        word.parts = [(style, _shortened(part, width)) for style, part in word.parts]
        size = sum(_columns(part) for _, part in word.parts)
        if lines and used + 1 + size <= width:
            lines[-1].append(word)
            used += 1 + size
        else:
            lines.append([word])
            used = size
    return lines


def _shortened(part: str, width: int) -> str:
    """A part that is longer than a line, cut."""
    return part if _columns(part[: width + 1]) <= width else part[: max(1, width // 2 - 1)] + _CUT


def _columns(part: str) -> int:
    if part.isascii():
        return len(part)
    return sum(
        0 if unicodedata.combining(character) else 1 + (unicodedata.east_asian_width(character) in "WF")
        for character in part
    )


def _painted_word(word: _Word, *, color: bool) -> str:
    return "".join(part if style == "same" else painted(part, style, color=color) for style, part in word.parts)
