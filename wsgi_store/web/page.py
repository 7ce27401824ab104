"""The page for people: one HTML document and the files that it loads."""

import gzip
import hashlib
import html
import json
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from werkzeug.datastructures import LanguageAccept, MIMEAccept
from werkzeug.http import parse_accept_header

from wsgi_store.errors import NotFound
from wsgi_store.web.request import Request
from wsgi_store.web.response import NO_SNIFFING, Headers, Response

FOLDER = Path(__file__).with_name("page")
KINDS = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
}
HTML = "index.html"
LANGUAGES = ("en", "ru")
FOREVER = ("Cache-Control", "public, max-age=31536000, immutable")
VARY = ("Vary", "Accept, Accept-Language")
POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; img-src 'self' blob: data:; "
    "media-src 'self' blob:; connect-src 'self'; worker-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types page"
)
# A worker has the policy of its own response.
PROTECTED: Headers = [NO_SNIFFING, ("Content-Security-Policy", POLICY)]
# `no-referrer` would make browsers send `Origin: null` with the plain form.
OF_DOCUMENT: Headers = [
    *PROTECTED,
    ("Referrer-Policy", "same-origin"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
]
TEXT = re.compile(r' data-(text|label|hint|title)="([a-z0-9_.-]+)"(>?)')
ATTRIBUTES = {"label": "aria-label", "hint": "placeholder", "title": "title"}


@dataclass(frozen=True, slots=True)
class File:
    """A file that the page loads."""

    kind: str
    plain: bytes
    packed: bytes


# Read at the first request: most processes never need them.
@lru_cache(1)
def files() -> tuple[str, dict[str, File]]:
    """Return the files that the page loads by their names, and one hash of all."""
    found = {}
    version = hashlib.sha256()
    for path in sorted(FOLDER.rglob("*")):
        if (kind := KINDS.get(path.suffix)) is not None:
            data, name = path.read_bytes(), path.relative_to(FOLDER).as_posix()
            found[name] = File(kind, data, gzip.compress(data, mtime=0))
            version.update(f"{name} {len(data)}\n".encode() + data)
    return version.hexdigest()[:16], found


def file(request: Request, version: str, name: str) -> Response:
    """Send a file that the page loads; its URL changes with its bytes. Raises NotFound."""
    current, found = files()
    one = found.get(name)
    if not request.config.page or version != current or one is None:
        raise NotFound("there is no such file of the page")
    fields = [("Content-Type", one.kind), FOREVER, ("Vary", "Accept-Encoding"), *PROTECTED]
    if "gzip" in request.environ.get("HTTP_ACCEPT_ENCODING", ""):
        return Response(one.packed, 200, [*fields, ("Content-Encoding", "gzip")])
    return Response(one.plain, 200, fields)


def is_wanted(request: Request) -> bool:
    """Whether the caller would rather have the page than JSON."""
    return request.config.page and _prefers_html(request.accept)


def document(request: Request, service: object) -> Response:
    """Send the page; `service` describes the service to its scripts."""
    language = request.args.get("lang", "")
    if language not in LANGUAGES:
        asked = parse_accept_header(request.environ.get("HTTP_ACCEPT_LANGUAGE"), LanguageAccept)
        language = asked.best_match(LANGUAGES, "en")
    version, found = files()
    # Relative, because a proxy may have removed a prefix from the path.
    last = "" if request.environ.get("PATH_INFO") else request.mount.rpartition("/")[2] + "/"
    body = (
        _translated(language)
        .replace("{{files}}", html.escape(f"{last}page/{version}/"))
        .replace("{{service}}", _embedded(json.dumps(service)))
        .replace("{{sentences}}", _embedded(found[f"{language}.json"].plain.decode()))
        .encode()
    )
    fields = [("Content-Type", "text/html; charset=utf-8"), ("Cache-Control", "no-cache"), VARY]
    return Response(body, 200, [*fields, *OF_DOCUMENT])


@lru_cache(len(LANGUAGES))
def _translated(language: str) -> str:
    sentences = json.loads(files()[1][f"{language}.json"].plain)

    def fill(match: re.Match[str]) -> str:
        text = html.escape(str(sentences[match[2]]))
        if match[1] == "text":
            return match[0] + text
        return f' {ATTRIBUTES[match[1]]}="{text}"{match[0]}'

    source = (FOLDER / HTML).read_text().replace('<html lang="en"', f'<html lang="{language}"')
    return TEXT.sub(fill, source)


def _embedded(document_: str) -> str:
    """Return a JSON document that cannot end the element around it."""
    return document_.replace("<", "\\u003c")


# Parsing takes as long as a small answer, and clients send few different values.
@lru_cache(64)
def _prefers_html(accept: str) -> bool:
    # Without a field, or for `*/*`, the first is chosen.
    asked = parse_accept_header(accept, MIMEAccept)
    return "text/html" in accept.lower() and asked["text/html"] >= max(asked["application/json"], 0.001)
