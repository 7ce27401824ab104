"""The grammar of the token file, for the server and the command.

A line holds a name, scopes separated by commas, and the SHA-256 of a token in hex, separated by spaces. For
a key of Nostr it holds `nostr:` and the public key in hex instead. `#` begins a comment.
"""

import re
from collections.abc import Iterable
from typing import NamedTuple

from wsgi_store.access.grant import SCOPES

EXPECTED = (
    f"expected a name, scopes out of {','.join(sorted(SCOPES))}, and a SHA-256 in hex or a key of Nostr"
)
# Begins a public key of Nostr (NIP-01).
NOSTR = "nostr:"

_CREDENTIAL = re.compile(rf"(?:{NOSTR})?[0-9a-fA-F]{{64}}")


class Entry(NamedTuple):
    """A token in the file, without the token itself, or a public key."""

    name: str
    scopes: frozenset[str]
    credential: str
    """The SHA-256 of the token, or `nostr:` and the public key, in lower case."""

    @property
    def key(self) -> str | None:
        """The public key of Nostr, None if this is a token."""
        return self.credential.removeprefix(NOSTR) if self.credential.startswith(NOSTR) else None

    def line(self) -> str:
        """The line of this entry, without a line break."""
        return f"{self.name} {','.join(sorted(self.scopes))} {self.credential}"


def is_name(text: str) -> bool:
    """Whether the grammar allows this name."""
    return name_of(text) == text and text.isprintable()


def is_key(text: str) -> bool:
    """Whether this is a public key of Nostr in hex."""
    return re.fullmatch("[0-9a-fA-F]{64}", text) is not None


def name_of(line: str) -> str | None:
    """The name in a line, even if the rest is malformed; None for a blank line or a comment."""
    fields = _fields(line)
    return fields[0] if fields else None


def comment_of(line: str) -> str:
    """The comment in a line with its `#`, or an empty string."""
    _, separator, comment = line.rstrip("\n").partition("#")
    return separator + comment


def entries(lines: Iterable[str]) -> tuple[list[Entry], list[int]]:
    """Return the entries in `lines`, and the numbers of the malformed lines, from 1."""
    found: list[Entry] = []
    malformed = []
    for number, line in enumerate(lines, start=1):
        fields = _fields(line)
        if not fields:
            continue
        scopes = frozenset(fields[1].split(",")) if len(fields) == 3 else frozenset()
        if scopes and scopes <= SCOPES and _CREDENTIAL.fullmatch(fields[2]):
            found.append(Entry(fields[0], scopes, fields[2].lower()))
        else:
            malformed.append(number)
    return found, malformed


def _fields(line: str) -> list[str]:
    return line.partition("#")[0].split()
