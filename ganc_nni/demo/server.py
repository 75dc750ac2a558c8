"""Serves the page, to nobody but this machine, and asks nobody anything."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ganc_nni.errors import InputError

_POLICY = (
    "default-src 'self' data: blob:; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; frame-ancestors 'none'; object-src 'none'; base-uri 'self'"
)
"""Gradio needs the unsafe ones; what matters is that a browser that shows the page asks no other machine."""


def serve(folder: Path, host: str, port: int, device: str, max_pixels: int, announce: Callable[[str], None]) -> None:
    """Serve the page of a run until SIGINT or SIGTERM.

    Args:
        folder: The run's.
        host: Address to listen on.
        port: To listen on; 0: any free one.
        device: ``auto``, ``cpu`` or ``cuda``.
        max_pixels: Largest picture that is read.
        announce: Is told the address once the server is there.

    Raises:
        InputError: The run has not been exported, the port is in use, or Gradio is missing.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that uploads are removed in that case too
    with _listen(host, port) as listener, TemporaryDirectory(prefix="ganc-demo-") as uploads:
        # read when Gradio is imported
        os.environ.update(GRADIO_ANALYTICS_ENABLED="False", GRADIO_TEMP_DIR=uploads, HF_HUB_OFFLINE="1")
        require_gradio()
        import uvicorn

        from ganc_nni.demo.page import Page
        from ganc_nni.demo.pair import Pair

        app = application(Page(Pair(folder, device), max_pixels), max_pixels)
        # a page that is closed while it loads is no error; Gradio itself tells what breaks in an answer
        config = uvicorn.Config(app, log_level="critical", timeout_graceful_shutdown=1, ws="none")
        server = uvicorn.Server(config)
        address = f"[{host}]" if ":" in host else host
        announce(f"http://{address}:{listener.getsockname()[1]}/")
        server.run(sockets=[listener])


def application(page: Any, max_pixels: int) -> Any:
    """The web application of a page."""
    import gradio as gr
    from fastapi import FastAPI

    from ganc_nni.demo.page import SCRIPT, STYLE

    blocks = page.build()
    fonts = ["system-ui", "sans-serif"]
    app = gr.mount_gradio_app(
        FastAPI(docs_url=None, redoc_url=None, openapi_url=None),
        blocks,
        "/",
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        pwa=False,
        enable_monitoring=False,
        mcp_server=False,
        max_file_size=8 * max_pixels + 2**20,  # 4 channels of 16 bits
        theme=gr.themes.Default(primary_hue="blue", font=fonts, font_mono=["ui-monospace", "monospace"]),
        css=STYLE.read_text(encoding="utf-8"),
        js=SCRIPT.read_text(encoding="utf-8"),
    )
    app.add_middleware(_OwnMachineOnly)
    return app


def require_gradio() -> None:
    """Refuse to go on without Gradio.

    Raises:
        InputError: It is not installed.
    """
    try:
        import gradio  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"ganc demo needs Gradio, which cannot be imported ({error}); install it with: pip install '.[demo]'"
        ) from None


class _OwnMachineOnly:
    """Tells the browser to ask no other machine."""

    def __init__(self, app: Callable[..., Awaitable[None]]) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def forbidding(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"content-security-policy", _POLICY.encode())]
            await send(message)

        await self.app(scope, receive, forbidding)


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise InputError(f"--host {host}: {error.strerror}; expected an address of this machine") from None
    try:
        if sys.platform != "win32":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen()
    except OSError as error:
        listener.close()
        raise InputError(
            f"port {port} of {host}: {error.strerror}; stop what uses it, or give another --port (0: any free one)"
        ) from None
    return listener
