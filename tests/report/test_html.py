"""The page of a report: whole tags, nothing loaded from elsewhere, every table sortable, pictures and data as given."""

import base64
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import example_runs as runs
import pytest
from matplotlib.figure import Figure

from mas_hooks.core.errors import EmptyError, OutputFolderError, SettingError, ShapeError
from mas_hooks.report.data.sheets import Sheet, SheetLine, result_sheets
from mas_hooks.report.page.html import Section, html_page, save_html

PNG = b"\x89PNG\r\n\x1a\n made up"
SETTINGS = {"recipe": "toxicity", "splits": 3, "name": "a </script><script>alert(1)</script>", "sizes": [1, 2]}
MACHINE = {"python": "3.11", "cuda": None}
VOID = {"meta", "img", "br", "link", "input", "hr"}
LOADING = {"src", "href", "srcset", "action", "data", "poster", "background", "formaction", "ping"}
SHEET = Sheet(
    "Pairs & <u>kinds</u>",
    ("models", "IIA", "95% <u>interval</u>"),
    (
        SheetLine(("t10 × n0", "0.50", "0.4–0.6"), worst=True),
        SheetLine(("t2 × n0", "−0.25", "")),
        SheetLine(("<b>t1</b> × n0", "", "0.1–0.2"), control=True),
        SheetLine(("t1 × n0", "10", "3e-05–1")),
    ),
    "Read it <u>well</u>.",
)


class Page(HTMLParser):
    """What stands in a page; fails at a tag that is not closed."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.said = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs), [one[0] for one in self.open]))
        self.said.append([tag, dict(attrs), ""])
        if tag not in VOID:
            self.open.append((tag, len(self.said) - 1))

    def handle_endtag(self, tag):
        assert self.open, tag
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        for _, number in self.open:
            self.said[number][2] += data

    def all(self, tag, **wanted):
        return [(attrs, text) for own, attrs, text in self.said if own == tag and wanted.items() <= attrs.items()]


def page(sections=None, **words):
    figure = Figure((2, 1))
    figure.add_subplot().plot([1, 2])
    given = sections or [
        Section(
            "The <u>verdict</u>",
            ["It is < 0.05 & <u>so</u> on.", "Second."],
            {'A <u>"figure"</u>': figure, "given": PNG},
            [SHEET],
        ),
        Section("All directions", tables=result_sheets(runs.demo())),
    ]
    return html_page("Toxicity <u>1</u>", given, **({"settings": SETTINGS, "environment": MACHINE} | words))


def test_tags_are_whole_and_texts_are_texts():
    found = Page(page())
    assert [text for _, text in found.all("h1")] == ["Toxicity <u>1</u>"] == [text for _, text in found.all("title")]
    assert [text for _, text in found.all("h2")] == ["The <u>verdict</u>", "All directions"]
    assert found.all("p")[0][1] == "It is < 0.05 & <u>so</u> on."
    assert found.all("html")[0][0]["lang"] == "en"
    assert not found.all("b")
    assert not found.all("u")
    assert page().startswith("<!DOCTYPE html>\n")


def test_nothing_is_loaded_from_elsewhere():
    text = page()
    found = Page(text)
    for tag, attrs, _ in found.tags:
        assert tag not in {"link", "iframe", "object", "embed", "base", "video", "audio", "form"}
        for name, value in attrs.items():
            assert name not in LOADING or value.startswith("data:image/png;base64,"), (tag, name)
            assert not name.startswith("on"), (tag, name)
    assert not re.search(r"https?:|//[a-z]|@import|url\(", re.sub(r"base64,[^\"]*", "", text))
    (policy,) = [attrs for attrs, _ in found.all("meta") if attrs.get("http-equiv") == "Content-Security-Policy"]
    assert policy["content"].startswith("default-src 'none'; img-src data:;")


def test_pictures_are_those_given():
    found = Page(page())
    drawn, given = [attrs for attrs, _ in found.all("img")]
    assert (drawn["alt"], given["alt"]) == ('A <u>"figure"</u>', "given")
    first, second = (base64.b64decode(one["src"].partition(",")[2], validate=True) for one in (drawn, given))
    assert first.startswith(b"\x89PNG")
    assert len(first) > 500
    assert second == PNG
    assert [text for _, text in found.all("figcaption")] == ['A <u>"figure"</u>', "given"]


def test_every_column_of_every_table_can_be_sorted():
    found = Page(page())
    tables = found.all("table")
    assert len(tables) == 1 + len(result_sheets(runs.demo()))
    assert all("sortable" in attrs["class"].split() for attrs, _ in tables)
    heads = [tag for tag, _, above in found.tags if tag == "th" and "thead" in above]
    buttons = [attrs for tag, attrs, above in found.tags if tag == "button" and above[-1] == "th"]
    columns = len(SHEET.columns) + sum(len(sheet.columns) for sheet in result_sheets(runs.demo()))
    assert [text for _, text in found.all("th")][:3] == list(SHEET.columns)
    assert len(heads) == len(buttons) == len(found.all("th")) == columns
    assert {attrs["type"] for attrs in buttons} == {"button"}
    plain = [text for attrs, text in found.all("script") if "type" not in attrs]
    assert len(plain) == 1
    assert 'querySelectorAll("table.sortable")' in plain[0]


def test_cells_are_the_sheets_and_numbers_sort_as_numbers():
    found = Page(page([Section("One", tables=[SHEET])]))
    cells = found.all("td")
    assert [text for _, text in cells] == [cell for line in SHEET.lines for cell in line.cells]
    values = [attrs.get("data-value") for attrs, _ in cells]
    assert values == [None, "0.50", "0.4", None, "-0.25", None, None, None, "0.1", None, "10", "3e-05"]
    assert [attrs.get("class") for attrs, _ in found.all("tr")] == [None, "worst", None, "control", None]
    assert found.all("caption")[0][1] == "Pairs & <u>kinds</u>"
    assert found.all("p", **{"class": "note"})[0][1] == "Bold: the worst direction of its fit. Read it <u>well</u>."


def test_settings_and_environment_are_data_that_cannot_break_out():
    found = Page(page())
    for name, content in (("settings", SETTINGS), ("environment", MACHINE)):
        ((_, text),) = found.all("script", id=name, type="application/json")
        assert json.loads(text) == content
    assert [json.loads(text) for _, text in found.all("pre")] == [SETTINGS, MACHINE]
    assert len(found.all("script")) == 3
    assert len(Page(page(settings=None, environment=None)).all("script")) == 1


DOM = """
const made = ([texts, values]) => ({cells: texts.map((text, i) => (
  {textContent: text, dataset: values[i] === null ? {} : {value: values[i]}}))});
const head = () => { const own = {}; return {
  querySelector: () => ({addEventListener: (_, run) => { own.click = run; }}), click: () => own.click(),
  getAttribute: name => own[name] ?? null, setAttribute: (name, value) => { own[name] = value; },
  removeAttribute: name => { delete own[name]; }}; };
const body = {rows: ROWS.map(made), append(...rows) { this.rows = rows; }};
const heads = ROWS[0][0].map(head);
const document = {querySelectorAll: () => [{tHead: {rows: [{cells: heads}]}, tBodies: [body]}]};
"""
CLICKS = """
const first = () => body.rows.map(row => row.cells[0].textContent);
const told = [0, 0, 1, 1, 2].map(column => { heads[column].click();
  return [first(), heads.map(one => one.getAttribute("aria-sort"))]; });
console.log(JSON.stringify(told));
"""


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node to run the script")
def test_the_script_sorts(tmp_path):
    found = Page(page([Section("One", tables=[SHEET])], settings=None, environment=None))
    cells = [(text, attrs.get("data-value")) for attrs, text in found.all("td")]
    rows = [list(zip(*cells[at : at + 3], strict=True)) for at in range(0, len(cells), 3)]
    ((_, script),) = found.all("script")
    (tmp_path / "sort.js").write_text(f"const ROWS = {json.dumps(rows)};{DOM}{script}{CLICKS}", encoding="utf-8")
    done = subprocess.run(["node", str(tmp_path / "sort.js")], capture_output=True, text=True, check=True)
    up, down, rising, falling, interval = json.loads(done.stdout)
    assert up == [["<b>t1</b> × n0", "t1 × n0", "t2 × n0", "t10 × n0"], ["ascending", None, None]]
    assert down == [["t10 × n0", "t2 × n0", "t1 × n0", "<b>t1</b> × n0"], ["descending", None, None]]
    assert rising == [["t2 × n0", "t10 × n0", "t1 × n0", "<b>t1</b> × n0"], [None, "ascending", None]]  # empty last
    assert falling == [["t1 × n0", "t10 × n0", "t2 × n0", "<b>t1</b> × n0"], [None, "descending", None]]
    assert interval == [["t1 × n0", "<b>t1</b> × n0", "t10 × n0", "t2 × n0"], [None, None, "ascending"]]


def test_a_page_is_written_whole_or_not(tmp_path, monkeypatch):
    path = save_html(tmp_path / "report.html", page())
    assert path.read_text(encoding="utf-8") == page()
    with pytest.raises(OutputFolderError, match="make the folder or make it writable"):
        save_html(tmp_path / "nowhere" / "report.html", "new")

    def full(self, data, encoding):
        self.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OutputFolderError, match="no space left on device; free some space"):
        save_html(path, "new")
    assert [one.name for one in tmp_path.iterdir()] == ["report.html"]
    assert path.read_text(encoding="utf-8") == page()


def test_what_cannot_be_shown_is_said():
    with pytest.raises(EmptyError, match="the page of the report is empty; give at least one section"):
        html_page("x", [])
    with pytest.raises(SettingError, match=r"the figure 'a' is b'GIF89a', but must be a figure, or the bytes of a PNG"):
        page([Section("x", figures={"a": b"GIF89a"})])
    with pytest.raises(ShapeError, match=r"a line of the table 't' has shape \(1,\), but \(2,\), a cell for each"):
        page([Section("x", tables=[Sheet("t", ("a", "b"), (SheetLine(("1",)),))])])
