"""Uploads by pages of other sites, as far as a browser lets them (Fetch standard, section 3.3)."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.access import maker
from tests.support.calling import Answer, call
from tests.support.resumable import TUS, checksum
from wsgi_store.config import Config
from wsgi_store.web.application import Application

PAGE = "https://app.example"
# Fetch standard, section 2.2.2: methods and fields that need no permission, fields that every page may read.
SIMPLE_METHODS = {"GET", "HEAD", "POST"}
SIMPLE_FIELDS = {"accept", "accept-language", "content-language"}
SIMPLE_TYPES = {"application/x-www-form-urlencoded", "multipart/form-data", "text/plain"}
READABLE = {
    *["cache-control", "content-language", "content-length", "content-type"],
    *["expires", "last-modified", "pragma"],
}


class Page:
    """A page of another site in a browser."""

    def __init__(self, application: Application, origin: str = PAGE) -> None:
        self.application = application
        self.origin = origin

    def fetch(self, method: str, path: str, body: bytes = b"", **fields: Any) -> Answer:
        """Send a request after the preflight that it needs; returns what the page may read."""
        sends = {name.replace("_", "-").lower(): str(value) for name, value in fields.items()}
        unsafe = {name for name in sends if name not in SIMPLE_FIELDS}
        if sends.get("content-type", "text/plain") in SIMPLE_TYPES:
            unsafe.discard("content-type")
        if method not in SIMPLE_METHODS or unsafe:
            self.ask(method, path, unsafe)
        environ = {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in sends.items()}
        if "HTTP_CONTENT_TYPE" in environ:
            environ["CONTENT_TYPE"] = environ.pop("HTTP_CONTENT_TYPE")
        environ |= {"HTTP_ORIGIN": self.origin, "HTTP_SEC_FETCH_SITE": "cross-site"}
        length = {"CONTENT_LENGTH": str(len(body))} if method in ("POST", "PATCH") else {}
        answer = call(self.application, method, path, body=body, **environ, **length)
        if answer.headers.get("Access-Control-Allow-Origin") not in (self.origin, "*"):
            raise PermissionError("the page may not read the answer")
        readable = READABLE | listed(answer, "Access-Control-Expose-Headers")
        for name in list(answer.headers.keys()):
            if name.lower() not in readable:
                answer.headers.remove(name)
        return answer

    def ask(self, method: str, path: str, names: set[str]) -> None:
        """Send a preflight, and raise PermissionError unless it permits the request."""
        answer = call(
            self.application,
            "OPTIONS",
            path,
            HTTP_ORIGIN=self.origin,
            HTTP_ACCESS_CONTROL_REQUEST_METHOD=method,
            HTTP_ACCESS_CONTROL_REQUEST_HEADERS=",".join(sorted(names)),
        )
        if not 200 <= answer.status < 300:
            raise PermissionError(f"the preflight got {answer.status}")
        if answer.headers.get("Access-Control-Allow-Origin") not in (self.origin, "*"):
            raise PermissionError("the origin is not allowed")
        if method not in SIMPLE_METHODS and method.lower() not in listed(
            answer, "Access-Control-Allow-Methods"
        ):
            raise PermissionError(f"the method {method} is not allowed")
        # As if `*` meant nothing: so it is in requests with credentials.
        if missing := names - listed(answer, "Access-Control-Allow-Headers"):
            raise PermissionError(f"the fields {missing} are not allowed")


def listed(answer: Answer, name: str) -> set[str]:
    """The items of a field, in lower case."""
    return {item.strip().lower() for item in answer.headers.get(name, "").split(",")}


@pytest.fixture(name="page", params=[PAGE, "*"])
def fixture_page(request: pytest.FixtureRequest, config: Config, tmp_path: Path) -> Page:
    """A page of a site that the service allows."""
    config = replace(config, max_size=1000)
    return Page(maker(config, tmp_path / "tokens")(cors_origins=(request.param,)).app)


def test_a_page_uploads_by_tus(page: Page) -> None:
    """A page of an allowed site does and reads all that clients of tus do and read."""
    tus: dict[str, Any] = {"Tus_Resumable": "1.0.0", "Authorization": "Bearer all"}
    able = page.fetch("OPTIONS", "/uploads").headers
    assert {"Tus-Version", "Tus-Extension", "Tus-Max-Size", "Tus-Checksum-Algorithm"} <= set(able.keys())
    made = page.fetch(
        "POST", "/uploads", **tus, Upload_Length=11, Upload_Metadata="filename aC50eHQ=", X_Request_ID="a"
    )
    assert made.status == 201
    assert {"Upload-Offset", "Upload-Expires", "Tus-Resumable", "X-Request-ID"} <= set(made.headers.keys())
    path = made.headers["Location"]
    sent = page.fetch(
        "PATCH", path, b"hello", **tus, Upload_Offset=0, Content_Type=TUS, Upload_Checksum=checksum(b"hello")
    )
    assert (sent.status, sent.headers["Upload-Offset"]) == (204, "5")
    wrong = page.fetch("PATCH", path, b"hello", **tus, Upload_Offset=0, Content_Type=TUS)
    assert (wrong.status, wrong.headers["Upload-Offset"]) == (409, "5")
    head = page.fetch("HEAD", path, **tus)
    assert {"Upload-Offset", "Upload-Length", "Upload-Metadata"} <= set(head.headers.keys())
    over = page.fetch(
        "POST", path, b" world", **tus, X_HTTP_Method_Override="PATCH", Upload_Offset=5, Content_Type=TUS
    )
    assert over.status == 204
    assert {"Content-Location", "Repr-Digest"} <= set(page.fetch("HEAD", path, **tus).headers.keys())
    old = page.fetch("HEAD", path, **tus | {"Tus_Resumable": "0.2"})
    assert (old.status, old.headers["Tus-Version"]) == (412, "1.0.0")
    later = page.fetch("POST", "/uploads", **tus, Upload_Defer_Length=1).headers["Location"]
    assert page.fetch("HEAD", later, **tus).headers["Upload-Defer-Length"] == "1"
    assert page.fetch("DELETE", path, **tus).status == 204


def test_a_page_uploads_by_the_draft(page: Page) -> None:
    """So it does by the IETF's draft."""
    sends: dict[str, Any] = {"Authorization": "Bearer all", "Upload_Draft_Interop_Version": 8}
    made = page.fetch("POST", "/uploads", b"hello", **sends, Upload_Complete="?0", Upload_Length=11)
    assert {"Location", "Upload-Offset", "Upload-Complete", "Upload-Limit"} <= set(made.headers.keys())
    path = made.headers["Location"]
    assert page.fetch("HEAD", path, **sends).headers["Upload-Offset"] == "5"
    done = page.fetch(
        "PATCH",
        path,
        b" world",
        **sends,
        Upload_Complete="?1",
        Upload_Offset=5,
        Content_Type="application/partial-upload",
        Want_Repr_Digest="sha-256=1",
    )
    assert done.status == 200
    assert {"Upload-Offset", "Upload-Complete", "Content-Location", "Repr-Digest"} <= set(done.headers.keys())


def test_a_page_of_an_unknown_site(config: Config, tmp_path: Path) -> None:
    """A page that is not allowed uploads nothing and learns nothing, whatever method it names."""
    page = Page(maker(config, tmp_path / "tokens")(cors_origins=(PAGE,)).app, "https://evil.example")
    tus: dict[str, Any] = {"Tus_Resumable": "1.0.0", "Authorization": "Bearer all"}
    for method in ("POST", "PATCH", "DELETE", "HEAD"):
        with pytest.raises(PermissionError):
            page.fetch(method, "/uploads", **tus, Upload_Length=1)
    # Not even where the browser asks for no permission.
    with pytest.raises(PermissionError):
        page.fetch("POST", "/uploads", b"x", Content_Type="text/plain")
