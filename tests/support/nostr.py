"""Signed events of Nostr (NIP-01), as a client makes them."""

import base64
import hashlib
import json
import time
from typing import Any

from coincurve import PrivateKey

# Seconds: longer than all tests, because some events are made when their file is imported.
LASTING = 7200
MINE, OTHERS = PrivateKey(b"\x01" * 32), PrivateKey(b"\x02" * 32)


def public(key: PrivateKey) -> str:
    """The public key in hex."""
    return key.public_key.format()[1:].hex()


def event(key: PrivateKey, verb: str, *hashes: str, **changed: Any) -> dict[str, Any]:
    """An event that allows an action on blobs; `changed` replaces members, `tags` are added."""
    tags = [["t", verb], ["expiration", str(int(time.time()) + LASTING)], *(["x", hash_] for hash_ in hashes)]
    made = {
        "pubkey": public(key),
        "created_at": int(time.time()),
        "kind": 24242,
        "content": "a test",
        **changed,
        "tags": changed.get("all_tags", [*tags, *changed.get("tags", [])]),
    }
    made.pop("all_tags", None)
    signed = [0, made["pubkey"], made["created_at"], made["kind"], made["tags"], made["content"]]
    identity = hashlib.sha256(json.dumps(signed, ensure_ascii=False, separators=(",", ":")).encode()).digest()
    return {**made, "id": identity.hex(), "sig": key.sign_schnorr(identity).hex()}


def field(made: object) -> dict[str, str]:
    """The header field with an event."""
    text = base64.urlsafe_b64encode(json.dumps(made).encode()).decode().rstrip("=")
    return {"Authorization": f"Nostr {text}"}


def allowing(verb: str, *hashes: str, key: PrivateKey = MINE) -> dict[str, str]:
    """The header field with an event that allows an action on blobs."""
    return field(event(key, verb, *hashes))
