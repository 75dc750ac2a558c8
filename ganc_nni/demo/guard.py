"""What may reach Gradio: the few requests that the page makes, rebuilt from what is allowed in them.

Gradio serves some sixty routes, and a page that only shows two answers needs a dozen. Whatever is not listed here is
refused. Uploads never pass through Gradio, and Gradio sees no path that a visitor has written.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import re
import socket
from collections.abc import Callable, Collection, Mapping
from typing import Any

from starlette.datastructures import Headers, UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ganc_nni.core.structured import parse_json
from ganc_nni.demo.uploads import Uploads

_API = "/gradio_api"
_FILE = f"{_API}/file="
_SESSION = "[A-Za-z0-9]{1,32}"

_PAGE = re.compile(rf"/|/theme\.css|/manifest\.json|/favicon\.ico|{_API}/app_id|{_API}/heartbeat/{_SESSION}")
_ASSET = re.compile(r"/(assets|static)(/[\w@-][\w.@-]*)+")
_DATA = re.compile(f"{_API}/queue/data")
_EVENT = re.compile(rf"{_API}/queue/join|{_API}/stream/[0-9a-f]{{32}}")
_CLOSE = re.compile(rf"{_API}/stream/[0-9a-f]{{32}}/close")

_HEADERS = {b"host", b"accept", b"content-type", b"if-none-match", b"if-modified-since", b"x-gradio-user"}
"""Those that Gradio gets to see. It believes ``X-Forwarded-Host``, for one, and puts it into other visitors' pages."""

_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+?)\.?(:\d{1,5})?", re.IGNORECASE)

_POLICY = (
    "default-src 'self' data: blob:; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; frame-ancestors 'none'; object-src 'none'; base-uri 'self'; form-action 'none'"
)
"""Gradio needs the unsafe ones; what matters is that a browser that shows the page asks no other machine."""

_ANSWER_HEADERS = (
    (b"content-security-policy", _POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"referrer-policy", b"same-origin"),
)

MOST_JSON = 8 * 2**20
"""Bytes of an event; a frame of a webcam is the largest one."""

UPLOADS_AT_ONCE = 4
BODY_SECONDS = 120.0
READ_SECONDS = 10.0
"""How long a visitor may take to fetch an answer, and each piece of it."""


class _Refused(Exception):
    """A request that is not allowed."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason


def is_loopback(address: str) -> bool:
    """Whether only this machine reaches the address."""
    return ipaddress.ip_address(address.partition("%")[0]).is_loopback


def hosts_of(host: str, address: str) -> Callable[[str], bool]:
    """Whether a ``Host`` header may name this server; without that check a web page can rebind its own name to it.

    Args:
        host: What the demo was told to listen on.
        address: The address that it listens on.

    Returns:
        A function of a host without its port, in lower case. It accepts localhost and the given host; the name of this
        machine unless the demo listens to this machine alone; any address where the demo listens on every interface,
        since no page of another machine can be at the address of this one.
    """
    bound = ipaddress.ip_address(address.partition("%")[0])
    names = {"localhost", host.lower(), address.lower()}
    if not is_loopback(address):
        own = {socket.gethostname().lower(), socket.getfqdn().lower()}
        names |= own | {f"{name}.local" for name in own}

    def known(name: str) -> bool:
        if name in names:
            return True
        try:
            literal = ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
        except ValueError:
            return False
        return literal.is_loopback or bound.is_unspecified or literal == bound

    return known


class Guard:
    """An ASGI application that lets through to Gradio what the page needs.

    Args:
        app: Gradio's.
        hosts: Whether a host of a request is this server, see :func:`hosts_of`.
        uploads: Where uploaded files go.
        events: Numbers of Gradio's functions that visitors may call.
    """

    def __init__(self, app: ASGIApp, hosts: Callable[[str], bool], uploads: Uploads, events: Collection[int]) -> None:
        self.app, self.hosts, self.uploads, self.events = app, hosts, uploads, events
        self._uploading = 0
        self._readers: dict[str, int] = {}
        self._tasks: set[asyncio.Future[None]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer it here."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        guarded = _answering(send)
        try:
            self._check_sender(scope)
            await self._dispatch(scope, receive, guarded)
        except _Refused as refused:
            # Gradio's page shows the text of a failed upload and the detail of a failed event
            event = refused.status != 404 and _EVENT.fullmatch(scope["path"])
            body = JSONResponse({"detail": refused.reason}) if event else PlainTextResponse(refused.reason)
            body.status_code = refused.status
            await body(scope, receive, guarded)
        except TimeoutError:  # of a visitor who does not fetch the answer: the connection is closed
            return

    def _check_sender(self, scope: Scope) -> None:
        """Refuse what another web site has made the visitor's browser send."""
        headers = Headers(scope=scope)
        found = headers.getlist("host")
        matched = _HOST.fullmatch(found[0]) if len(found) == 1 else None
        if matched is None or not self.hosts(matched[1].lower()):
            raise _Refused(403, "This host is not served here; open the address that `ganc demo` has printed")
        foreign = [origin for origin in headers.getlist("origin") if origin.lower() != f"http://{found[0]}".lower()]
        site = headers.get("sec-fetch-site", "none")
        link = (
            scope["path"] == "/"
            and headers.get("sec-fetch-mode") == "navigate"
            and headers.get("sec-fetch-dest") == "document"
            and scope["method"] == "GET"
        )
        if foreign or (site not in ("none", "same-origin") and not link):
            raise _Refused(403, "Requests from other web sites are refused")

    async def _dispatch(self, scope: Scope, receive: Receive, send: Send) -> None:
        path, method = scope["path"], scope["method"]
        query = b""
        if method in ("GET", "HEAD"):
            if path.startswith(_FILE):
                await self._serve(path.removeprefix(_FILE))(scope, receive, send)
                return
            if path == f"{_API}/upload_progress":  # the upload's own answer tells when it is done
                await Response('data: {"msg":"done"}\n\n', media_type="text/event-stream")(scope, receive, send)
                return
            if _DATA.fullmatch(path) and method == "GET":
                await self._answers(Request(scope).query_params.get("session_hash", ""), scope, receive, send)
                return
            if _PAGE.fullmatch(path) or _ASSET.fullmatch(path):
                await self.app(_rebuilt(scope, query), receive, send)
                return
        elif method == "POST":
            if path == f"{_API}/upload":
                await (await self._upload(scope, receive))(scope, receive, send)
                return
            if path == f"{_API}/component_server/":
                # the drawing board sends its layers here too, where Gradio would keep them without limit; the event
                # that follows names the same ones as uploads
                await _read(scope, receive, self.uploads.largest)
                await JSONResponse(None)(scope, receive, send)
                return
            if _EVENT.fullmatch(path):
                body = self._event(await _json(scope, receive))
                await self.app(_rebuilt(scope, query), _sending(json.dumps(body).encode(), receive), send)
                if body["session_hash"] is not None:
                    asyncio.get_running_loop().call_later(READ_SECONDS, self._fetch_unread, body["session_hash"], scope)
                return
            if _CLOSE.fullmatch(path):
                await self.app(_rebuilt(scope, query), _sending(b"{}", receive), send)
                return
        raise _Refused(404, "Not found")

    def _serve(self, name: str) -> Response:
        path = self.uploads.find(name)
        if path is None:
            raise _Refused(404, "Not found")
        kind = "image/png" if path.suffix == ".png" else "application/octet-stream"  # never a page or a script
        return FileResponse(path, media_type=kind, headers={"cache-control": "private, max-age=300"})

    async def _upload(self, scope: Scope, receive: Receive) -> Response:
        """Keep the one file of a request; the answer is what Gradio's would be, with a name in place of a path."""
        if self._uploading >= UPLOADS_AT_ONCE:
            raise _Refused(503, "Others are uploading; try again in a moment")
        self._uploading += 1
        try:
            async with asyncio.timeout(BODY_SECONDS):
                most = self.uploads.largest + 2**16  # the form around the file
                async with Request(scope, _bounded(scope, receive, most)).form(max_files=1, max_fields=0) as form:
                    file = form.get("files")
                    if not isinstance(file, UploadFile):
                        raise _Refused(400, "Expected one file")
                    name = await asyncio.to_thread(self.uploads.add, file.file, file.size or 0)
                    self.uploads.remove_later(name)
        except TimeoutError:
            raise _Refused(408, "The upload took too long") from None
        except (HTTPException, MultiPartException, AssertionError, KeyError):
            raise _Refused(400, "Expected one file in a form") from None
        except OSError as error:
            raise _Refused(507, f"The file cannot be kept: {error.strerror}") from None
        finally:
            self._uploading -= 1
        return JSONResponse([name])

    def _event(self, sent: Any) -> dict[str, Any]:
        """What Gradio is told of an event: no key, and no value in it, that the page would not send."""
        if not isinstance(sent, Mapping):
            raise _Refused(400, "Expected an object")
        data, number, session = (sent.get(key) for key in ("data", "fn_index", "session_hash"))
        trigger = sent.get("trigger_id")
        if type(number) is not int or number not in self.events:
            raise _Refused(400, "Expected the number of an event of the page")
        if session is not None and not (isinstance(session, str) and re.fullmatch(_SESSION, session)):
            raise _Refused(400, "Expected a session")
        if not isinstance(data, list) or len(data) != 1:
            raise _Refused(400, "Expected one value")
        return {
            "data": [self._value(data[0])],
            "fn_index": number,
            "session_hash": session,
            "trigger_id": trigger if type(trigger) is int else None,
        }

    def _value(self, value: Any) -> dict[str, Any] | None:
        """An image; of a drawing board, the one that shows all of its layers."""
        if isinstance(value, Mapping) and "composite" in value:
            return {"background": None, "layers": [], "composite": self._image(value["composite"])}
        return self._image(value)

    def _image(self, value: Any) -> dict[str, Any] | None:
        if value is None:
            return None
        if not isinstance(value, Mapping):
            raise _Refused(400, "Expected an image")
        url, name = value.get("url"), value.get("orig_name")
        if value.get("path") is None and isinstance(url, str) and url.startswith("data:image/"):
            return {"url": url}
        path = self.uploads.find(value.get("path"))
        if path is None:
            raise _Refused(400, "The file is not here, or no longer; upload it again")
        called = name[-255:] if isinstance(name, str) else None
        return {"path": str(path), "orig_name": called, "meta": {"_type": "gradio.FileData"}}

    async def _answers(self, session: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Gradio's stream of answers to a session."""
        if not re.fullmatch(_SESSION, session):
            raise _Refused(400, "Expected a session")
        self._readers[session] = self._readers.get(session, 0) + 1
        try:
            await self.app(_rebuilt(scope, f"session_hash={session}".encode()), receive, send)
        finally:
            self._readers[session] -= 1
            if not self._readers[session]:
                del self._readers[session]

    def _fetch_unread(self, session: str, scope: Scope) -> None:
        """Fetch, and forget, the answers to a session that nobody fetches: Gradio would keep them for ever."""
        if session in self._readers:
            return

        async def nothing() -> Message:
            await asyncio.Event().wait()
            raise AssertionError

        async def forget(message: Message) -> None:
            pass

        async def fetch() -> None:
            asked = {**scope, "path": f"{_API}/queue/data", "raw_path": f"{_API}/queue/data".encode(), "method": "GET"}
            try:
                async with asyncio.timeout(BODY_SECONDS):
                    await self._answers(session, asked, nothing, forget)
            except Exception:  # Gradio's way to say that there is no such session any more
                return

        task = asyncio.ensure_future(fetch())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _rebuilt(scope: Scope, query: bytes) -> Scope:
    """The request without what Gradio need not know."""
    kept = [(key, value) for key, value in scope["headers"] if key in _HEADERS]
    return {**scope, "headers": kept, "query_string": query}


async def _json(scope: Scope, receive: Receive) -> Any:
    """The body of a request.

    A browser asks before it sends this type elsewhere, and is told no.
    """
    if Headers(scope=scope).get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise _Refused(415, "Expected application/json")
    try:
        return parse_json(await _read(scope, receive, MOST_JSON))
    except ValueError:
        raise _Refused(400, "Expected JSON") from None


async def _read(scope: Scope, receive: Receive, most: int) -> bytes:
    """The body of a request, of so many bytes at most."""
    bounded, body = _bounded(scope, receive, most), bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            more = True
            while more:
                message = await bounded()
                body += message.get("body", b"")
                more = message.get("more_body", False)
    except TimeoutError:
        raise _Refused(408, "The request took too long") from None
    return bytes(body)


def _bounded(scope: Scope, receive: Receive, most: int) -> Receive:
    """Receives a body of at most so many bytes."""
    length = Headers(scope=scope).get("content-length", "0")
    if not length.isdecimal() or int(length[:20]) > most:
        raise _Refused(413, f"Larger than {most:,} bytes, which is the most that is taken")
    taken = 0

    async def receiving() -> Message:
        nonlocal taken
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _Refused(400, "The request was broken off")
        taken += len(message.get("body", b""))
        if taken > most:
            raise _Refused(413, f"Larger than {most:,} bytes, which is the most that is taken")
        return message

    return receiving


def _sending(body: bytes, receive: Receive) -> Receive:
    """Receives this body, then what comes after the request."""
    sent = False

    async def receiving() -> Message:
        nonlocal sent
        if not sent:
            sent = True
            return {"type": "http.request", "body": body, "more_body": False}
        return await receive()

    return receiving


def _answering(send: Send) -> Send:
    """Sends with headers that restrict the browser, to a visitor who fetches it in time."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            given = [(key, value) for key, value in message["headers"] if not key.startswith(b"access-control-")]
            message = {**message, "headers": [*given, *_ANSWER_HEADERS]}
        async with asyncio.timeout(READ_SECONDS):
            await send(message)

    return sending
