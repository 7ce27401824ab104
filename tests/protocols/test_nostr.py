"""Signed events: which are read, and what they allow."""

import base64
import json
import time

import pytest

from tests.support.nostr import LASTING, MINE, OTHERS, allowing, event, field, public
from wsgi_store.errors import Unauthenticated
from wsgi_store.protocols.nostr import AHEAD, Event

HASH = "5" * 64
SERVER = "blobs.example"
NOW = int(time.time())
OLD, LATER = str(NOW - 10), str(NOW + LASTING)
GOOD = event(MINE, "upload", HASH)
MALFORMED, WRONG = "malformed event", "the id or the signature of the event is wrong"
NO_END, NO_VERB = "the event does not tell when it expires", "the event does not allow this"
ELSEWHERE = "the event is for another server than blobs.example"


def plain(data: bytes) -> dict[str, str]:
    """The header field with any bytes in the place of an event."""
    return {"Authorization": f"Nostr {base64.b64encode(data).decode()}"}


def tagged(*tags: list[str]) -> dict[str, str]:
    """The header field with an event that has these tags alone."""
    return field(event(MINE, "", all_tags=tags))


def also(*tags: object, **changed: object) -> dict[str, str]:
    """The header field with an event that allows an upload, and has further tags or other members."""
    return field(event(MINE, "upload", HASH, tags=list(tags), **changed))


BAD = {
    "nothing": ({"Authorization": ""}, "expected Authorization: Nostr"),
    "another scheme": ({"Authorization": "Bearer x"}, "expected Authorization: Nostr"),
    "basic": ({"Authorization": "Basic eDp5"}, "expected Authorization: Nostr"),
    "no event": ({"Authorization": "Nostr"}, MALFORMED),
    "no base64": ({"Authorization": "Nostr ***"}, MALFORMED),
    "no Unicode": (plain(b"\xff"), MALFORMED),
    "no JSON": (plain(b"{}1"), MALFORMED),
    "a list": (field([]), MALFORMED),
    "too deep": (plain(b"[" * 6000), MALFORMED),
    "a number that is too long": (plain(b'{"created_at": %s}' % (b"9" * 5000)), MALFORMED),
    "a time that is none": (also(created_at="now"), MALFORMED),
    "no number": (plain(json.dumps({**GOOD, "created_at": float("nan")}).encode()), MALFORMED),
    "a surrogate": (field({**GOOD, "content": "\ud800"}), MALFORMED),
    "a key in capitals": (field({**GOOD, "pubkey": public(MINE).upper()}), MALFORMED),
    "no point of the curve": (field({**event(MINE, "upload", pubkey="f" * 64)}), MALFORMED),
    "tags that are none": (field({**GOOD, "tags": 7}), MALFORMED),
    "tags of numbers": (also(["x", 7]), MALFORMED),
    "tags of text": (also("te"), MALFORMED),
    "no signature": (field({name: GOOD[name] for name in GOOD if name != "sig"}), MALFORMED),
    "another signature": (field({**GOOD, "sig": event(MINE, "get", HASH)["sig"]}), WRONG),
    "a signature of zeros": (field({**GOOD, "sig": "0" * 128}), WRONG),
    "another id": (field({**GOOD, "id": "0" * 64}), WRONG),
    "another key": (field({**GOOD, "pubkey": public(OTHERS)}), WRONG),
    "another tag": (field({**GOOD, "tags": [*GOOD["tags"], ["x", "6" * 64]]}), WRONG),
    "another kind": (also(kind=1), "the event is not of kind 24242"),
    "from the future": (also(created_at=NOW + LASTING), "the event is from the future"),
    "without an end": (tagged(["t", "upload"]), NO_END),
    "an end that is none": (also(["expiration", "never"]), NO_END),
    "an end of a fraction": (tagged(["t", "upload"], ["expiration", f"{LATER}.5"]), NO_END),
    "expired": (tagged(["t", "upload"], ["expiration", OLD]), "the event has expired"),
    "of two ends": (also(["expiration", OLD]), "the event has expired"),
    "another verb": (allowing("get", HASH), NO_VERB),
    "a verb in capitals": (allowing("Upload", HASH), NO_VERB),
    "no verb": (tagged(["t"], ["expiration", LATER]), NO_VERB),
    "another server": (also(["server", "elsewhere.example"]), ELSEWHERE),
    "a URL of this server": (also(["server", f"https://{SERVER}"]), ELSEWHERE),
    "a server without a name": (also(["server", ""]), ELSEWHERE),
}


@pytest.mark.parametrize(("fields", "reason"), BAD.values(), ids=list(BAD))
def test_bad_events(fields: dict[str, str], reason: str) -> None:
    """An event that does not allow this is refused for what is wrong with it."""
    with pytest.raises(Unauthenticated) as refused:
        Event.read(fields["Authorization"]).require("upload", SERVER)
    assert refused.value.message.startswith(reason)


@pytest.mark.parametrize(
    "fields",
    [
        also(),
        also(created_at=NOW + AHEAD // 2),
        also(created_at=0),
        also(["server", "elsewhere.example"], ["server", SERVER]),
        also(["-"], [], ["t", "get"], ["expiration", LATER], ["x", HASH, "further"]),
        also(content='"\\\n\r\t\b\f\x01\x7f\u2028 ж 🌸'),
    ],
)
def test_good_events(fields: dict[str, str]) -> None:
    """An event with further tags, for several servers, by an odd clock, and with any text is taken."""
    read = Event.read(fields["Authorization"])
    read.require("upload", SERVER)
    assert (read.key, read.tags["x"][0]) == (public(MINE), HASH)


def test_both_alphabets() -> None:
    """Base64 of either alphabet is read, with and without padding, after the scheme in any case."""
    text = json.dumps(event(MINE, "upload", HASH, content="?>?>ÿÿÿ"), ensure_ascii=False).encode()
    for end in (b"", b" ", b"  "):
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            encoded = encode(text + end).decode()
            for written in (encoded, encoded.rstrip("=")):
                for scheme in ("Nostr", "nostr", " NOSTR "):
                    assert Event.read(f"{scheme} {written} ").key == public(MINE)
