"""Sites beside the service, each served from a thread."""

import http.server
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def site(handler: Callable[..., http.server.BaseHTTPRequestHandler]) -> Iterator[int]:
    """A site whose requests this handler answers; yields its port."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()
