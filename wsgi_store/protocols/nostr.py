"""Signed events of Nostr (NIP-01) that take the place of credentials (BUD-11)."""

import base64
import hashlib
import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from coincurve import PublicKeyXOnly

from wsgi_store.errors import Unauthenticated

KIND = 24242
# Seconds that the clock of a client may be ahead of ours.
AHEAD = 60
KEY = re.compile("[0-9a-f]{64}")
SIGNATURE = re.compile("[0-9a-f]{128}")
TIME = re.compile("[0-9]{1,12}")
# The specification wants the alphabet of URLs; clients send the other one, too.
PLAIN = str.maketrans("-_", "+/")


@dataclass(frozen=True, slots=True)
class Event:
    """An event whose signature is right, and the values of its tags."""

    key: str
    """The public key that signed it, in hex."""
    tags: Mapping[str, list[str]]

    @classmethod
    def read(cls, field: str) -> "Event":
        """Read the event in an Authorization field; raises Unauthenticated."""
        scheme, _, text = field.strip().partition(" ")
        if scheme.lower() != "nostr":
            raise Unauthenticated("expected Authorization: Nostr and a signed event")
        try:
            event = json.loads(_decoded(text.strip()))
            key, begin, tags = event["pubkey"], event["created_at"], _tags(event["tags"])
            if not (KEY.fullmatch(key) and SIGNATURE.fullmatch(event["sig"]) and isinstance(begin, int)):
                raise ValueError
            signed = [0, key, begin, event["kind"], event["tags"], event["content"]]
            text = json.dumps(signed, ensure_ascii=False, separators=(",", ":"))
            identity = hashlib.sha256(text.encode()).digest()
            is_right = identity.hex() == event["id"] and PublicKeyXOnly(bytes.fromhex(key)).verify(
                bytes.fromhex(event["sig"]), identity
            )
        except (ValueError, KeyError, TypeError, RecursionError):
            raise Unauthenticated("malformed event: expected one of NIP-01, as JSON in Base64") from None
        if not is_right:
            raise Unauthenticated("the id or the signature of the event is wrong")
        if event["kind"] != KIND:
            raise Unauthenticated(f"the event is not of kind {KIND}")
        if begin > time.time() + AHEAD:
            raise Unauthenticated("the event is from the future: is your clock right?")
        return cls(key, tags)

    def require(self, verb: str, server: str | None) -> None:
        """Raise Unauthenticated unless the event allows an action on this server now."""
        ends = self.tags.get("expiration", [])
        if not ends or not all(map(TIME.fullmatch, ends)):
            raise Unauthenticated("the event does not tell when it expires")
        if min(map(int, ends)) <= time.time():
            raise Unauthenticated("the event has expired")
        if verb not in self.tags.get("t", ()):
            raise Unauthenticated(f"the event does not allow this: it has no tag t with the value {verb}")
        if "server" in self.tags and server not in self.tags["server"]:
            raise Unauthenticated(f"the event is for another server than {server}")


def _decoded(text: str) -> str:
    plain = text.translate(PLAIN).rstrip("=")
    return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True).decode()


def _tags(tags: Any) -> dict[str, list[str]]:
    """Return the first value of each tag by its name; raises ValueError and TypeError."""
    found: dict[str, list[str]] = {}
    for tag in tags:
        if not (isinstance(tag, list) and all(isinstance(part, str) for part in tag)):
            raise ValueError
        if len(tag) > 1:
            found.setdefault(tag[0], []).append(tag[1])
    return found
