"""The pictures of the README: the summary in a terminal, and the report's page, as a browser shows them.

    pytest examples/release_gate --fairtest-report build/demo --color=yes > build/demo.txt
    python examples/pictures/make.py build/demo.txt build/demo/report.html docs/pictures

Needs Chromium (or Chrome) on the path.
"""

from __future__ import annotations

import html
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
COLOURS = {"31": "#c9353f", "32": "#2f8f46", "33": "#b58900", "36": "#2aa198"}
PAGE = (
    '<body style="margin:0;background:#fdfdfb"><pre style="margin:0;padding:18px 22px;color:#222;white-space:pre-wrap;'
    "font:14px/1.45 'DejaVu Sans Mono',monospace\">{}</pre>"
)
_ESCAPE = re.compile(r"\x1b\[([0-9;]*)m")


def terminal_page(text: str) -> str:
    """The summary of a session, with pytest's colours."""
    lines = text.splitlines()
    first = next(index for index, line in enumerate(lines) if " fairtest " in _ESCAPE.sub("", line))
    last = next(index for index in range(len(lines) - 1, 0, -1) if "report:" in lines[index])
    parts, opened = [], 0
    for piece in re.split(r"(\x1b\[[0-9;]*m)", "\n".join(lines[first : last + 1])):
        code = _ESCAPE.fullmatch(piece)
        if code is None:
            parts.append(html.escape(piece))
            continue
        colour = next((COLOURS[one] for one in code[1].split(";") if one in COLOURS), None)
        if colour is not None:
            parts.append(f'<span style="color:{colour}">')
            opened += 1
        elif code[1] in {"", "0"}:
            parts.append("</span>" * opened)
            opened = 0
    return PAGE.format("".join(parts) + "</span>" * opened)


def picture(browser: str, page: Path, out: Path, width: int, height: int) -> None:
    """A screenshot of a page's first so many pixels."""
    command = [browser, "--headless", "--no-sandbox", "--hide-scrollbars", f"--window-size={width},{height}"]
    target = page.resolve().as_uri()
    subprocess.run([*command, f"--screenshot={out}", target], check=True, capture_output=True)  # noqa: S603 - our browser


def main(summary: str, report: str, where: str) -> None:
    """Makes terminal.png and report.png."""
    browser = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        sys.exit(f"no browser found: {', '.join(BROWSERS)}")
    directory = Path(where).resolve()
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        page = Path(place) / "terminal.html"
        text = terminal_page(Path(summary).read_text(encoding="utf-8"))
        page.write_text(text, encoding="utf-8")
        picture(browser, page, directory / "terminal.png", 940, 30 + 21 * text.count("\n") + 44)
    picture(browser, Path(report), directory / "report.png", 1100, 1320)


if __name__ == "__main__":
    main(*sys.argv[1:])
