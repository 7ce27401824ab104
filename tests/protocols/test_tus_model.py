"""Random requests of tus, well formed and not, against a model of the protocol."""

import hashlib
import tempfile
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.support.calling import Answer, call, held
from tests.support.resumable import TUS, checksum, tus
from wsgi_store.assembly import create_app
from wsgi_store.config import Config
from wsgi_store.store.contract import Durability

MAX = 30
MALFORMED = ["-1", "", "x", "1.0", "1, 1", "0x1", " 1", "9" * 19]
VERSIONS = st.sampled_from(["1.0.0"] * 40 + ["0.2.2", None, ""])
TYPES = st.sampled_from([TUS] * 40 + ["text/plain", None, "application/partial-upload"])
BODIES = st.binary(max_size=8)
METADATA = {
    **dict.fromkeys([None, "a YQ==", "filename aC50eHQ=,is_secret", "a", "a ,b", "b YQ==, c"], True),
    **dict.fromkeys(["a,a", "a YQ"], False),
}


@dataclass
class Model:
    """The state of an upload that the server has to know."""

    path: str
    length: int | None
    metadata: str | None
    data: bytes = b""

    @property
    def done(self) -> bool:
        """Whether the file is complete."""
        return self.length == len(self.data)

    def faults(self, at: int | str | None, told: int | str | None, end: int) -> set[int]:
        """The statuses of bytes from `at` up to `end`, with this length."""
        faults = set()
        if not isinstance(at, int) or at < 0 or isinstance(told, str):
            faults.add(400)
        elif at != len(self.data):
            faults.add(409)
        lengths_ = {one for one in (self.length, told) if isinstance(one, int)}
        if len(lengths_) > 1 or any(one < end for one in lengths_):
            faults.add(400)
        if max(end, *lengths_, 0) > MAX:
            faults.add(413)
        return faults


def lengths(upload: Model, end: int) -> dict[str, int]:
    """Lengths that a client may tell with bytes up to `end`."""
    right = end if upload.length is None else upload.length
    return {"right": right, "less": max(0, len(upload.data) - 1), "more": end + 3, "all": MAX + 1}


def summed(body: bytes, kind: str | None) -> str | None:
    """The value of Upload-Checksum."""
    if kind in ("sha1", "md5", "sha256"):
        return checksum(body, kind)
    return checksum(body + b"?") if kind == "wrong" else kind


def numbers(likely: st.SearchStrategy[int]) -> st.SearchStrategy[int | str | None]:
    """Numbers in a field, most of them well formed."""
    wild = st.one_of(st.integers(0, MAX + 5), st.sampled_from(MALFORMED))
    return st.one_of(*[likely] * 9, st.none(), st.none(), wild)


class Protocol(RuleBasedStateMachine):
    """A client that makes mistakes.

    A request that breaks rules is answered with the status of one of them, and changes nothing.
    """

    def __init__(self) -> None:
        super().__init__()
        # pylint: disable-next=consider-using-with  # removed in teardown
        self.root = tempfile.TemporaryDirectory()
        self.app = create_app(
            Config(root=self.root.name, min_free=0, max_size=MAX, durability=Durability.NONE)
        )
        self.upload = Model("/uploads/" + "0" * 32, None, None)
        self.exists = False
        self.stored: set[str] = set()

    def teardown(self) -> None:
        self.root.cleanup()

    def check(self, answer: Answer, faults: set[int], status: int) -> bool:
        """Compare an answer; returns whether the request was right."""
        assert answer.headers.get_all("Tus-Resumable") in (["1.0.0"], []), answer
        assert answer.status in (faults or {status}), (answer, faults)
        if faults and answer.body:
            assert answer.headers["Content-Type"] == "application/problem+json"
            assert answer.json["status"] == answer.status
        if answer.status == 409:
            assert answer.headers["Upload-Offset"] == str(len(self.upload.data))
        if answer.status == 412:
            assert answer.headers["Tus-Version"] == "1.0.0"
        return not faults

    def took(self, answer: Answer) -> None:
        """Compare an answer after bytes were accepted."""
        assert answer.headers["Upload-Offset"] == str(len(self.upload.data))
        if self.upload.done:
            self.stored.add(hashlib.sha256(self.upload.data).hexdigest())
            assert "Upload-Expires" not in answer.headers
        else:
            assert "Upload-Expires" in answer.headers
            assert "Content-Location" not in answer.headers

    @initialize(length=st.integers(0, 20) | st.none())
    def begin(self, length: int | None) -> None:
        """Begin an upload."""
        self.create("1.0.0", length, "1" if length is None else None, None, None, b"", None)

    @rule(
        version=VERSIONS,
        length=numbers(st.integers(0, 16)),
        deferred=st.sampled_from(["fits"] * 20 + [None, "1", "0"]),
        metadata=st.sampled_from(list(METADATA)),
        concat=st.sampled_from([None] * 30 + ["partial"]),
        body=BODIES,
        kind=TYPES,
    )
    def create(  # pylint: disable=too-many-arguments,too-many-positional-arguments
        self,
        version: str | None,
        length: int | str | None,
        deferred: str | None,
        metadata: str | None,
        concat: str | None,
        body: bytes,
        kind: str | None,
    ) -> None:
        """Create an upload, and perhaps send bytes with that."""
        faults = set()
        if deferred == "fits":
            deferred = "1" if length is None else None
        if version != "1.0.0":
            faults |= {412} if version is not None else {412, 400}
        is_number = isinstance(length, int)
        if not (is_number or length is None) or (length is None) == (deferred is None):
            faults.add(400)
        if deferred == "0" or concat or not METADATA[metadata]:
            faults.add(400)
        if isinstance(length, int) and length > MAX:
            faults.add(413)
        if isinstance(length, int) and len(body) > length:
            faults.add(400)
        if body and kind != TUS:
            faults.add(415)
        answer = tus(
            self.app,
            "POST",
            "/uploads",
            body,
            TUS_RESUMABLE=version,
            UPLOAD_LENGTH=length,
            UPLOAD_DEFER_LENGTH=deferred,
            UPLOAD_METADATA=metadata,
            UPLOAD_CONCAT=concat,
            CONTENT_TYPE=kind,
        )
        if kind == "application/partial-upload" and version is None:
            return  # a request of the other protocol
        if self.check(answer, faults, 201):
            known = length if isinstance(length, int) else None
            self.upload = Model(answer.headers["Location"], known, metadata, body)
            self.exists = True
            self.took(answer)
        else:
            assert "Location" not in answer.headers

    @rule(
        version=VERSIONS,
        kind=TYPES,
        away=st.sampled_from([0] * 40 + [1, -1, 5, "x", None, "-1"]),
        length=st.sampled_from([None] * 20 + ["right"] * 10 + ["x", "less", "more", "all"]),
        body=BODIES,
        sums=st.sampled_from([None] * 9 + ["sha1", "md5", "sha256"] * 2 + ["wrong", "crc32 AA=="]),
        missing=st.sampled_from([0] * 12 + [1, 3]),
        overridden=st.booleans(),
    )
    def append(  # pylint: disable=too-many-arguments,too-many-positional-arguments,too-many-locals
        self,
        version: str | None,
        kind: str | None,
        away: int | str | None,
        length: str | None,
        body: bytes,
        sums: str | None,
        missing: int,
        overridden: bool,
    ) -> None:
        """Append bytes; the last `missing` ones that were announced do not come."""
        upload, here = self.upload, len(self.upload.data)
        end = here + len(body) + missing
        told = lengths(upload, end).get(length or "", length)
        at = here + away if isinstance(away, int) else away
        faults = self.faults(version) | upload.faults(at, told, end)
        faults |= ({415} if kind != TUS else set()) | ({400} if sums == "crc32 AA==" else set())
        late = {400} if missing else {460} if sums == "wrong" else set()
        answer = tus(
            self.app,
            "POST" if overridden and version is not None else "PATCH",
            upload.path,
            BytesIO(body),
            TUS_RESUMABLE=version,
            X_HTTP_METHOD_OVERRIDE="PATCH",
            CONTENT_TYPE=kind,
            CONTENT_LENGTH=str(len(body) + missing),
            UPLOAD_OFFSET=at,
            UPLOAD_LENGTH=told,
            UPLOAD_CHECKSUM=summed(body, sums),
        )
        if kind == "application/partial-upload" and version is None and sums is None:
            return  # a request of the other protocol, which lacks Upload-Complete
        right = self.check(answer, faults or late, 204)
        if right or (not faults and missing and sums is None):
            # Bytes that arrived before the connection broke count, unless they have a checksum.
            upload.length = told if isinstance(told, int) else upload.length
            upload.data += body
        if right:
            self.took(answer)

    def faults(self, version: str | None) -> set[int]:
        """The statuses of a request about an upload that is wrong in any case."""
        faults = set()
        if version != "1.0.0":
            faults |= {412} if version is not None else {412, 400}
        if not self.exists:
            faults.add(404)
        return faults

    @rule(version=st.sampled_from(["1.0.0"] * 5 + ["0.2.2"]))
    def ask(self, version: str) -> None:
        """Ask how far the upload is."""
        answer = tus(self.app, "HEAD", self.upload.path, TUS_RESUMABLE=version)
        if not self.check(answer, self.faults(version), 200):
            assert "Upload-Offset" not in answer.headers

    @rule(
        version=st.sampled_from(["1.0.0"] * 2 + ["0.2.2"]),
        overridden=st.booleans(),
        sure=st.sampled_from([False] * 4 + [True]),
    )
    def end(self, version: str, overridden: bool, sure: bool) -> None:
        """End the upload, not often."""
        if sure:
            method = "POST" if overridden else "DELETE"
            fields = {"X_HTTP_METHOD_OVERRIDE": "DELETE", "CONTENT_LENGTH": "0"}
            answer = tus(self.app, method, self.upload.path, TUS_RESUMABLE=version, **fields)
            if self.check(answer, self.faults(version), 204):
                self.exists = False

    @invariant()
    def known(self) -> None:
        """HEAD returns the offset of the model, and stores a complete file."""
        upload = self.upload
        answer: Any = tus(self.app, "HEAD", upload.path)
        if not self.exists:
            assert answer.status == 404
            return
        assert answer.status == 200
        told = answer.headers
        assert told["Upload-Offset"] == str(len(upload.data))
        assert told.get("Upload-Length") == (None if upload.length is None else str(upload.length))
        assert told.get("Upload-Defer-Length") == ("1" if upload.length is None else None)
        assert told.get("Upload-Metadata") == upload.metadata
        assert told["Cache-Control"] == "no-store"
        if upload.done:
            self.stored.add(hashlib.sha256(upload.data).hexdigest())
            assert call(self.app, path=told["Content-Location"]).body == upload.data
        else:
            assert "Content-Location" not in told
        assert set(held(self.app)) == self.stored


TestProtocol = Protocol.TestCase
# Each example is many requests.
TestProtocol.settings = settings(max_examples=settings().max_examples // 2, stateful_step_count=20)
