"""The words around a place in a text, as the rules of disambiguation read them."""

from __future__ import annotations

import re
from dataclasses import dataclass

END = "."
QUOTE = '"'

# One token: a word with its inner hyphens and apostrophes (WikiText writes " @-@ "), an end of paragraph, or a mark.
_TOKEN = re.compile(
    r"(?P<end>\n[^\S\n]*\n)|(?P<space>\s+)|(?P<clitic>['\u2019](?:s|d|ll|m|re|ve|t)\b)"
    r"|(?P<word>[^\W_]+(?:(?:['\u2019-]|\s@-@\s)[^\W_]+)*)|(?P<mark>.)",
    re.DOTALL | re.IGNORECASE,
)
_QUOTES = "\"\u201c\u201d\u2018\u2019'`\u00ab\u00bb"
_KEPT_MARKS = "/&(<"
_REACH = 120  # characters; long enough for the few tokens a rule looks at
_NEAR = 44  # characters that mostly hold them
# Emphasis around the word itself: *her* coat, _her_ coat, <b>her</b> coat.
_CLOSING = re.compile(r"[*_]+|</\w{1,10}>")
_OPENING = re.compile(r"(?:[*_]+|<\w{1,10}>)$")
_LAST_WORDS = re.compile(r"[^\W_]+(?:['\u2019-][^\W_]+)*|\n[^\S\n]*\n|[^\w\s]")


@dataclass(frozen=True, slots=True)
class Context:
    """A word and its neighbours. Words keep their case in `*_cased`; every end of a clause is "." and a quotation mark
    that opens is '"'.
    """

    word: str
    before: tuple[str, ...]
    after: tuple[str, ...]
    before_cased: tuple[str, ...]
    after_cased: tuple[str, ...]

    def next(self, index: int = 0) -> str:
        """The lower-case token that many places after the word; "." beyond the end."""
        return self.after[index] if index < len(self.after) else END

    def previous(self, index: int = 0) -> str:
        """The lower-case token that many places before the word; "." beyond the start."""
        return self.before[-1 - index] if index < len(self.before) else END


def context_of(text: str, start: int, end: int, width: int = 4) -> Context:
    """The `width` tokens on each side of text[start:end], and of the marks that emphasise it."""
    closing = _CLOSING.match(text, end)
    opening = _OPENING.search(text, max(0, start - 12), start)
    after = _tokens_after(text, closing.end() if closing else end, width)
    before = _tokens_before(text, opening.start() if opening else start, width)
    return Context(text[start:end], _plain(before), _plain(after), tuple(before), tuple(after))


def _plain(tokens: list[str]) -> tuple[str, ...]:
    return tuple(token.lower().replace("\u2019", "'") for token in tokens)


def _tokens_after(text: str, position: int, width: int) -> list[str]:
    tokens: list[str] = []
    spaced = False
    for match in _TOKEN.finditer(text, position, min(len(text), position + _REACH)):
        kind = match.lastgroup
        if kind == "space":
            spaced = True
            continue
        token = match.group()
        if kind == "end":
            token = END
        elif kind == "mark":
            if token in _QUOTES and spaced:
                token = QUOTE
            elif token not in _KEPT_MARKS:
                token = END
        tokens.append(token)
        spaced = False
        if len(tokens) == width or token == END:
            break
    return tokens


def _tokens_before(text: str, position: int, width: int) -> list[str]:
    tokens: list[str] = []
    for reach in (_NEAR, _REACH):
        first = max(0, position - reach)
        tokens = _LAST_WORDS.findall(text, first, position)
        # Of more than `width` tokens the first, which may be a part of a word, is not looked at.
        if len(tokens) > width or first == 0:
            break
    return [END if not (token[0].isalnum() or token in _KEPT_MARKS[:2]) else token for token in tokens[-width:]]
