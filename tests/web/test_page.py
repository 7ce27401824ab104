"""The page for people: who gets it, its URLs, its fields and its cost."""

import gzip
import json
import re
import time
from collections.abc import Mapping
from dataclasses import replace
from html import unescape
from typing import Any
from urllib.parse import parse_qs, quote, urljoin, urlsplit

import pytest

from tests.support.access import ALL, line, soon
from tests.support.calling import Answer, call
from tests.support.pages import Document
from wsgi_store import Signer
from wsgi_store.access.grant import Grant
from wsgi_store.assembly import create_app
from wsgi_store.config import Config
from wsgi_store.errors import Unauthenticated
from wsgi_store.web import page, page_text
from wsgi_store.web.application import Application

# Accept fields of navigations: Chromium, Firefox, Safari, Lynx and w3m.
BROWSERS = [
    "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8,"
    "application/signed-exchange;v=b3;q=0.7",
    "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "text/html, text/plain, text/sgml, text/css, application/xhtml+xml, */*;q=0.01",
    "text/html, text/*;q=0.5, image/*, application/*, audio/*, */*;q=0.3",
    "TEXT/HTML",
    "text/html;charset=utf-8",
    "text/html, application/json",
    "application/json;q=0.9, text/html",
]
PROGRAMS = [
    None,
    "",
    "*/*",
    "text/*",
    "application/json",
    "application/json, text/html;q=0.9",
    "application/json, text/plain, */*",
    "application/problem+json, text/html;q=0.9",
    "text/plain, text/html;q=0.5",
    "text/html;q=0",
    "text/htmlx",
    "image/avif,image/webp,*/*",
    "text/html;q=x",
    ",;=",
]
HTML = {"HTTP_ACCEPT": BROWSERS[0]}


def opened(application: Application, query: str = "", **extra: str | None) -> Answer:
    """The page, as a browser asks for it."""
    answer = call(application, query=query, **{**HTML, **extra})
    assert (answer.status, answer.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    return answer


@pytest.mark.parametrize("accept", BROWSERS)
def test_browsers_get_the_page(application: Application, accept: str) -> None:
    """Whoever asks for HTML before anything else gets the page."""
    for method in ("GET", "HEAD"):
        answer = call(application, method, HTTP_ACCEPT=accept)
        assert answer.status == 200
        assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
        assert answer.headers["Vary"] == "Accept-Encoding, Accept, Accept-Language"


@pytest.mark.parametrize("accept", PROGRAMS)
def test_programs_get_json(application: Application, accept: str | None) -> None:
    """Everybody else gets the description, and caches learn what chose it."""
    answer = call(application, HTTP_ACCEPT=accept)
    assert answer.json["service"] == "wsgi_store"
    assert answer.headers["Vary"] == "Accept, Accept-Language"
    assert answer.headers["Cache-Control"] == "no-store"


def test_off(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the page there is no HTML, no route and no Vary, and it is never read."""
    version, found = page._files()  # pylint: disable=protected-access
    monkeypatch.setattr(page, "_files", None)
    application = create_app(replace(config, page=False))
    answer = call(application, **HTML)
    assert answer.json["service"] == "wsgi_store"
    assert "Vary" not in answer.headers
    missing = call(application, "GET", "/-/nowhere", **HTML)
    for name in found:
        for method in ("GET", "HEAD", "PUT", "DELETE"):
            answer = call(application, method, f"/page/{version}/{name}", **HTML)
            assert (answer.status, answer.headers["Content-Type"]) == (404, "application/problem+json")
            assert method == "HEAD" or answer.json == missing.json
    options = call(application, "OPTIONS", f"/page/{version}/app.css")
    assert options.headers["Allow"] == call(application, "OPTIONS", "/-/nowhere").headers["Allow"]


def test_a_fresh_copy_is_not_sent_again(application: Application) -> None:
    """The page has a strong entity tag for each of its forms, and conditions are evaluated."""
    tags = set()
    for language in ("en", "ru"):
        for coding in ("", "gzip"):
            fields = {"HTTP_ACCEPT_ENCODING": coding, "HTTP_ACCEPT_LANGUAGE": language}
            first = opened(application, **fields)
            tag = first.headers["ETag"]
            assert re.fullmatch('"[0-9a-f]{64}"', tag)
            tags.add(tag)
            assert first.headers["Cache-Control"] == "private, no-cache"
            again = call(application, HTTP_IF_NONE_MATCH=f'"x", {tag}', **HTML, **fields)
            assert (again.status, again.body) == (304, b"")
            for name in ("ETag", "Cache-Control", "Vary", "Content-Security-Policy"):
                assert again.headers[name] == first.headers[name]
            assert "Content-Type" not in again.headers
            assert opened(application, HTTP_IF_NONE_MATCH='"x"', **fields).body == first.body
            assert call(application, HTTP_IF_MATCH='"x"', **HTML, **fields).status == 412
    assert len(tags) == 4


@pytest.mark.parametrize(
    "coding, packed",
    [
        ("gzip, deflate, br, zstd", True),
        ("GZIP", True),
        ("gzip;q=0.5", True),
        ("*", True),
        ("gzip;q=0, *", False),
        ("gzip;q=0", False),
        ("br", False),
        ("", False),
        (None, False),
        ("gzipped", False),
    ],
)
def test_compression(application: Application, coding: str | None, packed: bool) -> None:
    """The page and its files are compressed for whoever accepts that."""
    urls = [urljoin("/", url) for url in Document(opened(application).body.decode()).loaded()]
    for path in ["/", "/openapi.json", *urls]:
        plain = call(application, path=path, **HTML)
        answer = call(application, path=path, HTTP_ACCEPT_ENCODING=coding, **HTML)
        assert ("Content-Encoding" in answer.headers) is packed
        assert (gzip.decompress(answer.body) if packed else answer.body) == plain.body
        assert "Accept-Encoding" in answer.headers["Vary"]
        head = call(application, "HEAD", path, HTTP_ACCEPT_ENCODING=coding, **HTML)
        assert head.headers["Content-Length"] == str(len(answer.body))
        assert head.headers["ETag"] == answer.headers["ETag"]


@pytest.mark.parametrize(
    "mount, path, prefix",
    [
        ("", "/", ""),
        ("", "", ""),
        ("/files", "/", ""),
        ("/files", "", ""),
        ("/a/b c", "", ""),
        ("/a/b c", "/", ""),
        ("", "/", "/behind/a/proxy"),
        ("/files", "/", "/behind"),
        ("/files", "", "/behind"),
        ('/"><b>', "", ""),
        ("", "////", ""),
    ],
)
def test_urls_work_under_any_mount(application: Application, mount: str, path: str, prefix: str) -> None:
    """A browser finds the files wherever the application is mounted, and whatever a proxy removed."""
    answer = opened(application, SCRIPT_NAME=mount, PATH_INFO=path)
    document = Document(answer.body.decode())
    base = f"http://store.example{prefix}{mount.replace(' ', '%20')}{path}" or "/"
    below = f"http://store.example{prefix}{page_text.escaped(mount).replace(' ', '%20')}/page/"
    loaded = list(document.loaded())
    assert loaded
    for url in loaded:
        there = urljoin(base, url).replace("%22%3E%3Cb%3E", page_text.escaped('"><b>'))
        assert there.startswith(below), (url, there)
        name = "/page/" + there.removeprefix(below)
        file = call(application, path=name)
        assert (file.status, file.headers["Cache-Control"]) == (200, "public, max-age=31536000, immutable")
    forms = [attributes for tag, attributes in document.tags if tag == "form"]
    assert all("action" not in form for form in forms), "a form keeps the ticket in the URL"


def test_files(application: Application) -> None:
    """Each file has its media type and the policy of the page; a wrong hash or name is 404."""
    version, found = page._files()  # pylint: disable=protected-access
    assert {"main.js", "app.css", "en.json", "ru.json"} <= found.keys()
    assert "index.html" not in found
    kinds = {"js": "text/javascript; charset=utf-8", "css": "text/css; charset=utf-8"}
    for name in found:
        answer = call(application, path=f"/page/{version}/{name}")
        kind = kinds.get(name.rpartition(".")[2], "application/json")
        assert (answer.status, answer.headers["Content-Type"]) == (200, kind)
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Content-Security-Policy"] == page.POLICY
        tag = answer.headers["ETag"]
        assert call(application, path=f"/page/{version}/{name}", HTTP_IF_NONE_MATCH=tag).status == 304
    for path in (
        f"/page/{'0' * 16}/main.js",
        f"/page/{version}/index.html",
        f"/page/{version}/../page.py",
        f"/page/{version}/../../page.py",
        f"/page/{version}//main.js",
        f"/page/{version}/main.js/",
        f"/page/{version}/%2e%2e/page.py",
        f"/page/{version}/",
        f"/page/{version}",
        "/page/",
        "/page",
    ):
        answer = call(application, path=path)
        assert (answer.status, answer.json["code"]) == (404, "not_found"), path
        assert answer.headers["Cache-Control"] == "no-store"
    assert call(application, "POST", f"/page/{version}/main.js").status == 405


def test_policy(application: Application) -> None:
    """The policy of the page needs no unsafe source, and forbids frames and all unchecked scripts."""
    fields = opened(application).headers
    policy = dict(part.split(" ", 1) for part in fields["Content-Security-Policy"].split("; "))
    assert policy == {
        "default-src": "'none'",
        "script-src": "'self' 'wasm-unsafe-eval'",
        "style-src": "'self'",
        "img-src": "'self' blob: data:",
        "media-src": "'self' blob:",
        "connect-src": "'self'",
        "worker-src": "'self'",
        "form-action": "'self'",
        "base-uri": "'none'",
        "frame-ancestors": "'none'",
        "require-trusted-types-for": "'script'",
        "trusted-types": "page",
    }
    assert fields["Referrer-Policy"] == "same-origin"
    assert fields["Cross-Origin-Opener-Policy"] == "same-origin"
    assert fields["X-Content-Type-Options"] == "nosniff"


def test_the_documents_obey_the_policy() -> None:
    """No HTML file has a script, a style or a handler of its own, or loads anything from elsewhere."""
    for path in page_text.FOLDER.glob("*.html"):
        document = Document(path.read_text(encoding="utf-8"))
        for tag, attributes in document.tags:
            assert tag != "style" and "style" not in attributes
            assert not [name for name in attributes if name.startswith("on")], (path.name, tag)
            if tag == "script":
                assert attributes.get("src") or attributes["type"] == "application/json"
        for url in document.loaded():
            assert url.startswith("{{files}}"), url


@pytest.mark.parametrize(
    "query, accepted, language",
    [
        ("", None, "en"),
        ("", "ru", "ru"),
        ("", "ru-RU,ru;q=0.9,en-US;q=0.8,en;q=0.7", "ru"),
        ("", "en-US,en;q=0.5", "en"),
        ("", "de,fr;q=0.9,ru;q=0.2", "ru"),
        ("", "de", "en"),
        ("", "*", "en"),
        ("", ";;,=", "en"),
        ("lang=ru", "en", "ru"),
        ("lang=en", "ru", "en"),
        ("lang=xx", "ru", "ru"),
        ("lang=%3Cb%3E", None, "en"),
        ("lang=../en", "ru", "ru"),
        ("ticket=x&lang=ru", None, "ru"),
    ],
)
def test_language(application: Application, query: str, accepted: str | None, language: str) -> None:
    """The query decides the language, then what the browser prefers."""
    text = opened(application, query, HTTP_ACCEPT_LANGUAGE=accepted).body.decode()
    assert f'<html lang="{language}"' in text
    sentences = json.loads((page_text.FOLDER / f"{language}.json").read_text(encoding="utf-8"))
    document = Document(text)
    assert json.loads(document.blocks["sentences"]) == sentences
    assert f'<title data-text="page.title">{sentences["page.title"]}</title>' in unescape(text)
    assert "{{" not in text


@pytest.mark.parametrize("language", page_text.LANGUAGES)
def test_every_sentence_of_a_document_is_put_in(language: str) -> None:
    """Each `data-…` of each HTML file names a sentence, which the server puts where it belongs."""
    sentences = page_text.sentences(language)
    for path in page_text.FOLDER.glob("*.html"):
        source = path.read_text(encoding="utf-8")
        values = {name: "" for name in page_text.PLACE.findall(source)}
        text = page_text.filled(path.name, language, values)
        for where, key in re.findall(r'data-(text|label|hint|title)="([^"]*)"', source):
            sentence = page_text.escaped(sentences[key])
            if where == "text":
                assert re.search(rf'data-text="{key}"[^<>]*>{re.escape(sentence)}<', text), key
            else:
                assert f'{page_text.ATTRIBUTES[where]}="{sentence}"' in text, key


def test_the_scripts_learn_what_programs_do(application: Application) -> None:
    """The page has the description of the service, so that its scripts need not ask."""
    text = opened(application, SCRIPT_NAME="/</script><script>").body.decode()
    document = Document(text)
    told = call(application, SCRIPT_NAME="/</script><script>").json
    assert json.loads(document.blocks["service"]) == {**told, "everybody": told["scopes"]}
    for block in ("service", "sentences"):
        assert "<" not in document.blocks[block]
    assert page_text.embedded('"</script><!--"') == r'"\u003c/script>\u003c!--"'


def test_refused_credentials_open_the_page(config: Config, tmp_path_factory: pytest.TempPathFactory) -> None:
    """With a wrong token or password, or a ticket (which takes one file), everybody gets the same page."""
    tokens = tmp_path_factory.mktemp("access") / "tokens"
    tokens.write_text(line("all", ALL))
    application = create_app(replace(config, tokens=str(tokens), signing_keys=("k" * 32,)))
    first = opened(application)
    assert opened(application, HTTP_AUTHORIZATION="Bearer wrong").body == first.body
    assert opened(application, HTTP_AUTHORIZATION="Basic Ong=").body == first.body
    told = json.loads(
        Document(opened(application, HTTP_AUTHORIZATION="Bearer all").body.decode()).blocks["service"]
    )
    assert (told["scopes"], told["everybody"]) == (sorted(ALL.split(",")), [])
    ticket = Signer(["k" * 32]).ticket(soon())
    with_ticket = opened(application, query=f"ticket={ticket}").body.replace(
        f"&amp;ticket={ticket}".encode(), b""
    )
    assert with_ticket == first.body.replace(b' name="file" multiple', b' name="file"')


def by_cookie(environ: Mapping[str, Any]) -> Grant:
    """What a host application permits, which knows its people by a cookie."""
    if environ.get("HTTP_COOKIE") == "user=ann":
        return Grant(frozenset({"read", "write"}), name="ann")
    raise Unauthenticated("sign in first")


def test_a_host_application_with_cookies(config: Config) -> None:
    """The page knows what the person may do by a cookie, and what everybody may do."""
    application = create_app(config, by_cookie)
    for cookie, scopes in [("user=ann", ["read", "write"]), ("user=bob", [])]:
        page_ = Document(opened(application, HTTP_COOKIE=cookie).body.decode())
        told = json.loads(page_.blocks["service"])
        assert (told["scopes"], told["everybody"]) == (scopes, [])
    cookie = {"HTTP_COOKIE": "user=ann"}
    for fields in ({"HTTP_ORIGIN": "http://evil.example"}, {"HTTP_SEC_FETCH_SITE": "same-site"}):
        for method, path in [("POST", "/"), ("POST", "/uploads"), ("PUT", "/a"), ("DELETE", f"/{'0' * 64}")]:
            refused = call(application, method, path, **cookie, **fields)
            assert (refused.status, refused.json["code"]) == (403, "cross_origin")


def test_no_window_for_a_password(config: Config) -> None:
    """A script that says what it is gets no Basic challenge, which would open a window of the browser."""
    application = create_app(config, by_cookie)
    for method, path in [("GET", "/files"), ("HEAD", f"/{'0' * 64}"), ("GET", f"/uploads/{'0' * 32}")]:
        script = call(application, method, path, HTTP_X_REQUESTED_WITH="XMLHttpRequest")
        person = call(application, method, path)
        assert script.headers.getlist("WWW-Authenticate") == person.headers.getlist("WWW-Authenticate")[:1]
        assert len(person.headers.getlist("WWW-Authenticate")) == 2


@pytest.mark.parametrize("ticket", ["a.b-c_d", "a&b=c", '"><b>', "%ff", ""])
def test_links_to_other_languages_keep_a_ticket(application: Application, ticket: str) -> None:
    """Without scripts a ticket is not lost with the language."""
    document = Document(opened(application, f"ticket={quote(ticket)}").body.decode())
    links = [str(attributes["href"]) for _, attributes in document.tags if "hreflang" in attributes]
    assert [parse_qs(urlsplit(link).query, keep_blank_values=True) for link in links] == [
        {"lang": [language], "ticket": [ticket]} for language in page_text.LANGUAGES
    ]


def test_hostile_lengths(application: Application) -> None:
    """Long fields and paths cost little time."""
    for unit in ("text/html,", "ru,", "gzip,", "a;q=0.1,", ";", "=", '"', "/"):
        begin = time.thread_time()
        for _ in range(3):
            call(application, HTTP_ACCEPT=f"text/html,{unit * 800}", HTTP_ACCEPT_LANGUAGE=unit * 9000)
            opened(application, HTTP_ACCEPT_ENCODING=unit * 9000, PATH_INFO="/" * 8000)
        assert time.thread_time() - begin < 1
