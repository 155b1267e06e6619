"""A toy data set, and a small HTTP server on 127.0.0.1 that serves it and misbehaves as told."""

from __future__ import annotations

import hashlib
import io
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from seglib.data.sources import Source

# Random bytes do not compress, so that half of the archive is half of the contents.
CONTENT = {
    f"{part}/{name}.png": hashlib.shake_256(f"{part}{name}".encode()).digest(90_000)
    for part in ("images", "test/masks")
    for name in ("a", "b")
}
LINES = "".join(
    f"{path}\0{hashlib.sha256(CONTENT[path]).hexdigest()}\n" for path in sorted(CONTENT)
)
TOY = Source(
    title="Toy",
    repository="someone/toys",
    commit="0123456789abcdef",
    folder="sets/toy",
    parts={"images": 2, "test/masks": 2},
    total_bytes=360_000,
    digest=hashlib.sha256(LINES.encode()).hexdigest(),
    licence="CC BY 4.0",
    attribution="Toy: by someone",
)
PREFIX = "toys-0123/sets/toy/"


def archive(
    members: dict[str, bytes] | None = None, extra: tuple[zipfile.ZipInfo, ...] = ()
) -> bytes:
    """The zip of a repository that holds `members` (CONTENT) in the toy's folder."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as writer:
        writer.writestr("toys-0123/README.md", "not wanted")
        writer.writestr(PREFIX + "notes.txt", "not wanted either")
        for path, content in (CONTENT if members is None else members).items():
            writer.writestr(PREFIX + path, content)
        for info in extra:
            writer.writestr(info, b"harm")
    return buffer.getvalue()


@dataclass
class Site:
    """What the server serves; change it between two requests."""

    body: bytes
    etag: str | None = '"one"'
    ranges: bool = True  # answer Range with 206
    respects_if_range: bool = True
    cut_after: int | None = None  # bytes sent before the connection is closed
    announced: int | None = None  # Content-Length, if it is to be wrong
    lengthless: bool = False  # no Content-Length
    chunked: bool = False  # neither, but chunks that announce their sizes, as GitHub sends them
    status: int = 200
    shift: int = 0  # a wrong Content-Range
    requests: list[dict[str, str]] = field(default_factory=list)
    url: str = ""


@contextmanager
def serve(site: Site) -> Iterator[Site]:
    """Serve `site` in a thread; its `url` is set inside the block."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            site.requests.append({name.lower(): value for name, value in self.headers.items()})
            if site.status != 200:
                self.send_error(site.status)
                return
            start = self._start()
            if start >= len(site.body):
                self.send_error(416)
                return
            body = site.body[start:]
            self.send_response(206 if start else 200)
            if start:
                last = len(site.body) - 1
                span = f"bytes {start + site.shift}-{last}/{len(site.body)}"
                self.send_header("Content-Range", span)
            if site.etag:
                self.send_header("ETag", site.etag)
            if site.chunked:
                self.send_header("Transfer-Encoding", "chunked")
                blocks = [body[i : i + 50_000] for i in range(0, len(body), 50_000)]
                body = b"".join(b"%x\r\n%s\r\n" % (len(block), block) for block in [*blocks, b""])
            elif not site.lengthless:
                self.send_header("Content-Length", str(site.announced or len(body)))
            self.end_headers()
            self.wfile.write(body[: site.cut_after])

        def _start(self) -> int:
            wanted = self.headers.get("Range")
            expected = self.headers.get("If-Range")
            if not wanted or not site.ranges:
                return 0
            if site.respects_if_range and expected not in (None, site.etag):
                return 0
            return int(wanted.removeprefix("bytes=").removesuffix("-"))

        def log_message(self, *_: object) -> None:
            """Stay silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    site.url = f"http://127.0.0.1:{server.server_address[1]}/toy.zip"
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
