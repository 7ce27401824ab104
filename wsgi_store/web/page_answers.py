"""Answers that a person reads without scripts: what became of a form, and problems as sentences."""

from collections.abc import Mapping
from urllib.parse import quote

from wsgi_store.errors import WSGIStoreError
from wsgi_store.web import page, page_text
from wsgi_store.web.problems import fields_of, status_of
from wsgi_store.web.request import Request
from wsgi_store.web.response import NO_SNIFFING, PHRASES, Headers, Response

# These documents need no scripts, and text of clients stands in them.
POLICY = (
    "default-src 'none'; style-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
OF_ANSWERS: Headers = [
    ("Content-Type", page.HTML),
    ("Cache-Control", "no-store"),
    NO_SNIFFING,
    ("Content-Security-Policy", POLICY),
    *page.ISOLATED,
]
# Characters of a file name that fit into a request line once they are quoted.
LONGEST_LINKED = 2000


def stored(request: Request, told: Mapping[str, object], fields: Headers) -> Response:
    """Answer a form whose file is stored; `told` is what a program would be told."""
    hash_ = str(told["hash"])
    name = str(told.get("name", hash_))
    link = page_text.escaped(name)
    if request.grant.may_read:
        url = f"{page.mount_url(request)}{hash_}{_named(name)}"
        link = f'<a href="{page_text.escaped(url)}">{link}</a>'
    values = {
        "what": _sentence(request, "answer.stored" if told["created"] else "answer.held"),
        "size": told["size"],
        "algorithm": told["algorithm"],
        "hash": hash_,
    }
    return _answer(request, "stored.html", 200, fields, values, link=link)


def problem(request: Request, failure: WSGIStoreError) -> Response:
    """Answer with the sentence for a failure, and its status and fields."""
    status, code = status_of(failure)
    # Links and tickets are refused for reasons of their own.
    refused = f"refused.{failure.evidence.get('reason')}"
    at_home = request.path == "/" and "hash" not in request.args
    values = {
        # A host application may have failures of its own.
        "what": _sentence(
            request, f"{refused}.what", _sentence(request, f"error.{code}.what", PHRASES[status])
        ),
        "next": _sentence(request, f"{refused}.next", _sentence(request, f"error.{code}.next")),
        "detail": failure.message,
        "status": status,
        "code": code,
        "request": request.exchange.request_id,
        # The same URL keeps a ticket and the language.
        "back": "" if at_home else page.mount_url(request),
    }
    return _answer(request, "problem.html", status, fields_of(failure), values)


def _answer(
    request: Request, name: str, status: int, fields: Headers, values: Mapping[str, object], **markup: str
) -> Response:
    places = {place: page_text.escaped(str(value)) for place, value in values.items()}
    places |= {"files": page_text.escaped(page.files_url(request)), **markup}
    language = page_text.language_of(request)
    content = page_text.filled(name, language, places)
    body = page_text.filled("answer.html", language, {**places, "content": content}).encode()
    return Response(body, status, [*OF_ANSWERS, *fields])


def _sentence(request: Request, key: str, other: str = "") -> str:
    return str(page_text.sentences(page_text.language_of(request)).get(key, other))


def _named(name: str) -> str:
    quoted = quote(name, safe="", errors="replace")
    # Browsers take these segments for directories.
    return f"/{quoted}" if name not in (".", "..") and len(quoted) <= LONGEST_LINKED else ""
