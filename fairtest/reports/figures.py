"""Drawings as inline SVG: in the colours of the page, with text that can be searched, and the same bytes each time.

A drawing is made with matplotlib in stand-in colours, and then rewritten: stand-ins become CSS variables of the page,
so that one drawing serves light and dark; identifiers are kept only where something refers to them, under the name of
the drawing; title and description are put first, for those who do not see it.
"""

from __future__ import annotations

import contextlib
import io
import logging
import re
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Stand-in -> CSS variable. Any colours will do that nothing else uses.
_VARIABLES = {
    "ink": "#010101",
    "muted": "#020202",
    "line": "#030303",
    "zone": "#040404",
    "PASS": "#050505",
    "FAIL": "#060606",
    "UNDECIDED": "#070707",
    "paper": "#080808",
    **{f"arm-{index}": f"#0900{index:02x}" for index in range(8)},
}
ARMS = 8
FONT = 12.0
_PIXELS = 72  # of an inch: a point of matplotlib is a pixel of the drawing
_NUMBER = re.compile(r"-?\d+\.\d+")
_REFERENCE = re.compile(r"url\(#([^)]+)\)")


def colour(name: str) -> str:
    """The stand-in for a colour of the page: "ink", "muted", "line", "zone", "paper", a verdict, or "arm-0" ..."""
    return _VARIABLES[name]


def css_variable(name: str) -> str:
    """The page's variable for a colour."""
    return f"--{name.lower()}"


@contextlib.contextmanager
def drawing(width: float, height: float) -> Iterator[Figure]:
    """A figure of so many pixels, drawn under matplotlib's defaults whatever a user's matplotlibrc says."""
    logger = logging.getLogger("matplotlib")
    level = logger.level
    # It tells of fonts that it builds a list of, which is nothing to a reader of reports.
    logger.setLevel(logging.ERROR)
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure

        default: dict[Any, Any] = {name: value for name, value in mpl.rcParamsDefault.items() if "backend" not in name}
        own: dict[Any, Any] = {
            "svg.fonttype": "none",
            "svg.hashsalt": "fairtest",
            "text.parse_math": False,
            "font.size": FONT,
            "text.color": colour("ink"),
            "xtick.color": colour("muted"),
            "ytick.color": colour("muted"),
            "axes.edgecolor": colour("line"),
            "axes.labelcolor": colour("ink"),
            "axes.facecolor": "none",
        }
        with mpl.rc_context({**default, **own}), warnings.catch_warnings():
            # A name may have characters that the font for measuring lacks; the reader's browser has them.
            warnings.simplefilter("ignore")
            figure = Figure(figsize=(width / _PIXELS, height / _PIXELS), dpi=_PIXELS)
            figure.patch.set_visible(False)
            yield figure
    finally:
        logger.setLevel(level)


def svg(figure: Figure, *, name: str, title: str, description: str) -> str:
    """The figure as an <svg> element for a page. `name` is unique on it."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    buffer = io.BytesIO()
    canvas: Any = FigureCanvasSVG(figure)
    canvas.print_svg(buffer, metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    root = ET.fromstring(buffer.getvalue().decode("utf-8"))  # noqa: S314 - what matplotlib wrote this moment
    used = {found for element in root.iter() for found in _referred(element)}
    _rewrite(root, name, used)
    root.attrib = {
        "class": "figure",
        "viewBox": root.attrib["viewBox"],
        "role": "img",
        "aria-labelledby": f"{name}-title {name}-description",
    }
    for place, (tag, text) in enumerate((("title", title), ("desc", description))):
        element = ET.Element(tag, {"id": f"{name}-{'description' if tag == 'desc' else tag}"})
        element.text = text
        root.insert(place, element)
    return ET.tostring(root, encoding="unicode")


def _referred(element: ET.Element) -> list[str]:
    found = [one for value in element.attrib.values() for one in _REFERENCE.findall(value)]
    return found + [value[1:] for key, value in element.attrib.items() if key.endswith("href") and value[:1] == "#"]


def _rewrite(parent: ET.Element, name: str, used: set[str]) -> None:
    """Cleans an element and everything in it."""
    parent.tag = _local(parent.tag)
    parent.attrib = _attributes(parent.attrib, name, used)
    if parent.tag != "text":
        parent.text = None
    children: list[ET.Element] = []
    for child in parent:
        if _local(child.tag) in {"metadata", "style"}:
            continue
        _rewrite(child, name, used)
        child.tail = None
        if child.attrib or child.tag not in {"g", "defs"}:
            children.append(child)
        elif child.tag == "g":
            children.extend(child)  # a group that says nothing
        elif len(child):
            children.append(child)
    parent[:] = children


def _attributes(given: dict[str, str], name: str, used: set[str]) -> dict[str, str]:
    kept: dict[str, str] = {}
    for key, value in given.items():
        local = _local(key)
        if local == "id":
            if value in used:
                kept["id"] = f"{name}-{value}"
        elif local == "href":
            kept["href"] = f"#{name}-{value[1:]}"
        elif local == "style":
            kept["style"] = _style(value)
        elif local == "d":
            kept["d"] = " ".join(_rounded(value).split())
        elif local != "transform" or not re.match(r"rotate\(-?0 ", value):
            kept[local] = _REFERENCE.sub(rf"url(#{name}-\1)", _rounded(value))
    return kept


def _style(value: str) -> str:
    """CSS with the page's colours, and its font."""
    kept = []
    for declaration in value.split(";"):
        key, _, given = (part.strip() for part in declaration.partition(":"))
        if key and key != "font-family":
            kept.append(f"{key}:{_colours().get(given, _rounded(given))}")
    return ";".join(kept)


def _colours() -> dict[str, str]:
    return {stand_in: f"var({css_variable(name)})" for name, stand_in in _VARIABLES.items()}


def _rounded(value: str) -> str:
    """A tenth of a pixel is as exact as a screen shows."""
    return _NUMBER.sub(lambda found: f"{float(found[0]):.1f}".removesuffix(".0"), value)


def _local(name: Any) -> str:
    return str(name).rpartition("}")[2]
