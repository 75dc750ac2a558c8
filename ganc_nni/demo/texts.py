"""What the page says, as HTML; all that comes from outside is escaped."""

from __future__ import annotations

import base64
import io
from html import escape

from PIL import Image

from ganc_nni.core.text import speedup, times
from ganc_nni.data import IGNORE_ID
from ganc_nni.demo.pair import NAMES, REMEMBERED, Answer, Pair
from ganc_nni.demo.palette import class_colours

FAILED = '<p class="told failed">'
FILMING = '<p class="told">Answering the webcam, frame by frame.</p>'


def heading(pair: Pair) -> str:
    """The head of the page."""
    height, width = pair.data.image_size
    kind = "label maps" if pair.data.layout == "labels" else "images"
    return (
        f"<h1>{escape(pair.name)}: teacher and compressed generator</h1>"
        f"<p>The generators of this run read {kind} of {width} x {height} pixels. Whatever you give is cut in the "
        "middle to that aspect ratio and resized; nothing leaves this machine.</p>"
    )


def answers(pair: Pair, answer: Answer) -> str:
    """Input and both answers as images, and what they cost.

    The images are in the text: Gradio would leave a file behind for each, ten a second from a webcam.
    """
    shown = (
        ("input, as it is read", answer.source),
        ("teacher", answer.teacher),
        ("compressed", answer.compressed),
    )
    return f'<div class="pictures">{"".join(_figure(name, image) for name, image in shown)}</div>' + figures(
        pair, answer.milliseconds
    )


def _figure(name: str, image: Image.Image) -> str:
    content = io.BytesIO()
    image.save(content, "PNG", compress_level=1)
    uri = f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}"
    return (
        f'<figure><img src="{uri}" alt="{name}" width="{image.width}" height="{image.height}">'
        f"<figcaption>{name}</figcaption></figure>"
    )


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
    body = "".join(
        f'<tr><th scope="row">{title}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}<td>{ratio}</td></tr>'
        for title, cells, ratio in rows
    )
    heads = "".join(f'<th scope="col">{name}</th>' for name in ("figure", *NAMES, "ratio"))
    return (
        f"<table><caption>What an answer costs</caption><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>"
        f'<p class="note">Times: median of the last {REMEMBERED} images or fewer, one at a time, eager PyTorch on '
        f"{escape(pair.where)}. MACs: multiply-accumulates per image as the papers count them.</p>"
    )


def short(count: float) -> str:
    """Three digits and a unit: ``56.8 G``."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= 0.9995 * size:
            value = count / size
            return f"{value:.{2 if value < 9.995 else 1 if value < 99.95 else 0}f} {unit}"
    return f"{count:.0f}"


def status(name: str, milliseconds: dict[str, float]) -> str:
    """One sentence on the answer to what is called ``name``, also for those who hear the page."""
    before, after = (milliseconds[name] for name in NAMES)
    return (
        f'<p class="told">Answered {escape(name)}: teacher {before:.1f} ms, compressed {after:.1f} ms, '
        f"{speedup(before, after)}.</p>"
    )


def failure(error: Exception) -> str:
    """Why there is no answer."""
    return f"{FAILED}No answer: {escape(' '.join(str(error).split()))}</p>"


def legend(pair: Pair) -> str:
    """The colours of the classes."""
    assert pair.data.classes is not None
    colours = class_colours(pair.data.classes, pair.data.void_id is not None)
    items = "".join(
        f'<li><span class="swatch" style="background:rgb{colour}"></span>'
        f"{'void' if label == IGNORE_ID else f'class {label}'} <code>{hex_colour(colour)}</code></li>"
        for label, colour in colours.items()
    )
    return f'<h2 class="small">Colours of the classes</h2><ul class="legend">{items}</ul>'


def hex_colour(colour: tuple[int, int, int]) -> str:
    """``#rrggbb``."""
    return "#{:02x}{:02x}{:02x}".format(*colour)
