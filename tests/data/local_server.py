"""A toy data set, and a small HTTP server on 127.0.0.1 that serves it and misbehaves as told."""

import hashlib
import io
import threading
import zipfile
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from seglib.data.sources import Published

# Random bytes do not compress, so that half of the archive is half of the contents.
NAMES = [f"{part}/{name}.png" for part in ("images", "test/masks") for name in "ab"]
CONTENT = {name: hashlib.shake_256(name.encode()).digest(90_000) for name in NAMES}
LINES = [f"{path}\0{hashlib.sha256(CONTENT[path]).hexdigest()}\n" for path in sorted(CONTENT)]
PREFIX = "toys-0123/sets/toy/"


class Toy(Published):
    """A data set whose home is the server of a test."""

    url = "http://127.0.0.1:9/toy.zip"


PLACE = {"repository": "someone/toys", "commit": "0123456789abcdef", "folder": "sets/toy"}
SIZE = {"parts": {"images": 2, "test/masks": 2}, "total_bytes": 360_000}
DIGEST = hashlib.sha256("".join(LINES).encode()).hexdigest()
TERMS = {"licence": "CC BY 4.0", "attribution": "Toy: by someone"}
TOY = Toy(title="Toy", digest=DIGEST, **PLACE, **SIZE, **TERMS)


def archive(members=CONTENT, extra=()):
    """The zip of a repository that holds `members` in the toy's folder."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as writer:
        writer.writestr("toys-0123/README.md", "not wanted")
        for path, content in members.items():
            writer.writestr(PREFIX + path, content)
        for info in extra:
            writer.writestr(info, b"harm")
    return buffer.getvalue()


@dataclass
class Site:
    """What the server serves; change it between two requests."""

    body: bytes
    ranges: bool = True  # answer Range with 206
    cut_after: int | None = None  # bytes sent before the connection is closed
    chunked: bool = False  # no Content-Length, as GitHub sends archives
    status: int = 200
    requests: list[str | None] = field(default_factory=list)  # the ranges asked for


@contextmanager
def serve(site):
    """Serve `site` in a thread; gives its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            wanted = self.headers.get("Range")
            site.requests.append(wanted)
            start = int(wanted[6:-1]) if wanted and site.ranges else 0
            if site.status != 200 or start >= len(site.body):
                self.send_error(416 if site.status == 200 else site.status)
                return
            body = site.body[start:]
            self.send_response(206 if start else 200)
            if site.chunked:
                self.send_header("Transfer-Encoding", "chunked")
                blocks = [body[i : i + 50_000] for i in range(0, len(body), 50_000)]
                body = b"".join(b"%x\r\n%s\r\n" % (len(block), block) for block in [*blocks, b""])
            else:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: site.cut_after])

        def log_message(self, *_):
            """Stay silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/toy.zip"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
