"""The command that serves a page on which a finished run answers images."""

from __future__ import annotations

from typing import Annotated

import typer

from ganc_nni.cli.app import CONSOLE, app
from ganc_nni.cli.stages import RunFolder
from ganc_nni.cli.tools import DeviceOption

_PILLOWS_MOST = 178_956_970


@app.command()
def demo(
    run: RunFolder,
    port: Annotated[int, typer.Option(min=0, max=65535, help="To listen on; 0: any free one.")] = 7860,
    host: Annotated[
        str,
        typer.Option(
            help="Address or name of this machine to listen on. Any other than 127.0.0.1 lets everybody in who reaches "
            "it, without a password."
        ),
    ] = "127.0.0.1",
    max_pixels: Annotated[
        int, typer.Option(min=1, max=_PILLOWS_MOST, help="Largest image that is read, pixels.")
    ] = 50_000_000,
    device: DeviceOption = "auto",
) -> None:
    r"""Serve a page on this machine: give an image, see teacher and compressed answer side by side. Ctrl-C ends it.

    Images are dropped, filmed, drawn or, for GauGAN, painted as label maps. Needs Gradio: pip install '.\[demo]'.
    """
    from ganc_nni.demo.server import serve

    def announce(address: str, exposed: bool) -> None:
        if exposed:
            CONSOLE.print(
                f"--host {host}: lets everybody in who reaches this address, without a password; for yourself alone "
                "leave it out, and use an SSH tunnel from elsewhere",
                soft_wrap=True,
            )
        CONSOLE.print(f"demo of {run}: {address} (Ctrl-C ends it)", soft_wrap=True)

    try:
        serve(run, host, port, device, max_pixels, announce)
    except KeyboardInterrupt:  # uvicorn repeats the signal once all is closed
        CONSOLE.print("demo ended")
