"""Git LFS: random pushes, whole, in parts and false, with removals and damage, against a model."""

import hashlib
import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tests.support.access import KEY, bearer, line
from tests.support.calling import Answer, call
from tests.support.kinds import LocalKind, digest_of
from wsgi_store.assembly import create_app
from wsgi_store.choices import Protocol
from wsgi_store.config import Config
from wsgi_store.digest import Algorithm
from wsgi_store.protocols.lfs import KIND
from wsgi_store.store.contract import Durability

FILES = [b"one", b"other", b"the third file", b"x"]
NAMES = [hashlib.sha256(data).hexdigest() for data in FILES]
NUMBERS = st.integers(0, len(FILES) - 1)
TUS = {"HTTP_TUS_RESUMABLE": "1.0.0", "CONTENT_TYPE": "application/offset+octet-stream"}


class Pushes(RuleBasedStateMachine):
    """A client, and an operator whose disk fails."""

    def __init__(self) -> None:
        super().__init__()
        # pylint: disable-next=consider-using-with  # removed in teardown
        self.directory = tempfile.TemporaryDirectory()
        self.root = Path(self.directory.name, "store")
        tokens = Path(self.directory.name, "tokens")
        tokens.write_text(line("this", "read,write"), encoding="ascii")
        self.config = Config(
            root=str(self.root),
            min_free=0,
            tokens=str(tokens),
            durability=Durability.NONE,
            protocols=(Protocol.LFS,),
        )
        self.app = create_app(self.config)
        self.store: set[int] = set()
        self.quarantine: set[int] = set()
        self.offsets = dict.fromkeys(range(len(FILES)), 0)

    @rule(signs=st.booleans())
    def restart(self, signs: bool) -> None:
        """Start the service again, which may sign URLs now."""
        self.app = create_app(replace(self.config, signing_keys=(KEY,) if signs else ()))

    def ask(self, method: str, path: str, body: bytes = b"", **fields: str) -> Answer:
        """Ask with the token, unless the URL is signed."""
        url = urlsplit(path)
        if not url.query:
            fields["HTTP_AUTHORIZATION"] = bearer("this")["Authorization"]
        return call(self.app, method, url.path, body=body, QUERY_STRING=url.query, HTTP_HOST="a", **fields)

    def batch(self, operation: str, objects: list[dict[str, Any]], **more: Any) -> list[dict[str, Any]]:
        """What a batch tells of objects."""
        body = json.dumps({"operation": operation, "objects": objects, **more}).encode()
        answer = self.ask("POST", "/lfs/a/objects/batch", body, CONTENT_TYPE=KIND)
        assert answer.status == 200
        found: list[dict[str, Any]] = answer.json["objects"]
        return found

    def url(self, number: int, size: int, transfer: str) -> str | None:
        """Where an object is uploaded; None if the service has it."""
        objects = [{"oid": NAMES[number], "size": size}]
        (told,) = self.batch("upload", objects, transfers=[transfer])
        if number in self.store and size == len(FILES[number]):
            assert told == objects[0]
            return None
        return str(told["actions"]["upload"]["href"])

    @rule(number=NUMBERS, lie=st.sampled_from([None, None, b"?", b"short", b"a longer one than all of them"]))
    def push(self, number: int, lie: bytes | None) -> None:
        """Push a file by the basic transfer, or other bytes under its name."""
        url = self.url(number, len(FILES[number]), "basic")
        if url is None:
            return
        data = FILES[number] if lie is None else lie
        status = self.ask("PUT", url, data).status
        if lie is None:
            assert status == 201
            self.store.add(number)
            self.quarantine.discard(number)
        else:
            assert status in (413, 422)

    @rule(number=NUMBERS, count=st.integers(0, 20))
    def push_part(self, number: int, count: int) -> None:
        """Push the next bytes of a file by tus."""
        data = FILES[number]
        url = self.url(number, len(data), "tus")
        if url is None:
            return
        begun = self.ask("HEAD", url, **TUS)
        assert (begun.status, begun.headers["Upload-Offset"]) == (200, str(self.offsets[number]))
        offset = self.offsets[number]
        part = data[offset : offset + count]
        answer = self.ask("PATCH", url, part, HTTP_UPLOAD_OFFSET=str(offset), **TUS)
        assert (answer.status, answer.headers["Upload-Offset"]) == (204, str(offset + len(part)))
        self.offsets[number] += len(part)
        if self.offsets[number] == len(data):
            self.offsets[number] = 0
            self.store.add(number)
            self.quarantine.discard(number)

    @rule(number=NUMBERS)
    def push_wrong_bytes(self, number: int) -> None:
        """Push the rest of a file by tus with other bytes: the whole upload is refused."""
        data = FILES[number]
        url = self.url(number, len(data), "tus")
        if url is None:
            return
        offset = self.offsets[number]
        rest = b"?" * (len(data) - offset)
        answer = self.ask("PATCH", url, rest, HTTP_UPLOAD_OFFSET=str(offset), **TUS)
        assert answer.status == 422
        self.offsets[number] = 0

    @rule(number=NUMBERS)
    def lose(self, number: int) -> None:
        """Remove a blob."""
        if number in self.store:
            self.app.store.remove(digest_of(Algorithm.SHA256, FILES[number]))
            self.store.remove(number)

    @rule(number=NUMBERS)
    def damage(self, number: int) -> None:
        """Damage a blob, and put it in quarantine."""
        if number in self.store:
            digest = digest_of(Algorithm.SHA256, FILES[number])
            LocalKind(nameless=True).damage(self.root, digest, b"?" * len(FILES[number]))
            assert self.app.store.quarantine(digest)
            self.store.remove(number)
            self.quarantine.add(number)

    @invariant()
    def the_batches_tell_what_is_there(self) -> None:
        """Downloads, and what verify says, are those of the model."""
        objects = [{"oid": name, "size": len(data)} for name, data in zip(NAMES, FILES, strict=True)]
        for number, one in enumerate(self.batch("download", objects)):
            verified = self.ask(
                "POST", "/lfs/objects/verify", json.dumps(objects[number]).encode(), CONTENT_TYPE=KIND
            )
            if number in self.store:
                href = one["actions"]["download"]["href"]
                assert self.ask("GET", href).body == FILES[number]
                assert verified.status == 200
            else:
                assert one["error"]["code"] == (410 if number in self.quarantine else 404)
                assert verified.status == 404

    def teardown(self) -> None:
        """Remove the store."""
        self.directory.cleanup()


TestPushes = Pushes.TestCase
# Each example is many requests.
TestPushes.settings = settings(max_examples=settings().max_examples // 4, stateful_step_count=12)
