"""The line in the log for each request: who asked for what, and what became of it."""

import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

from wsgi_store import logs
from wsgi_store.config import LogFormat, LogLevel

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

# Where `Application` leaves the note for whoever writes the line.
NOTE = "wsgi_store.note"


@dataclass(slots=True)
class Note:
    """What the service alone knows of a request."""

    request_id: str | None = None
    user: str | None = None
    """The name of the token, or whose right it is."""
    hash: str | None = None
    """The blob that was stored or removed."""
    size: int | None = None
    """Its size in bytes."""


@dataclass(slots=True)
class Exchange:
    """What a server knows of a request and its answer; `path` is without the query."""

    client: str
    method: str
    path: str
    status: str
    sent: int
    seconds: float


class AccessLog:
    """Writes lines of requests, where the level of the log lets them through."""

    def __init__(self, level: LogLevel, form: LogFormat) -> None:
        self._json = form is LogFormat.JSON
        self.enabled = level in (LogLevel.DEBUG, LogLevel.INFO)

    def write(self, done: Exchange, note: Note) -> None:
        """Write the line of a request."""
        milliseconds = done.seconds * 1000
        message = f"{done.method} {done.path} {done.status} {done.sent} B {milliseconds:.1f} ms"
        if self._json:
            extra: dict[str, object] = {
                "request_id": note.request_id,
                "user": note.user,
                "client": done.client,
                "method": done.method,
                "path": done.path,
                "status": int(done.status) if done.status.isdigit() else None,
                "bytes": done.sent,
                "ms": round(milliseconds, 3),
            }
            if note.hash is not None:
                extra |= {"hash": note.hash, "size": note.size}
        else:
            # A host may name callers as it likes: a name must not look like what stands beside it.
            user = "" if note.user is None else f" user={quote(note.user, safe=':@')}"
            blob = "" if note.hash is None else f" hash={note.hash} size={note.size}"
            message += f" client={done.client or '-'}{user}{blob}"
            extra = {"request_id": note.request_id}
        line = logs.json_line if self._json else logs.text_line
        # As loguru would have it written, which takes three times as long about it.
        with suppress(OSError):  # requests are answered all the same
            logs.access.write(line(time.time(), "INFO", message, extra))

    def answer(self, environ: "WSGIEnvironment", status: str, length: int, seconds: float) -> None:
        """Write the line of an answer that is about to begin, for a server that writes none of these."""
        if self.enabled:
            # Quoted anew: not every server tells what the client sent, or has looked at it. Some leave a
            # host before the path, with a password perhaps.
            path = quote((environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")).encode("latin-1"))
            path = path if path.startswith("/") else "-"
            method = quote(environ["REQUEST_METHOD"], errors="replace")
            client = environ.get("REMOTE_ADDR", "")
            done = Exchange(client, method, path, status, 0 if method == "HEAD" else length, seconds)
            self.write(done, environ[NOTE])
