"""The access log: a line for each request, with its caller and its outcome."""

import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

from wsgi_store import logs
from wsgi_store.choices import LogFormat, LogLevel
from wsgi_store.web.exchange import Exchange, exchange_of

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment


@dataclass(slots=True)
class Line:
    """The part of a line that the server knows; `path` excludes the query, `sent` is in bytes."""

    client: str
    method: str
    path: str
    status: str
    sent: int
    seconds: float


class AccessLog:
    """Writes the lines, unless the level of the log is above `info`."""

    def __init__(self, level: LogLevel, form: LogFormat) -> None:
        self._json = form is LogFormat.JSON
        self.enabled = level in (LogLevel.DEBUG, LogLevel.INFO)

    def write(self, line: Line, exchange: Exchange) -> None:
        """Write the line of a request."""
        exchange.logged = True
        milliseconds = line.seconds * 1000
        message = f"{line.method} {line.path} {line.status} {line.sent} B {milliseconds:.1f} ms"
        if self._json:
            extra: dict[str, object] = {
                "request_id": exchange.request_id,
                "user": exchange.user,
                "client": line.client,
                "method": line.method,
                "path": line.path,
                "status": int(line.status) if line.status.isdigit() else None,
                "bytes": line.sent,
                "ms": round(milliseconds, 3),
            }
            if exchange.hash is not None:
                extra |= {"hash": exchange.hash, "size": exchange.size}
            elif exchange.files is not None:
                extra |= {"files": exchange.files, "size": exchange.size}
        else:
            # Quoted: a host application chooses the name, which must not look like another field.
            user = "" if exchange.user is None else f" user={quote(exchange.user, safe=':@')}"
            stored = ""
            if exchange.hash is not None:
                stored = f" hash={exchange.hash} size={exchange.size}"
            elif exchange.files is not None:
                stored = f" files={exchange.files} size={exchange.size}"
            message += f" client={line.client or '-'}{user}{stored}"
            extra = {"request_id": exchange.request_id}
        text = logs.json_line if self._json else logs.text_line
        # Written past loguru, which formats far more slowly.
        with suppress(OSError):  # a full disk must not fail the request
            logs.access.write(text(time.time(), "INFO", message, extra))

    def answer(self, environ: "WSGIEnvironment", status: str, length: int, seconds: float) -> None:
        """Write the line of an answer that is about to begin, unless the server writes it at the end."""
        exchange = exchange_of(environ)
        if self.enabled and not exchange.own_worker:
            # Quoted again: some servers decode the path or leave it unchecked. Some leave the host in
            # front of it, which may include a password.
            path = quote((environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")).encode("latin-1"))
            path = path if path.startswith("/") else "-"
            method = quote(environ["REQUEST_METHOD"], errors="replace")
            client = environ.get("REMOTE_ADDR", "")
            sent = 0 if method == "HEAD" else length
            self.write(Line(client, method, path, status, sent, seconds), exchange)
