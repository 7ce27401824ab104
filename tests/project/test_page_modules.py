"""The modules of the page are in the table of docs/architecture/page.md, and import downwards."""

import re

from tests.support.servers import PROJECT

FOLDER = PROJECT / "wsgi_store" / "web" / "page"
TABLE = (
    (PROJECT / "docs" / "architecture" / "page.md")
    .read_text(encoding="utf-8")
    .partition("## In the browser")[2]
)
# Each row of the table with modules, from the top to the ground.
ROWS = [
    re.findall(r"`([\w-]+\.js)`", row.split("|")[1]) for row in TABLE.splitlines() if row.startswith("| `")
]
UPLOADS = {
    "queue.js",
    "totals.js",
    "upload.js",
    "unfinished.js",
    "device.js",
    "sender.js",
    "patience.js",
    "hash.js",
    "hash-worker.js",
}


def imported(name: str) -> set[str]:
    """The modules that a module imports."""
    return set(re.findall(r'from "\./([\w-]+\.js)"', (FOLDER / name).read_text(encoding="utf-8")))


def test_every_module_has_one_row() -> None:
    """No module is missing in the table, and none is left that is gone."""
    named = [name for row in ROWS for name in row]
    assert sorted(named) == sorted(path.name for path in FOLDER.glob("*.js"))


def test_imports_go_down() -> None:
    """A module imports from its own row or from rows below."""
    place = {name: number for number, row in enumerate(ROWS) for name in row}
    upwards = [
        (name, other)
        for name in place
        for other in imported(name)
        if place[other] < place[name] or other == name
    ]
    assert not upwards


def test_uploads_know_nothing_of_the_screen() -> None:
    """They import each other and the requests to the service."""
    assert set().union(*map(imported, UPLOADS)) <= UPLOADS | {"api.js", "names.js"}
