"""POST / of a form with several files: each is stored or refused for itself."""

import base64
import hashlib
import json
import os
import re
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.support.access import KEY, line, soon
from tests.support.calling import Answer, Body, Untouched, application_of, call, held, quick
from tests.support.forms import (
    CHUNKED,
    EMPTY,
    FIELD,
    FILE,
    HASH,
    HELLO,
    NAMELESS,
    check_refused,
    form,
    part,
    post,
)
from wsgi_store import Signer, errors
from wsgi_store.assembly import create_app
from wsgi_store.choices import LogFormat, LogLevel, MetricsAccess
from wsgi_store.config import Config
from wsgi_store.digest import Algorithm
from wsgi_store.testing.helpers import COLLIDING
from wsgi_store.web import form as parsing
from wsgi_store.web.access_log import AccessLog
from wsgi_store.web.application import Application
from wsgi_store.web.body import READ_SIZE
from wsgi_store.web.form import FORM_OVERHEAD, FORM_PARTS

OTHER = part('name="more"; filename="b.txt"', b"other\n")


def sha256(data: bytes) -> str:
    """The hash of some bytes."""
    return hashlib.sha256(data).hexdigest()


def digest_field(data: bytes, key: str = "sha-256") -> str:
    """A digest field for `data`."""
    algorithm = {"sha-256": "sha256", "md5": "md5", "sha": "sha1", "sha-512": "sha512"}[key]
    return f"{key}=:{base64.b64encode(hashlib.new(algorithm, data).digest()).decode()}:"


def file(name: str, content: bytes, *fields: str, of: str = "file") -> bytes:
    """A file in a field of a form, with further fields in the header of its part."""
    more = "".join(f"{text}\r\n" for text in fields).encode()
    return part(f'name="{of}"; filename="{name}"', content, more)


def stream(application: Application, body: bytes, **fields: Any) -> Answer:
    """Send a form in chunks, without its length."""
    return post(application, Body(body), **CHUNKED, **fields)


def check_stored(answer: Answer, *files: tuple[str | None, bytes]) -> None:
    """Check the answer to a form whose files are stored."""
    assert answer.status == 200
    assert answer.json.keys() == {"files"}
    told = [(entry.get("name"), entry["hash"], entry["size"]) for entry in answer.json["files"]]
    assert told == [(name, sha256(content), len(content)) for name, content in files]
    assert "Location" not in answer.headers


def test_several(application: Application) -> None:
    """The answer has an entry for each file, in their order, with all that one file is told."""
    answer = post(application, form(FIELD, FILE, EMPTY, OTHER, FIELD, NAMELESS, FIELD))
    check_stored(answer, ("a.txt", HELLO), ("b.txt", b"other\n"), (None, HELLO))
    first, second, third = answer.json["files"]
    alone = post(application, form(FILE)).json
    assert {**alone, "created": True} == first
    assert second.keys() == first.keys()
    assert third.keys() == first.keys() - {"name"}
    assert [entry["created"] for entry in (first, second, third)] == [True, True, False]
    for entry in (first, second):
        assert sha256(call(application, path=entry["url"]).body) == entry["hash"]


@pytest.mark.parametrize("name", ["file[]", "[]", "files%5B%5D[]"])
def test_one_file_of_a_list(application: Application, name: str) -> None:
    """A field whose name ends in `[]` is a list, also of one file."""
    check_stored(post(application, form(FIELD, file("a", HELLO, of=name))), ("a", HELLO))


@pytest.mark.parametrize("name", ["file", "file[0]", "[]file", "file[] "])
def test_one_file_of_another_field(application: Application, name: str) -> None:
    """One file of any other field is answered by itself."""
    assert post(application, form(file("a", HELLO, of=name))).json["hash"] == HASH


def test_hashes_alone(application: Application) -> None:
    """`Accept: text/plain` asks for one hash a line."""
    answer = post(application, form(FILE, OTHER, FILE), HTTP_ACCEPT="text/plain")
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert answer.body.decode() == f"{HASH}\n{sha256(b'other' + bytes([10]))}\n{HASH}\n"


@dataclass
class Sent:
    """A file that is sent, and what becomes of it."""

    content: bytes = field(repr=False)
    fields: tuple[str, ...]
    matches: bool
    named: bool

    @property
    def part(self) -> bytes:
        """Its part of the form."""
        return file("a" if self.named else "", self.content, *self.fields)

    def outcome(self, max_size: int) -> str:
        """The hash of what is stored, or the code of the error."""
        if len(self.content) > max_size:
            return "too_large"
        return sha256(self.content) if self.matches else "digest_mismatch"


MAX_SIZE = READ_SIZE + 9
# Around the borders of the reads, and of what a boundary can hide in.
SIZES = [0, 1, 2, 75, 4095, 4096]
LARGE = [READ_SIZE - 200, READ_SIZE - 1, READ_SIZE, READ_SIZE + 1, MAX_SIZE, MAX_SIZE + 1, 2 * READ_SIZE + 7]


@st.composite
def sent(draw: st.DrawFn) -> Sent:
    """A file of any size, with right or wrong digests in its header or none."""
    size = draw(st.sampled_from(SIZES * 3 + LARGE))
    seed = draw(st.integers(0, 3)).to_bytes(1, "big")
    content = ((seed + b"\r\n--C\r\n-") * (size // 9 + 1))[:size]
    keys = draw(st.lists(st.sampled_from(["sha-256", "md5", "sha", "sha-512"]), max_size=2, unique=True))
    wrong = draw(st.sets(st.sampled_from(keys))) if keys else set()
    names = st.sampled_from(["Repr-Digest", "content-digest"])
    fields = [(draw(names), digest_field(content + b"x" if key in wrong else content, key)) for key in keys]
    joined: dict[str, str] = {}
    for name, value in fields:
        joined[name] = f"{joined[name]}, {value}" if name in joined else value
    lines = tuple(f"{name}: {value}" for name, value in joined.items())
    named = draw(st.booleans()) or not content
    return Sent(content, lines, not wrong, named)


@given(
    files=st.lists(st.one_of(sent(), st.sampled_from([FIELD, EMPTY])), max_size=6),
    sizes=st.lists(st.integers(1, 2 * READ_SIZE), max_size=12),
    chunked=st.booleans(),
)
@example(files=[FIELD], sizes=[], chunked=False)
def test_any_form(config: Config, files: list[Sent | bytes], sizes: list[int], chunked: bool) -> None:
    """Each file has the outcome that it would have alone, whatever stands around it."""
    application = quick(replace(config, max_size=MAX_SIZE))
    for hash_ in held(application):
        call(application, "DELETE", f"/{hash_}")
    data = form(*(one.part if isinstance(one, Sent) else one for one in files))
    fields = CHUNKED if chunked else {"CONTENT_LENGTH": str(len(data))}
    body = Body(data, sizes)
    answer = post(application, body, **fields)
    assert body.tell() == len(data)
    assert not os.listdir(application.store.staging_directory)
    check_answer(answer, [one for one in files if isinstance(one, Sent)], set(held(application)))


def check_answer(answer: Answer, files: list[Sent], stored: set[str]) -> None:
    """Check the answer to a form with these files, and the hashes that the store has then."""
    outcomes = [one.outcome(MAX_SIZE) for one in files]
    refused = [outcome for outcome in outcomes if "_" in outcome]
    assert stored == {outcome for outcome in outcomes if "_" not in outcome}
    if not files:
        assert (answer.status, answer.json["code"]) == (400, "bad_request")
    elif len(files) == 1:
        assert answer.json["code" if refused else "hash"] == outcomes[0]
    else:
        entries = answer.json["files"]
        assert [
            entry["error"]["code"] if "error" in entry else entry["hash"] for entry in entries
        ] == outcomes
        assert [entry.get("name") for entry in entries] == ["a" if one.named else None for one in files]
        first = [outcome not in outcomes[:number] for number, outcome in enumerate(outcomes)]
        assert all(entry["created"] is new for entry, new in zip(entries, first) if "created" in entry)
        if refused:
            statuses = [errors.BY_CODE[code].status or 0 for code in refused]
            assert (answer.status, answer.json["code"]) == (max(statuses), "files_refused")
            assert answer.json["status"] == answer.status
            assert answer.headers["Content-Type"] == "application/problem+json"
        else:
            assert answer.status == 200


def test_an_entry_of_a_refused_file(config: Config) -> None:
    """The error of an entry is the problem that the file alone would get, and its name is beside it."""
    application = create_app(replace(config, max_size=6))
    seven = file("c", b"seven b")
    wrong = file("d", HELLO, f"Repr-Digest: {digest_field(b'x')}")
    answer = post(application, form(seven, FILE, wrong))
    assert (answer.status, answer.json["code"], answer.json["title"]) == (
        422,
        "files_refused",
        "Unprocessable Content",
    )
    large, stored, differing = answer.json["files"]
    assert large == {"name": "c", "error": post(application, form(seven)).json}
    assert stored["hash"] == HASH
    assert differing == {"name": "d", "error": post(application, form(wrong)).json}
    assert (large["error"]["code"], large["error"]["limit"]) == ("too_large", 6)
    assert differing["error"]["expected"] == f"sha256:{sha256(b'x')}"
    assert held(application) == [HASH]


def test_one_refused_file_of_a_list(config: Config) -> None:
    """A field whose name ends in `[]` gets a list of one error."""
    application = create_app(replace(config, max_size=5))
    answer = post(application, form(file("a", HELLO, of="f[]")))
    assert (answer.status, answer.json["code"]) == (413, "files_refused")
    assert [entry["error"]["code"] for entry in answer.json["files"]] == ["too_large"]


def test_a_collision(config: Config) -> None:
    """A file that collides with another one of the form is refused, and the rest stored."""
    application = create_app(replace(config, hash=Algorithm.MD5))
    first, second = COLLIDING
    answer = post(application, form(file("a", first), file("b", second), file("c", b"c"), file("d", first)))
    assert (answer.status, answer.json["code"]) == (409, "files_refused")
    a, b, c, d = answer.json["files"]
    assert b["error"]["code"] == "digest_collision"
    assert a["hash"] == d["hash"] == b["error"]["hash"] != c["hash"]
    assert call(application, path=a["url"]).body == first


SMALL = form(FIELD, FILE, file("b", b"", "Content-Type: text/plain"), OTHER)


@pytest.mark.parametrize("sizes", [(), (1,) * 1000])
def test_any_truncation(config: Config, sizes: tuple[int, ...]) -> None:
    """A form cut anywhere before its last boundary is refused; no file is acknowledged or left staged."""
    application = quick(config)
    for length in range(len(SMALL) - 2):
        cut = SMALL[:length]
        for fields, code in (
            ({"CONTENT_LENGTH": str(length)}, "bad_request"),
            (CHUNKED, "bad_request"),
            ({"CONTENT_LENGTH": str(len(SMALL))}, "incomplete_body"),
        ):
            answer = post(application, Body(cut, sizes), **fields)
            check_refused(application, answer, code)
            assert not isinstance(answer.json.get("files"), list)


@pytest.mark.parametrize("byte", [b"\0", b"\n", b'"', b"-"])
def test_any_damage(config: Config, byte: bytes) -> None:
    """A form with one wrong byte is refused as a whole, or its files are stored as they stand in it."""
    application = quick(config)
    for place in range(len(SMALL)):
        damaged = SMALL[:place] + byte + SMALL[place + 1 :]
        answer = post(application, damaged)
        assert not os.listdir(application.store.staging_directory)
        if answer.status != 200:
            check_refused(application, answer)
            continue
        entries = answer.json.get("files", [answer.json])
        assert {entry["hash"] for entry in entries} == set(held(application))
        for entry in entries:
            assert call(application, path=entry["url"]).body in damaged
        for hash_ in held(application):
            call(application, "DELETE", f"/{hash_}")


@pytest.mark.parametrize("name", ["HTTP_REPR_DIGEST", "HTTP_CONTENT_DIGEST"])
def test_digest_of_the_body(application: Application, name: str) -> None:
    """Digest fields of the request cover the whole form."""
    body = form(FILE, OTHER) + b"epilogue"
    answer = post(application, body, **{name: digest_field(form(FILE, OTHER))})
    assert (answer.status, answer.json["code"]) == (422, "digest_mismatch")
    assert not held(application)
    assert not os.listdir(application.store.staging_directory)
    assert len(post(application, body, **{name: digest_field(body)}).json["files"]) == 2


def test_digest_of_a_cut_body(application: Application) -> None:
    """A wrong digest of a form that breaks off in a file is that of the form, and not of the file."""
    answer = stream(application, form(FILE, OTHER)[:-20], HTTP_REPR_DIGEST=digest_field(b"x"))
    assert (answer.status, answer.json["code"]) == (422, "digest_mismatch")
    assert not held(application)


@pytest.mark.parametrize("field", ["Repr-Digest", "Content-Digest", "repr-digest", "CONTENT-DIGEST"])
def test_digest_of_one_file(application: Application, field: str) -> None:
    """A digest in the header of a part is that of its file, also of the only one."""
    right, wrong = (file("a", HELLO, f"{field}: {digest_field(data)}") for data in (HELLO, b"x"))
    refused = post(application, form(wrong))
    assert (refused.status, refused.json["code"]) == (422, "digest_mismatch")
    assert not held(application)
    for query in ("", f"hash={HASH}"):
        assert post(application, form(right), QUERY_STRING=query).json["hash"] == HASH
        assert post(application, form(wrong), QUERY_STRING=query).status == 422


@pytest.mark.parametrize("value", ["x", "sha-256=:AAAA:", "sha-256=5", "md5=:", "\xff"])
def test_malformed_digest_of_one_file(application: Application, value: str) -> None:
    """A malformed digest in the header of a part makes the form malformed."""
    malformed = part('name="f"; filename="a"', HELLO, f"Repr-Digest: {value}\r\n".encode("latin-1"))
    check_refused(application, post(application, form(FILE, malformed, OTHER)))


def test_two_digests_of_one_file_that_differ(application: Application) -> None:
    """No bytes have two digests by one algorithm: that file is refused."""
    both = file("a", HELLO, f"Repr-Digest: {digest_field(HELLO)}", f"Content-Digest: {digest_field(b'x')}")
    answer = post(application, form(both, OTHER))
    assert [entry.get("error", {}).get("code") for entry in answer.json["files"]] == ["digest_mismatch", None]


def test_unknown_digest_of_one_file(application: Application) -> None:
    """A digest by an algorithm that is not known here is ignored (RFC 9530)."""
    unknown = file("a", HELLO, "Repr-Digest: unixsum=:AAAA:")
    assert post(application, form(unknown)).json["hash"] == HASH


def test_largest_form(config: Config) -> None:
    """max_form_size is for the whole body: with a Content-Length above it no byte is read."""
    body = form(FILE, OTHER)
    application = create_app(replace(config, max_form_size=len(body)))
    assert post(application, body).status == 200
    shorter = form(FILE)
    assert stream(application, shorter + b"-" * (len(body) - len(shorter))).status == 200
    for refused in (
        post(application, Untouched(), CONTENT_LENGTH=str(len(body) + 1)),
        post(application, Untouched(), CONTENT_LENGTH=str(len(body) + 1), QUERY_STRING=f"hash={HASH}"),
        stream(application, body + b"-"),
        stream(application, form(FILE) + b"-" * len(body)),
        stream(application, form(OTHER, FILE, file("c", bytes(2 * READ_SIZE)))),
    ):
        assert (refused.status, refused.json["code"], refused.json["limit"]) == (413, "too_large", len(body))
    assert not os.listdir(application.store.staging_directory)
    limits = call(application).json["limits"]
    assert (limits["max_form_size"], limits["max_form_parts"]) == (len(body), FORM_PARTS)
    # What is no form is limited by max_size alone.
    assert call(application, "POST", body=body + b"x").status == 200


def test_most_files(config: Config) -> None:
    """A form may have as many files as parts; one more is refused."""
    application = quick(config)
    files = [file(f"{number}", b"%d" % number) for number in range(FORM_PARTS)]
    answer = post(application, form(*files))
    check_stored(answer, *((f"{number}", b"%d" % number) for number in range(FORM_PARTS)))
    assert len(held(application)) == FORM_PARTS
    for hash_ in held(application):
        call(application, "DELETE", f"/{hash_}")
    answer = post(application, form(*files, FILE))
    assert (answer.status, answer.json["code"]) == (400, "bad_request")
    assert HASH not in held(application)


def test_what_is_read_to_be_dropped(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that are too large are read to their end, but not without an end."""
    monkeypatch.setattr(parsing, "FORM_DROPPED", 3 * READ_SIZE)
    application = create_app(replace(config, max_size=READ_SIZE))
    large = file("l", bytes(2 * READ_SIZE))
    answer = stream(application, form(large, FILE, large, OTHER))
    codes = [entry.get("error", {}).get("code") for entry in answer.json["files"]]
    assert (answer.status, codes) == (413, ["too_large", None, "too_large", None])
    endless = Body(form(file("l", bytes(20 * READ_SIZE))))
    answer = post(application, endless, **CHUNKED)
    assert (answer.status, answer.json["code"], answer.json["limit"]) == (413, "too_large", 3 * READ_SIZE)
    assert endless.tell() <= 6 * READ_SIZE


def test_fields_beside_many_files(application: Application) -> None:
    """The limit for what is beside the files counts no byte of them, dropped ones neither."""
    small = create_app(replace(application.config, max_size=READ_SIZE))
    large = file("l", bytes(FORM_OVERHEAD))
    beside = part("name=x", bytes(FORM_OVERHEAD - 1000))
    answer = stream(small, form(large, beside, large, FILE))
    assert [entry.get("hash") for entry in answer.json["files"]] == [None, None, HASH]
    answer = stream(small, form(large, beside, part("name=x", bytes(1000)), FILE))
    assert (answer.json["code"], answer.json["limit"]) == ("bad_request", FORM_OVERHEAD)


def test_a_ticket_is_for_one_file(config: Config, tmp_path_factory: pytest.TempPathFactory) -> None:
    """With a ticket a form with two files is refused, stores nothing, and leaves the ticket unused."""
    tokens = tmp_path_factory.mktemp("tokens") / "tokens"
    tokens.write_text(line("all", "write"))
    application = create_app(replace(config, tokens=str(tokens), signing_keys=(KEY,)))
    signer = Signer([KEY])
    for limits in ({}, {"max_size": 6}, {"hash_": HASH}):
        query = {"QUERY_STRING": f"ticket={signer.ticket(soon(), **limits)}"}
        two = post(application, form(FILE, FILE), **query)
        assert (two.status, two.json["code"], two.json["files"]) == (400, "bad_request", 2)
        assert not held(application)
        assert post(application, form(file("a", HELLO, of="f[]")), **query).json["files"][0]["hash"] == HASH
        assert post(application, form(FILE), **query).status == 403
        token = {"HTTP_AUTHORIZATION": "Bearer all"}
        assert len(post(application, form(FILE, FILE), **token).json["files"]) == 2
        os.unlink(os.path.join(config.root, HASH[:2], HASH))


def test_a_read_only_store(config: Config, application: Application) -> None:
    """A store that is only read refuses the form before its body is read."""
    post(application, form(FILE))
    read_only = create_app(replace(config, read_only=True))
    answer = post(read_only, Untouched(), CONTENT_LENGTH="1000")
    assert (answer.status, answer.json["code"]) == (403, "read_only")


def test_no_room_for_the_form(config: Config) -> None:
    """A form that the disk has no room for is refused before its body is read."""
    application = create_app(replace(config, min_free=0))
    answer = post(application, Untouched(), CONTENT_LENGTH=str(1 << 60))
    assert (answer.status, answer.json["code"]) == (507, "storage_full")


class Breaking(Body):
    """A body whose connection breaks at its end."""

    def read(self, size: int | None = -1, /) -> bytes:
        """Read, or break."""
        data = super().read(size)
        if not data:
            raise ConnectionResetError
        return data


@pytest.mark.parametrize("length", [0, 60, 200, len(SMALL) - 10])
def test_a_connection_that_breaks(application: Application, length: int) -> None:
    """A connection that breaks leaves nothing of a small form."""
    answer = post(application, Breaking(SMALL[:length]), CONTENT_LENGTH=str(len(SMALL)))
    check_refused(application, answer, "incomplete_body")


def test_files_inside_of_a_part(application: Application) -> None:
    """Several files in one part (RFC 2388) are refused and not lost: RFC 7578 forbids that."""
    inner = form(part('filename="a"', HELLO), boundary="C").replace(b"form-data", b"attachment")
    mixed = part("name=f", inner, b"Content-Type: Multipart/Mixed; boundary=C\r\n")
    for parts in ([mixed], [mixed, FILE], [FILE, mixed]):
        check_refused(application, post(application, form(*parts)))


def test_the_access_log(config: Config, capsys: pytest.CaptureFixture[str]) -> None:
    """The access log tells how many files of a form were stored, and their size together."""
    backend = create_app(replace(config, max_size=6)).backend
    body = form(FILE, file("c", b"seven b"), file("d", b"four"))
    for form_ in LogFormat:
        post(application_of(backend, access_log=AccessLog(LogLevel.INFO, form_)), body)
    text, json_ = capsys.readouterr().err.splitlines()
    assert " files=2 size=10 " in text and "hash=" not in text
    entry = json.loads(json_)
    assert (entry["status"], entry["files"], entry["size"]) == (413, 2, 10)
    assert "hash" not in entry


def test_the_metrics(config: Config) -> None:
    """Each file of a form counts as an upload."""
    application = create_app(replace(config, metrics=MetricsAccess.PUBLIC))
    before = figures(application)
    post(application, form(FILE, OTHER, FILE))
    after = figures(application)
    assert [after[outcome] - before[outcome] for outcome in ("created", "held")] == [2, 1]


def figures(application: Application) -> dict[str, int]:
    """How many uploads were counted, by their outcome."""
    text = call(application, path="/metrics").body.decode()
    found = re.findall(r'wsgi_store_uploads_total\{outcome="(\w+)"\} (\d+)', text)
    return {"created": 0, "held": 0, **{outcome: int(count) for outcome, count in found}}


def test_damaged_blobs_are_replaced(config: Config) -> None:
    """A file of a form replaces the blob of its name that is damaged, and the entry says so."""
    application = create_app(config)
    post(application, form(FILE))
    path = os.path.join(config.root, HASH[:2], HASH)
    os.chmod(path, 0o600)
    with open(path, "wb") as blob:
        blob.write(b"damaged, longer")
    held_, healed = post(application, form(OTHER, FILE)).json["files"]
    assert "healed" not in held_
    assert (healed["healed"], healed["created"]) == (True, True)
    assert call(application, path=healed["url"]).body == HELLO
