"""The page in a real browser, on a desk and on a phone, by day and by night."""

from pathlib import Path

import pytest
from selenium import webdriver

from ganc_nni.report.build import PAGE

CHROMIUM, CHROMEDRIVER = "/usr/bin/chromium", "/usr/bin/chromedriver"

pytestmark = pytest.mark.skipif(not Path(CHROMIUM).is_file(), reason="needs Chromium")


@pytest.fixture(scope="module")
def browser():
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(CHROMEDRIVER))
    yield driver
    driver.quit()


def show(browser, finished, width, scheme):
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    features = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", features)
    browser.get((finished / "runs" / "tiny" / PAGE).as_uri())


@pytest.mark.parametrize("width", [1400, 390, 320])
def test_nothing_is_wider_than_the_screen(browser, finished, width):
    show(browser, finished, width, "light")
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    outside = """
        const inside = (e) => e.closest('.scroll, pre, .skip, .plot svg');
        return [...document.querySelectorAll('main *')].filter(
            (e) => !inside(e) && e.getBoundingClientRect().right > window.innerWidth + 1).map((e) => e.outerHTML)"""
    assert browser.execute_script(outside) == []
    cut = "return [...document.querySelectorAll('.tiles div')].filter((e) => e.scrollWidth > e.clientWidth).length"
    assert browser.execute_script(cut) == 0


def test_night_is_darker_than_day(browser, finished):
    papers, shots = [], []
    for scheme in ("light", "dark"):
        show(browser, finished, 1400, scheme)
        papers.append(browser.execute_script("return getComputedStyle(document.body).backgroundColor"))
        shots.append(browser.get_screenshot_as_png())
    assert papers == ["rgb(255, 255, 255)", "rgb(17, 20, 24)"]
    assert shots[0] != shots[1]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_stand_out_from_the_paper(browser, finished, scheme):
    """WCAG 2.2, 1.4.3: text at least 4.5 to 1."""
    show(browser, finished, 1400, scheme)
    least = browser.execute_script(
        """
        const light = (c) => c.map((v) => v / 255).map((v) => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
            .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
        const parts = (c) => c.match(/[\\d.]+/g).map(Number);
        const paper = (e) => { const c = parts(getComputedStyle(e).backgroundColor);
            return c.length == 3 || c[3] > 0 ? c.slice(0, 3) : paper(e.parentElement); };
        return Math.min(...[...document.querySelectorAll('body *')].filter((e) => e.innerText).map((e) => {
            const pair = [light(parts(getComputedStyle(e).color).slice(0, 3)), light(paper(e))].sort((a, b) => b - a);
            return (pair[0] + .05) / (pair[1] + .05); }))"""
    )
    assert least >= 4.5


def test_the_browser_asks_nobody_and_complains_of_nothing(browser, finished):
    browser.get_log("browser")
    browser.get_log("performance")
    show(browser, finished, 1400, "light")
    assert browser.get_log("browser") == []
    asked = [entry["message"] for entry in browser.get_log("performance") if 'requestWillBeSent"' in entry["message"]]
    assert [message for message in asked if '"url":"http' in message] == []
