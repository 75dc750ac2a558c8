"""The demo as an attacker sees it: whoever reaches the port, another web site, a page that has rebound its name."""

import base64
import contextlib
import http.client
import io
import json
import os
import resource
import socket
import struct
import threading
import uuid
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from demo_pages import serving
from PIL import Image

from ganc_nni.demo.guard import MOST_JSON, hosts_of
from ganc_nni.demo.uploads import MOST_FILES, Uploads

FILE, WEBCAM, BOARD = 0, 1, 2
"""Numbers of the page's events."""

MOST = 10_000_000
META = {"_type": "gradio.FileData"}


@pytest.fixture(scope="module")
def temporary(tmp_path_factory):
    """The folder of temporary files of the demo's process."""
    return tmp_path_factory.mktemp("temporary")


@pytest.fixture(scope="module")
def demo(finished, temporary):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(temporary))
        with serving(finished / "runs" / "tiny", "--max-pixels", str(MOST)) as demo:
            yield demo
            assert demo.process.poll() is None


@pytest.fixture(scope="module")
def visitor(demo):
    with httpx.Client(base_url=demo.url, timeout=30, limits=httpx.Limits(max_connections=50)) as client:
        yield client


@pytest.fixture
def secret(tmp_path):
    """An image of which nobody has told the demo."""
    Image.new("RGB", (9, 9), (1, 2, 3)).save(tmp_path / "secret.png")
    return tmp_path / "secret.png"


def png(size=(40, 40), mode="RGB"):
    content = io.BytesIO()
    Image.new(mode, size).save(content, "PNG")
    return content.getvalue()


def upload(client, content, name="it.png"):
    """The name that the server gives to a file."""
    answer = client.post("/gradio_api/upload", files={"files": (name, content)})
    assert answer.status_code == 200, answer.text
    return answer.json()[0]


def ask(client, number, value):
    """Status of the request, and all that is told about its answer."""
    session = uuid.uuid4().hex[:12]
    body = {"data": [value], "fn_index": number, "session_hash": session}
    joined = client.post("/gradio_api/queue/join", json=body)
    told = [joined.text]
    if joined.status_code == 200:
        with client.stream("GET", "/gradio_api/queue/data", params={"session_hash": session}) as stream:
            for line in stream.iter_lines():
                told.append(line)
                if '"process_streaming"' in line:  # or the webcam would be waited for
                    client.post(f"/gradio_api/stream/{joined.json()['event_id']}/close")
                if '"process_completed"' in line or '"process_streaming"' in line:
                    break
    return joined.status_code, "\n".join(told)


def file(path, **more):
    return {"path": path, "meta": META, "orig_name": "it.png", **more}


def board(composite):
    return {"background": composite, "layers": [composite], "composite": composite}


def in_url(content):
    return {"url": f"data:image/png;base64,{base64.b64encode(content).decode()}"}


def raw(demo, method, target, headers=None, body=None):
    """Status and text of a request whose target is sent as it is."""
    connection = http.client.HTTPConnection("127.0.0.1", demo.port, timeout=20)
    connection.request(method, target, body, headers or {})
    answer = connection.getresponse()
    text = answer.read().decode(errors="replace")
    connection.close()
    return answer.status, text


def peak_mib(demo):
    status = Path(f"/proc/{demo.process.pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def kept(temporary):
    """All files of the upload folder."""
    return [path for path in temporary.glob("ganc-demo-*/**/*") if path.is_file()]


def test_what_the_page_does_works(visitor):
    assert visitor.get("/").status_code == 200
    for number, value in (
        (FILE, file(upload(visitor, png()))),
        (BOARD, board(file(upload(visitor, png())))),
        (WEBCAM, in_url(png())),
    ):
        status, told = ask(visitor, number, value)
        assert status == 200
        assert "Answer" in told
        assert "data:image/png;base64," in told
    again = visitor.get(f"/gradio_api/file={upload(visitor, png())}")
    assert again.content == png()
    assert again.headers["content-type"] == "application/octet-stream"
    assert again.headers["x-content-type-options"] == "nosniff"


def paths(secret, temporary):
    """Other files, in the ways in which a path can be written."""
    (folder,) = temporary.glob("ganc-demo-*")
    own = next(folder.glob("*/*.png"))  # Gradio's, to start from
    (folder / "link.png").unlink(missing_ok=True)
    (folder / "link.png").symlink_to(secret)
    os.mkfifo(secret.with_name("fifo"))
    yield from (str(secret), f"{own.parent}/../../..{secret}", f"{folder}/../{os.path.relpath(secret, temporary)}")
    yield from (f"{folder}/link.png", os.path.relpath(secret), f"file://{secret}", f"/proc/self/root{secret}")
    yield from (f"/{secret}", str(secret).replace("/", "%2F"), f"{secret}\0", f"{secret}/", str(own), own.name, "")
    yield from (str(secret.with_name("fifo")), "/dev/zero", "/dev/stdin", "/proc/self/environ", str(secret.parent))
    yield from ("a" * 100_000, "..", ".", "~/x", "\\\\host\\share", 7, [str(secret)], {"path": str(secret)}, True)


def test_no_path_leads_to_a_file(visitor, demo, secret, temporary):
    before = {path.name for path in kept(temporary)}
    for path in paths(secret, temporary):
        bare = {"path": path}
        for number, value in (
            (FILE, file(path)),
            (FILE, bare),
            (FILE, file(path, url=f"/gradio_api/file={path}", is_stream=True)),
            (FILE, {**bare, "url": "data:image/png;base64,AA=="}),
            (WEBCAM, file(path)),
            (WEBCAM, {"path": path, "url": None}),
            (BOARD, board(file(path))),
            (BOARD, board(bare)),
            (BOARD, {"background": file(path), "layers": [], "composite": bare, "id": "x"}),
            (BOARD, file(path)),
        ):
            status, told = ask(visitor, number, value)
            assert status == 400, (path, told)
            assert "Answered" not in told
            assert str(secret.parent) not in told
            assert str(temporary) not in told
    assert {path.name for path in kept(temporary)} == before | {"link.png"}
    assert demo.process.poll() is None


def test_layers_and_background_are_not_read(visitor, secret):
    drawing = {
        "background": file(str(secret)),
        "layers": [file("/dev/zero")],
        "composite": file(upload(visitor, png())),
    }
    status, told = ask(visitor, BOARD, drawing)
    assert status == 200
    assert "Answered the drawing" in told


def test_nothing_is_served_but_what_was_uploaded(demo, secret, temporary):
    (folder,) = temporary.glob("ganc-demo-*")
    targets = [
        f"/{route}{name}"
        for name in (str(secret), "/etc/passwd", f"{folder}/link.png", str(next(folder.glob("*/*.png"))))
        for route in ("gradio_api/file=", "gradio_api/file/", "file=", "gradio_api/file=/", "gradio_api/file%3D")
    ]
    up = "/".join([".."] * 12)
    for start in ("static", "assets", "gradio_api/file=", "svelte", "gradio_api/custom_component/image/client/a"):
        for way in (up, up.replace("..", "%2e%2e"), up.replace("..", "%252e%252e"), up.replace("/", "%2f"), "/", "//"):
            targets.append(f"/{start}/{way}{secret}")
            targets.append(f"/{start}/{way}/etc/passwd")
    for target in targets:
        status, text = raw(demo, "GET", target)
        assert status in (400, 403, 404), target
        assert "root:" not in text, target
        assert "PNG" not in text, target
        assert str(temporary) not in text, target


CLOSED = [
    "config gradio_api/config info gradio_api/info gradio_api/info?all_endpoints=True gradio_api/openapi.json",
    "openapi.json docs monitoring monitoring/summary monitoring/x gradio_api/monitoring gradio_api/dev/reload",
    "gradio_api/queue/status gradio_api/token gradio_api/user gradio_api/runs gradio_api/run-history/buckets logout",
    "gradio_api/deep_link?session_hash=a gradio_api/proxy=http://127.0.0.1:9/ gradio_api/startup-events robots.txt",
    "gradio_api/stream/a/b/1/playlist.m3u8 gradio_api/stream/a/b/1/playlist-file gradio_api/mcp/sse pwa_icon",
    "gradio_api/call/predict/abc login gradio_api/heartbeat/..%2f..%2fx gradio_api/file=http://127.0.0.1:9/x",
]


@pytest.mark.parametrize("target", " ".join(CLOSED).split())
def test_gradio_s_other_pages_are_closed(demo, target):
    status, text = raw(demo, "GET", f"/{target}")
    assert (status, text) == (404, "Not found")


POSTED = "run/predict run/uploaded api/predict call/uploaded call/v2/uploaded component_server cancel reset login"


@pytest.mark.parametrize(
    "target", [*POSTED.split(), "process_recording", "vibe-edit/", "run-history/connect", "stream/x"]
)
def test_gradio_s_other_actions_are_closed(visitor, secret, target):
    bodies = {"data": [file(str(secret))], "fn_index": FILE, "session_hash": "a", "fn_name": "accept_blobs"}
    answer = visitor.post(f"/gradio_api/{target}", json={**bodies, "component_id": 1})
    assert (answer.status_code, answer.text) == (404, "Not found")
    assert visitor.put(f"/gradio_api/{target}").status_code == 404
    assert visitor.options(f"/gradio_api/{target}").status_code == 404


def test_no_address_is_asked(visitor, demo):
    asked = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.2)
        address = f"http://127.0.0.1:{listener.getsockname()[1]}/it.png"
        for number in (FILE, WEBCAM, BOARD):
            for value in (file(address), {"url": address}, {"path": None, "url": address}, {"path": address}, address):
                for wrapped in (value, board(value)):
                    assert ask(visitor, number, wrapped)[0] == 400
        raw(demo, "GET", f"/gradio_api/file={address}")
        raw(demo, "GET", f"/gradio_api/proxy={address}")
        with contextlib.suppress(TimeoutError):
            asked.append(listener.accept())
    assert asked == []


def test_the_page_tells_no_path(visitor, temporary, finished):
    page = visitor.get("/").text
    for place in (temporary, finished, Path.cwd(), Path.home(), Path(__file__).parents[2]):
        if str(place) != "/":
            assert f'"{place}' not in page
            assert f"={place}" not in page
    assert str(temporary) not in page


HOSTS = ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "192.0.2.7", "[2001:db8::1]", "0.0.0.0"]


@pytest.mark.parametrize("host", [*HOSTS, "", "localhost@evil.example", "a b", "localhost/x", "::1", "localhost:99:1"])
def test_a_rebound_name_is_refused(demo, host):
    for method, target in (
        ("GET", "/"),
        ("POST", "/gradio_api/upload"),
        ("GET", "/gradio_api/queue/data?session_hash=a"),
    ):
        status, text = raw(demo, method, target, {"Host": host})
        assert status in (400, 403)
        assert "<html" not in text


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST.", "127.0.0.1", "[::1]", "127.0.0.2"])
@pytest.mark.parametrize("port", ["", ":9999"])  # of a tunnel
def test_a_tunnel_s_name_is_served(demo, host, port):
    headers = {"Host": host + port, "Origin": f"http://{host}{port}", "Sec-Fetch-Site": "same-origin"}
    assert raw(demo, "GET", "/", headers)[0] == 200


@pytest.mark.parametrize(
    ("host", "address", "known", "unknown"),
    [
        ("127.0.0.1", "127.0.0.1", ["localhost", "127.0.0.1", "[::1]"], ["192.0.2.1", "0.0.0.0", "evil.example"]),
        (
            "0.0.0.0",
            "0.0.0.0",
            ["localhost", "192.0.2.1", "[2001:db8::1]", socket.gethostname().lower()],
            ["evil.example"],
        ),
        ("::", "::", ["192.0.2.1", "[::1]"], ["evil.example"]),
        (
            "192.0.2.1",
            "192.0.2.1",
            ["localhost", "192.0.2.1", socket.gethostname().lower()],
            ["192.0.2.2", "evil.example"],
        ),
        ("Box.Lab.example", "192.0.2.1", ["box.lab.example", "192.0.2.1"], ["lab.example"]),
        ("fe80::1%eth0", "fe80::1%eth0", ["localhost", "[fe80::1]"], ["[fe80::2]"]),
    ],
)
def test_names_by_what_it_listens_on(host, address, known, unknown):
    hosts = hosts_of(host, address)
    assert [name for name in known if not hosts(name)] == []
    assert [name for name in unknown if hosts(name)] == []


FOREIGN = [
    {"Origin": "http://evil.example"},
    {"Origin": "null"},
    {"Origin": "https://127.0.0.1:{port}"},
    {"Origin": "http://127.0.0.1:{port}.evil.example"},
    {"Origin": "http://127.0.0.1"},
    {"Origin": "http://localhost:{port}"},  # another name of this server is another origin
    {"Origin": ""},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"},
]


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
def test_other_web_sites_are_refused(demo, headers):
    sent = {key: value.format(port=demo.port) for key, value in headers.items()}
    event = json.dumps({"data": [None], "fn_index": FILE, "session_hash": "a"})
    form = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\na\r\n--x--\r\n'
    socketed = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "x" * 24,
    }
    for method, target, more, body in (
        ("GET", "/", {}, None),
        ("GET", "/theme.css", {}, None),
        ("GET", "/gradio_api/queue/data?session_hash=a", {}, None),
        ("GET", "/gradio_api/heartbeat/a", {}, None),
        ("POST", "/gradio_api/queue/join", {"Content-Type": "application/json"}, event),
        ("POST", "/gradio_api/queue/join", {"Content-Type": "text/plain"}, event),
        ("POST", "/gradio_api/upload", {"Content-Type": "multipart/form-data; boundary=x"}, form),
        ("OPTIONS", "/gradio_api/upload", {"Access-Control-Request-Method": "POST"}, None),
        ("GET", "/gradio_api/queue/data", socketed, None),
    ):
        connection = http.client.HTTPConnection("127.0.0.1", demo.port, timeout=20)
        connection.request(method, target, body, {**sent, **more})
        answer = connection.getresponse()
        assert answer.status == 403, (method, target)
        assert not [name for name, _ in answer.getheaders() if name.lower().startswith("access-control-")]
        connection.close()


def test_a_link_from_another_site_opens_the_page(demo):
    headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert raw(demo, "GET", "/", headers)[0] == 200
    assert raw(demo, "GET", "/gradio_api/heartbeat/a", headers)[0] == 403


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", None]
)
def test_an_event_must_be_of_a_type_that_browsers_ask_for(demo, kind):
    body = json.dumps({"data": [None], "fn_index": FILE, "session_hash": "a"})
    assert raw(demo, "POST", "/gradio_api/queue/join", {"Content-Type": kind} if kind else {}, body)[0] == 415


def test_a_proxy_s_headers_are_not_believed(visitor):
    lies = ("X-Forwarded-Host", "X-Gradio-Server", "X-Forwarded-Proto", "Forwarded", "X-Forwarded-Prefix")
    page = visitor.get("/", headers=dict.fromkeys(lies, "https://evil.example"))
    assert page.status_code == 200
    assert "evil.example" not in page.text
    assert "evil.example" not in visitor.get("/?deep_link=evil.example&page=evil.example").text


BODIES = {
    "no object": "[]",
    "no json": "{",
    "deep": "[" * 100_000,
    "deep value": '{"data": [' + '{"a":' * 50_000,
    "no data": '{"fn_index": 0}',
    "two values": '{"fn_index": 0, "data": [null, null]}',
    "other function": '{"fn_index": 99, "data": [null]}',
    "true function": '{"fn_index": true, "data": [null]}',
    "text function": '{"fn_index": "0", "data": [null]}',
    "odd session": '{"fn_index": 0, "data": [null], "session_hash": "../x"}',
    "long session": '{"fn_index": 0, "data": [null], "session_hash": "' + "a" * 99 + '"}',
    "long number": '{"fn_index": ' + "9" * 5000 + ', "data": [null]}',
    "text": '{"fn_index": 0, "data": ["/etc/passwd"]}',
    "board of text": '{"fn_index": 2, "data": [{"composite": "/etc/passwd"}]}',
    "latin": b'{"data": ["\xff"]}',
}


@pytest.mark.parametrize("name", BODIES)
def test_malformed_events_are_refused(demo, name):
    status, text = raw(demo, "POST", "/gradio_api/queue/join", {"Content-Type": "application/json"}, BODIES[name])
    assert status == 400
    assert len(text) < 200


def chunks(size):
    """A body that does not tell how long it is."""
    for _ in range(size // 2**16 + 1):
        yield b" " * 2**16


@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize("target", ["queue/join", "upload", "component_server/", "stream/" + "a" * 32])
def test_bodies_are_bounded(visitor, target, told, demo):
    most = MOST_JSON if target[0] in "qs" else 4 * MOST + 2**20
    kind = "multipart/form-data; boundary=x" if target == "upload" else "application/json"
    body = b" " * (most + 2**17) if told else chunks(most + 2**17)
    if target == "upload":
        head = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\n'
        body = head + body if told else (part for parts in ([head], body) for part in parts)
    try:
        answer = visitor.post(f"/gradio_api/{target}", content=body, headers={"Content-Type": kind})
        assert answer.status_code == 413
    except httpx.WriteError:  # refused before all of it was sent
        pass
    assert peak_mib(demo) < 2000


def test_uploads_are_bounded(visitor, temporary):
    many = [("files", (f"{i}.png", png())) for i in range(3)]
    assert visitor.post("/gradio_api/upload", files=many).status_code == 400
    assert visitor.post("/gradio_api/upload", files={"other": ("a", b"a")}).status_code == 400
    assert visitor.post("/gradio_api/upload", data={"files": "text"}).status_code == 400
    assert visitor.post("/gradio_api/upload", content=b"x", headers={"Content-Type": "text/plain"}).status_code == 400
    big, names = b"x" * (3 * MOST), []
    for _ in range(4):
        names.append(upload(visitor, big))
        assert sum(path.stat().st_size for path in kept(temporary)) < 2 * (4 * MOST + 2**20) + 2**20
    assert visitor.get(f"/gradio_api/file={names[0]}").status_code == 404
    assert len(visitor.get(f"/gradio_api/file={names[-1]}").content) == len(big)
    for _ in range(5):
        connection = http.client.HTTPConnection("127.0.0.1", visitor.base_url.port)
        connection.putrequest("POST", "/gradio_api/upload")
        connection.putheader("Content-Type", "multipart/form-data; boundary=x")
        connection.putheader("Content-Length", "1000000")
        connection.endheaders(
            b'--x\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\n' + b"x" * 1000
        )
        connection.close()  # broken off
    assert ask(visitor, FILE, file(upload(visitor, png())))[0] == 200


@pytest.mark.parametrize(
    "name", ["../../x.png", "/etc/x", "a\0b", "x" * 5000, "", ".", "..", "<b>", "a.svg", "con", "%2e%2e"]
)
def test_the_name_of_an_upload_goes_nowhere(visitor, temporary, name):
    before = set(temporary.rglob("*"))
    head = f'--x\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'.encode()
    answer = visitor.post(
        "/gradio_api/upload",
        content=head + png() + b"\r\n--x--\r\n",
        headers={"Content-Type": "multipart/form-data; boundary=x"},
    )
    assert answer.status_code in (200, 400)
    for path in set(temporary.rglob("*")) - before:
        assert path.parent.name.startswith("ganc-demo-")
        assert path.name.startswith("upload-")
    if answer.status_code == 200:
        assert str(temporary) not in answer.text


def test_the_store_keeps_no_more_than_it_may(tmp_path):
    store = Uploads(tmp_path, 100)
    names = [store.add(io.BytesIO(b"x"), 1) for _ in range(MOST_FILES + 5)]
    assert len(list(tmp_path.iterdir())) == MOST_FILES
    assert [name for name in names if store.find(name) is None] == names[:5]
    store.add(io.BytesIO(b"x" * 100), 100)
    store.add(io.BytesIO(b"x" * 100), 100)
    assert store.used == 200
    shown = tmp_path / "page.png"
    shown.write_bytes(b"x")
    assert store.show(shown) == store.show(shown)
    assert store.find(store.show(shown)) == shown
    shown.unlink()
    os.mkfifo(shown)
    assert store.find(store.show(shown)) is None
    for odd in (None, 3, str(shown), shown.name, "", "upload-x"):
        assert store.find(odd) is None


def tile_bomb(side):
    """A TIFF file of 16 x 16 pixels in one tile of ``side`` x ``side``."""
    data = zlib.compress(b"\0" * (side * side), 9)
    entries = [(256, 16), (257, 16), (258, 8), (259, 8), (262, 1), (277, 1), (322, side), (323, side)]
    entries += [(324, 8 + 2 + 12 * 10 + 4), (325, len(data))]
    head = struct.pack("<2sHIH", b"II", 42, 8, len(entries))
    return head + b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries) + b"\0" * 4 + data


def large(fmt, side, **options):
    content = io.BytesIO()
    Image.new("1" if fmt in ("PNG", "TIFF") else "RGB", (side, side)).save(content, fmt, **options)
    return content.getvalue()


def frames():
    content = io.BytesIO()
    images = [Image.new("RGB", (64, 64), (i, 0, 0)) for i in range(50)]
    images[0].save(content, "GIF", save_all=True, append_images=images[1:])
    return content.getvalue()


BOMBS = {
    "png": lambda: large("PNG", 13_000),
    "beyond Pillow's limit": lambda: large("PNG", 20_000),
    "tiff": lambda: large("TIFF", 13_000, compression="group4"),
    "tile": lambda: tile_bomb(16_384),
    "webp": lambda: large("WEBP", 3200, method=0),
    "jpeg": lambda: large("JPEG", 3200),
    "bmp": lambda: large("BMP", 3170),
}
NO_IMAGES = {
    "svg": lambda: b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
    "eps": lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99 99\n(/etc/passwd) (r) file\n",
    "pdf": lambda: b"%PDF-1.4\n1 0 obj\n<<>>\nendobj\n",
    "html": lambda: b"<html><script>alert(1)</script></html>",
    "head only": lambda: png()[:40],
    "empty": lambda: b"",
}


@pytest.mark.parametrize("name", BOMBS)
def test_large_images_are_refused_before_they_are_decoded(visitor, demo, temporary, name):
    ask(visitor, FILE, file(upload(visitor, png())))
    before, bomb = peak_mib(demo), BOMBS[name]()
    status, told = ask(visitor, FILE, file(upload(visitor, bomb)))
    assert status == 200
    assert "No answer: it.png: " in told
    assert "pixels" in told
    if name in (
        "png",
        "tiff",
        "tile",
        "beyond Pillow's limit",
    ):  # those that are too large for the page's own images too
        for number, value in ((BOARD, board(file(upload(visitor, bomb)))), (WEBCAM, in_url(bomb))):
            status, told = ask(visitor, number, value)
            assert status == 200
            assert "No answer: the " in told
            assert "pixels" in told
            assert str(temporary) not in told
    assert peak_mib(demo) < before + 150


def test_of_many_frames_one_is_decoded(visitor):
    assert "Answered" in ask(visitor, FILE, file(upload(visitor, frames())))[1]


@pytest.mark.parametrize("name", NO_IMAGES)
def test_what_is_no_image_is_told(visitor, name):
    content = NO_IMAGES[name]()
    for number, value in ((FILE, file(upload(visitor, content))), (WEBCAM, in_url(content))):
        status, told = ask(visitor, number, value)
        assert status == 200
        assert "cannot be read as an image" in told
        assert "Traceback" not in told


def test_more_events_than_can_wait_are_refused(visitor):
    image = upload(visitor, png((900, 1000)))
    with ThreadPoolExecutor(80) as pool:
        bodies = [{"data": [file(image)], "fn_index": FILE, "session_hash": f"s{i}"} for i in range(80)]
        done = list(pool.map(lambda body: visitor.post("/gradio_api/queue/join", json=body), bodies))
    assert {answer.status_code for answer in done} <= {200, 503}
    assert all("full" in answer.json()["detail"] for answer in done if answer.status_code == 503)
    assert "Answered" in wait_for(lambda: ask(visitor, FILE, file(image)))


def wait_for(attempt):
    """What is told once the queue takes an event again."""
    for _ in range(60):
        status, told = attempt()
        if status == 200:
            return told
        threading.Event().wait(0.5)
    raise AssertionError(told)


def test_out_of_memory_is_told_and_the_demo_lives_on(visitor, demo):
    image = upload(visitor, png((3100, 3100), "I;16"))  # computed with in numbers of 4 bytes
    assert "Answered" in ask(visitor, FILE, file(upload(visitor, png())))[1]
    pid = demo.process.pid
    before, told = resource.prlimit(pid, resource.RLIMIT_AS), [""]
    try:
        while len(told) < 10 and "is too large for the memory of this machine; give a smaller image" not in told[-1]:
            # threads of earlier tests may still give back theirs, so what is used is looked at each time
            used = int(Path(f"/proc/{pid}/statm").read_text().split()[0]) * resource.getpagesize()
            resource.prlimit(pid, resource.RLIMIT_AS, (used + 2**26, before[1]))
            told.append(ask(visitor, FILE, file(image))[1])
    finally:
        resource.prlimit(pid, resource.RLIMIT_AS, before)
    assert "is too large for the memory of this machine; give a smaller image" in told[-1], told
    assert all("Traceback" not in each for each in told)
    assert "Answered" in ask(visitor, FILE, file(upload(visitor, png())))[1]
