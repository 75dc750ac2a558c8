"""The page in a real browser: images in, answers out, nothing breaks."""

import json
from contextlib import suppress

import numpy as np
import pytest
from demo_pages import serving
from PIL import Image
from selenium.common.exceptions import TimeoutException
from selenium.webdriver import ActionChains, Keys
from selenium.webdriver.common.by import By

MOST = 40_000


@pytest.fixture(scope="module")
def demo(finished):
    with serving(finished / "runs" / "tiny", "--max-pixels", str(MOST)) as demo:
        yield demo
        assert demo.process.poll() is None


@pytest.fixture(scope="module")
def painting(painted):
    with serving(painted) as demo:
        yield demo
        assert demo.process.poll() is None


@pytest.fixture
def page(shown, demo):
    return shown.open(demo.url)


def halves(size=(120, 60)):
    """Red left, blue right."""
    image = Image.new("RGB", size, "blue")
    image.paste("red", (0, 0, size[0] // 2, size[1]))
    return image


def draw_line(shown):
    """A line across the drawing board."""
    canvas = shown.wait(lambda: shown.browser.find_elements(By.CSS_SELECTOR, "#draw canvas"))[0]
    shown.wait(lambda: canvas.rect["width"] > 100 and shown.run("return !!document.querySelector('[title=Brush]')"))
    line = ActionChains(shown.browser).move_to_element(canvas).click_and_hold()
    line.move_by_offset(50, 20).move_by_offset(-20, 40).release().perform()


def test_the_first_image_is_answered_at_once(page):
    source, teacher, compressed = page.images()
    assert source.size == teacher.size == compressed.size == (32, 32)
    assert page.status().startswith("Answered the example: teacher ")
    text = page.run("return document.querySelector('#answers').innerText")
    for words in ("ms per image", "FPS", "MACs (published convention)", "x less", "8.94 M"):
        assert words in text
    assert page.run("return document.querySelector('h1').innerText") == "tiny: teacher and compressed generator"


def test_an_uploaded_image_is_answered_by_both(page, tmp_path):
    before = page.sources()
    halves().save(tmp_path / "halves.png")
    assert page.upload(tmp_path / "halves.png").startswith("Answered")
    page.wait(lambda: all(new != old for new, old in zip(page.sources(), before, strict=True)))
    source = page.images()[0]
    assert source.getpixel((2, 16)) == (255, 0, 0)
    assert source.getpixel((29, 16)) == (0, 0, 255)
    again = page.sources()
    halves().rotate(90).save(tmp_path / "another.png")  # the box takes the next one
    assert page.upload(tmp_path / "another.png").startswith("Answered")
    page.wait(lambda: page.sources()[0] != again[0])


def odd_images(folder):
    """Files of many modes, and what is red in them."""
    halves().convert("RGBA").save(folder / "rgba.png")
    halves().convert("P").save(folder / "palette.png")
    halves().convert("CMYK").save(folder / "cmyk.jpg", quality=95)
    rotated = Image.Exif()
    rotated[0x0112] = 6  # to be turned clockwise
    halves().transpose(Image.Transpose.ROTATE_90).save(folder / "exif.jpg", exif=rotated, quality=95)
    halves().convert("L").save(folder / "grey.png")
    Image.fromarray(np.asarray(halves().convert("L")).astype(np.uint16) * 257).save(folder / "deep.png")
    halves((3, 2)).save(folder / "small.webp", lossless=True)


@pytest.mark.parametrize(
    "name", ["rgba.png", "palette.png", "cmyk.jpg", "exif.jpg", "grey.png", "deep.png", "small.webp"]
)
def test_pictures_of_any_kind_are_answered(page, tmp_path, name):
    odd_images(tmp_path)
    before = page.sources()
    assert page.upload(tmp_path / name).startswith("Answered")
    page.wait(lambda: page.sources()[0] != before[0])
    left, right = (np.array(page.images()[0].getpixel((x, 16)), dtype=int) for x in (2, 29))
    if name in ("grey.png", "deep.png"):
        assert abs(left - 76).max() <= 2
        assert abs(right - 29).max() <= 2
    else:
        assert left[0] > left[2] + 150
        assert right[2] > right[0] + 50


@pytest.mark.parametrize("content", [b"this is no image", b"", "half"], ids=str)
def test_a_broken_upload_is_told_and_the_next_one_answered(page, tmp_path, content):
    halves().save(tmp_path / "good.png")
    good = (tmp_path / "good.png").read_bytes()
    (tmp_path / "<b>broken.png").write_bytes(good[: len(good) // 2] if content == "half" else content)
    before = page.sources()
    told = page.upload(tmp_path / "<b>broken.png")
    assert told.startswith("No answer: ")
    assert "cannot be read as an image" in told
    assert page.run("return document.querySelectorAll('#status b').length") == 0
    assert page.sources() == before
    assert page.upload(tmp_path / "good.png").startswith("Answered")


def test_too_many_pixels_are_told(page, tmp_path):
    Image.new("RGB", (MOST // 100, 101)).save(tmp_path / "large.png")
    told = page.upload(tmp_path / "large.png")
    assert "large.png: is 400 x 101 pixels; expected at most 40,000 in all" in told
    Image.new("RGB", (MOST // 100, 100)).save(tmp_path / "fits.png")
    assert page.upload(tmp_path / "fits.png").startswith("Answered")


def test_a_drawn_line_changes_both_answers(page):
    page.tab("Draw")
    page.wait(lambda: np.asarray(page.images()[0]).min() == 255)  # white paper, no longer the example
    before = page.sources()
    draw_line(page)
    page.wait(lambda: all(new != old for new, old in zip(page.sources(), before, strict=True)))
    assert np.asarray(page.images()[0]).min() < 60


def test_the_webcam_is_answered_live(page):
    page.tab("Webcam")
    allow = page.wait(lambda: page.browser.find_elements(By.CSS_SELECTOR, "#webcam [title^=grant] button"))[0]
    allow.click()
    record = "[...document.querySelectorAll('#webcam button')].find((e) => e.innerText.trim() == arguments[0])"
    page.wait(lambda: page.run(f"return {record}", "Record")).click()
    before = page.sources()
    for _ in range(3):
        page.wait(lambda before=before: all(new != old for new, old in zip(page.sources(), before, strict=True)))
        before = page.sources()
    assert page.status() == "Answering the webcam, frame by frame."
    page.wait(lambda: page.run(f"return {record}", "Stop")).click()


def test_painted_classes_change_both_answers(shown, painting):
    page = shown.open(painting.url)
    for words in ("label maps of 64 x 32 pixels", "class 3 #000080"):
        page.wait(lambda words=words: words in page.run("return document.body.innerText"))
    page.wait(lambda: page.status().startswith("Answered the drawing"))  # as it was before any line
    before = page.sources()
    draw_line(page)
    page.wait(lambda: all(new != old for new, old in zip(page.sources(), before, strict=True)))


def test_a_label_map_from_a_file(shown, painting, tmp_path):
    page = shown.open(painting.url)
    page.tab("From a file")
    ids = np.zeros((32, 64), dtype=np.uint8)
    ids[:, 32:] = 3
    Image.fromarray(ids).save(tmp_path / "ids.png")
    before = page.sources()
    assert page.upload(tmp_path / "ids.png").startswith("Answered")
    page.wait(lambda: all(new != old for new, old in zip(page.sources(), before, strict=True)))
    assert page.images()[0].getpixel((60, 10)) == (0, 0, 128)
    Image.fromarray(ids + 9).save(tmp_path / "other.png")
    assert "other.png: holds label id 9, 12" in page.upload(tmp_path / "other.png")
    halves().save(tmp_path / "photo.png")
    assert "photo.png: only 0% of it has the colour of a class" in page.upload(tmp_path / "photo.png")


FAINT = """
const light = (c) => c.map((v) => v / 255).map((v) => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
const parts = (c) => c.match(/[\\d.]+/g).map(Number);
const paper = (e) => { if (!e) return [255, 255, 255]; const c = parts(getComputedStyle(e).backgroundColor);
    return c.length == 3 || c[3] > 0 ? c.slice(0, 3) : paper(e.parentElement); };
const own = (e) => [...e.childNodes].some((n) => n.nodeType == 3 && n.textContent.trim());
return [...document.querySelectorAll('.gradio-container *')].filter((e) => e.checkVisibility() && own(e))
    .map((e) => { const pair = [light(parts(getComputedStyle(e).color).slice(0, 3)), light(paper(e))]
        .sort((a, b) => b - a); return [(pair[0] + .05) / (pair[1] + .05), e.outerHTML.slice(0, 200)]; })
    .filter(([ratio]) => ratio < 4.5)
"""
"""Texts whose contrast to what is behind them is below 4.5 (WCAG 2, 1.4.3), as (contrast, element)."""


@pytest.mark.parametrize("width", [1400, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_and_can_be_read(shown, demo, painting, width, scheme):
    for url in (demo.url, painting.url):
        page = shown.open(url, width, scheme)
        assert page.run("return document.documentElement.scrollWidth") <= width
        wide = """return [...document.querySelectorAll('#answers *, #status *, #head *, .legend *')].filter(
            (e) => e.getBoundingClientRect().right > window.innerWidth).map((e) => e.outerHTML)"""
        assert page.run(wide) == []
        assert faint(page) == []


def faint(page):
    """What cannot be read once all colours have settled, which on a busy machine takes a while."""
    with suppress(TimeoutException):
        page.wait(lambda: page.run(FAINT) == [])
    return page.run(FAINT)


def test_every_control_has_a_name_and_the_keyboard_reaches_them(page):
    for tab in ("From a file", "Webcam", "Draw"):
        page.tab(tab)
        nodes = page.browser.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
        roles = {"button", "textbox", "checkbox", "combobox", "slider", "tab", "link", "image", "radio", "img"}
        nameless = [
            node
            for node in nodes
            if not node["ignored"] and node["role"]["value"] in roles and not node.get("name", {}).get("value")
        ]
        assert nameless == []
    page.tab("From a file")
    page.run("document.activeElement.blur()")
    visited = []
    for _ in range(40):
        ActionChains(page.browser).send_keys(Keys.TAB).perform()
        visited.append(page.run("return document.activeElement.ariaLabel || document.activeElement.innerText"))
        if page.run("return document.activeElement == document.body"):
            break
    else:
        raise AssertionError(f"the keyboard is caught: {visited}")
    assert any("upload" in name.lower() for name in visited), visited
    assert any("From a file" in name for name in visited), visited


def test_those_who_hear_the_page_are_told(page):
    live = "const e = document.querySelector('#status .told').closest('[role]'); return [e?.role, e?.ariaLive]"
    page.wait(lambda: page.run(live) == ["status", "polite"])
    levels = page.run("return [...document.querySelectorAll('h1, h2, h3, h4')].map((e) => Number(e.tagName[1]))")
    assert levels == [1, 2, 2]
    assert page.run("return document.documentElement.lang") == "en"
    heads = page.run("return [...document.querySelectorAll('#answers th')].every((e) => e.scope)")
    assert heads


def test_nobody_else_is_asked(shown, demo, painting):
    for url in (demo.url, painting.url):
        shown.browser.get_log("performance")
        shown.browser.get_log("browser")
        shown.open(url)
        shown.run("return document.fonts.ready.then(() => 1)")
        events = [json.loads(entry["message"])["message"] for entry in shown.browser.get_log("performance")]
        asked = {each["params"]["request"]["url"] for each in events if each["method"] == "Network.requestWillBeSent"}
        assert len(asked) > 5
        assert [each for each in asked if not each.startswith((url, "data:", "blob:"))] == []
        assert [entry for entry in shown.browser.get_log("browser") if entry["level"] == "SEVERE"] == []
