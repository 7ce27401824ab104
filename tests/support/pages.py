"""HTML documents as browsers load them."""

from collections.abc import Callable, Iterator, Mapping
from html.parser import HTMLParser
from urllib.parse import urljoin, urlsplit

from tests.support.wire import Connection, message

# The Accept field of a navigation in Firefox.
ACCEPT = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
# Requests a path with an Accept field; returns status, fields with names in lower case, and body.
Get = Callable[[str, str], tuple[int, Mapping[str, str], bytes]]


class Document(HTMLParser):
    """What an HTML document loads and holds."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.blocks: dict[str, str] = {}
        self._block: str | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep an element, and where a data block begins."""
        self.tags.append((tag, dict(attrs)))
        self._block = dict(attrs).get("id") if tag == "script" else None

    def handle_data(self, data: str) -> None:
        """Keep the text of a data block."""
        if self._block is not None:
            self.blocks[self._block] = self.blocks.get(self._block, "") + data

    def handle_endtag(self, tag: str) -> None:
        """The block ends."""
        self._block = None

    def loaded(self) -> Iterator[str]:
        """The URLs that a browser loads with the document."""
        for tag, attributes in self.tags:
            url = attributes.get("src") or (attributes.get("href") if tag == "link" else None)
            if url and not url.startswith("data:"):
                yield url


def require_page(get: Get, path: str, name: str = "a/b%2Fc") -> None:
    """Check that a browser that opens a path gets the page and finds all that it loads.

    The same holds for the page that says that a blob is missing, which the browser asked for by this name.
    """
    status, fields, body = get(path, ACCEPT)
    assert (status, fields["content-type"]) == (200, "text/html; charset=utf-8")
    urls = {urljoin(path, url) for url in Document(body.decode()).loaded()}
    assert urls
    for url in urls:
        status, fields, _ = get(url, "*/*")
        assert (status, fields["cache-control"]) == (200, "public, max-age=31536000, immutable"), url
    require_problem(get, f"{path.rstrip('/')}/{'0' * 64}/{name}")


def require_problem(get: Get, path: str) -> None:
    """Check that a browser that opens the URL of a missing blob gets a sentence, its style and a way home."""
    status, fields, body = get(path, ACCEPT)
    assert (status, fields["content-type"]) == (404, "text/html; charset=utf-8")
    document = Document(body.decode())
    (style,) = (urljoin(path, url) for url in document.loaded())
    assert get(style, "*/*")[0] == 200
    home = next(str(attributes["href"]) for tag, attributes in document.tags if tag == "a")
    status, fields, _ = get(urlsplit(urljoin(path, home)).path, ACCEPT)
    assert (status, fields["content-type"]) == (200, "text/html; charset=utf-8")


def over(port: int) -> Get:
    """A client that speaks to a port."""

    def get(path: str, accept: str) -> tuple[int, Mapping[str, str], bytes]:
        with Connection(port) as connection:
            return connection.ask(message("GET", path, Accept=accept))

    return get
