"""Checks of Host and Origin, and CORS: malformed, foreign and unknown values."""

import base64
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.access import maker
from tests.support.calling import Answer, Untouched, application_of, call, held
from wsgi_store.assembly import create_app
from wsgi_store.config import Config
from wsgi_store.web.application import Application
from wsgi_store.web.hosts import KnownHosts

HELLO = b"hello\n"
HASH = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"
HERE = "store.example:8000"
FOREIGN: list[dict[str, str]] = [
    {"HTTP_SEC_FETCH_SITE": "cross-site"},
    {"HTTP_SEC_FETCH_SITE": "same-site"},
    {"HTTP_SEC_FETCH_SITE": ""},
    {"HTTP_SEC_FETCH_SITE": "Same-Origin"},
    {"HTTP_SEC_FETCH_SITE": "same-origin,cross-site"},
    {"HTTP_SEC_FETCH_SITE": "cross-site", "HTTP_ORIGIN": f"http://{HERE}"},
    {"HTTP_ORIGIN": "http://evil.example"},
    {"HTTP_ORIGIN": "http://evil.example:8000"},
    {"HTTP_ORIGIN": "http://store.example"},
    {"HTTP_ORIGIN": "http://store.example:8001"},
    {"HTTP_ORIGIN": "https://store.example"},
    {"HTTP_ORIGIN": "http://sub.store.example:8000"},
    {"HTTP_ORIGIN": "http://store.example:8000.evil.example"},
    {"HTTP_ORIGIN": "null"},
    {"HTTP_ORIGIN": ""},
    {"HTTP_ORIGIN": HERE},
    {"HTTP_ORIGIN": f"http://{HERE}/"},
    {"HTTP_ORIGIN": f"http://{HERE}, http://evil.example"},
    {"HTTP_ORIGIN": f"http://{HERE},http://{HERE}"},
    {"HTTP_ORIGIN": f"capacitor://{HERE}"},
    {"HTTP_ORIGIN": "chrome-extension://abcdef"},
    {"HTTP_ORIGIN": "http://evil.example", "HTTP_X_FORWARDED_HOST": "evil.example"},
    {"HTTP_ORIGIN": "http://evil.example", "HTTP_FORWARDED": "host=evil.example"},
]
OWN: list[dict[str, str]] = [
    {},
    {"HTTP_SEC_FETCH_SITE": "none"},
    {"HTTP_SEC_FETCH_SITE": "same-origin"},
    {"HTTP_SEC_FETCH_SITE": "same-origin", "HTTP_ORIGIN": "http://behind.a.proxy"},
    {"HTTP_ORIGIN": f"http://{HERE}"},
    {"HTTP_ORIGIN": f"https://{HERE}"},
    {"HTTP_ORIGIN": f"HTTP://{HERE.upper()}"},
]
BASIC = "Basic " + base64.b64encode(b"me:all").decode()


def sends(application: Any, body: Any = HELLO, **fields: str) -> int:
    """The status of an upload; other unsafe methods must be refused alike."""
    status = call(
        application, "POST", body=body, **{"HTTP_HOST": HERE, "CONTENT_LENGTH": "6", **fields}
    ).status
    for method in ("DELETE", "PUT", "PATCH", "BREW"):
        other = call(application, method, "/nothing", **{"HTTP_HOST": HERE, **fields}).status
        assert (other == 403) == (status == 403), method
    return status


@pytest.mark.parametrize("fields", FOREIGN, ids=str)
def test_another_site_changes_nothing(application: Application, fields: dict[str, str]) -> None:
    """A page of another site stores and deletes nothing, and its body is not read."""
    call(application, "POST", body=HELLO)
    assert sends(application, Untouched(), **fields) == 403
    answer = call(application, "DELETE", f"/{HASH}", HTTP_HOST=HERE, **fields)
    assert (answer.status, answer.json["code"]) == (403, "cross_origin")
    assert answer.json.get("origin") == fields.get("HTTP_ORIGIN")
    assert held(application) == [HASH]
    for method in ("GET", "HEAD", "OPTIONS"):
        assert call(application, method, f"/{HASH}", HTTP_HOST=HERE, **fields).status in (200, 204)


@pytest.mark.parametrize("fields", OWN, ids=str)
def test_ones_own_pages_and_programs(application: Application, fields: dict[str, str]) -> None:
    """Requests from pages of the same origin, and from programs, are accepted."""
    assert sends(application, **fields) == 200


@pytest.mark.parametrize(
    "origin, host, same",
    [
        ("http://h", "h:80", True),
        ("http://h", "h", True),
        ("http://h:80", "h", True),
        ("https://h", "h", True),
        ("https://h", "h:443", True),
        ("https://h:443", "h", True),
        ("http://h", "h:", True),
        ("http://[::1]:80", "[::1]", True),
        ("http://h", "h:443", False),
        ("https://h", "h:80", False),
        ("http://h:8000", "h", False),
        ("http://h", "h:8000", False),
        ("http://h", "h:0", False),
        ("http://h", "g", False),
        ("http://h.", "h", False),
        ("http://h", None, False),
        ("http://h", "", False),
    ],
)
def test_default_ports(application: Application, origin: str, host: str | None, same: bool) -> None:
    """Missing ports default to that of the Origin's scheme, as TLS may end at a proxy."""
    answer = call(application, "POST", body=HELLO, HTTP_ORIGIN=origin, HTTP_HOST=host)
    assert answer.status == (200 if same else 403)


def test_the_host_of_the_target_counts(application: Application) -> None:
    """A host in the request line overrides the Host field (RFC 9112 section 3.2.2)."""
    for name in ("RAW_URI", "REQUEST_URI"):
        fields = {name: "http://here/", "HTTP_HOST": "there"}
        assert call(application, "POST", body=HELLO, HTTP_ORIGIN="http://here", **fields).status == 200
        assert call(application, "POST", body=HELLO, HTTP_ORIGIN="http://there", **fields).status == 403


def test_sites_that_are_allowed(config: Config) -> None:
    """Pages of a site in cors_origins may upload, pages of its neighbours may not."""
    application = create_app(replace(config, cors_origins=("https://app.example", "http://app.example:81")))
    site = {"HTTP_SEC_FETCH_SITE": "cross-site"}
    for origin in ("https://app.example", "http://app.example:81", "https://app.example:443"):
        assert sends(application, HTTP_ORIGIN=origin) == 200
        assert sends(application, HTTP_ORIGIN=origin, **site) == 200
        assert sends(application, HTTP_ORIGIN=origin, HTTP_COOKIE="a=b", HTTP_AUTHORIZATION=BASIC) == 200
    for origin in ("http://app.example", "https://app.example:81", "https://a.app.example", "null", ""):
        assert sends(application, HTTP_ORIGIN=origin, **site) == 403
    assert sends(application, **site) == 403
    assert sends(application, HTTP_ORIGIN=f"http://{HERE}") == 200


def test_every_site_is_allowed(config: Config) -> None:
    """With `*` any page may upload, unless its browser attached cookies or a password."""
    application = create_app(replace(config, cors_origins=("*",)))
    for origin in ("https://app.example", "null", "chrome-extension://abcdef"):
        assert sends(application, HTTP_ORIGIN=origin) == 200
        assert sends(application, HTTP_ORIGIN=origin, HTTP_AUTHORIZATION="Bearer all") == 200
        for ambient in (
            {"HTTP_AUTHORIZATION": BASIC},
            {"HTTP_COOKIE": "a=b"},
            {"HTTP_AUTHORIZATION": "NTLM x"},
        ):
            assert sends(application, HTTP_ORIGIN=origin, **ambient) == 403  # type: ignore[arg-type]
    assert sends(application, HTTP_SEC_FETCH_SITE="cross-site") == 403, "without an origin nobody is allowed"
    assert sends(application, HTTP_AUTHORIZATION=BASIC) == 200


def test_before_anybody_is_asked_for_a_token(config: Config, tmp_path: Path) -> None:
    """A page of another site is refused with any credentials, and without."""
    api = maker(config, tmp_path / "tokens")()
    foreign = {"Origin": "http://evil.example"}
    for credentials in ({}, {"Authorization": BASIC}, {"Authorization": "Bearer all"}):
        answer = api.post("/", HELLO, headers={**foreign, **credentials}, status=403)
        assert answer.json["code"] == "cross_origin"
    api.post("/", HELLO, headers={"Authorization": BASIC}, status=200)


MALFORMED = [
    "a@b",
    "a b",
    "[::1",
    "a:80x",
    ":80",
    "a, b",
    "a,a",
    "a/b",
    "http://a",
    "\xe4",
    "a:65536",
    "user@a:80",
]


@pytest.mark.parametrize("host", MALFORMED)
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "DELETE", "OPTIONS"])
def test_a_malformed_host(application: Application, method: str, host: str) -> None:
    """A malformed host gets 400 on every path, in Host or in the target (RFC 9112 section 3.2)."""
    places: list[dict[str, str]] = [{"HTTP_HOST": host}]
    if "/" not in host:
        places += [{name: f"http://{host}/", "HTTP_HOST": "a"} for name in ("RAW_URI", "REQUEST_URI")]
    for fields in places:
        for path in ("/", "/healthz", "/nowhere"):
            answer = call(application, method, path, body=Untouched(), CONTENT_LENGTH="1", **fields)
            assert answer.status == 400
            assert method == "HEAD" or answer.json["code"] == "bad_request"


@pytest.mark.parametrize("target", ["http://a/healthz", "HTTP://a:80//healthz", "https://[::1]/healthz"])
def test_a_server_that_leaves_the_target_whole(application: Application, target: str) -> None:
    """A target in absolute form works, even if the server puts it whole into PATH_INFO."""
    assert call(application, path=target, REQUEST_URI=target).json == {"status": "ok"}
    assert call(application, path="http://a", REQUEST_URI="http://a").json["service"] == "wsgi_store"
    assert call(application, path="/http://a/healthz").status == 404


def test_a_target_without_a_host(application: Application) -> None:
    """An http URL without a host gets 400 (RFC 9110 section 4.2.1)."""
    assert call(application, RAW_URI="http:///healthz", HTTP_HOST="a").status == 400
    assert call(application, RAW_URI="http://a:80/healthz", HTTP_HOST="").status == 200


KNOWN = [
    *["localhost", "LOCALHOST:1", "localhost.", "a.localhost:8000", "127.0.0.1", "127.255.0.9:80"],
    *["[::1]:8000", "[::ffff:127.0.0.1]", "store.example", "Store.Example.:80", "[2001:db8::1]", ""],
]
UNKNOWN = [
    *["evil.example", "evil.example:8000", "localhost.evil.example", "127.0.0.1.evil.example", "xlocalhost"],
    *[
        "store.example.evil",
        "sub.store.example",
        "10.0.0.1",
        "[::2]",
        "2130706433",
        "0x7f.1",
        "127.0.0.1.nip.io",
    ],
]
LOOPBACK = {"gunicorn.socket": object(), "SERVER_NAME": "127.0.0.1"}


def known(config: Config) -> Application:
    """A service with two names in WSGI_STORE_HOSTS."""
    return application_of(
        create_app(config).backend, check_host=KnownHosts(("store.example", "[2001:db8::1]"))
    )


@pytest.mark.parametrize("host", UNKNOWN)
def test_an_unknown_host(config: Config, host: str) -> None:
    """On a loopback address an unknown host gets 421, whatever the forwarding fields say."""
    application = known(config)
    for method in ("GET", "HEAD", "POST", "DELETE", "OPTIONS", "PUT"):
        for path in ("/", "/files", "/healthz", "/readyz", "/openapi.json", f"/{HASH}", "/nowhere"):
            fields = {"HTTP_X_FORWARDED_HOST": "localhost", "HTTP_FORWARDED": "host=localhost;for=8.8.8.8"}
            fields |= {"HTTP_X_FORWARDED_FOR": "8.8.8.8", "REMOTE_ADDR": "8.8.8.8"}
            environ = {"HTTP_HOST": host, "CONTENT_LENGTH": "1", **LOOPBACK, **fields}
            answer = call(application, method, path, body=Untouched(), **environ)
            assert answer.status == 421
            if method != "HEAD":
                assert answer.json["code"] == "unknown_host"
                assert "WSGI_STORE_HOSTS" in answer.json["detail"]


@pytest.mark.parametrize("host", KNOWN)
def test_a_known_host(config: Config, host: str) -> None:
    """Loopback names, the names in the settings and an empty Host are known."""
    assert call(known(config), HTTP_HOST=host, **LOOPBACK).status == 200


@pytest.mark.parametrize("listener", ["0.0.0.0", "192.168.1.5", "::", "2001:db8::2", "evil.example", ""])
def test_elsewhere_hosts_are_not_asked(config: Config, listener: str) -> None:
    """On other addresses and on Unix sockets any host is accepted."""
    environ = {"gunicorn.socket": object(), "SERVER_NAME": listener}
    assert call(known(config), HTTP_HOST="evil.example", **environ).status == 200


def test_a_mounted_service_is_its_hosts(application: Application) -> None:
    """A service mounted in another application accepts any host."""
    assert call(application, HTTP_HOST="evil.example", **LOOPBACK).status == 200


def cors(answer: Answer) -> dict[str, str]:
    """The CORS fields of an answer, and Vary."""
    return {
        name: value for name, value in answer.headers.items() if name.startswith("Access-") or name == "Vary"
    }


PAGE = "https://app.example"
ASKING = {
    "HTTP_ACCESS_CONTROL_REQUEST_METHOD": "DELETE",
    "HTTP_ACCESS_CONTROL_REQUEST_HEADERS": "authorization",
}


def test_without_the_setting(application: Application) -> None:
    """Without cors_origins no answer has CORS fields, and preflights get no permission."""
    call(application, "POST", body=HELLO)
    for method, path in [("GET", f"/{HASH}"), ("GET", "/nowhere"), ("OPTIONS", "/")]:
        assert not cors(call(application, method, path, HTTP_ORIGIN=PAGE, **ASKING))


@pytest.mark.parametrize("setting", [PAGE, "*"])
def test_answers_that_a_page_may_read(config: Config, setting: str) -> None:
    """An allowed page may read every answer, errors included, but never with credentials."""
    application = create_app(replace(config, cors_origins=(setting,)))
    call(application, "POST", body=HELLO)
    for status, method, path, fields in [
        (200, "GET", f"/{HASH}", {}),
        (200, "HEAD", f"/{HASH}", {}),
        (206, "GET", f"/{HASH}", {"HTTP_RANGE": "bytes=1-"}),
        (304, "GET", f"/{HASH}", {"HTTP_IF_NONE_MATCH": "*"}),
        (416, "GET", f"/{HASH}", {"HTTP_RANGE": "bytes=9-"}),
        (404, "GET", "/nowhere", {}),
        (405, "PATCH", "/", {}),
        (400, "GET", "/", {"HTTP_HOST": "a@b"}),
        (200, "POST", "/", {"body": b"more"}),
        (200, "PUT", "/more", {"body": b"more"}),
        (204, "OPTIONS", "/", {}),
    ]:
        answer = call(application, method, path, HTTP_ORIGIN=PAGE, **fields)
        assert answer.status == status
        said = cors(answer)
        assert said.pop("Vary", None) == (None if setting == "*" else "Origin")
        assert said.pop("Access-Control-Allow-Origin") == setting
        exposed = said.pop("Access-Control-Expose-Headers").split(", ")
        assert {"ETag", "Location", "Repr-Digest", "Content-Range", "X-Request-ID"} <= set(exposed)
        always = {"Cache-Control", "Content-Length", "Content-Type", "Last-Modified"}
        unread = {"Access-Control-Allow-Origin", "Access-Control-Expose-Headers"}
        unread |= {"X-Content-Type-Options", "Content-Security-Policy"}
        assert set(answer.headers.keys()) - always - unread <= set(exposed)
        assert not said


def test_an_answer_that_a_cache_may_give_to_a_page(config: Config) -> None:
    """Where every page may read, answers say so to programs, too: a cache gives pages the same answer."""
    application = create_app(replace(config, cors_origins=("*",)))
    for path in (f"/{HASH}", "/", "/healthz"):
        answer = call(application, path=path)
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
        assert "ETag" in answer.headers["Access-Control-Expose-Headers"]
        assert "Origin" not in answer.headers.get("Vary", "")


def test_answers_that_a_page_may_not_read(config: Config) -> None:
    """For any other origin, or none, an answer only has `Vary: Origin`."""
    application = create_app(replace(config, cors_origins=(PAGE,), page=False))
    for fields in ({}, {"HTTP_ORIGIN": "http://app.example"}, {"HTTP_ORIGIN": "null"}, {"HTTP_ORIGIN": "*"}):
        for method in ("GET", "POST", "OPTIONS"):
            answer = call(application, method, "/", body=b"", **fields, **ASKING)
            assert cors(answer) == {"Vary": "Origin"}


def test_one_field_says_what_an_answer_differs_by(config: Config, tmp_path: Path) -> None:
    """An answer to a token names Authorization and Origin in one Vary field."""
    api = maker(config, tmp_path / "tokens")(cors_origins=(PAGE,))
    headers = {"Authorization": "Bearer all", "Origin": PAGE}
    api.post("/", HELLO, headers=headers)
    answer = api.get(f"/{HASH}", headers=headers)
    assert answer.headers.getall("Vary") == ["Authorization, Origin"]
    assert api.get(f"/{HASH}", headers=headers).headers.getall("Vary") == ["Authorization, Origin"]
    refusal = api.get(f"/{HASH}", headers={"Origin": PAGE}, status=401)
    assert refusal.headers["Access-Control-Allow-Origin"] == PAGE


@pytest.mark.parametrize("path", ["/", f"/{HASH}", "/files", "/nowhere", "*"])
@pytest.mark.parametrize("setting", [PAGE, "*"])
def test_a_preflight(config: Config, setting: str, path: str) -> None:
    """A preflight from an allowed page is answered without a token and may be cached."""
    application = create_app(replace(config, cors_origins=(setting,)))
    answer = call(application, "OPTIONS", path, HTTP_ORIGIN=PAGE, **ASKING)
    assert answer.status == 204
    said = cors(answer)
    assert said.pop("Vary", None) == (None if setting == "*" else "Origin")
    allowed = said.pop("Access-Control-Allow-Headers").split(", ")
    assert {"Authorization", "*", "Content-Type", "Range"} <= set(allowed)
    assert said == {
        "Access-Control-Allow-Origin": setting,
        "Access-Control-Allow-Methods": "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT",
        "Access-Control-Max-Age": "7200",
    }
    private = {"HTTP_ACCESS_CONTROL_REQUEST_PRIVATE_NETWORK": "true"}
    answer = call(application, "OPTIONS", path, HTTP_ORIGIN=PAGE, **ASKING, **private)
    assert answer.headers["Access-Control-Allow-Private-Network"] == "true"


def test_a_preflight_needs_no_token(config: Config, tmp_path: Path) -> None:
    """Browsers send preflights without credentials, so none are required."""
    api = maker(config, tmp_path / "tokens")(cors_origins=(PAGE,))
    api.options(f"/{HASH}", headers={"Origin": PAGE, "Access-Control-Request-Method": "GET"}, status=204)
