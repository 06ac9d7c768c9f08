"""The page of the demo: what it says, that its links lead somewhere, and that it works."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from pantskit.demo.page import write_page


class Links(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attrs):
        for name, value in attrs:
            if name in ("href", "src"):
                self.found.append(value)
            if name == "data-stack":
                self.found.extend(value.split("|"))


@pytest.fixture(scope="module")
def page(demo_folder, steps):
    return write_page(demo_folder, steps, real=False)


def test_every_link_leads_to_a_file_beside_the_page(page):
    links = Links()
    links.feed(page.read_text("utf-8"))
    assert len(links.found) > 50  # two cases with a stack of slices each
    outside = [link for link in links.found if re.match(r"[a-z]+:|/", link)]
    assert outside == []
    assert [link for link in links.found if not (page.parent / link).exists()] == []


def test_page_says_what_was_scored_and_over_how_many_cases(page):
    text = page.read_text("utf-8")
    # the predicted liver lacks one of 12 layers: DSC = 2 x 11 / (12 + 11)
    assert f"{22 / 23:.3f}" in text
    assert "1 with, 1 without" in text
    assert "mean of 2 cases" in text
    assert "pantskit check dataset" in text


def test_text_from_outside_is_escaped(page):
    text = page.read_text("utf-8")
    assert "Check &lt;geometry&gt;" in text
    assert "<geometry>" not in text


def test_case_that_cannot_be_drawn_is_named(demo_folder, steps):
    path = demo_folder / "predictions" / "case_0" / "combined_labels.nii.gz"
    whole = path.read_bytes()
    path.write_bytes(whole[:100])
    try:
        text = write_page(demo_folder, steps, real=False).read_text("utf-8")
    finally:
        path.write_bytes(whole)
    assert re.search(r"case_0: .*(cut short|damaged)", text)
    assert "case_1" in text


@pytest.mark.browser
def test_page_opens_from_disk_and_its_slider_turns_slices(page, chromium, tmp_path):
    from playwright.sync_api import sync_playwright

    complaints = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-background-networking"]
        )
        tab = browser.new_page(viewport={"width": 1200, "height": 900})
        tab.on("console", lambda message: complaints.append(message.text))
        tab.on("pageerror", lambda error: complaints.append(str(error)))
        tab.on("requestfailed", lambda request: complaints.append(request.url))
        tab.goto(page.as_uri())
        slider = tab.locator("input[type=range]").first
        picture = tab.locator(".stack img").first
        before = picture.get_attribute("src")
        slider.focus()
        slider.press("ArrowRight")
        tab.wait_for_function(
            "i => i.complete && i.naturalWidth > 0", arg=picture.element_handle(), timeout=10_000
        )
        after = picture.get_attribute("src")
        wide = tab.evaluate("document.documentElement.scrollWidth > window.innerWidth")
        browser.close()
    assert complaints == []
    assert before != after
    assert not wide
