"""openapi.json agrees with the code on paths, scopes, errors and limits."""

import base64
import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate
from webtest import TestApp

from examples import flask_app
from tests.support.access import ALL, bearer, line
from tests.support.calling import Answer, Body, call
from wsgi_store import __version__, errors
from wsgi_store.access.grant import SCOPES
from wsgi_store.assembly import METALINK, create_app
from wsgi_store.choices import MetricsAccess
from wsgi_store.config import Config
from wsgi_store.digest import Algorithm
from wsgi_store.web import routes, service
from wsgi_store.web.application import REQUEST_ID, Application
from wsgi_store.web.hash_list import LONGEST, MOST
from wsgi_store.web.listing import MAX_PAGE, PAGE
from wsgi_store.web.problems import problem, told

OPENAPI = Path(service.__file__).with_name("openapi.json").read_bytes()
DOCUMENT: dict[str, Any] = json.loads(OPENAPI)
PATHS: dict[str, Any] = DOCUMENT["paths"]
COMPONENTS: dict[str, Any] = DOCUMENT["components"]
METHODS = ("get", "head", "post", "put", "patch", "delete", "options")
DATA = b"hello"
HASH = hashlib.sha256(DATA).hexdigest()
ASKED, JSON = json.dumps([HASH, "0" * 64]).encode(), {"CONTENT_TYPE": "application/json"}
MD5 = base64.b64encode(hashlib.md5(DATA).digest()).decode()
# The end of a part's header with a digest that its file does not have.
WRONG = b"\r\nRepr-Digest: sha-256=:%s=:\r\n\r\n" % (b"A" * 43)
# Client generators turn these names into functions, so they must not change.
OPERATIONS = {
    "appendToUpload",
    "createUpload",
    "describeUploads",
    "downloadArchive",
    "downloadBlob",
    "downloadNamedBlob",
    "findMissing",
    "getHealth",
    "getIndex",
    "getMetalink",
    "getMetrics",
    "getOpenAPI",
    "getPageFile",
    "getReadiness",
    "getUpload",
    "headBlob",
    "headBlobs",
    "headHealth",
    "headIndex",
    "headMetalink",
    "headMetrics",
    "headNamedBlob",
    "headOpenAPI",
    "headPageFile",
    "headReadiness",
    "headUpload",
    "listBlobs",
    "putBlob",
    "putFile",
    "putNamedBlob",
    "removeBlob",
    "removeBlobByQuery",
    "removeUpload",
    "signLink",
    "uploadBlob",
}
# Fields that responses about uploads have by the rules of their protocol, as the text on uploads says.
OF_UPLOADS = {"Tus-Resumable", "Upload-Complete", "Upload-Draft-Interop-Version"}
OF_FAILED_UPLOADS = {"Upload-Offset", "Upload-Limit", "Accept-Patch", "Location"}
# Every error class, with every kind of evidence it can have.
ERRORS = [
    errors.BadRequest("", limit=1),
    errors.BadRequest("", files=2),
    errors.BadRequest("", versions=(5, 6, 8)),
    errors.BadRequest("", algorithms=["sha256", "md5"]),
    errors.BadRequest("", reason="size"),
    errors.IncompleteBody(expected=2, actual=1),
    errors.Unauthenticated(""),
    *(errors.Denied("", scope=scope) for scope in sorted(SCOPES)),
    errors.ReadOnly(),
    errors.CrossOrigin(origin="http://a"),
    errors.NotFound(""),
    errors.BlobNotFound(hash=HASH),
    errors.BlobNotFound(hash=HASH, algorithms=["sha256", "sha1"]),
    errors.MethodNotAllowed(allowed=["GET"]),
    errors.RequestTimeout(""),
    errors.DigestCollision(hash=HASH),
    errors.LengthRequired(""),
    errors.PreconditionFailed(""),
    errors.TooLarge(limit=1),
    errors.UriTooLong(""),
    errors.UnsupportedMediaType(""),
    errors.RangeNotSatisfiable(size=1),
    errors.ExpectationFailed(""),
    errors.UnknownHost(host="a"),
    errors.DigestMismatch(expected="md5:0", actual="md5:1"),
    errors.FilesRefused(files=[{"error": told(errors.TooLarge(limit=1))}]),
    errors.FilesRefused(files=[{"name": "a", "error": told(errors.StoreUnavailable(""))}]),
    errors.ChecksumMismatch(expected="md5:0", actual="md5:1", offset=0),
    errors.HeadTooLarge(""),
    errors.UploadNotFound(),
    errors.UploadLocked(""),
    errors.OffsetMismatch(expected=1, provided=0),
    errors.InconsistentLength("", expected=1, provided=0),
    errors.TooManyUploads("", limit=1),
    errors.TooManyUploads("", limit_bytes=1, needed=2),
    errors.UnsupportedVersion(""),
    errors.Unsupported(""),
    errors.Busy(""),
    errors.StoreUnavailable("", needed=1, available=0, reserve=0),
    errors.StorageFull("", needed=1, available=0, reserve=0),
    errors.WSGIStoreError(""),
]


def resolved(node: Any) -> Any:
    """The target of a reference."""
    while "$ref" in node:
        kind, name = node["$ref"].removeprefix("#/components/").split("/")
        node = COMPONENTS[kind][name]
    return node


def conforms(schema: dict[str, Any], value: object) -> None:
    """Validate a value against a schema, allowing only the members that it names."""
    strict = {**schema, "unevaluatedProperties": False, "components": COMPONENTS}
    assert not [error.message for error in Draft202012Validator(strict).iter_errors(value)]


def operations() -> dict[tuple[str, str], dict[str, Any]]:
    """All operations, by path and method."""
    return {(path, name): item[name] for path, item in PATHS.items() for name in METHODS if name in item}


def scopes(operation: dict[str, Any]) -> set[str | None]:
    """The scopes in an operation's security requirements; None means that no scope is needed."""
    wanted: set[str | None] = set()
    for requirement in operation["security"] or [{}]:
        assert requirement.keys() <= COMPONENTS["securitySchemes"].keys()
        wanted.update(scope for scopes in requirement.values() for scope in scopes)
        wanted.update([] if requirement else [None])
    return wanted


def test_it_is_valid() -> None:
    """The document is valid OpenAPI 3.1 and has the version of the package."""
    validate(DOCUMENT)
    assert re.fullmatch(r"3\.1\.\d", DOCUMENT["openapi"])
    assert DOCUMENT["info"]["version"] == __version__


def test_the_operations_are_those_of_the_url_table() -> None:
    """Each route is described with its method, HEAD beside GET, and its scope."""
    wanted: dict[tuple[str, str], set[str | None]] = {}
    for route in [*routes.URLS, METALINK, routes.UPLOAD_OPTIONS]:
        if "<segment:" in route.path:
            continue  # OpenAPI allows no second path like `/{hash}`; `PUT /` describes it
        path = re.sub("<[a-z]+:([a-z]+)_?>", r"{\1}", route.path)
        for method in [route.method.lower()] + (["head"] if route.method == "GET" else []):
            wanted[path, method] = {route.scope}
    # `/?hash=` is another spelling of `/{hash}` and needs the same scopes.
    for method in ("get", "head", "delete"):
        wanted.setdefault(("/", method), set()).update(wanted["/{hash}", method])
    assert {key: scopes(operation) for key, operation in operations().items()} == wanted
    names = [operation["operationId"] for operation in operations().values()]
    assert sorted(names) == sorted(OPERATIONS)


def test_every_scheme_is_for_what_it_is_good_for() -> None:
    """Tokens work everywhere, links for reading, tickets for uploads."""
    good = {"read": {"bearer", "basic", "link"}, "write": {"bearer", "basic", "ticket"}}
    for operation in operations().values():
        for scope in scopes(operation) - {None}:
            schemes = {name for requirement in operation["security"] for name in requirement}
            assert schemes == good.get(str(scope), {"bearer", "basic"})
            assert scope in SCOPES


def test_the_errors_are_those_of_the_code() -> None:
    """Each code has a schema named after its exception and occurs in some operation."""
    assert sorted(COMPONENTS["schemas"]["Problem"]["properties"]["code"]["enum"]) == sorted(errors.BY_CODE)
    answered = set()
    for operation in operations().values():
        for status, response in operation["responses"].items():
            content = resolved(response).get("content", {})
            schema = content.get("application/problem+json", {}).get("schema", {})
            assert bool(schema) == (status >= "400")
            for choice in schema.get("oneOf", [schema] if schema else []):
                own = resolved(choice)["allOf"][1]["properties"]
                statuses = own["status"].get("enum", [own["status"].get("const")])
                assert int(status) in statuses
                answered.add((int(status), own["code"]["const"]))
            for code, target in schema.get("discriminator", {}).get("mapping", {}).items():
                assert resolved({"$ref": target})["allOf"][1]["properties"]["code"]["const"] == code
    wanted = {(kind.status, code) for code, kind in errors.BY_CODE.items()}
    # Protocols have statuses of their own for a wrong checksum and an upload in use.
    wanted |= {(460, errors.ChecksumMismatch.code), (409, errors.UploadLocked.code)}
    # A form has the status of one of its files.
    of_forms = COMPONENTS["schemas"]["FilesRefused"]["allOf"][1]["properties"]["status"]["enum"]
    assert answered == wanted | {(status, errors.FilesRefused.code) for status in of_forms}


def test_there_is_an_error_of_each_kind() -> None:
    """ERRORS has an instance of every error class."""
    assert {type(error) for error in ERRORS} == set(errors.BY_CODE.values())


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_error_has_the_members_described(error: errors.WSGIStoreError) -> None:
    """A problem has all required members of its schema and no undescribed ones."""
    response = problem(error, "-")
    name = {errors.WSGIStoreError: "InternalError"}.get(type(error), type(error).__name__)
    conforms({"$ref": f"#/components/schemas/{name}"}, json.loads(b"".join(response.body)))
    described = {**resolved({"$ref": f"#/components/schemas/{name}"})["allOf"][1]["properties"]}
    assert error.evidence.keys() <= described.keys()
    for answer in COMPONENTS["responses"].values():
        schema = answer.get("content", {}).get("application/problem+json", {}).get("schema", {})
        if schema == {"$ref": f"#/components/schemas/{name}"}:
            assert {field for field, _ in response.headers} - {"Content-Length"} == {
                *answer["headers"].keys() - {"X-Request-ID", "Tus-Version"},
                "Content-Type",
            }


def test_the_limits_are_those_of_the_code() -> None:
    """Patterns, enums and limits equal those in the code."""
    schemas, parameters = COMPONENTS["schemas"], COMPONENTS["parameters"]
    assert schemas["Hash"]["pattern"] == f"^{routes.HASH.pattern}$"
    assert schemas["Algorithm"]["enum"] == [algorithm.value for algorithm in Algorithm]
    assert schemas["Scope"]["enum"] == sorted(SCOPES)
    limit = parameters["Limit"]["schema"]
    assert (limit["minimum"], limit["default"], limit["maximum"]) == (1, PAGE, MAX_PAGE)
    assert schemas["Page"]["properties"]["files"]["maxItems"] == MAX_PAGE
    assert schemas["HashList"]["maxItems"] == schemas["Missing"]["properties"]["missing"]["maxItems"] == MOST
    assert COMPONENTS["headers"]["XRequestID"]["schema"]["pattern"] == f"^{REQUEST_ID.pattern}$"


def fits(method: str, path: str, answer: Answer) -> None:
    """Check that an answer matches its description and has all the required fields."""
    response = resolved(PATHS[path][method.lower()]["responses"][str(answer.status)])
    headers = {name: resolved(header) for name, header in response["headers"].items()}
    kind = answer.headers.get("Content-Type", "").partition(";")[0]
    required = {name for name, header in headers.items() if header.get("required")}
    assert required <= set(answer.headers.keys())
    # GET / also returns blobs, whose header fields are described under `/{hash}`.
    if path != "/":
        every = {"Content-Type", "Content-Length"}
        if path.startswith("/uploads"):
            every |= OF_UPLOADS | (OF_FAILED_UPLOADS if answer.status >= 400 else set())
        assert set(answer.headers.keys()) <= {*headers, *every}
    if method == "HEAD" or answer.status in (201, 204, 304) and not answer.body:
        assert not answer.body
    elif kind in response["content"] and "json" in kind and "Content-Encoding" not in answer.headers:
        conforms(response["content"][kind]["schema"], answer.json)
    else:
        assert kind in response["content"] or "*/*" in response["content"]


def test_answers_are_as_described(application: Application) -> None:
    """Each kind of answer has exactly the members and header fields described."""
    form = b'--b\r\nContent-Disposition: form-data; name="f"; filename="n"\r\n\r\nhello\r\n--b--\r\n'
    etag = {"HTTP_IF_NONE_MATCH": f'"{HASH}"'}
    boundary = {"CONTENT_TYPE": "multipart/form-data; boundary=b"}
    several = form.removesuffix(b"--b--\r\n") + form
    plain = {"HTTP_ACCEPT": "text/plain"}
    blob, named, text = "/{hash}", "/{hash}/{filename}", f"/{HASH}/a.txt"
    for status, described, method, path, extra in [
        (200, "/", "POST", "/", {"body": DATA}),
        (200, "/", "POST", "/", {"body": form, **boundary}),
        (200, "/", "POST", "/", {"body": DATA, **plain}),
        (200, "/", "POST", "/", {"body": several, **boundary}),
        (200, "/", "POST", "/", {"body": several, **boundary, **plain}),
        (422, "/", "POST", "/", {"body": several.replace(b"\r\n\r\n", WRONG, 1), **boundary}),
        (400, "/", "POST", "/", {"body": several, "query": f"hash={HASH}", **boundary}),
        (400, "/", "POST", "/", {"body": form[:-9], **boundary}),
        (400, "/", "POST", "/", {"body": b"", **boundary}),
        (411, "/", "POST", "/", {"CONTENT_LENGTH": None}),
        (422, "/", "POST", "/", {"query": f"hash={HASH}"}),
        (200, "/", "PUT", "/", {"body": DATA}),
        (200, "/", "PUT", "/a.txt", {"body": DATA}),
        (200, "/", "PUT", "/files", {"body": DATA, **plain}),
        (400, "/", "PUT", "/", {"body": DATA, "HTTP_CONTENT_RANGE": "bytes 0-4/5"}),
        (415, "/", "PUT", "/a.txt", {"body": form, **boundary}),
        (200, "/", "GET", "/", {}),
        (200, "/", "HEAD", "/", {}),
        (206, "/", "GET", "/", {"query": f"hash={HASH}&filename=a.txt", "HTTP_RANGE": "bytes=1-2"}),
        (404, "/", "GET", "/", {"query": "hash=x"}),
        (405, "/", "DELETE", "/", {}),
        (200, "/files", "GET", "/files", {}),
        (200, "/files", "HEAD", "/files", {}),
        (200, "/files", "GET", "/files", {"query": f"prefix={HASH[:3]}&limit=1"}),
        (400, "/files", "GET", "/files", {"query": "limit=0"}),
        (400, "/files", "GET", "/files", {"query": "prefix=x"}),
        (200, "/missing", "POST", "/missing", {"body": ASKED, **JSON}),
        (200, "/missing", "POST", "/missing", {"body": ASKED, **JSON, **plain}),
        (400, "/missing", "POST", "/missing", {"body": ASKED, **JSON, "query": "renew=true"}),
        (400, "/missing", "POST", "/missing", {"body": b"[5]", **JSON}),
        (413, "/missing", "POST", "/missing", {"body": b" " * (LONGEST + 1), **JSON}),
        (415, "/missing", "POST", "/missing", {"body": ASKED}),
        (200, "/archive", "POST", "/archive", {"body": ASKED, **JSON}),
        (400, "/archive", "POST", "/archive", {"body": b"[5]", **JSON}),
        (415, "/archive", "POST", "/archive", {"body": ASKED}),
        (200, "/healthz", "GET", "/healthz", {}),
        (200, "/readyz", "GET", "/readyz", {}),
        (404, "/metrics", "GET", "/metrics", {}),
        (200, "/openapi.json", "GET", "/openapi.json", {}),
        (200, "/openapi.json", "HEAD", "/openapi.json", {}),
        (412, "/openapi.json", "GET", "/openapi.json", {"HTTP_IF_MATCH": '"x"'}),
        (304, "/openapi.json", "GET", "/openapi.json", {"HTTP_IF_NONE_MATCH": "*"}),
        (200, blob, "GET", f"/{HASH}", {}),
        (200, blob, "HEAD", f"/{HASH}", {}),
        (206, blob, "GET", f"/{HASH}", {"HTTP_RANGE": "bytes=1-2"}),
        (304, blob, "GET", f"/{HASH}", etag),
        (416, blob, "GET", f"/{HASH}", {"HTTP_RANGE": "bytes=9-"}),
        (404, blob, "GET", f"/{HASH[::-1]}", {}),
        (200, named, "GET", text, {}),
        (206, named, "GET", text, {"HTTP_RANGE": "bytes=1-2"}),
        (412, named, "GET", text, {"HTTP_IF_MATCH": '"x"'}),
        (412, blob, "DELETE", f"/{HASH}", etag),
        (412, blob, "PUT", f"/{HASH}", {"body": DATA, **etag}),
        (415, blob, "PUT", f"/{HASH}", {"body": form, **boundary}),
        (200, blob, "PUT", f"/{HASH}", {"body": DATA}),
        (200, named, "PUT", text, {"body": DATA}),
        (200, blob, "DELETE", f"/{HASH}", {}),
        (201, blob, "PUT", f"/{HASH}", {"body": DATA}),
        (200, blob, "DELETE", f"/{HASH}", {}),
        (201, named, "PUT", text, {"body": DATA, **plain}),
        (422, named, "PUT", text, {"body": form}),
        (404, blob, "PUT", f"/{HASH}00", {"body": DATA}),
        (200, blob, "DELETE", f"/{HASH}", {}),
        (404, blob, "DELETE", f"/{HASH}", {}),
    ]:
        answer = call(application, method, path, **extra)
        assert answer.status == status, (method, path, extra)
        fits(method, described, answer)


def test_the_page_is_as_described(application: Application) -> None:
    """The page, its files and its answer to a form are as described."""
    form = b'--b\r\nContent-Disposition: form-data; name="f"; filename="n"\r\n\r\nhello\r\n--b--\r\n'
    html, packed = {"HTTP_ACCEPT": "text/html"}, {"HTTP_ACCEPT_ENCODING": "gzip"}
    script = urljoin("/", re.findall('src="(.*?)"', call(application, **html).body.decode())[0])
    for status, described, method, path, extra in [
        (200, "/", "GET", "/", html),
        (200, "/", "HEAD", "/", html | packed),
        (200, "/", "POST", "/", {"body": form, "CONTENT_TYPE": "multipart/form-data; boundary=b", **html}),
        (200, "/page/{version}/{name}", "GET", script, {}),
        (200, "/page/{version}/{name}", "GET", script, packed),
        (200, "/page/{version}/{name}", "HEAD", script, packed),
        (304, "/page/{version}/{name}", "GET", script, {"HTTP_IF_NONE_MATCH": "*"}),
        (412, "/page/{version}/{name}", "GET", script, {"HTTP_IF_MATCH": '"x"'}),
        (404, "/page/{version}/{name}", "GET", f"{script}.map", {}),
        (200, "/openapi.json", "GET", "/openapi.json", packed),
    ]:
        answer = call(application, method, path, **extra)
        assert answer.status == status, (method, path, extra)
        fits(method, described, answer)


class Cases:
    """Requests about uploads, each checked against its description."""

    TUS = {"HTTP_TUS_RESUMABLE": "1.0.0", "CONTENT_TYPE": "application/offset+octet-stream"}
    DRAFT = {"CONTENT_TYPE": "application/partial-upload"}

    def __init__(self, application: Application) -> None:
        self._application = application
        self.seen: set[tuple[str, int]] = set()

    def send(self, status: int, method: str, path: str, **extra: Any) -> Answer:
        """Send a request and check the answer."""
        described = "/uploads" if path == "/uploads" else "/uploads/{id}"
        answer = call(self._application, method, path, **extra)
        assert answer.status == status, (method, path, extra, answer)
        fits(method, described, answer)
        self.seen.add((PATHS[described][method.lower()]["operationId"], status))
        return answer

    def create(self, **fields: Any) -> str:
        """Create an upload by tus; returns its path."""
        return self.send(201, "POST", "/uploads", **self.TUS, **fields).headers["Location"]

    def start(self, **fields: Any) -> str:
        """Create an upload by the IETF's draft; returns its path."""
        return self.send(201, "POST", "/uploads", HTTP_UPLOAD_COMPLETE="?0", **fields).headers["Location"]


def test_answers_about_uploads_are_as_described(application: Application) -> None:
    """Each kind of answer about an upload has exactly the members and header fields described."""
    cases = Cases(application)
    send, tus, draft = cases.send, cases.TUS, cases.DRAFT
    send(204, "OPTIONS", "/uploads")
    send(400, "POST", "/uploads")
    send(400, "POST", "/uploads", **tus)
    send(412, "POST", "/uploads", HTTP_TUS_RESUMABLE="0.2.2")
    wrong = "md5 " + "A" * 22 + "=="
    upload = cases.create(HTTP_UPLOAD_LENGTH="5", HTTP_UPLOAD_METADATA="filename YQ==")
    send(200, "HEAD", upload, **tus)
    send(204, "HEAD", upload)
    send(200, "GET", upload)
    send(204, "PATCH", upload, body=b"he", HTTP_UPLOAD_OFFSET="0", **tus)
    send(409, "PATCH", upload, body=b"he", HTTP_UPLOAD_OFFSET="0", **tus)
    send(409, "PATCH", upload, body=b"he", HTTP_UPLOAD_OFFSET="0", HTTP_UPLOAD_COMPLETE="?0", **draft)
    send(415, "PATCH", upload, HTTP_UPLOAD_OFFSET="2", HTTP_TUS_RESUMABLE="1.0.0", CONTENT_LENGTH="0")
    send(415, "PATCH", upload, HTTP_UPLOAD_OFFSET="2", HTTP_UPLOAD_COMPLETE="?0", CONTENT_LENGTH="0")
    send(460, "PATCH", upload, body=b"llo", HTTP_UPLOAD_OFFSET="2", HTTP_UPLOAD_CHECKSUM=wrong, **tus)
    send(400, "PATCH", upload, body=b"llo, world", HTTP_UPLOAD_OFFSET="2", **tus)
    send(204, "PATCH", upload, body=b"llo", HTTP_UPLOAD_OFFSET="2", **tus)
    send(200, "HEAD", upload, **tus)
    send(200, "GET", upload)
    send(204, "DELETE", upload, **tus)
    send(404, "HEAD", upload, **tus)
    send(404, "GET", upload)
    send(404, "DELETE", upload)
    send(404, "PATCH", upload, body=b"he", HTTP_UPLOAD_OFFSET="0", **tus)
    upload = cases.create(HTTP_UPLOAD_DEFER_LENGTH="1")
    send(200, "HEAD", upload, **tus)
    send(204, "DELETE", upload)
    upload = cases.start(body=b"he", HTTP_UPLOAD_DRAFT_INTEROP_VERSION="6")
    old = {"HTTP_UPLOAD_DRAFT_INTEROP_VERSION": "6", "HTTP_UPLOAD_COMPLETE": "?0", **draft}
    send(201, "PATCH", upload, body=b"", HTTP_UPLOAD_OFFSET="2", **old)
    send(409, "PATCH", upload, body=b"x", HTTP_UPLOAD_OFFSET="0", **old)
    send(400, "HEAD", upload, HTTP_UPLOAD_DRAFT_INTEROP_VERSION="4")
    send(400, "PATCH", upload, body=Body(b"", ()), CONTENT_LENGTH="5", HTTP_UPLOAD_OFFSET="2", **old)
    send(400, "POST", "/uploads", body=Body(b"x", ()), CONTENT_LENGTH="5", HTTP_UPLOAD_COMPLETE="?1")
    send(204, "PATCH", upload, body=b"l", HTTP_UPLOAD_OFFSET="2", HTTP_UPLOAD_COMPLETE="?0", **draft)
    send(204, "HEAD", upload)
    send(200, "PATCH", upload, body=b"lo", HTTP_UPLOAD_OFFSET="3", HTTP_UPLOAD_COMPLETE="?1", **draft)
    send(204, "HEAD", upload)
    send(200, "POST", "/uploads", body=DATA, HTTP_UPLOAD_COMPLETE="?1")
    plain = {"HTTP_ACCEPT": "text/plain"}
    send(200, "POST", "/uploads", body=DATA, HTTP_UPLOAD_COMPLETE="?1", **plain)
    upload = cases.create(HTTP_UPLOAD_LENGTH="5", query=f"hash={HASH[::-1]}")
    send(422, "PATCH", upload, body=DATA, HTTP_UPLOAD_OFFSET="0", **tus)
    send(404, "HEAD", upload, **tus)


def test_figures_and_healing_are_as_described(config: Config) -> None:
    """Metrics, and an upload that heals a damaged blob, are answered as described."""
    application = create_app(replace(config, metrics=MetricsAccess.ON))
    hash_ = call(application, "POST", body=DATA).json["hash"]
    path = Path(config.root, hash_[:2], hash_)
    path.chmod(0o644)
    path.write_bytes(b"")
    for status, described, method, extra in [
        (200, "/", "POST", {"body": DATA}),
        (200, "/metrics", "GET", {}),
        (200, "/metrics", "GET", {"HTTP_ACCEPT": "application/openmetrics-text; version=1.0.0"}),
        (200, "/metrics", "HEAD", {}),
    ]:
        answer = call(application, method, described, **extra)
        assert answer.status == status
        fits(method, described, answer)


def test_answers_to_tokens_are_as_described(config: Config, tmp_path: Path) -> None:
    """401, 403 and private answers are as described."""
    path = tmp_path / "tokens"
    path.write_text(line("all", ALL) + line("other", "list"), encoding="utf-8")
    application = create_app(replace(config, tokens=str(path)))
    all_, other = ({"HTTP_AUTHORIZATION": bearer(token)["Authorization"]} for token in ("all", "other"))
    call(application, "POST", body=DATA, **all_)
    for status, credentials in ((401, {}), (403, other), (200, all_)):
        answer = call(application, path=f"/{HASH}", **credentials)
        assert answer.status == status
        fits("GET", "/{hash}", answer)


@pytest.mark.parametrize("parameter", ["ContentDigest", "ReprDigest"])
@pytest.mark.parametrize("field", ["", f"md5=:{MD5}:", f"md5=:{MD5}:;a=1", f"x=::, md5=:{MD5}:", ",", "md5"])
def test_digest_fields_are_as_described(application: Application, parameter: str, field: str) -> None:
    """The service takes the fields that the description permits; an empty one says nothing (RFC 8941)."""
    described = COMPONENTS["parameters"][parameter]
    name = f"HTTP_{described['name'].upper().replace('-', '_')}"
    permitted = re.search(described["schema"]["pattern"], field) is not None
    assert call(application, "POST", body=DATA, **{name: field}).status == (200 if permitted else 400)


def test_the_links_of_the_index_lead_to_paths(application: Application) -> None:
    """Every link of the index is a described path."""
    index = call(application).json
    assert set(index["links"].values()) <= PATHS.keys()
    conforms({"$ref": "#/components/schemas/Index"}, index)


def test_it_is_served(application: Application) -> None:
    """/openapi.json is public JSON, and its ETag saves sending it again."""
    answer = call(application, path="/openapi.json")
    assert answer.body == OPENAPI
    assert answer.headers["Content-Type"] == "application/json"
    etag = answer.headers["ETag"]
    assert etag == f'"{hashlib.sha256(OPENAPI).hexdigest()}"'
    head = call(application, "HEAD", "/openapi.json")
    assert head.headers["Content-Length"] == str(len(OPENAPI))
    same = call(application, path="/openapi.json", HTTP_IF_NONE_MATCH=etag)
    assert (same.status, same.headers["ETag"]) == (304, etag)
    assert call(application, path="/openapi.json", HTTP_IF_NONE_MATCH='"x"').status == 200
    assert call(application, path="/openapi.json", HTTP_IF_MATCH='"x"').status == 412


@pytest.mark.parametrize("outer", ["", "/outer"])
def test_its_paths_are_right_wherever_it_is_mounted(tmp_path: Path, outer: str) -> None:
    """The server URL is relative to the document's own URL (RFC 3986 section 5)."""
    host = TestApp(flask_app.make_app(str(tmp_path)))
    environ = {"SCRIPT_NAME": outer}
    index = host.get("/blobs/", extra_environ=environ).json
    (server,) = DOCUMENT["servers"]
    base = urljoin(f"http://localhost{index['links']['openapi']}", server["url"])
    assert base == f"http://localhost{outer}/blobs/"
    for path, item in PATHS.items():
        if "get" in item and "{" not in path:
            # Clients append paths to the server URL without its trailing slash.
            url = base.rstrip("/") + path
            status = 404 if path == "/metrics" else 200  # metrics are off by default
            host.get(url.removeprefix(f"http://localhost{outer}"), extra_environ=environ, status=status)
