"""What the page says, as HTML: Jinja macros of texts.html, which escape all that comes from outside."""

from __future__ import annotations

import base64
import io
from typing import Any

from PIL import Image

from ganc_nni.core.templates import template
from ganc_nni.core.text import speedup, times
from ganc_nni.data import IGNORE_ID
from ganc_nni.demo.pair import NAMES, REMEMBERED, Answer, Pair
from ganc_nni.demo.palette import class_colours

_MACROS: Any = template("ganc_nni.demo", "texts.html").module


def told(sentence: str, failed: bool = False) -> str:
    """One sentence on the last answer, also for those who hear the page."""
    return str(_MACROS.told(sentence, failed))


FAILED = told("", failed=True).removesuffix("</p>")
FILMING = told("Answering the webcam, frame by frame.")


def heading(pair: Pair) -> str:
    """The head of the page."""
    kind = "label maps" if pair.data.layout == "labels" else "images"
    return str(_MACROS.heading(pair.name, kind, *pair.data.image_size))


def answers(pair: Pair, answer: Answer) -> str:
    """Input and both answers as images, and what they cost.

    The images are in the text: Gradio would leave a file behind for each, ten a second from a webcam.
    """
    shown = (
        ("input, as it is read", answer.source),
        ("teacher", answer.teacher),
        ("compressed", answer.compressed),
    )
    images = str(_MACROS.answers([(name, _uri(image), image) for name, image in shown]))
    return images + figures(pair, answer.milliseconds)


def _uri(image: Image.Image) -> str:
    content = io.BytesIO()
    image.save(content, "PNG", compress_level=1)
    return f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}"


def figures(pair: Pair, milliseconds: dict[str, float]) -> str:
    """The table of both networks: time, images a second, MACs."""
    macs = {name: pair.summary.networks[name].macs_published for name in NAMES}
    before, after = (milliseconds[name] for name in NAMES)
    rows = (
        ("ms per image", [f"{milliseconds[name]:.2f}" for name in NAMES], speedup(before, after)),
        ("images a second (FPS)", [f"{1000 / milliseconds[name]:.1f}" for name in NAMES], ""),
        (
            "MACs (published convention)",
            [short(macs[name]) for name in NAMES],
            times(macs["teacher"], macs["compressed"], "less", "more"),
        ),
    )
    return str(_MACROS.figures(NAMES, rows, REMEMBERED, pair.where))


def short(count: float) -> str:
    """Three digits and a unit: ``56.8 G``."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= 0.9995 * size:
            value = count / size
            return f"{value:.{2 if value < 9.995 else 1 if value < 99.95 else 0}f} {unit}"
    return f"{count:.0f}"


def status(name: str, milliseconds: dict[str, float]) -> str:
    """What is told of the answer to what is called ``name``."""
    before, after = (milliseconds[name] for name in NAMES)
    return told(f"Answered {name}: teacher {before:.1f} ms, compressed {after:.1f} ms, {speedup(before, after)}.")


def failure(error: Exception) -> str:
    """Why there is no answer."""
    return told(f"No answer: {' '.join(str(error).split())}", failed=True)


def legend(pair: Pair) -> str:
    """The colours of the classes."""
    assert pair.data.classes is not None
    colours = class_colours(pair.data.classes, pair.data.void_id is not None)
    named = [
        ("void" if label == IGNORE_ID else f"class {label}", hex_colour(colour)) for label, colour in colours.items()
    ]
    return str(_MACROS.legend(named))


def hex_colour(colour: tuple[int, int, int]) -> str:
    """``#rrggbb``."""
    return "#{:02x}{:02x}{:02x}".format(*colour)
