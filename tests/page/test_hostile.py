"""Names and files of strangers do nothing on the page, nor behind their links."""

import json
import urllib.request
from collections.abc import Iterator
from hashlib import sha256
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from tests.support.browsers import Profile, Tab
from tests.support.pictures import png
from tests.support.servers import Server, gunicorn

pytestmark = pytest.mark.clients

# What a script does that must not run.
HURT = "try { localStorage.hurt = parent.hurt = globalThis.hurt = 1; } catch {} alert('hurt')"
NAMES = [
    f"<script>{HURT}</script>.txt",
    f'<img src=x onerror="{HURT}">.txt',
    f'" onerror="{HURT}" x=".txt',
    f"javascript:{HURT}",
    f"data:text/html,<script>{HURT}</script>",
    "//evil.example/x.txt",
    "https://evil.example/x.txt",
    "../../../etc/passwd",
    "..",
    ".",
    " ",
    ".hidden",
    "a//b/./c/../d.txt",
    "%2e%2e/%2f%5c.txt",
    "a\\b\\c.txt",
    "CON",
    "nul.txt",
    "dots...",
    "space ",
    "photo\u202egnp.exe",
    "right\u202eto\u2066left.txt",
    "a\u0000b\r\nSet-Cookie: c=d",
    "line\nbreak\rand\ttab.txt",
    "lone\ud800.txt",
    "?link=x&hash=y#z%00.txt",
    "x" * 10_000 + ".txt",
    "ж" * 10_000 + ".txt",
    "🧨" * 60 + ".txt",
    "e\u0301" * 100,
    "{name} {{files}} $& $1 &lt;b&gt; \\u003c",
    "__proto__",
    "constructor",
    "folder name/имя файла.txt",
]
# Each name as its numbers: JSON has no half of a pair.
GIVE = """(names) => {
    const dataTransfer = new DataTransfer();
    for (const [index, name] of names.entries()) {
        dataTransfer.items.add(new File([`file ${index}`], String.fromCodePoint(...name)));
    }
    dispatchEvent(new DragEvent("drop", { dataTransfer, cancelable: true }));
}"""
LINES = """() => [...document.querySelectorAll("#queue li[data-hash]")].map((line) => {
    const name = line.querySelector(".file-name").textContent;
    return { hash: line.dataset.hash, name, href: line.querySelector("a").href };
})"""
COUNT = "(selector, count) => document.querySelectorAll(selector).length === count"


@pytest.fixture(name="server", scope="module")
def fixture_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """An open service."""
    with gunicorn(tmp_path_factory.mktemp("service")) as server:
        yield server


@pytest.fixture(name="tab")
def fixture_tab(profile: Profile, server: Server) -> Iterator[Tab]:
    """The page; at the end no script of a stranger has run in it, nor in another tab of its site."""
    tab = profile.tab(f"http://127.0.0.1:{server.port}/")
    yield tab
    assert tab.js("() => !('hurt' in globalThis) && !('hurt' in localStorage) && document.cookie === ''")


def test_names(tab: Tab, server: Server) -> None:
    """A name is text, and its link leads to the file and nowhere else."""
    tab.js(GIVE, [[ord(letter) for letter in name] for name in NAMES])
    tab.until_text(f"{len(NAMES)} files stored", "#queue-facts")
    tab.until(COUNT, "#queue li[data-hash]", len(NAMES))
    lines: list[dict[str, Any]] = tab.js(LINES)
    assert len({line["hash"] for line in lines}) == len(NAMES)
    for line in lines:
        url = urlsplit(line["href"])
        assert (url.hostname, url.port, url.query, url.fragment) == ("127.0.0.1", server.port, "", "")
        assert f"{url.path}/".startswith(f"/{line['hash']}/")
        with urllib.request.urlopen(line["href"]) as answer:
            assert answer.read().startswith(b"file ")
        assert not set(line["name"]) & set("\u202e\u2066\0\r\n\t")
        assert len(line["name"]) <= 210
    told = {unquote(urlsplit(line["href"]).path)[66:] for line in lines}
    assert {"folder name/имя файла.txt", "?link=x&hash=y#z%00.txt", "photo\u202egnp.exe", "__proto__"} <= told
    assert tab.js("() => document.querySelector('#queue :is(img, script)') === null")
    # The device remembers them all, and shows them as harmlessly after the page was opened again.
    tab.page.call("reload")
    tab.until(COUNT, ".remembered li[data-hash]", 10)
    tab.click(".remembered [data-do=more]")
    tab.until(COUNT, ".remembered li[data-hash]", len(NAMES))
    assert tab.js("() => document.documentElement.scrollWidth <= innerWidth")


SCRIPT = f"<script>{HURT}</script>".encode()
SVG = f"<svg xmlns='http://www.w3.org/2000/svg' onload=\"{HURT}\">".encode() + SCRIPT + b"</svg>"
HTML = b"<!doctype html><title>page</title>" + SCRIPT
XML = b"<?xml version='1.0'?><x xmlns:h='http://www.w3.org/1999/xhtml'><h:script>%s</h:script></x>" % (
    HURT.encode()
)
MHT = b"MIME-Version: 1.0\r\nContent-Type: text/html\r\n\r\n" + HTML
PDF = b"%PDF-1.7\n1 0 obj<</OpenAction<</S/JavaScript/JS(app.alert('hurt'))>>>>endobj\n" + SCRIPT
# A picture to whoever looks at its first bytes, and a script to whoever runs it.
POLYGLOT = f"GIF89a/*{chr(1) * 20}*/=1;{HURT}".encode()
HUGE = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\xff\xff\xff\xff\xff\xff\xff\xff\x08\x06\0\0\0" + bytes(100)
# What each file is, and what its preview shows: an element, nothing (None), one or the other (True). It is
# False where no preview is offered.
FILES: dict[str, tuple[bytes, str | bool | None]] = {
    **{f"a.{ending}": (HTML, False) for ending in ("html", "htm", "xhtml", "shtml", "php5")},
    **{f"a.{ending}": (SVG, False) for ending in ("svg", "svgz")},
    **{f"a.{ending}": (XML, False) for ending in ("xml", "xsl", "rdf")},
    **{f"a.{ending}": (MHT, False) for ending in ("mht", "mhtml", "eml")},
    "a.pdf": (PDF, False),
    "a.html.": (HTML, None),
    "a.swf": (b"FWS" + SCRIPT, False),
    "script.js": (HURT.encode(), "pre"),
    "module.mjs": (f"export default 1; {HURT}".encode(), "pre"),
    "polyglot.gif": (POLYGLOT, True),
    "polyglot.js": (POLYGLOT, True),
    "picture.png.html": (png(30, 20) + HTML, False),
    "html.png": (png(31, 20) + HTML, "img"),
    "page.png": (HTML, None),
    "drawing.png": (SVG, None),
    "page.txt": (HTML, "pre"),
    "data.json": (b'{"</script>' + SCRIPT + b'": 1}', "pre"),
    "sound.mp3": (HTML, None),
    "film.mp4": (b"\0\0\0\x1cftypisom" + SCRIPT, None),
    "binary.txt": (bytes(range(256)) * 10, None),
    "page": (b"  " + HTML, None),
    "drawing": (b"\xef\xbb\xbf" + SVG, None),
    "document": (PDF, None),
    "huge.png": (HUGE, None),
}
# No two are the same file.
FILES = {name: (data + b" " * number, shown) for number, (name, (data, shown)) in enumerate(FILES.items())}
GIVE_ONE = """(name, bytes) => {
    const dataTransfer = new DataTransfer();
    dataTransfer.items.add(new File([new Uint8Array(bytes)], name));
    dispatchEvent(new DragEvent("drop", { dataTransfer, cancelable: true }));
}"""
BUTTON = """(hash) => document.querySelector(`#queue li[data-hash="${hash}"] [data-do=preview]`)"""


def test_previews(tab: Tab) -> None:
    """Files that are not what they seem are text or a picture in the preview, or not shown."""
    for name, (data, shown) in FILES.items():
        tab.js(GIVE_ONE, name, list(data))
        hash_ = sha256(data).hexdigest()
        tab.until("(hash) => document.querySelector(`#queue li[data-hash='${hash}']`) !== null", hash_)
        assert tab.js(f"(hash) => ({BUTTON})(hash) !== null", hash_) == (shown is not False), name
        if shown is False:
            continue
        tab.js(f"(hash) => ({BUTTON})(hash).click()", hash_)
        if shown is None:
            tab.until_text("cannot|can be shown|not text", "dialog.preview")
        else:
            wanted = "pre, img, [role=status]" if shown is True else shown
            tab.until("(wanted) => document.querySelector('dialog').querySelector(wanted) !== null", wanted)
        assert tab.js("() => document.querySelector('dialog :is(pre, img, audio, video, iframe) *') === null")
        tab.click("dialog [data-do=close]")


# How a page of the same site could use a file as a script or a style of its own.
USES = """(url) => Promise.all([
    import(url),
    new Promise((done, failed) => document.head.append(Object.assign(document.createElement("link"),
        { rel: "stylesheet", href: url, onload: done, onerror: failed }))),
    navigator.serviceWorker.register(url),
].map((use) => Promise.resolve(use).then(() => "used", () => "refused")))"""


def test_own_addresses(tab: Tab, profile: Profile, server: Server) -> None:
    """Behind its link a file is saved, or shown in a sandbox; no page of the site can use it as a script."""
    opened, shown = profile.tab(f"http://127.0.0.1:{server.port}/healthz"), profile.tab()
    # Browsers draw with styles of their own what they show by themselves, and the sandbox forbids some.
    shown.expected.append("Content.Security.Policy|forbidden by|sandbox|decod|encod")
    for name, (data, _) in FILES.items():
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/", data) as answer:
            hash_ = json.load(answer)["hash"]
        url = f"http://127.0.0.1:{server.port}/{hash_}/{name}"
        with urllib.request.urlopen(url) as answer:
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert answer.headers["Content-Security-Policy"] == "sandbox; default-src 'none'"
            is_saved = answer.headers["Content-Disposition"].startswith("attachment")
        if is_saved:
            opened.js("(url) => { location = url; }", url)
            opened.until("() => new Promise((done) => setTimeout(() => done(true), 100))")
        else:
            shown.go(url)
        assert not opened.told("dialog") and not shown.told("dialog"), name
        if name.endswith("js"):
            assert tab.js(USES, url) == ["refused"] * 3, name
    tab.expected.append(
        "MIME|import|Trusted|forbidden by|stylesheet|[Ss]ervice.?[Ww]orker|Content.Security.Policy|script"
    )
