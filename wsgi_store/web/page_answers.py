"""Answers that a person reads without scripts: what became of a form, and problems as sentences."""

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from wsgi_store.errors import FilesRefused, WSGIStoreError
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
    values = {
        "what": _sentence(request, "answer.stored" if told["created"] else "answer.held"),
        "size": told["size"],
        "algorithm": told["algorithm"],
        "hash": told["hash"],
    }
    return _answer(request, "stored.html", 200, fields, values, link=_link(request, told))


def stored_all(request: Request, files: Sequence[Mapping[str, object]]) -> Response:
    """Answer a form whose files are stored; `files` is what a program would be told."""
    values = {"what": _sentence(request, "answer.all")}
    return _answer(request, "stored-all.html", 200, [], values, rows=_rows(request, files))


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
    rows = _rows(request, failure.files) if isinstance(failure, FilesRefused) else ""
    return _answer(request, "problem.html", status, fields_of(failure), values, rows=rows)


def _answer(
    request: Request, name: str, status: int, fields: Headers, values: Mapping[str, object], **markup: str
) -> Response:
    places = {place: page_text.escaped(str(value)) for place, value in values.items()}
    places |= {"files": page_text.escaped(page.files_url(request)), **markup}
    language = page_text.language_of(request)
    content = page_text.filled(name, language, places)
    body = page_text.filled("answer.html", language, {**places, "content": content}).encode()
    return Response(body, status, [*OF_ANSWERS, *fields])


def _rows(request: Request, files: Sequence[Mapping[str, Any]]) -> str:
    """Return a list of files as HTML: the size and hash of each, or why it is not stored."""
    size = page_text.escaped(_sentence(request, "answer.size"))
    rows = []
    for number, told in enumerate(files, 1):
        if (error := told.get("error")) is not None:
            name = page_text.escaped(told.get("name", f"#{number}"))
            why = _sentence(request, f"error.{error['code']}.what", error["detail"])
            rows.append(f"<dt>{name}</dt>\n<dd>{page_text.escaped(why)}</dd>\n")
        else:
            facts = f"<dd>{size}: {told['size']}</dd>\n<dd><code>{told['hash']}</code></dd>\n"
            rows.append(f"<dt>{_link(request, told)}</dt>\n{facts}")
    return f"<dl>\n{''.join(rows)}</dl>\n"


def _link(request: Request, told: Mapping[str, object]) -> str:
    """Return the name of a stored file as HTML, with a link for whoever may read it."""
    hash_ = str(told["hash"])
    name = str(told.get("name", hash_))
    text = page_text.escaped(name)
    if not request.grant.may_read:
        return text
    url = f"{page.mount_url(request)}{hash_}{_named(name)}"
    return f'<a href="{page_text.escaped(url)}">{text}</a>'


def _sentence(request: Request, key: str, other: str = "") -> str:
    return str(page_text.sentences(page_text.language_of(request)).get(key, other))


def _named(name: str) -> str:
    quoted = quote(name, safe="", errors="replace")
    # Browsers take these segments for directories.
    return f"/{quoted}" if name not in (".", "..") and len(quoted) <= LONGEST_LINKED else ""
