"""The page: ways to give a picture, and what both generators make of it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
import torch
from PIL import Image

from ganc_nni.demo import texts
from ganc_nni.demo.pair import Pair
from ganc_nni.demo.palette import class_colours
from ganc_nni.demo.prepare import Preparation, check_pixels, open_picture
from ganc_nni.errors import InputError

STYLE = Path(__file__).with_name("page.css")
SCRIPT = Path(__file__).with_name("page.js")

_CANVAS = 512
"""Pixels of the longer side of what is painted on, or the run's size if that is larger."""

_FRAME_SECONDS = 0.15
EXAMPLE, WEBCAM, DRAWING = "the example", "the webcam", "the drawing"

_Input = tuple[Any, str, Callable[[Any], Any], dict[str, Any]]
"""A component, its event, what answers it, and other options."""


class Page:
    """Builds the page of a run and answers its events.

    Args:
        pair: The generators.
        max_pixels: Largest picture that is read.
    """

    def __init__(self, pair: Pair, max_pixels: int) -> None:
        self.pair, self.max_pixels = pair, max_pixels
        self.preparation = Preparation(pair.data)
        self.first = self._example()

    def build(self) -> gr.Blocks:
        """The page, its first picture answered."""
        with gr.Blocks(title=f"ganc demo: {self.pair.name}", analytics_enabled=False, delete_cache=(60, 300)) as blocks:
            gr.HTML(texts.heading(self.pair), elem_id="head")
            with gr.Row():
                with gr.Column(scale=2, min_width=300):
                    gr.HTML("<h2>Give a picture</h2>")
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
                    concurrency_limit=None,
                    **options,
                )
        return blocks

    def _outputs(self) -> list[gr.HTML]:
        """Status and answers."""
        told, answers = self._told(EXAMPLE, self.preparation.picture(self.first, EXAMPLE))
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
                label="label map: grey PNG of class ids, or the colours of the classes" if labels else "your picture",
                sources=["upload", "clipboard"],
                type="filepath",
                format="png",
                height=360,
                elem_id="upload",
                buttons=[],
            )
        # not preprocessed: Gradio would decode the file, however large, and answer a broken one with a stack trace
        return component, "change", self.uploaded, {"trigger_mode": "always_last", "preprocess": False}

    def _webcam(self) -> _Input:
        with gr.Tab("Webcam"):
            component = gr.Image(
                label="your webcam", sources=["webcam"], streaming=True, type="pil", height=360, elem_id="webcam"
            )
        return component, "stream", self.filmed, {"stream_every": _FRAME_SECONDS, "time_limit": None}

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
        path, name = Path(payload["path"]), Path(payload.get("orig_name") or "the picture").name
        return (*self._answered(name, partial(self._read, path, name)), None)

    def _read(self, path: Path, name: str) -> torch.Tensor:
        check_pixels(path, name, self.max_pixels)
        return self.preparation.upload(path, name)

    def drawn(self, value: dict[str, Any] | None) -> tuple[Any, Any]:
        """Answers a drawing."""
        if value is None or value["composite"] is None:
            return (gr.skip(), gr.skip())
        return self._answered(DRAWING, partial(self.preparation.picture, value["composite"], DRAWING))

    def filmed(self, frame: Image.Image | None) -> tuple[Any, Any]:
        """Answers a frame of the webcam; the status stays the same: nobody wants to hear ten figures a second."""
        if frame is None:
            return (gr.skip(), gr.skip())
        return texts.FILMING, self._answered(WEBCAM, partial(self.preparation.picture, frame, WEBCAM))[1]

    def _answered(self, name: str, prepare: Callable[[], torch.Tensor]) -> tuple[Any, Any]:
        try:
            return self._told(name, prepare())
        except InputError as error:
            return (texts.failure(error), gr.skip())

    def _told(self, name: str, source: torch.Tensor) -> tuple[Any, Any]:
        answer = self.pair.answer(source)
        return texts.status(name, answer.milliseconds), texts.answers(self.pair, answer)

    def _example(self) -> Image.Image:
        """The first test picture, as the export has left it; grey if there is none."""
        path = self.pair.folder / "export" / "pictures" / "0_input.png"
        if path.is_file():
            return open_picture(path, str(path)).convert("RGB")
        height, width = self.pair.data.image_size
        colour = class_colours(1, False)[0] if self.preparation.labels else (255, 255, 255)
        return Image.new("RGB", (width, height), colour)
