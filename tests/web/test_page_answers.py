"""Answers to a person without scripts: what became of a form, and problems as pages."""

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import pytest

from tests.support.access import ALL, KEY, line, soon
from tests.support.calling import Answer, Untouched, call, request
from tests.web.test_openapi import ERRORS
from wsgi_store import Signer, errors
from wsgi_store.access.grant import Grant
from wsgi_store.assembly import create_app
from wsgi_store.config import Config
from wsgi_store.web import page_text
from wsgi_store.web.application import Application
from wsgi_store.web.problems import fields_of, status_of

ACCEPT = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
HTML = {"HTTP_ACCEPT": ACCEPT}
MISSING = "/" + "0" * 64
DATA = b"hello"
HOSTILE = [
    "<script>alert(1)</script>.html",
    '"><img src=x onerror=alert(1)>.svg',
    "' onmouseover='alert(1)",
    "&lt;b&gt;&amp;",
    "javascript:alert(1)",
    "//evil.example/x",
    "{{files}}{{sentences}}",
    "..",
    ".",
    "%2e%2e",
    "a/../../b",
    "a?hash=b#c",
    "a\\b",
    "\u202egnp.exe",
    "\u0000",
    "\x7f\x1b[31m",
    "имя файла.txt",
    "x" * 3000,
    "ы" * 5000,
]


class Page(HTMLParser):
    """An HTML document: its elements, its text, its links."""

    def __init__(self, answer: Answer) -> None:
        super().__init__()
        assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "same-origin"
        policy = answer.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; style-src 'self'; img-src data:;")
        assert "frame-ancestors 'none'" in policy
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(answer.body.decode())
        attributes = {name for _, found in self.elements for name in found}
        # Nothing that a client sent becomes an element or an attribute.
        assert {tag for tag, _ in self.elements} <= set(
            "html head meta title link body header main section h1 p span a code dl dt dd".split()
        )
        assert attributes <= {*"lang charset name content rel href class aria-hidden data-text".split()}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep an element."""
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        """Keep the text."""
        self.text += data

    def links(self) -> list[str]:
        """The targets of its links."""
        return [str(found["href"]) for tag, found in self.elements if tag == "a"]

    def styles(self) -> list[str]:
        """The URLs of its style sheets."""
        return [str(found["href"]) for _, found in self.elements if found.get("rel") == "stylesheet"]


def send(application: Application, name: str = "a.txt", data: bytes = DATA, **extra: Any) -> Answer:
    """Send the plain form with one file, as a browser does."""
    body = b'--b\r\nContent-Disposition: form-data; name="file"; filename="' + name.encode() + b'"\r\n\r\n'
    form = {"body": body + data + b"\r\n--b--\r\n", "CONTENT_TYPE": "multipart/form-data; boundary=b"}
    return call(application, "POST", **{**form, **HTML, **extra})


def sentence(key: str, language: str = "en") -> str:
    """A sentence of the page."""
    return str(page_text.sentences(language)[key])


def test_a_form_is_answered_by_a_page(application: Application) -> None:
    """The page tells name, size and hash, and links to the file."""
    answer = send(application)
    page = Page(answer)
    stored = send(application, HTTP_ACCEPT=None).json
    assert answer.status == 200
    assert answer.headers["Location"] == stored["url"]
    assert sentence("answer.stored") in page.text
    for part in ("a.txt", stored["hash"], stored["algorithm"], "5"):
        assert part in page.text
    assert page.links() == [f"./{stored['hash']}/a.txt", ""]
    assert sentence("answer.held") in Page(send(application)).text
    assert sentence("answer.held", "ru") in Page(send(application, HTTP_ACCEPT_LANGUAGE="ru")).text
    assert sentence("answer.held", "ru") in Page(send(application, query="lang=ru")).text


def send_several(application: Application, *files: tuple[str, bytes], **extra: Any) -> Answer:
    """Send the plain form with several files, as a browser does."""
    body = b"".join(
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="%s"\r\n\r\n%s\r\n'
        % (name.encode(), data)
        for name, data in files
    )
    form = {"body": body + b"--b--\r\n", "CONTENT_TYPE": "multipart/form-data; boundary=b"}
    return call(application, "POST", **{**form, **HTML, **extra})


@pytest.mark.parametrize("language", page_text.LANGUAGES)
def test_several_files_are_answered_by_a_page(application: Application, language: str) -> None:
    """The page tells size and hash of each file, and links to it."""
    files = [("a.txt", DATA), ("b.txt", b"b"), ("..", DATA)]
    answer = send_several(application, *files, HTTP_ACCEPT_LANGUAGE=language)
    told = send_several(application, *files, HTTP_ACCEPT=None).json["files"]
    assert answer.status == 200
    assert "Location" not in answer.headers
    page = Page(answer)
    assert sentence("answer.all", language) in page.text
    hashes = [entry["hash"] for entry in told]
    assert page.links() == [f"./{hashes[0]}/a.txt", f"./{hashes[1]}/b.txt", f"./{hashes[2]}", ""]
    for text in (*hashes, "a.txt", "b.txt", f"{sentence('answer.size', language)}: 5"):
        assert text in page.text


@pytest.mark.parametrize("language", page_text.LANGUAGES)
def test_refused_files_are_answered_by_a_page(config: Config, language: str) -> None:
    """The page tells which files are stored, and why each of the others is not."""
    application = create_app(replace(config, max_size=5))
    answer = send_several(
        application, ("a.txt", DATA), ("", b"too long"), ("b", b"longer"), HTTP_ACCEPT_LANGUAGE=language
    )
    assert answer.status == 413
    page = Page(answer)
    for key in ("error.files_refused.what", "error.files_refused.next", "error.too_large.what"):
        assert sentence(key, language) in page.text
    hash_ = send(application, HTTP_ACCEPT=None).json["hash"]
    assert page.links() == [f"./{hash_}/a.txt", ""]
    for text in ("a.txt", "#2", "b", hash_, "files_refused"):
        assert text in page.text


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("data", [DATA, b"too long"])
def test_hostile_names_among_several(config: Config, name: str, data: bytes) -> None:
    """The names of files are text, whether they are stored or not."""
    application = create_app(replace(config, max_size=5))
    page = Page(send_several(application, (name.replace('"', "%22"), data), ("b", DATA)))
    assert name in page.text
    assert len(page.links()) == (3 if data is DATA else 2)


def test_the_plain_form_takes_several_files(application: Application) -> None:
    """Browsers let people choose several files; a ticket takes one (`test_a_ticket_without_scripts`)."""
    for query in ("", "lang=ru"):
        form = call(application, query=query, **HTML).body
        assert b'<input type="file" name="file" multiple required>' in form


@pytest.mark.parametrize("accept", [None, "*/*", "application/json", "text/html;q=0.5, application/json"])
def test_programs_get_json(application: Application, accept: str | None) -> None:
    """Forms of programs are answered as before, and so are their failures."""
    assert send(application, HTTP_ACCEPT=accept).json["name"] == "a.txt"
    answer = call(application, path=MISSING, HTTP_ACCEPT=accept)
    assert answer.headers["Content-Type"] == "application/problem+json"


def test_only_forms_are_answered_by_a_page(application: Application) -> None:
    """Some programs ask for HTML by default: what a browser would not send is answered in JSON."""
    for method in ("POST", "PUT"):
        assert call(application, method, body=DATA, **HTML).json["size"] == 5


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names(application: Application, name: str) -> None:
    """A file name is shown as text, and the link leads to the file, whatever the name."""
    page = Page(send(application, name.replace('"', "%22")))
    assert name in page.text
    there = urlsplit(urljoin("http://store.example/", page.links()[0]))
    assert (there.netloc, there.query, there.fragment) == ("store.example", "", "")
    assert len(there.path) < 8190
    answer = call(application, path=re.sub("%(..)", lambda match: chr(int(match[1], 16)), there.path))
    assert (answer.status, answer.body) == (200, DATA)


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_paths(application: Application, name: str) -> None:
    """A path without a route is answered by a page that does not repeat it as HTML."""
    raw = name.encode().decode("latin-1")[:2000]
    for path, query in ((f"/-/{raw}", ""), (f"{MISSING}/{raw}", ""), ("/", f"hash={raw}")):
        answer = call(application, path=path, query=query.replace("#", ""), **HTML)
        assert answer.status == 404
        Page(answer)


@pytest.mark.parametrize(
    "mount, path, target, browser",
    [
        ("", MISSING, MISSING, MISSING),
        ("", f"{MISSING}/a/b", f"{MISSING}/a/b", f"{MISSING}/a/b"),
        ("", f"{MISSING}/a/b", f"{MISSING}/a%2Fb", f"{MISSING}/a%2fb"),
        ("", f"{MISSING}/a/b", f"{MISSING}/a%2Fb?x=%2F", f"{MISSING}/a%2fb"),
        ("/files", f"{MISSING}/a", None, f"/files{MISSING}/a"),
        ("/files", f"{MISSING}/a", f"/behind/files{MISSING}/a", f"/behind/files{MISSING}/a"),
        ("", "/-/nowhere/", "/-/nowhere/", "/behind/-/nowhere/"),
        ("", "//", "//", "//"),
    ],
)
def test_urls_of_a_problem(
    application: Application, mount: str, path: str, target: str | None, browser: str
) -> None:
    """A problem at any depth finds its style and the way home, also behind a proxy that strips a prefix."""
    fields = {"SCRIPT_NAME": mount, "RAW_URI": target, **HTML}
    answer = call(application, "DELETE" if path == "//" else "GET", path, **fields)
    assert answer.status in (404, 405)
    page = Page(answer)
    home = browser[: -len(target.partition("?")[0] if target else path)] if path != "//" else ""
    home = home or mount
    home = "/behind/files" if browser.startswith("/behind/files") else home
    back = page.links()[0]
    if back:
        assert urljoin(f"http://h{browser}", back) == f"http://h{home}/"
    style = urljoin(f"http://h{browser}", page.styles()[0])
    assert style.startswith(f"http://h{home}/page/")
    assert call(application, path=style.removeprefix(f"http://h{home}")).status == 200


def failing(config: Config, error: errors.WSGIStoreError) -> Application:
    """A service whose every protected request fails in this way."""

    def authorize(_: Mapping[str, Any]) -> Grant:
        raise error

    return create_app(config, authorize)


@pytest.mark.parametrize("language", page_text.LANGUAGES)
def test_every_problem_is_a_sentence(config: Config, language: str) -> None:
    """Each failure is told in both languages, with the status and the fields that programs get."""
    for error in ERRORS:
        application = failing(config, error)
        answer = call(application, path=MISSING, HTTP_ACCEPT_LANGUAGE=language, **HTML)
        status, code = status_of(error)
        page = Page(answer)
        assert answer.status == status
        assert f'<html lang="{language}">' in answer.body.decode()
        for part in (sentence(f"error.{code}.what", language), sentence(f"error.{code}.next", language)):
            assert part in page.text
        for text in (error.message, code, answer.headers["X-Request-ID"]):
            assert text in page.text
        for field in fields_of(error):
            assert field in answer.headers.items()
        head = call(application, "HEAD", MISSING, HTTP_ACCEPT_LANGUAGE=language, **HTML)
        assert (head.status, head.body) == (status, b"")
        assert head.headers["Content-Length"] == str(len(answer.body))


def test_a_failure_of_a_host_application(config: Config) -> None:
    """A failure that has no sentence is told by its status and its message."""

    class Unpaid(errors.RequestError):
        """The host application wants money."""

        code, status = "unpaid", 402

    page = Page(call(failing(config, Unpaid("<b>pay</b> first")), path=MISSING, **HTML))
    assert "Payment Required" in page.text
    assert "<b>pay</b> first" in page.text


def test_the_page_of_a_problem_cannot_fail(application: Application, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the files of the page cannot be read, the problem is answered as for programs."""

    def unreadable(*_: object) -> str:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(page_text, "_translated", unreadable)
    answer = call(application, path=MISSING, **HTML)
    assert (answer.status, answer.json["code"]) == (404, "blob_not_found")


def test_off(config: Config) -> None:
    """Without the page nobody gets HTML."""
    application = create_app(replace(config, page=False))
    assert send(application).json["name"] == "a.txt"
    for method, path in (("GET", MISSING), ("GET", "/-/"), ("PATCH", "/"), ("POST", "/"), ("GET", "/files?")):
        answer = call(application, method, path, **HTML)
        assert "json" in answer.headers["Content-Type"]
        json.loads(answer.body)


def test_a_ticket_without_scripts(config: Config, tmp_path: Path) -> None:
    """A form keeps the ticket in its URL; a refused file leaves it unused, and then it is used up."""
    tokens = tmp_path / "tokens"
    tokens.write_text(line("all", ALL))
    application = create_app(replace(config, tokens=str(tokens), signing_keys=(KEY,)))
    query = f"ticket={Signer([KEY]).ticket(soon(), max_size=5)}"
    form = call(application, query=query, **HTML)
    assert form.status == 200
    assert b"action=" not in form.body
    assert b'<input type="file" name="file" required>' in form.body
    two = send_several(application, ("a", b"a"), ("b", b"b"), query=query)
    assert two.status == 400
    assert sentence("error.bad_request.what") in Page(two).text
    refused = send(application, data=b"too long", query=query)
    assert refused.status == 413
    assert Page(refused).links() == [""], "the way back keeps the ticket"
    page = Page(send(application, query=query))
    assert sentence("answer.stored") in page.text
    assert page.links() == [""], "who may not read gets no link"
    used = send(application, query=query)
    assert used.status == 403
    assert sentence("refused.used.what") in Page(used).text


def test_a_token_without_scripts(config: Config, tmp_path: Path) -> None:
    """A browser asks for the token in its own window, sends it as a password, and gets the answer."""
    tokens = tmp_path / "tokens"
    tokens.write_text(line("secret", "read,write"))
    application = create_app(replace(config, tokens=str(tokens)))
    basic = {"HTTP_AUTHORIZATION": f"Basic {base64.b64encode(b'me:secret').decode()}"}
    wrong = {"HTTP_AUTHORIZATION": f"Basic {base64.b64encode(b'me:wrong').decode()}"}
    for fields in ({}, wrong):
        answer = send(application, body=Untouched(b"x" * 99), CONTENT_LENGTH="99", **fields)
        assert answer.status == 401
        challenges = answer.headers.get_all("WWW-Authenticate")
        assert challenges == ['Bearer realm="wsgi_store"', 'Basic realm="wsgi_store"']
        assert sentence("error.unauthenticated.what") in Page(answer).text
        # The page itself opens with whatever the browser goes on sending.
        assert call(application, **HTML, **fields).status == 200
    page = Page(send(application, **basic))
    path = urljoin("/", page.links()[0])
    assert call(application, path=path, **HTML).status == 401
    assert call(application, path=path, **HTML, **basic).body == DATA


@pytest.mark.parametrize("accept", [None, ACCEPT])
def test_a_wrong_token_of_the_page(config: Config, tmp_path: Path, accept: str | None) -> None:
    """Scripts that sent a wrong token get no Basic challenge, which would open a window over the page."""
    tokens = tmp_path / "tokens"
    tokens.write_text(line("secret", "read"))
    application = create_app(replace(config, tokens=str(tokens)))
    for field in ("Bearer wrong", "bearer wrong", "Bearer", "BEARER  x"):
        answer = call(application, path=MISSING, HTTP_AUTHORIZATION=field, HTTP_ACCEPT=accept)
        assert answer.status == 401
        challenge = 'Bearer realm="wsgi_store", error="invalid_token"'
        assert answer.headers.get_all("WWW-Authenticate") == [challenge]


@pytest.mark.parametrize("page", [True, False])
def test_who_is_asked_for_a_password(config: Config, tmp_path: Path, page: bool) -> None:
    """Programs and plain forms get a Basic challenge, and scripts in a browser do not."""
    tokens = tmp_path / "tokens"
    tokens.write_text(line("secret", "read"))
    application = create_app(replace(config, tokens=str(tokens), page=page))
    own = {"HTTP_ORIGIN": "http://store.example", "HTTP_HOST": "store.example"}
    for fields, asked in (
        ({}, True),
        (HTML, True),
        (HTML | own, True),
        (own, False),
        (own | {"HTTP_ACCEPT": "*/*"}, False),
        (own | {"HTTP_ACCEPT": "application/json"}, False),
    ):
        for method, path in (("POST", "/"), ("POST", "/uploads"), ("GET", "/files")):
            answer = call(application, method, path, **fields)
            assert answer.status == 401
            challenges = answer.headers.get_all("WWW-Authenticate")
            assert challenges == ['Bearer realm="wsgi_store"', *['Basic realm="wsgi_store"'] * asked]
        # Views of a host application answer alike.
        of_view = application.problem(request(**fields), errors.Unauthenticated("who are you?"))
        assert [value for name, value in of_view.headers if name == "WWW-Authenticate"] == challenges


@pytest.mark.parametrize(
    "fields, status",
    [
        ({"HTTP_ORIGIN": "http://store.example", "HTTP_HOST": "store.example"}, 200),
        ({"HTTP_ORIGIN": "http://10.0.0.5:8000", "HTTP_HOST": "10.0.0.5:8000"}, 200),
        ({"HTTP_ORIGIN": "https://store.example", "HTTP_SEC_FETCH_SITE": "same-origin"}, 200),
        ({"HTTP_ORIGIN": "null", "HTTP_HOST": "store.example"}, 403),
        ({"HTTP_ORIGIN": "http://evil.example", "HTTP_HOST": "store.example"}, 403),
        ({"HTTP_ORIGIN": "http://store.example", "HTTP_SEC_FETCH_SITE": "cross-site"}, 403),
    ],
)
def test_forms_of_other_sites(application: Application, fields: dict[str, str], status: int) -> None:
    """The plain form works on plain HTTP, and a form of another site is refused with a page."""
    answer = send(application, **fields)
    assert answer.status == status
    key = "answer.stored" if status == 200 else "error.cross_origin.what"
    assert sentence(key) in Page(answer).text


def test_a_form_that_is_wrong(application: Application) -> None:
    """A form without a file, and one that breaks off, are told in sentences."""
    kind = {"CONTENT_TYPE": "multipart/form-data; boundary=b"}
    empty = b'--b\r\nContent-Disposition: form-data; name="file"; filename=""\r\n\r\n\r\n--b--\r\n'
    for body in (empty, empty[:-9]):
        answer = call(application, "POST", body=body, **kind, **HTML)
        assert answer.status == 400
        assert sentence("error.bad_request.what") in Page(answer).text
