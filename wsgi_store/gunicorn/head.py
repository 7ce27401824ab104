"""What the head of a request tells before gunicorn parses it."""

import re
from typing import NamedTuple

# No request line begins like this. Neither does the empty line that may precede one (RFC 9112 section 2.2),
# nor the PROXY protocol. A TLS handshake does.
FOREIGN = re.compile(rb"(?:\r\n)?[^\r\n!#$%&'*+.^_`|~0-9A-Za-z-]")
# gunicorn's parser finds bodies that this misses; those get a transfer slot later, or 503.
_BODY = re.compile(
    rb"\n(?:content-length:[ \t]*([0-9]{1,18})\s|(?:content-length|transfer-encoding):)", re.IGNORECASE
)
_EXPECT = re.compile(rb"\nexpect:", re.IGNORECASE)
_END = re.compile(rb"\n\r?\n")


class AnnouncedBody(NamedTuple):
    """The request body that a head announces."""

    length: int | None
    """In bytes; None where only the body itself will tell."""
    begun: int
    """How many bytes of it were read together with the head."""
    needs_continue: bool
    """Whether the client may wait for 100 Continue before it sends the body."""

    def has_arrived(self, unread: int) -> bool:
        """Whether a thread can read the body without waiting; `unread` is in bytes, still in the socket."""
        return self.length is not None and self.begun + unread >= self.length

    def as_arrived(self) -> "AnnouncedBody":
        """The same body once it, or the end of the connection, has arrived."""
        return AnnouncedBody(self.length or 0, self.length or 0, self.needs_continue)


UNKNOWN = AnnouncedBody(None, 0, True)


def announced_body(head: bytes, unread: int) -> AnnouncedBody | None:
    """Return the body that a head announces; the last `unread` bytes of `head` are still in the socket."""
    end = _END.search(head)
    stop = end.end() if end else len(head)
    match = _BODY.search(head, 0, stop)
    if match is None or (match[1] and not int(match[1])):
        return None
    expects = _EXPECT.search(head, 0, stop) is not None
    return AnnouncedBody(int(match[1]) if match[1] else None, len(head) - stop - unread, expects)


def is_complete(head: bytes) -> bool:
    """Whether the head has ended, or can never become one."""
    return b"\n\r\n" in head or b"\n\n" in head or FOREIGN.match(head) is not None
