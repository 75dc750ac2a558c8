"""Serves the page, to nobody but this machine, and asks nobody anything."""

from __future__ import annotations

import os
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from ganc_nni.core.errors import InputError

if TYPE_CHECKING:
    from ganc_nni.demo.guard import Guard
    from ganc_nni.demo.page import Page
    from ganc_nni.demo.uploads import Uploads

CONNECTIONS = 128
"""Open at once; a browser keeps up to six."""

_SESSIONS = 32
"""Of which Gradio remembers the last input."""


def serve(
    folder: Path, host: str, port: int, device: str, max_pixels: int, announce: Callable[[str, bool], None]
) -> None:
    """Serve the page of a run until SIGINT or SIGTERM.

    Args:
        folder: The run's.
        host: Address to listen on.
        port: To listen on; 0: any free one.
        device: ``auto``, ``cpu`` or ``cuda``.
        max_pixels: Largest image that is read.
        announce: Is told the address once the server is there, and whether others than users of this machine reach it.

    Raises:
        InputError: The run has not been exported, the port is in use, or Gradio is missing.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):  # so that uploads are removed in that case too
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)
    with _listen(host, port) as listener, TemporaryDirectory(prefix="ganc-demo-") as uploads, _temporary_files(uploads):
        # read when Gradio is imported
        os.environ.update(GRADIO_ANALYTICS_ENABLED="False", GRADIO_TEMP_DIR=uploads, HF_HUB_OFFLINE="1")
        require_gradio()
        import uvicorn

        from ganc_nni.demo.guard import hosts_of, is_loopback
        from ganc_nni.demo.page import Page
        from ganc_nni.demo.pair import Pair
        from ganc_nni.demo.uploads import Uploads

        hosts = hosts_of(host, listener.getsockname()[0])
        store = Uploads(Path(uploads), 4 * max_pixels + 2**20)  # four channels of 8 bits
        app = application(Page(Pair(folder, device), max_pixels), hosts, store)
        config = uvicorn.Config(
            app,
            # a page that is closed while it loads is no error; Gradio itself tells what breaks in an answer
            log_level="critical",
            timeout_graceful_shutdown=1,
            ws="none",
            http="h11",
            proxy_headers=False,
            server_header=False,
            limit_concurrency=CONNECTIONS,
        )
        server = uvicorn.Server(config)
        address = f"[{host}]" if ":" in host else host
        at, port = listener.getsockname()[:2]
        announce(f"http://{address}:{port}/", not is_loopback(at))
        server.run(sockets=[listener])


def application(page: Page, hosts: Callable[[str], bool], uploads: Uploads) -> Guard:
    """The web application of a page.

    Args:
        page: The page.
        hosts: Whether a host of a request is this server.
        uploads: Where uploaded files go.
    """
    import gradio as gr
    from fastapi import FastAPI
    from gradio_client.utils import traverse  # type: ignore[import-untyped]

    from ganc_nni.demo.guard import Guard
    from ganc_nni.demo.page import SCRIPT, STYLE

    blocks = page.build()
    blocks.state_session_capacity = _SESSIONS
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
        show_error=False,
        max_file_size=uploads.largest,
        theme=gr.themes.Default(primary_hue="blue", font=fonts, font_mono=["ui-monospace", "monospace"]),
        css=STYLE.read_text(encoding="utf-8"),
        js=SCRIPT.read_text(encoding="utf-8"),
    )
    blocks.has_launched = True  # until it is, Gradio takes every path for an allowed one, and mounting does not set it

    def own(value: Any) -> bool:
        return isinstance(value, dict) and str(value.get("path")).startswith(str(uploads.folder))

    def named(file: dict[str, Any]) -> dict[str, Any]:
        name = uploads.show(Path(file["path"]))
        return {**file, "path": name, "url": f"/gradio_api/file={name}"}

    blocks.config = traverse(blocks.config, named, own)  # the page need not tell where its own files are
    return Guard(app, hosts, uploads, blocks.fns)


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


@contextmanager
def _temporary_files(folder: str) -> Iterator[None]:
    """Let this process keep its temporary files in ``folder``: what is being received lies in one, too."""
    before, tempfile.tempdir = tempfile.tempdir, folder
    try:
        yield
    finally:
        tempfile.tempdir = before


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
