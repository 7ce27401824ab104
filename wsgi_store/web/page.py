"""The page for people: one HTML document and the files that it loads."""

import hashlib
import json
import re
from functools import lru_cache
from urllib.parse import quote

from werkzeug.wrappers import Request as Fields

from wsgi_store.errors import NotFound
from wsgi_store.web import page_text
from wsgi_store.web.document import Document
from wsgi_store.web.request import Request
from wsgi_store.web.response import Headers, Response

KINDS = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
}
# A quarter of what the scripts would take: comments that begin a line, but not those of vendored files.
COMMENTS = re.compile(rb"^[ \t]*(//[^\n]*|/\*\*.*?\*/)", re.MULTILINE | re.DOTALL)
HTML = "text/html; charset=utf-8"
# What clients may rather have than the page.
OTHERS = ("application/json", "application/problem+json", "text/plain")
# The fields that choose between the page and JSON, and the language.
VARY = ("Accept", "Accept-Language")
POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; img-src 'self' blob: data:; "
    "media-src 'self' blob:; connect-src 'self'; worker-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types page"
)
OF_FILES: Headers = [
    ("Cache-Control", "public, max-age=31536000, immutable"),
    # A worker has the policy of its own response.
    ("Content-Security-Policy", POLICY),
]
# `no-referrer` would make browsers send `Origin: null` with the plain form.
ISOLATED: Headers = [("Referrer-Policy", "same-origin"), ("Cross-Origin-Opener-Policy", "same-origin")]
OF_PAGE: Headers = [
    # It says what its visitor may do, perhaps by a cookie.
    ("Cache-Control", "private, no-cache"),
    ("Content-Security-Policy", POLICY),
    *ISOLATED,
]


def is_wanted(request: Request) -> bool:
    """Return whether a person reads the answer: whether the caller asks for HTML before anything else."""
    return request.config.page and prefers_html(request.accept)


def index(request: Request, service: object) -> Response:
    """Send the page; `service` describes the service to its scripts. Raises PreconditionFailed."""
    ticket = request.args.get("ticket")
    # The links to other languages keep it.
    kept = "" if ticket is None else f"&ticket={quote(ticket)}"
    document = _page(page_text.language_of(request), files_url(request), json.dumps(service), kept)
    return document.answer(request, OF_PAGE, VARY)


def file(request: Request, version: str, name: str) -> Response:
    """Send a file that the page loads, whose URL changes with its bytes.

    Raises NotFound and PreconditionFailed.
    """
    current, found = _files()
    if version != current or name not in found:
        raise NotFound("the page has no such file")
    return found[name].answer(request, OF_FILES)


def mount_url(request: Request) -> str:
    """Return the URL of the mount point, relative to the URL that the browser asked for.

    A proxy in front may have removed a prefix that nobody here knows.
    """
    path: str = request.environ.get("PATH_INFO", "")
    if not path:
        last = request.mount.rpartition("/")[2]
        return f"{last}/" if last else "./"
    target: str = request.environ.get("RAW_URI") or request.environ.get("REQUEST_URI") or ""
    # To a browser a quoted slash ends no segment.
    quoted = target.partition("?")[0].lower().count("%2f")
    return "../" * (path.count("/") - 1 - quoted) or "./"


def files_url(request: Request) -> str:
    """Return the relative URL of the folder with the files that the page loads."""
    return f"{mount_url(request)}page/{_files()[0]}/"


# Read at the first request: most processes never need them.
@lru_cache(1)
def _files() -> tuple[str, dict[str, Document]]:
    """Return one hash of all files that the page loads, and the files by their names."""
    found = {}
    version = hashlib.sha256()
    for path in sorted(page_text.FOLDER.rglob("*")):
        if (kind := KINDS.get(path.suffix)) is not None:
            data, name = path.read_bytes(), path.relative_to(page_text.FOLDER).as_posix()
            if name.endswith(".js") and "/" not in name:
                data = _without_comments(data)
            found[name] = Document(kind, data)
            version.update(f"{name} {len(data)}\n".encode() + data)
    return version.hexdigest()[:16], found


def _without_comments(script: bytes) -> bytes:
    # The lines stay, because errors tell their numbers.
    return COMMENTS.sub(lambda comment: b"\n" * comment[0].count(b"\n"), script)


# One for each language; the rest rarely changes.
@lru_cache(16)
def _page(language: str, files: str, service: str, ticket: str) -> Document:
    sentences = json.dumps(page_text.sentences(language), ensure_ascii=False, separators=(",", ":"))
    values = {
        "files": page_text.escaped(files),
        "ticket": page_text.escaped(ticket),
        # A ticket is for one file.
        "multiple": "" if ticket else " multiple",
        "service": page_text.embedded(service),
        "sentences": page_text.embedded(sentences),
    }
    return Document(HTML, page_text.filled("index.html", language, values).encode())


# Parsing takes as long as a small answer, and clients send few different values.
@lru_cache(64)
def prefers_html(accept: str) -> bool:
    """Return whether an Accept field asks for HTML before anything else."""
    # Programs that name no type, or send `*/*`, get JSON.
    if "text/html" not in accept.lower():
        return False
    asked = Fields({"HTTP_ACCEPT": accept}).accept_mimetypes
    # Also with its parameter, which a client may name.
    html = max(asked["text/html"], asked[HTML])
    return html > 0 and all(html >= asked[other] for other in OTHERS)
