"""The page: ways to give an image, and what both generators make of it."""

from __future__ import annotations

import base64
import binascii
import contextlib
import threading
from collections.abc import Callable
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import gradio as gr
import torch
from PIL import Image

from ganc_nni.core.errors import InputError
from ganc_nni.core.memory import is_out_of_memory
from ganc_nni.demo import texts
from ganc_nni.demo.pair import Pair
from ganc_nni.demo.palette import class_colours
from ganc_nni.demo.prepare import Preparation, check_pixels, open_image

STYLE = Path(__file__).with_name("page.css")
SCRIPT = Path(__file__).with_name("page.js")

_CANVAS = 512
"""Pixels of the longer side of what is painted on, or the run's size if that is larger."""

_FRAME_SECONDS = 0.15
EXAMPLE, WEBCAM, DRAWING = "the example", "the webcam", "the drawing"

_WAITING = 32
"""Events that wait for their answer; more are told that the page is busy."""

_WEBCAMS = 4
"""Webcams that are answered at once."""

_OWN_PIXELS = 3840 * 2160
"""Pixels that a frame or a drawing may have whatever is allowed for files: the page itself has made them."""

_Input = tuple[Any, str, Callable[[Any], Any], dict[str, Any]]
"""A component, its event, what answers it, and other options."""


class Page:
    """Builds the page of a run and answers its events.

    Args:
        pair: The generators.
        max_pixels: Largest image that is read.
    """

    def __init__(self, pair: Pair, max_pixels: int) -> None:
        self.pair, self.max_pixels = pair, max_pixels
        self.preparation = Preparation(pair.data)
        self.first = self._example()
        self._alone = threading.Lock()

    def build(self) -> gr.Blocks:
        """The page, its first image answered."""
        with gr.Blocks(title=f"ganc demo: {self.pair.name}", analytics_enabled=False) as blocks:
            gr.HTML(texts.heading(self.pair), elem_id="head")
            with gr.Row():
                with gr.Column(scale=2, min_width=300):
                    gr.HTML("<h2>Give an image</h2>")
                    inputs = self._inputs()
                with gr.Column(scale=3, min_width=300):
                    gr.HTML("<h2>See both answers</h2>")
                    outputs = self._outputs()
            for component, event, answer, options in inputs:
                # a file's box is empty again afterwards, so that the next one can be dropped at once
                shown = [*outputs, component] if event == "change" else outputs
                getattr(component, event)(
                    answer,
                    component,
                    shown,
                    show_progress="hidden",
                    # Gradio would decode files, however large, and answer broken ones with a stack trace
                    preprocess=False,
                    api_visibility="private",
                    **options,
                )
        return blocks.queue(max_size=_WAITING, api_open=False, default_concurrency_limit=1)

    def _outputs(self) -> list[gr.HTML]:
        """Status and answers."""
        told, answers = self._told(EXAMPLE, self.preparation.image(self.first, EXAMPLE))
        return [gr.HTML(told, elem_id="status"), gr.HTML(answers, elem_id="answers")]

    def _inputs(self) -> list[_Input]:
        labels = self.preparation.labels
        tabs = [self._draw, self._upload] if labels else [self._upload, self._webcam, self._draw]
        with gr.Tabs():
            return [tab() for tab in tabs]

    def _upload(self) -> _Input:
        labels = self.preparation.labels
        with gr.Tab("From a file"):
            component = gr.Image(
                label="label map: grey PNG of class ids, or the colours of the classes" if labels else "your image",
                sources=["upload", "clipboard"],
                type="filepath",
                format="png",
                height=360,
                elem_id="upload",
                buttons=[],
            )
        return component, "change", self.uploaded, {"trigger_mode": "always_last"}

    def _webcam(self) -> _Input:
        with gr.Tab("Webcam"):
            component = gr.Image(
                label="your webcam", sources=["webcam"], streaming=True, type="pil", height=360, elem_id="webcam"
            )
        options = {"stream_every": _FRAME_SECONDS, "time_limit": None, "concurrency_limit": _WEBCAMS}
        return component, "stream", self.filmed, options

    def _draw(self) -> _Input:
        height, width = self.pair.data.image_size
        factor = max(1, _CANVAS // max(height, width))
        canvas = (width * factor, height * factor)
        labels = self.preparation.labels
        brush = max(16, factor) if labels else factor  # radius: lines of two pixels of the run
        colours: list[str | tuple[str, float]] = ["#000000"]
        paper = Image.new("RGB", canvas, "white")
        if labels:
            assert self.pair.data.classes is not None
            painted = class_colours(self.pair.data.classes, self.pair.data.void_id is not None)
            colours = [texts.hex_colour(colour) for colour in painted.values()]
            paper = self.first.resize(canvas, Image.Resampling.NEAREST)
        with gr.Tab("Paint" if labels else "Draw"):
            component = gr.ImageEditor(
                {"background": paper, "layers": [], "composite": paper},
                label="paint classes" if labels else "draw edges",
                sources=(),
                type="pil",
                image_mode="RGB",
                format="png",
                transforms=(),
                layers=False,
                brush=gr.Brush(brush, colours, default_color=colours[1 % len(colours)], color_mode="fixed"),
                canvas_size=canvas,
                fixed_canvas=True,
                elem_id="draw",
                buttons=[],
            )
            if labels:
                gr.HTML(texts.legend(self.pair))
        return component, "input", self.drawn, {"trigger_mode": "always_last"}

    def uploaded(self, payload: dict[str, Any] | None) -> tuple[Any, Any, Any]:
        """Answers a file."""
        if payload is None or not payload.get("path"):
            return (gr.skip(), gr.skip(), gr.skip())
        path, name = Path(payload["path"]), Path(payload.get("orig_name") or "the image").name
        return (*self._answered(name, path, self.preparation.upload), None)

    def drawn(self, value: dict[str, Any] | None) -> tuple[Any, Any]:
        """Answers a drawing."""
        if value is None or not value.get("composite"):
            return (gr.skip(), gr.skip())
        return self._answered(DRAWING, Path(value["composite"]["path"]), self._image)

    def filmed(self, frame: dict[str, Any] | None) -> tuple[Any, Any]:
        """Answers a frame of the webcam; the status stays the same: nobody wants to hear ten figures a second."""
        if frame is None or not frame.get("url"):
            return (gr.skip(), gr.skip())
        with NamedTemporaryFile() as file:
            with contextlib.suppress(binascii.Error):  # what is left is no image, and is called so
                file.write(base64.b64decode(frame["url"].partition(",")[2]))
            file.flush()
            told, shown = self._answered(WEBCAM, Path(file.name), self._image)
        return told if told.startswith(texts.FAILED) else texts.FILMING, shown

    def _image(self, path: Path, name: str) -> torch.Tensor:
        return self.preparation.image(open_image(path, name), name)

    def _answered(self, name: str, path: Path, prepare: Callable[[Path, str], torch.Tensor]) -> tuple[str, Any]:
        """What is told, and shown, of an image file.

        One at a time: several large images at once would need several times the memory.
        """
        most = self.max_pixels if prepare == self.preparation.upload else max(self.max_pixels, _OWN_PIXELS)
        try:
            with self._alone:
                check_pixels(path, name, most)
                return self._told(name, prepare(path, name))
        except InputError as error:
            return (texts.failure(error), gr.skip())
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            told = InputError(f"{name}: is too large for the memory of this machine; give a smaller image")
            return (texts.failure(told), gr.skip())

    def _told(self, name: str, source: torch.Tensor) -> tuple[str, str]:
        answer = self.pair.answer(source)
        return texts.status(name, answer.milliseconds), texts.answers(self.pair, answer)

    def _example(self) -> Image.Image:
        """The first test image, as the export has left it; grey if there is none."""
        path = self.pair.folder / "export" / "pictures" / "0_input.png"
        if path.is_file():
            return open_image(path, str(path)).convert("RGB")
        height, width = self.pair.data.image_size
        colour = class_colours(1, False)[0] if self.preparation.labels else (255, 255, 255)
        return Image.new("RGB", (width, height), colour)
