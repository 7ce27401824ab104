"""Names and files of strangers do nothing on the page."""

import urllib.request
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from tests.support.browsers import Profile, Tab
from tests.support.servers import Server, gunicorn

pytestmark = pytest.mark.clients

NAMES = [
    "<script>window.ran = 1</script>.txt",
    "<img src=x onerror='window.ran = 1'>.txt",
    '" onerror="window.ran = 1" x=".txt',
    "javascript:window.ran=1",
    "//evil.example/x.txt",
    "https://evil.example/x.txt",
    "../../../x.txt",
    "..",
    "photo\u202egnp.exe",
    "a\u0000b\r\nSet-Cookie: c=d",
    "?link=x&hash=y#z%00.txt",
    "x" * 10_000 + ".txt",
    "ж" * 10_000 + ".txt",
    "{name} {{files}} &lt;b&gt; \\u003c",
    "__proto__",
    "folder name/имя файла.txt",
]
GIVE = """(names) => {
    const dataTransfer = new DataTransfer();
    for (const [index, name] of names.entries()) {
        dataTransfer.items.add(new File([`file ${index}`], name));
    }
    dispatchEvent(new DragEvent("drop", { dataTransfer, cancelable: true }));
}"""
LINES = """() => [...document.querySelectorAll("#queue li[data-hash]")].map((line) => {
    const name = line.querySelector(".file-name").textContent;
    return { hash: line.dataset.hash, name, href: line.querySelector("a").href };
})"""


@pytest.fixture(name="server", scope="module")
def fixture_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """An open service."""
    with gunicorn(tmp_path_factory.mktemp("service")) as server:
        yield server


@pytest.fixture(name="tab")
def fixture_tab(profile: Profile, server: Server) -> Tab:
    """The page."""
    return profile.tab(f"http://127.0.0.1:{server.port}/")


def test_names(tab: Tab, server: Server) -> None:
    """A name is text, and its link leads to the file and nowhere else."""
    tab.js("(names) => (window.names = [...names, '\\ud800 half.txt'])", NAMES)
    tab.js(f"() => ({GIVE})(window.names)")
    count = len(NAMES) + 1
    tab.until(f"() => document.querySelectorAll('#queue li[data-hash]').length === {count}")
    lines: list[dict[str, Any]] = tab.js(LINES)
    assert len({line["hash"] for line in lines}) == count
    tab.until_text(f"{count} files stored", "#queue-facts")
    for line in lines:
        url = urlsplit(line["href"])
        assert (url.hostname, url.port, url.query, url.fragment) == ("127.0.0.1", server.port, "", "")
        assert url.path.startswith(f"/{line['hash']}/")
        with urllib.request.urlopen(line["href"]) as answer:
            assert answer.read().startswith(b"file ")
        assert not set(line["name"]) & set("\u202e\u0000\r\n")
        assert len(line["name"]) <= 210
    told = {unquote(urlsplit(line["href"]).path)[66:] for line in lines}
    assert {"folder name/имя файла.txt", "?link=x&hash=y#z%00.txt", "photo\u202egnp.exe", "__proto__"} <= told
    assert tab.js("() => window.ran === undefined && document.cookie === ''")
    # The device remembers them all, and shows them as harmlessly after the page was opened again.
    tab.page.call("reload")
    tab.until("() => document.querySelectorAll('.remembered li[data-hash]').length === 10")
    tab.click(".remembered [data-do=more]")
    tab.until(f"() => document.querySelectorAll('.remembered li[data-hash]').length === {count}")
    assert tab.js("() => window.ran === undefined")
    assert tab.js("() => document.documentElement.scrollWidth <= innerWidth")


SCRIPT = b"<script>parent.ran = window.ran = 1</script>"
FILES = {
    "page.png": b"<!doctype html>" + SCRIPT,
    "picture.png": b"<svg xmlns='http://www.w3.org/2000/svg' onload='parent.ran = 1'>" + SCRIPT + b"</svg>",
    "page.txt": b"<!doctype html>" + SCRIPT,
    "sound.mp3": b"<!doctype html>" + SCRIPT,
    "film.mp4": b"\0\0\0\x1cftypisom" + SCRIPT,
    "binary.txt": bytes(range(256)) * 10,
    "page": b"  <!doctype html>" + SCRIPT,
    "document": b"%PDF-1.7 " + SCRIPT,
    "huge.png": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\xff\xff\xff\xff\xff\xff\xff\xff\x08\x06\0\0\0" + bytes(100),
}
GIVE_ONE = """(name, bytes) => {
    const dataTransfer = new DataTransfer();
    dataTransfer.items.add(new File([new Uint8Array(bytes)], name));
    dispatchEvent(new DragEvent("drop", { dataTransfer, cancelable: true }));
}"""
FIND = """(name) => [...document.querySelectorAll("#queue li[data-hash]")].find(
    (line) => line.querySelector(".file-name").textContent === name)"""
SHOWN_AS_TEXT = {"page.txt"}


def test_previews(tab: Tab) -> None:
    """Files that are not what they seem are text, or not shown; nothing in them runs."""
    for name, data in FILES.items():
        tab.js(GIVE_ONE, name, list(data))
        tab.until(f"(name) => !!({FIND})(name)", name)
        tab.js(f"(name) => ({FIND})(name).querySelector('[data-do=preview]').click()", name)
        if name in SHOWN_AS_TEXT:
            tab.until("() => document.querySelector('dialog pre')?.textContent.includes('<script>')")
        else:
            tab.until_text("cannot|can be shown|not text", "dialog.preview")
        assert tab.js("() => document.querySelector('dialog :is(pre, img, audio, video, iframe) *') === null")
        tab.click("dialog [data-do=close]")
    assert tab.js("() => window.ran === undefined")


def test_documents(tab: Tab) -> None:
    """What can contain scripts is only saved."""
    names = ["a.svg", "a.html", "a.xhtml", "a.pdf", "a.svgz", "a.htm", "a.xml", "a.mhtml"]
    tab.js(GIVE, names)
    tab.until(
        "(count) => document.querySelectorAll('#queue [data-do=download]').length === count", len(names)
    )
    assert tab.js("() => document.querySelector('#queue [data-do=preview]') === null")
