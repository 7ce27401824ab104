"""The IETF's Resumable Uploads for HTTP, sentence by sentence (draft-ietf-httpbis-resumable-upload).

Interop version 8 in its text of July 2026, and 5 (draft-03) and 6 (draft-05).
"""

import base64
import hashlib
import io
from pathlib import Path
from typing import Any

import pytest

from tests.support.calling import Answer, Body, call, held
from tests.support.forms import CHUNKED
from wsgi_store.assembly import create_app
from wsgi_store.config import Config
from wsgi_store.protocols.rufh import BOOLEAN, INTEGER
from wsgi_store.uploads import part
from wsgi_store.web.application import Application
from wsgi_store.web.exchange import KEY, Exchange

KIND = "application/partial-upload"
PROBLEMS = "https://iana.org/assignments/http-problem-types#"
HELLO = b"hello world"
HASH = hashlib.sha256(HELLO).hexdigest()
DIGEST = f"sha-256=:{base64.b64encode(hashlib.sha256(HELLO).digest()).decode()}:"
WRONG = f"sha-256=:{base64.b64encode(bytes(32)).decode()}:"
MAX = 1000
OLD, ALL = [5, 6], [5, 6, 8, None]

every_version = pytest.mark.parametrize("version", ALL)
old_versions = pytest.mark.parametrize("version", OLD)
new_versions = pytest.mark.parametrize("version", [8, None])


@pytest.fixture(name="config")
def fixture_config(root: Path) -> Config:
    """A service with a largest file."""
    return Config(root=str(root), min_free=0, max_size=MAX)


def ask(
    application: Application,
    method: str,
    path: str = "/uploads",
    body: bytes | io.BytesIO | None = None,
    version: int | None = 8,
    **fields: Any,
) -> Answer:
    """Send a request as a client of the draft does; None leaves a field out."""
    environ: dict[str, Any] = {"HTTP_UPLOAD_DRAFT_INTEROP_VERSION": version and str(version)}
    if method == "PATCH":
        environ["CONTENT_TYPE"] = None if version == 5 else KIND
    if isinstance(body, bytes):
        environ["CONTENT_LENGTH"] = str(len(body))
    elif body is not None:
        environ |= CHUNKED
    for name, value in fields.items():
        environ[name if name.startswith("CONTENT_T") else f"HTTP_{name}"] = value and str(value)
    return call(application, method, path, body=b"" if body is None else body, **environ)


def begun(application: Application, version: int | None = 8, **fields: Any) -> str:
    """Create an upload with 5 bytes, and return its path."""
    answer = ask(application, "POST", body=HELLO[:5], version=version, UPLOAD_COMPLETE="?0", **fields)
    assert answer.status == 201, answer
    return answer.headers["Location"]


def rest(application: Application, path: str, version: int | None = 8, **fields: Any) -> Answer:
    """Append the other bytes, which are the last ones."""
    fields = {"UPLOAD_COMPLETE": "?1", "UPLOAD_OFFSET": "5", "body": HELLO[5:], **fields}
    return ask(application, "PATCH", path, version=version, **fields)


def offset(application: Application, path: str) -> int | None:
    """The offset of an upload; None if there is no upload."""
    answer = ask(application, "HEAD", path)
    return int(answer.headers["Upload-Offset"]) if answer.status == 204 else None


def is_problem(answer: Answer, status: int, name: str) -> None:
    """Check a problem of the draft, beside the code of this service."""
    assert answer.status == status, answer
    assert answer.json["type"] == PROBLEMS + name
    assert answer.json["status"] == status
    assert {"title", "code"} <= answer.json.keys()
    assert answer.headers["Upload-Complete"] == "?0"


# Fields


@pytest.mark.parametrize(
    "text", ["5", "05", "5;a", '5;a=1; b="x\\"y";c=?1;d=:YQ==:;e=tok/en;f=-1.5;g=@1', " 5 "]
)
def test_integers(text: str) -> None:
    """An Integer has up to 15 digits; its parameters are ignored (RFC 9651)."""
    match = INTEGER.fullmatch(text.strip(" "))
    assert match is not None and int(match[1]) == 5


@pytest.mark.parametrize("text", ["?1", "?1;a=b", "?0; x"])
def test_booleans(text: str) -> None:
    """A Boolean is ?1 or ?0; its parameters are ignored (RFC 9651)."""
    match = BOOLEAN.fullmatch(text)
    assert match is not None and match[1] == text[1]


@pytest.mark.parametrize(
    "text", ["", "-5", "5.0", "1" * 16, "five", "5, 5", "5 ;a", "5;A", "5;a=", "0x5", "+5", "?1"]
)
def test_other_offsets(application: Application, text: str) -> None:
    """Other values MUST cause the entire header field to be ignored: Upload-Offset."""
    path = begun(application)
    assert rest(application, path, UPLOAD_OFFSET=text).status == 400
    assert rest(application, path, UPLOAD_OFFSET="5;a=b").status == 200


@pytest.mark.parametrize("text", ["", "1", "true", "?2", "?1, ?1", "?", "?1 ;a", "?01"])
@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_other_values_of_complete(application: Application, method: str, text: str) -> None:
    """Other values MUST cause the entire header field to be ignored: Upload-Complete."""
    path = begun(application)
    target = path if method == "PATCH" else "/uploads"
    answer = ask(application, method, target, HELLO[5:], UPLOAD_COMPLETE=text, UPLOAD_OFFSET="5")
    assert answer.status == 400
    assert offset(application, path) == 5
    assert not held(application)


@pytest.mark.parametrize("text", ["-1", "11.5", "1" * 16, "eleven"])
def test_other_lengths(application: Application, text: str) -> None:
    """Other values MUST cause the entire header field to be ignored: Upload-Length."""
    path = begun(application, UPLOAD_LENGTH=text)
    assert "Upload-Length" not in ask(application, "HEAD", path).headers
    assert rest(application, path).status == 200


# Versions


@pytest.mark.parametrize("version", [5, 6, 8])
def test_the_version_is_echoed(application: Application, version: int) -> None:
    """Responses tell the version that the client speaks."""
    path = begun(application, version)
    for answer in (
        ask(application, "HEAD", path, version=version),
        rest(application, path, version, UPLOAD_OFFSET="7"),
        rest(application, path, version),
        ask(application, "HEAD", path + "0", version=version),
    ):
        assert answer.headers.get("Upload-Draft-Interop-Version", str(version)) == str(version)
    assert ask(application, "HEAD", path, version=version).headers["Upload-Draft-Interop-Version"] == str(
        version
    )


@pytest.mark.parametrize("version", [1, 2, 4, 7, 9, 0])
@pytest.mark.parametrize("complete", ["?0", "?1"])
def test_other_versions(application: Application, version: int, complete: str) -> None:
    """A client of another version gets the supported ones, and nothing changes."""
    answer = ask(
        application,
        "POST",
        "/uploads",
        HELLO,
        UPLOAD_COMPLETE=complete,
        UPLOAD_DRAFT_INTEROP_VERSION=f"{version}",
    )
    assert answer.status == 400
    assert answer.json["versions"] == [5, 6, 8]
    path = begun(application)
    for method in ("HEAD", "PATCH", "DELETE"):
        answer = ask(
            application,
            method,
            path,
            HELLO if method == "PATCH" else None,
            UPLOAD_OFFSET="5",
            UPLOAD_COMPLETE=complete,
            UPLOAD_DRAFT_INTEROP_VERSION=f"{version}",
        )
        assert answer.status == 400
    assert offset(application, path) == 5
    assert not held(application)


@pytest.mark.parametrize("value", ["?0", "?1"])
def test_version_3(application: Application, value: str) -> None:
    """Version 3 has other fields; its clients get an error, too."""
    answer = ask(application, "POST", "/uploads", HELLO, 3, UPLOAD_INCOMPLETE=value)
    assert answer.status == 400
    assert not held(application)


# Limits


def test_options(application: Application) -> None:
    """In a response to OPTIONS, the server MUST include Upload-Limit where uploads can be created."""
    answer = ask(application, "OPTIONS", "/uploads", version=None)
    assert answer.status in (200, 204)
    assert answer.headers["Upload-Limit"] == f"max-size={MAX}"


def test_options_without_limits(config: Config) -> None:
    """If the server does not apply any limits, it MUST use min-size=0."""
    application = create_app(Config(root=config.root, min_free=0))
    assert ask(application, "OPTIONS", "/uploads").headers["Upload-Limit"] == "min-size=0"


@every_version
def test_limits_of_an_upload(application: Application, version: int | None) -> None:
    """Creation and offset retrieval tell the largest size, and for how long the upload is kept."""
    first = ask(application, "POST", body=b"", version=version, UPLOAD_COMPLETE="?0")
    path = first.headers["Location"]
    asked = ask(application, "HEAD", path, version=version)
    appended = ask(application, "PATCH", path, b"a", version, UPLOAD_COMPLETE="?0", UPLOAD_OFFSET="0")
    finished = ask(application, "PATCH", path, b"a", version, UPLOAD_COMPLETE="?1", UPLOAD_OFFSET="1")
    again = ask(application, "HEAD", path, version=version)
    key = "expires" if version in OLD else "max-age"
    for answer in (first, asked, appended, finished, again):
        limits = dict(member.split("=") for member in answer.headers["Upload-Limit"].split(", "))
        assert limits.keys() == {"max-size", key}
        assert int(limits["max-size"]) == MAX
        assert 86390 < int(limits[key]) <= 86400


@pytest.mark.parametrize("told", ["UPLOAD_LENGTH", "CONTENT_LENGTH"])
def test_a_file_that_is_too_large(application: Application, told: str) -> None:
    """A response with 413 as a result of its limits SHOULD include Upload-Limit."""
    if told == "UPLOAD_LENGTH":
        answer = ask(application, "POST", body=b"", UPLOAD_COMPLETE="?0", UPLOAD_LENGTH=MAX + 1)
    else:
        answer = ask(application, "POST", body=bytes(MAX + 1), UPLOAD_COMPLETE="?1")
    assert answer.status == 413
    assert answer.headers["Upload-Limit"] == f"max-size={MAX}"
    path = ask(application, "POST", body=b"", UPLOAD_COMPLETE="?0").headers["Location"]
    answer = ask(application, "PATCH", path, Body(bytes(MAX + 1)), UPLOAD_COMPLETE="?1", UPLOAD_OFFSET="0")
    assert (answer.status, answer.headers["Upload-Limit"]) == (413, f"max-size={MAX}")


# Creation


@every_version
def test_a_whole_file(application: Application, version: int | None) -> None:
    """The response to a creation with everything is the one that any other upload gets."""
    answer = ask(application, "POST", body=HELLO, version=version, UPLOAD_COMPLETE="?1")
    assert answer.status == 200
    assert (answer.json["hash"], answer.json["size"], answer.json["created"]) == (HASH, 11, True)
    assert answer.headers["Upload-Complete"] == "?1"
    assert answer.headers["Upload-Offset"] == "11"
    assert answer.headers["Content-Location"] == f"/{HASH}"
    assert answer.headers["Repr-Digest"] == DIGEST
    assert len(answer.headers.getlist("Location")) == 1
    # Version 6: the server MUST include the Location of the upload resource.
    assert answer.headers["Location"].startswith("/uploads/" if version in OLD else f"/{HASH}")
    assert held(application) == [HASH]


@every_version
def test_a_part_of_a_file(application: Application, version: int | None) -> None:
    """The response to a creation with less has status 201 and MUST include Location and Upload-Limit."""
    answer = ask(
        application, "POST", body=HELLO[:5], version=version, UPLOAD_COMPLETE="?0", UPLOAD_LENGTH="11"
    )
    assert answer.status == 201
    assert answer.headers["Upload-Complete"] == "?0"
    assert answer.headers["Upload-Offset"] == "5"
    assert answer.headers["Upload-Limit"]
    assert rest(application, answer.headers["Location"], version).json["hash"] == HASH


@every_version
@pytest.mark.parametrize("body", [b"", None], ids=["empty", "none"])
def test_a_careful_creation(application: Application, version: int | None, body: bytes | None) -> None:
    """The request content can be empty; with ?0 the client learns the URI of the upload."""
    answer = ask(application, "POST", body=body, version=version, UPLOAD_COMPLETE="?0", UPLOAD_LENGTH="11")
    assert (answer.status, answer.headers["Upload-Offset"]) == (201, "0")
    assert answer.headers["Upload-Complete"] == "?0"


@every_version
def test_an_empty_file(application: Application, version: int | None) -> None:
    """With ?1 and no content the client intends to upload an empty representation."""
    answer = ask(application, "POST", body=b"", version=version, UPLOAD_COMPLETE="?1")
    assert (answer.status, answer.json["size"], answer.headers["Upload-Complete"]) == (200, 0, "?1")
    answer = ask(application, "POST", body=Body(b""), version=version, UPLOAD_COMPLETE="?1")
    assert (answer.status, answer.json["size"], answer.headers["Upload-Complete"]) == (200, 0, "?1")


def test_a_length_that_nobody_told(application: Application) -> None:
    """A server that does not tell whether there is a body cannot know that the file is empty."""
    answer = ask(application, "POST", UPLOAD_COMPLETE="?1", CONTENT_TYPE="text/plain")
    assert answer.status in (200, 411)


@every_version
def test_an_unknown_length(application: Application, version: int | None) -> None:
    """A client that does not know the length sends it with the last bytes."""
    answer = ask(application, "POST", body=Body(HELLO[:5]), version=version, UPLOAD_COMPLETE="?0")
    path = answer.headers["Location"]
    assert "Upload-Length" not in ask(application, "HEAD", path, version=version).headers
    assert rest(application, path, version, body=Body(HELLO[5:])).json["hash"] == HASH
    assert ask(application, "HEAD", path, version=version).headers["Upload-Length"] == "11"


def test_a_file_name(application: Application) -> None:
    """The Content-Disposition header field can be used to transmit a filename."""
    for field, name in [
        ('inline; filename="a b.txt"', "a b.txt"),
        ("attachment; filename=\"x\"; filename*=UTF-8''n%C3%A4me.txt", "n\u00e4me.txt"),
    ]:
        path = begun(application, CONTENT_DISPOSITION=field)
        assert ask(application, "GET", path).json["name"] == name
    assert "name" not in ask(application, "GET", begun(application, CONTENT_DISPOSITION='"')).json


@every_version
def test_lengths_that_differ(application: Application, version: int | None) -> None:
    """If both indicators are present in the same request, or in several, their lengths MUST match."""
    answer = ask(application, "POST", body=HELLO, version=version, UPLOAD_COMPLETE="?1", UPLOAD_LENGTH="12")
    is_problem(answer, 400, "inconsistent-upload-length")
    path = begun(application, version, UPLOAD_LENGTH="11")
    is_problem(rest(application, path, version, UPLOAD_LENGTH="12"), 400, "inconsistent-upload-length")
    is_problem(rest(application, path, version, body=HELLO), 400, "inconsistent-upload-length")
    is_problem(rest(application, path, version, body=HELLO[5:9]), 400, "inconsistent-upload-length")
    assert offset(application, path) == 5
    assert not held(application)


@every_version
def test_a_file_that_ends_early(application: Application, version: int | None) -> None:
    """The end of a file whose length was announced comes there."""
    path = begun(application, version, UPLOAD_LENGTH="11")
    answer = rest(application, path, version, body=Body(HELLO[5:9]))
    is_problem(answer, 400, "inconsistent-upload-length")
    assert not held(application)


# Offset retrieval


@every_version
@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_the_offset(application: Application, version: int | None, method: str) -> None:
    """A response MUST include the offset, whether the upload is complete, the length and the limits."""
    path = begun(application, version, UPLOAD_LENGTH="11")
    answer = ask(application, method, path, version=version)
    assert answer.status == {"HEAD": 204, "GET": 200}[method]
    assert answer.headers["Upload-Offset"] == "5"
    assert answer.headers["Upload-Complete"] == "?0"
    assert answer.headers["Upload-Length"] == "11"
    assert answer.headers["Upload-Limit"]
    assert answer.headers["Cache-Control"] == "no-store"
    rest(application, path, version)
    answer = ask(application, method, path, version=version)
    assert answer.status == {"HEAD": 204, "GET": 200}[method]
    assert answer.headers["Upload-Offset"] == "11"
    assert answer.headers["Upload-Complete"] == "?1"
    if method == "HEAD":
        assert answer.headers["Content-Location"] == f"/{HASH}"
        assert answer.headers["Repr-Digest"] == DIGEST
    else:
        # Both would describe the document.
        assert not {"Content-Location", "Repr-Digest"} & set(answer.headers.keys())
        assert answer.json["hash"] == HASH


@old_versions
@pytest.mark.parametrize("method", ["HEAD", "DELETE"])
@pytest.mark.parametrize("field", ["UPLOAD_OFFSET", "UPLOAD_COMPLETE", "UPLOAD_LENGTH"])
def test_fields_that_do_not_belong(application: Application, version: int, method: str, field: str) -> None:
    """Versions 5 and 6: the server MUST reject requests with either of these fields."""
    path = begun(application, version)
    answer = ask(application, method, path, version=version, **{field: "?1" if field.endswith("E") else "5"})
    known = field != "UPLOAD_LENGTH" or (version == 6 and method == "HEAD")
    assert answer.status == (400 if known else 204)
    assert offset(application, path) == (5 if known or method == "HEAD" else None)


@every_version
@pytest.mark.parametrize("method", ["HEAD", "PATCH", "DELETE"])
def test_no_upload(application: Application, version: int | None, method: str) -> None:
    """If the server does not consider the upload to be active, it MUST respond with 404."""
    fields = {"UPLOAD_OFFSET": "0", "UPLOAD_COMPLETE": "?0"} if method == "PATCH" else {}
    answer = ask(application, method, f"/uploads/{'0' * 32}", b"" if fields else None, version, **fields)
    assert answer.status == 404


# Append


@every_version
def test_not_the_last_bytes(application: Application, version: int | None) -> None:
    """With ?0 the server acknowledges the bytes with ?0: by 201 in versions 5 and 6."""
    path = begun(application, version)
    answer = ask(application, "PATCH", path, HELLO[5:7], version, UPLOAD_OFFSET="5", UPLOAD_COMPLETE="?0")
    assert answer.status == (201 if version in OLD else 204)
    assert answer.headers["Upload-Complete"] == "?0"
    assert answer.headers["Upload-Offset"] == "7"
    assert "Location" not in answer.headers


@every_version
def test_the_last_bytes(application: Application, version: int | None) -> None:
    """With ?1 the response is what the creation would have got, and MUST include Upload-Complete: ?1."""
    answer = rest(application, begun(application, version), version)
    assert answer.status == 200
    assert (answer.json["hash"], answer.json["created"]) == (HASH, True)
    assert answer.headers["Upload-Complete"] == "?1"
    assert answer.headers["Upload-Offset"] == "11"
    assert answer.headers["Content-Location"] == f"/{HASH}"
    assert answer.headers["Repr-Digest"] == DIGEST


@every_version
def test_the_end_without_bytes(application: Application, version: int | None) -> None:
    """If the content is empty and Upload-Complete is ?1, the client wants to complete the upload."""
    path = begun(application, version)
    answer = ask(application, "PATCH", path, b"", version, UPLOAD_OFFSET="5", UPLOAD_COMPLETE="?1")
    assert (answer.status, answer.json["size"]) == (200, 5)


@every_version
def test_a_wrong_offset(application: Application, version: int | None) -> None:
    """The server MUST reject it with 409, the correct offset and Upload-Complete: ?0."""
    path = begun(application, version)
    for wrong in (0, 4, 6, 999_999_999_999_999):
        answer = rest(application, path, version, UPLOAD_OFFSET=str(wrong))
        is_problem(answer, 409, "mismatching-upload-offset")
        assert answer.headers["Upload-Offset"] == "5"
        assert answer.json["expected-offset"] == 5
        assert answer.json["provided-offset"] == wrong
        assert answer.json["code"] == "offset_mismatch"
    assert offset(application, path) == 5


def test_a_wrong_offset_without_a_type(application: Application) -> None:
    """Versions 6 and 8: appending needs the media type; the response tells it."""
    path = begun(application)
    for version in (6, 8, None):
        answer = rest(application, path, version, CONTENT_TYPE="application/octet-stream")
        assert (answer.status, answer.headers["Accept-Patch"]) == (415, KIND)
        assert answer.headers["Upload-Complete"] == "?0"
    assert rest(application, path, 5, CONTENT_TYPE="application/octet-stream").status == 200


def test_parameters_of_the_type(application: Application) -> None:
    """Parameters and the case of the media type do not matter (RFC 9110)."""
    path = begun(application)
    assert rest(application, path, CONTENT_TYPE="Application/Partial-Upload; x=y").status == 200


@every_version
def test_no_offset(application: Application, version: int | None) -> None:
    """The client MUST indicate the offset."""
    path = begun(application, version)
    assert rest(application, path, version, UPLOAD_OFFSET=None).status == 400
    assert rest(application, path, version, UPLOAD_COMPLETE=None).status == 400
    assert offset(application, path) == 5


@every_version
@pytest.mark.parametrize("told", [True, False], ids=["announced", "chunked"])
def test_more_than_the_length(application: Application, version: int | None, told: bool) -> None:
    """The server MUST prevent the offset from exceeding the length, also without Content-Length."""
    path = begun(application, version, UPLOAD_LENGTH="11")
    body = HELLO if told else Body(HELLO, [3, 3, 3])
    answer = rest(application, path, version, body=body, UPLOAD_COMPLETE="?0")
    is_problem(answer, 400, "inconsistent-upload-length")
    assert (offset(application, path) or 0) < 11
    assert not held(application)


@new_versions
def test_the_end_again(application: Application, version: int | None) -> None:
    """The server can replay the final response if the request is valid."""
    path = begun(application, version)
    first = rest(application, path, version)
    again = ask(application, "PATCH", path, b"", version, UPLOAD_OFFSET="11", UPLOAD_COMPLETE="?1")
    assert again.status == 200
    assert again.json == first.json
    assert again.headers["Upload-Complete"] == "?1"


@every_version
def test_bytes_after_the_end(application: Application, version: int | None) -> None:
    """No more data can be appended after the end, and the blob stays as it is."""
    path = begun(application, version)
    rest(application, path, version)
    for at in (5, 11):
        answer = rest(application, path, version, UPLOAD_OFFSET=str(at), UPLOAD_COMPLETE="?0")
        assert answer.status in (400, 409)
        assert answer.headers["Upload-Complete"] == "?0"
        if version in OLD:
            # Version 6: if the upload is already complete, the server MUST respond with 400.
            is_problem(answer, 400, "completed-upload")
    assert held(application) == [HASH]
    assert ask(application, "HEAD", path, version=version).headers["Upload-Complete"] == "?1"


@every_version
def test_a_body_that_breaks_off(application: Application, version: int | None) -> None:
    """The server SHOULD append as much as possible; the upload MUST NOT be considered complete then."""
    environ = {"CONTENT_LENGTH": "11", "HTTP_UPLOAD_COMPLETE": "?1", "HTTP_UPLOAD_LENGTH": "11"}
    if version is not None:
        environ["HTTP_UPLOAD_DRAFT_INTEROP_VERSION"] = str(version)
    path = ask(application, "POST", body=b"", version=version, UPLOAD_COMPLETE="?0").headers["Location"]
    environ |= {"CONTENT_TYPE": KIND, "HTTP_UPLOAD_OFFSET": "0"}
    answer = call(application, "PATCH", path, body=io.BytesIO(HELLO[:5]), **environ)
    assert answer.status == 400
    assert answer.headers["Upload-Complete"] == "?0"
    assert offset(application, path) == 5
    assert not held(application)
    assert rest(application, path, version).json["hash"] == HASH


# Cancellation


@every_version
def test_cancellation(application: Application, version: int | None) -> None:
    """If the server deactivates the upload, it MUST respond with 204; then the upload is gone."""
    path = begun(application, version)
    assert ask(application, "DELETE", path, version=version).status == 204
    assert offset(application, path) is None
    assert rest(application, path, version).status == 404
    assert ask(application, "DELETE", path, version=version).status == 404


# Digests


@every_version
def test_a_wrong_digest_of_the_file(application: Application, version: int | None) -> None:
    """If the digests do not match, the server SHOULD consider the upload failed and tell the client."""
    path = begun(application, version, REPR_DIGEST=WRONG, UPLOAD_LENGTH="11")
    answer = rest(application, path, version)
    assert (answer.status, answer.json["code"]) == (422, "digest_mismatch")
    # It comes from processing the representation: resuming the upload would not resolve this error.
    assert answer.headers["Upload-Complete"] == "?1"
    assert offset(application, path) is None
    assert not held(application)


@every_version
def test_a_digest_of_the_content(application: Application, version: int | None) -> None:
    """If the digests do not match, the server SHOULD not append the content."""
    path = begun(application, version)
    answer = rest(application, path, version, CONTENT_DIGEST=WRONG)
    assert answer.status == 422
    assert (answer.headers["Upload-Complete"], answer.headers["Upload-Offset"]) == ("?0", "5")
    assert offset(application, path) == 5
    digest = base64.b64encode(hashlib.sha256(HELLO[5:]).digest()).decode()
    assert rest(application, path, version, CONTENT_DIGEST=f"sha-256=:{digest}:").json["hash"] == HASH


@every_version
def test_a_digest_that_the_client_wants(application: Application, version: int | None) -> None:
    """The response SHOULD include a digest that the client wants."""
    path = begun(application, version, WANT_REPR_DIGEST="sha-256=10, sha-512=3")
    assert rest(application, path, version).headers["Repr-Digest"] == DIGEST


@pytest.mark.parametrize("path", ["/uploads", "/"])
def test_nobody_is_told_an_offset_before_the_bytes_count(
    application: Application, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """An interim response tells where the upload is when its request already holds it."""
    monkeypatch.setattr(part, "PATIENCE", 0.0)
    answers = []

    def interim(fields: list[tuple[str, str]]) -> None:
        answers.append(ask(application, "HEAD", dict(fields)["Location"]))

    environ = {
        "HTTP_UPLOAD_DRAFT_INTEROP_VERSION": "8",
        "HTTP_UPLOAD_COMPLETE": "?1",
        KEY: Exchange(interim=interim),
    }
    assert call(application, "POST", path, body=HELLO, **environ).json["hash"] == HASH
    assert [answer.status for answer in answers] == [409]
