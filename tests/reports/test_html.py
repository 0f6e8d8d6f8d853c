"""The page: verdict first, everything escaped, readable without colour, script, network or mouse."""

from __future__ import annotations

import html.parser
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from headless_browser import browser
from hypothesis import given, settings
from hypothesis import strategies as st
from report_documents import SPITEFUL, document, gate, of_gates, spiteful

from fairtest.errors import StoreError
from fairtest.gates.result import Estimate, Verdict
from fairtest.reports import html as page
from fairtest.reports.html import missing, render, write_html
from fairtest.reports.plots import Interval, _limits, cut

if missing():
    pytest.skip(f"an HTML report needs {', '.join(missing())}", allow_module_level=True)

VOID = {"meta", "link", "br", "img", "input", "hr"}
# Elements that the template and the drawings have; a name of a document must not add one.
KNOWN = {
    "html", "head", "body", "title", "style", "meta", "link", "header", "main", "footer", "nav", "section", "figure",
    "figcaption", "h1", "h2", "h3", "p", "ul", "li", "a", "span", "div", "strong", "code", "pre", "time", "table",
    "caption", "thead", "tbody", "tr", "th", "td", "svg", "desc", "g", "path", "use", "defs", "text", "rect",
    "clippath", "tspan",
}  # fmt: skip


class Reader(html.parser.HTMLParser):
    """Elements with their attributes, and the text under each."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open, self.wrong = [], [], []
        self.text = {}
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append((tag, len(self.elements) - 1))

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open[-1][0] == tag, f"</{tag}> closes <{self.open[-1][0]}>"
        self.open.pop()

    def handle_data(self, data):
        for _, place in self.open:
            self.text[place] = self.text.get(place, "") + data

    def all(self, *tags):
        return [
            (attributes, self.text.get(place, "").strip())
            for place, (tag, attributes) in enumerate(self.elements)
            if tag in tags
        ]


@pytest.fixture(scope="module")
def made():
    return render(document(), title="Release 7", command="make <demo>")


def test_the_verdict_comes_first_and_counts(made):
    read = Reader(made)
    assert read.all("h1")[0][1] == "4 of 6 gates hold, 1 does not hold, 1 is not decided"
    assert [text for _, text in read.all("h2")] == [
        "Verdict", "Gates", "Privacy", "Bias by group and arm", "Epsilon against bias",
        "What the amplification is made of", "Training", "Gradients by group", "Worst items", "Guards",
        "Data and environment", "How to repeat it",
    ]  # fmt: skip
    order = [made.index(words) for words in ("Does not hold (1)", "Not decided by this data (1)", "Holds (4)", "<svg")]
    assert order == sorted(order)
    assert "test_release.py::test_broken" in made


def test_the_page_has_what_a_reviewer_signs(made):
    for words in ("family of 5 gates (Holm)", "Training gives epsilon = 2.99 at delta = 5.5e-05",
                  "guard not met: dp_cda was trained; held-out loss rose", "compare dp with the same arm and CDA",
                  "dp_cda against baseline", "+5.0 [+3.5, +6.5]", "30 up, 4 down", "template-12", "make &lt;demo&gt;",
                  "Not shown: the losses of dp, dp_cda.", "epsilon = 8.0", "Release 7"):  # fmt: skip
        assert words in made, words
    assert "/somewhere/else" not in made


def test_a_document_of_nothing_is_a_page_too():
    text = render(document(gates=[], measurements=[], explanations=[], arms={}, ledger={}, failed_otherwise=[]))
    assert Reader(text).all("h1")[0][1] == "No gate was judged"
    assert "<svg" not in text


def test_sections_without_data_are_left_out():
    bare = document(gates=[gate()], measurements=[])
    for one in bare["arms"].values():
        one.pop("diagnostics", None)
        if one:
            one.update(statement=None, privacy="")
        for row in one.get("training", ()):
            row["curve"] = []
    headings = [text for _, text in Reader(render(bare)).all("h2")]
    assert not {"Privacy", "Epsilon against bias", "Training", "Gradients by group"} & set(headings)


def test_many_gates_are_all_drawn_and_few_are_told_before_the_drawing():
    many = document(gates=[gate(candidate=f"arm_{place}") for place in range(80)], explanations=[])
    text = render(many)
    assert text.count('id="gate-') == 80
    drawn = [shown for _, shown in Reader(text).all("svg")]
    for place in range(80):
        assert any(f"#{place + 1} arm_{place} " in shown for shown in drawn)
    assert "and 70 more" in text


@pytest.mark.parametrize("text", SPITEFUL, ids=range(len(SPITEFUL)))
def test_no_name_breaks_out_of_its_place(text):
    shown = render(spiteful(text), title=text, command=text)
    shown.encode("utf-8")
    read = Reader(shown)
    assert {tag for tag, _ in read.elements} <= KNOWN
    for tag, attributes in read.elements:
        assert not any(name.startswith("on") for name in attributes), (tag, attributes)
        assert not attributes.get("href", "").startswith(("http", "javascript"))
    assert not set(shown) & set("\x00\x1b\u202e")


@settings(max_examples=15)
@given(st.text(min_size=1, max_size=40))
def test_any_name_is_shown_as_text(text):
    read = Reader(render(of_gates(gate(candidate=text, metric=text, reason=text)), title=text))
    assert {tag for tag, _ in read.elements} <= KNOWN


def test_the_same_document_gives_the_same_bytes(made):
    assert render(document(), title="Release 7", command="make <demo>") == made
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from report_documents import document;"
        " from fairtest.reports.html import render;"
        " sys.stdout.buffer.write(render(document(), title='Release 7', command='make <demo>').encode())"
    )
    again = subprocess.run([sys.executable, "-c", code, str(Path(__file__).parent.parent)],
                           capture_output=True, check=True)  # fmt: skip
    assert again.stdout.decode() == made


def test_a_users_plotting_style_changes_nothing(made):
    import matplotlib as mpl

    with mpl.rc_context({"font.size": 30, "axes.facecolor": "red", "svg.fonttype": "path", "axes.grid": True}):
        assert render(document(), title="Release 7", command="make <demo>") == made


def test_the_page_needs_no_script_and_nothing_from_elsewhere(made):
    assert "default-src 'none'" in made
    read = Reader(made)
    assert not read.all("script", "iframe", "object", "img")
    links = [attributes["href"] for attributes, _ in read.all("a", "use", "link")]
    assert all(link.startswith(("#", "data:,")) for link in links)
    assert not re.search(r"@import|@font-face|url\((?!#)", made)


def test_every_reference_of_the_page_leads_somewhere_and_no_identifier_is_given_twice(made):
    read = Reader(made)
    identifiers = [attributes["id"] for _, attributes in read.elements if "id" in attributes]
    assert len(identifiers) == len(set(identifiers))
    wanted = [attributes["href"][1:] for attributes, _ in read.all("a", "use")]
    wanted += re.findall(r"url\(#([^)]+)\)", made)
    wanted += [one for _, attributes in read.elements for one in attributes.get("aria-labelledby", "").split()]
    assert set(wanted) <= set(identifiers)


def test_a_screen_reader_finds_headings_in_order_and_a_text_for_every_drawing(made):
    read = Reader(made)
    levels = [int(tag[1]) for tag, _ in read.elements if tag in {"h1", "h2", "h3"}]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    drawings = read.all("svg")
    assert len(drawings) >= 6
    for attributes, _ in drawings:
        assert attributes["role"] == "img"
        assert len(attributes["aria-labelledby"].split()) == 2
    told = " ".join(text for _, text in read.all("desc"))
    assert "Gate 2, FAIL: dp against baseline" in told
    for attributes, _ in read.all("th"):
        assert attributes["scope"] in {"col", "row"}
    assert len(read.all("caption")) == len(read.all("table"))
    assert all(text for _, text in read.all("caption"))
    assert read.all("html")[0][0]["lang"] == "en"


def test_verdicts_are_told_apart_without_colour(made):
    forests = [part for part in made.split("<svg")[1:] if 'aria-labelledby="forest-' in part]
    assert forests
    for words in ("PASS (circle)", "FAIL (square)", "UNDECIDED (open diamond)"):
        assert words in made


def contrast(one, other):
    """WCAG 2: (lighter + 0.05) / (darker + 0.05) of the relative luminances."""

    def luminance(text):
        parts = [int(text[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("place", [0, 1], ids=["light", "dark"])
def test_texts_and_marks_stand_out_from_what_is_behind_them(made, place):
    block = re.findall(r":root \{(.*?)\}", made, flags=re.DOTALL)[place]
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", block))
    texts = ["ink", "muted", "link", "pass", "fail", "undecided", *(f"arm-{index}" for index in range(8))]
    assert set(texts) <= set(colours)
    for name in texts:
        assert contrast(colours[name], colours["paper"]) >= 4.5, name
    for name in ("pass", "fail", "undecided", "muted"):
        assert contrast(colours[name], colours["zone"]) >= 3, name  # marks in the shaded zone
    for name in ("ink", "muted", "link"):
        assert contrast(colours[name], colours["soft"]) >= 4.5, name


def test_a_far_interval_does_not_press_the_others_together():
    near = [Interval(0.0, -1.0, 1.0), Interval(1.0, 0.0, 2.0)]
    low, high = _limits([*near, Interval(0.0, -1000.0, float("inf"))], [2.0])
    assert -10 < low < -1
    assert 2 < high < 10


def test_a_cut_name_keeps_both_ends():
    assert cut("short", 10) == "short"
    assert cut("dp_cda_eps3 against baseline_eps8", 15) == "dp_cda_…ne_eps8"


def test_a_gate_without_a_value_is_in_the_table_and_breaks_no_drawing():
    odd = [gate(change=None, verdict=Verdict.UNDECIDED), gate(), gate(change=Estimate(1.0, 1.0, 1.0))]
    assert "No" not in Reader(render(document(gates=odd))).all("h1")[0][1]
    assert "<svg" in render(document(gates=odd))


@settings(max_examples=20)
@given(st.lists(st.floats().map(lambda one: 0.0 if abs(one) < 1e-200 else one), min_size=4, max_size=4))
def test_any_number_is_drawn_or_left_out(numbers):
    value, low, high, allowed = numbers
    one = gate(change=Estimate(value, low, high), allowed=allowed, levels={"dp_cda": Estimate(value, low, high)})
    text = render(of_gates(one))
    assert "nan" not in "".join(re.findall(r' (?:d|x|y|transform)="([^"]*)"', text))


def test_without_its_packages_the_reader_is_told_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setattr(page, "missing", lambda: ["matplotlib"])
    with pytest.raises(StoreError, match=r"needs matplotlib, which is not installed[\s\S]*fairtest\[reports\]"):
        write_html(tmp_path / "report.html", document())
    assert not list(tmp_path.iterdir())


def test_nothing_is_imported_until_a_page_is_asked_for():
    code = (
        "import sys, fairtest.reports, fairtest.reports.html;"
        " print(sorted({'jinja2', 'matplotlib', 'torch'} & set(sys.modules)))"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told.strip() == "[]"


# -- in a browser -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    where = tmp_path_factory.mktemp("page")
    write_html(where / "usual.html", document(), title="Usual")
    write_html(where / "hostile.html", spiteful("x" * 400 + SPITEFUL[0]), title=SPITEFUL[1])
    with browser() as one:
        yield one, where


@pytest.mark.parametrize("name", ["usual", "hostile"])
@pytest.mark.parametrize("width", [400, 1280])
def test_a_browser_shows_it_without_scrolling_sideways_errors_or_requests(opened, name, width):
    one, where = opened
    one.size(width)
    url = (where / f"{name}.html").as_uri()
    one.open(url)
    assert one.value("document.documentElement.scrollWidth") <= width
    asked = [
        event["params"]["request"]["url"] for event in one.events if event["method"] == "Network.requestWillBeSent"
    ]
    assert [link for link in asked if not link.startswith("data:")] == [url]
    told = {"Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Page.javascriptDialogOpening"}
    assert not [event for event in one.events if event["method"] in told]
    assert one.value("document.querySelectorAll('script, iframe, img, [onload], [onerror]').length") == 0


def test_a_browser_shows_it_dark_and_prints_it_light(opened):
    one, where = opened
    one.size(1280)
    one.open((where / "usual.html").as_uri())
    paper = "getComputedStyle(document.documentElement).backgroundColor"
    mark = "getComputedStyle(document.querySelector('svg text')).fill"
    seen = {}
    for kind, scheme in (("screen", "light"), ("screen", "dark"), ("print", "dark")):
        one.media(kind, scheme)
        seen[kind, scheme] = (one.value(paper), one.value(mark))
    assert seen["screen", "light"][0] == "rgb(255, 255, 255)"
    assert seen["screen", "dark"][0] == "rgb(20, 23, 27)"
    assert seen["screen", "dark"][1] != seen["screen", "light"][1]
    assert seen["print", "dark"] == seen["screen", "light"]
    assert one.pdf().startswith(b"%PDF")


def test_texts_of_drawings_stay_inside_and_do_not_run_into_each_other(opened):
    one, where = opened
    one.size(1280)
    one.media()
    one.open((where / "usual.html").as_uri())
    overlaps = one.value("""
      [...document.querySelectorAll('svg.figure')].flatMap(svg => {
        const frame = svg.getBoundingClientRect();
        const boxes = [...svg.querySelectorAll('text')].map(t => [t.textContent, t.getBoundingClientRect()]);
        const out = boxes.filter(([, b]) => b.left < frame.left - 1 || b.right > frame.right + 1
          || b.top < frame.top - 1 || b.bottom > frame.bottom + 1).map(([t]) => 'outside: ' + t);
        boxes.forEach(([t, a], i) => boxes.slice(i + 1).forEach(([u, b]) => {
          if (Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1
              && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 3) out.push(t + ' | ' + u);
        }));
        return out;
      })""")
    assert overlaps == []
