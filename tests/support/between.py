"""A proxy of HTTP that answers some requests itself, and changes some answers."""

import http.client
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

Fields = dict[str, str]
# What the proxy answers itself to a method and a path: status, fields and body.
Own = Callable[[str, str], tuple[int, Fields, bytes] | None]
Changed = Callable[[bytes], bytes]
HOP = {"connection", "keep-alive", "transfer-encoding", "content-length"}


class Between:
    """Stands between clients and a server of this machine."""

    def __init__(
        self, port: int, own: Own = lambda method, path: None, changed: Changed = lambda data: data
    ) -> None:
        class Handler(BaseHTTPRequestHandler):
            """One connection of a client."""

            protocol_version = "HTTP/1.1"

            def __getattr__(self, name: str) -> Callable[[], None]:
                if name.startswith("do_"):
                    return self._answer
                raise AttributeError(name)

            def _answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                answer = own(self.command, self.path)
                if answer is None:
                    server = http.client.HTTPConnection("127.0.0.1", port)
                    server.request(self.command, self.path, body or None, dict(self.headers))
                    got = server.getresponse()
                    answer = got.status, dict(got.getheaders()), got.read()
                    server.close()
                status, fields, data = answer
                fields = {
                    name: changed(value.encode("latin-1")).decode("latin-1") for name, value in fields.items()
                }
                self._send(status, fields, changed(data))

            def _send(self, status: int, fields: Fields, data: bytes) -> None:
                self.send_response(status)
                for name, value in fields.items():
                    if name.lower() not in HOP:
                        self.send_header(name, value)
                if status != 204:
                    self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(data)

            def log_message(self, format: str, *args: object) -> None:  # pylint: disable=redefined-builtin
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
