"""A demo served by a process of its own, and its page as a browser shows it."""

import base64
import io
import re
import signal
import subprocess
import sys
from contextlib import contextmanager

from PIL import Image
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait


class Demo:
    """A served demo.

    Attributes:
        url: Where.
        process: The one that serves.
    """

    def __init__(self, process):
        self.process, self.lines = process, []
        for line in process.stdout:
            self.lines.append(line)
            if found := re.search(r"http://(?:127\.0\.0\.1|0\.0\.0\.0):(\d+)/", line):
                self.port = int(found[1])
                self.url = f"http://127.0.0.1:{self.port}/"
                return
        raise AssertionError(f"the demo ended:\n{''.join(self.lines)}")

    def end(self, number=signal.SIGINT):
        """Exit code and the rest of what it has printed."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        out = "" if self.process.stdout.closed else self.process.communicate(timeout=60)[0]
        return self.process.returncode, out


@contextmanager
def serving(folder, *options):
    """A demo of a run folder, ended on the way out."""
    command = [sys.executable, "-m", "ganc_nni", "demo", str(folder), "--port", "0", "--device", "cpu", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        demo = Demo(process)
        yield demo
        demo.end()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


class Shown:
    """The page as the browser shows it."""

    def __init__(self, browser):
        self.browser = browser

    def open(self, url, width=1400, scheme="light"):
        size = {"width": width, "height": 1000, "deviceScaleFactor": 1, "mobile": width < 600}
        self.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        features = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        self.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", features)
        self.browser.get(url)
        self.wait(lambda: len(self.sources()) == 3)
        return self

    def wait(self, condition):
        return WebDriverWait(self.browser, 60, 0.1).until(lambda _: condition())

    def run(self, script, *arguments):
        return self.browser.execute_script(script, *arguments)

    def status(self):
        return self.run("return document.querySelector('#status .told')?.textContent ?? ''")

    def sources(self):
        """Input, teacher and compressed as data URIs."""
        return self.run("return [...document.querySelectorAll('#answers img')].map((e) => e.src)")

    def images(self):
        """The same as images."""
        contents = [base64.b64decode(source.partition(",")[2]) for source in self.sources()]
        return [Image.open(io.BytesIO(content)).convert("RGB") for content in contents]

    def tab(self, name):
        self.wait(lambda: self.run("return document.querySelectorAll('button[role=tab]').length >= 2"))
        tabs = "[...document.querySelectorAll('button[role=tab]')]"
        self.run(f"{tabs}.find((e) => e.innerText.trim() == arguments[0]).click()", name)

    def upload(self, path):
        """The status once a file has been answered, or refused."""
        self.run("document.querySelector('#status .told')?.remove()")
        found = self.wait(lambda: self.browser.find_elements(By.CSS_SELECTOR, "#upload input[type=file]"))
        found[0].send_keys(str(path))
        self.wait(lambda: path.name in self.status())
        told = self.status()
        self.wait(lambda: not self.run("return document.querySelectorAll('#upload img').length"))  # ready for the next
        return told
