"""The page in a browser, at two widths, in light and dark: it fits, it says nothing on the console, it loads nothing.

Needs the playwright package and a Chromium (Debian's ``chromium``, or ``playwright install chromium``).
"""

import os
import shutil
from pathlib import Path

import pytest
from html_pages import NASTY

from luthier.runtime.profile import Peaks

sync_api = pytest.importorskip("playwright.sync_api", reason="no browser test: the playwright package is not installed")


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        names = ("chromium", "chromium-browser", "google-chrome")
        path = next(filter(None, map(shutil.which, names)), playwright.chromium.executable_path)
        if not Path(path).exists():
            pytest.skip("no browser test: no Chromium is installed")
        options = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=path, args=options)
        yield browser
        browser.close()


@pytest.fixture
def file(luthier, tuned, tmp_path, monkeypatch):
    monkeypatch.setattr("luthier.peak.measure", lambda target: Peaks(1e11, 1e10))
    log = tuned(search=NASTY, luthier_version=NASTY)
    tuned(task=f"long_{'x' * 300}_{NASTY}", key="v1-other", decisions={"a": "b" * 400})
    assert luthier("report", log, "-o", "page.html").code == 0
    return f"file://{tmp_path / 'page.html'}"


@pytest.fixture
def visit(browser):
    """``visit(url, width, scheme)`` opens a page and returns it with what it said and asked for."""
    contexts = []

    def go(url, width=1400, scheme="light"):
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        contexts.append(context)
        page, said, asked = context.new_page(), [], []
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("dialog", lambda dialog: said.append(dialog.message))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(url)
        return page, said, asked

    yield go
    for context in contexts:
        context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1400])
def test_the_page_fits_and_is_silent(visit, file, width, scheme, tmp_path):
    page, said, asked = visit(file, width, scheme)
    page.get_by_role("button", name="Unfold all", exact=True).click()
    for fold in page.query_selector_all("details.task details > summary"):
        fold.click()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    boxes = "[...document.querySelectorAll('svg.chart, .scroll, pre')].map(e => e.getBoundingClientRect().right)"
    assert max(page.evaluate(boxes)) <= width
    light = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).every(n => n > 128)")
    assert light == (scheme == "light")
    page.screenshot(path=tmp_path / f"{width}_{scheme}.png", full_page=True)
    assert said == [] and asked == [file]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(visit, file, scheme):
    """Contrast of at least 4.5 to 1, as WCAG 2.1 asks for, of every colour that text has."""
    page, _, _ = visit(file, 1400, scheme)
    colours = page.evaluate(
        """() => {
        const s = getComputedStyle(document.documentElement), names = ["text", "soft", "link", "page", "panel"];
        return Object.fromEntries(names.map((n) => [n, s.getPropertyValue("--" + n).trim()]));
    }"""
    )

    def luminance(colour):
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        r, g, b = (v / 12.92 if v <= 0.03928 else ((v + 0.055) / 1.055) ** 2.4 for v in parts)
        return 0.2126 * r + 0.7152 * g + 0.0722 * b

    for text in ("text", "soft", "link"):
        for ground in ("page", "panel"):
            high, low = sorted((luminance(colours[text]), luminance(colours[ground])), reverse=True)
            assert (high + 0.05) / (low + 0.05) >= 4.5, (text, ground)


def test_tables_sort_by_keyboard(visit, file):
    page, said, _ = visit(file)
    column = "[...document.querySelectorAll('#tasks-table tbody tr')].map(r => Number(r.cells[0].textContent))"
    assert page.evaluate(column) == sorted(page.evaluate(column))
    page.locator("#tasks-table thead button").first.focus()
    page.keyboard.press("Enter")
    assert page.evaluate(column) == sorted(page.evaluate(column), reverse=True)
    assert page.locator("#tasks-table thead th").first.get_attribute("aria-sort") == "descending"
    page.keyboard.press("Enter")
    assert page.evaluate(column) == sorted(page.evaluate(column))
    assert said == []


def test_rows_are_filtered(visit, file):
    page, _, _ = visit(file)
    rows = page.locator("#tasks-table tbody tr:visible")
    whole = rows.count()
    page.get_by_label("Show tasks that contain").fill("CONV2D")
    assert 0 < rows.count() < whole
    assert page.locator("[data-count]").inner_text().strip() == f"{rows.count()} of {whole}"
    page.get_by_label("Show tasks that contain").fill("")
    assert rows.count() == whole


def test_a_link_unfolds_its_task(visit, file):
    page, _, _ = visit(f"{file}#task-2")
    opened = "[...document.querySelectorAll('details.task')].map(d => d.open)"
    assert page.evaluate(opened)[:3] == [False, True, False]
    page.locator("#tasks-table tbody a").first.click()
    page.wait_for_function("document.querySelector('#task-1').open")
    assert page.evaluate("Math.abs(document.querySelector('#task-1').getBoundingClientRect().top) < innerHeight")


def test_without_scripts_everything_is_there(browser, file):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(file)
    assert page.locator("#tasks-table tbody tr:visible").count() == 3
    assert not page.get_by_role("button", name="Unfold all").is_visible()
    page.locator("#task-1 > summary").click()
    assert page.locator("#task-1 figure svg").first.is_visible()
    context.close()
