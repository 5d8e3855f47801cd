"""A stand-in for the model hub: what `hf_hub_download` needs of it, over HTTP on the loopback interface.

Answers HEAD and GET of `/OWNER/REPO/resolve/REVISION/FILE` with the hub's headers; the file itself is
behind a redirect to another host name, as large files are there.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@contextmanager
def hub(files: dict[str, bytes]) -> Iterator[tuple[str, list[str]]]:
    """Serves `OWNER/REPO/FILE` → content; gives the address and the list of requests that came."""
    seen: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def do_GET(self) -> None:
            self._answer(with_body=True)

        def _answer(self, *, with_body: bool) -> None:
            seen.append(f"{self.command} {self.path}")
            owner, repo, kind, *rest = [*self.path.strip("/").split("/"), "", "", "", ""][:6]
            file = "/".join(part for part in rest[1:] if part)
            content = files.get(f"{owner}/{repo}/{file}")
            if content is None:
                self._send(404, {"X-Error-Code": "EntryNotFound", "X-Error-Message": "Entry not found"}, b"")
            elif kind == "resolve":
                headers = {
                    "X-Repo-Commit": "0" * 40,
                    "X-Linked-Size": str(len(content)),
                    "X-Linked-ETag": _etag(content),
                }
                headers["Location"] = f"http://localhost:{server.server_port}/{owner}/{repo}/blob/main/{file}"
                self._send(302, headers, b"")
            else:
                self._send(200, {"ETag": _etag(content)}, content, with_body=with_body)

        def _send(self, status: int, headers: dict[str, str], body: bytes, *, with_body: bool = True) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if with_body:
                self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", seen
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _etag(content: bytes) -> str:
    return f'"{hashlib.sha256(content).hexdigest()}"'
