"""Draws the rooms of the package, and writes down the way of a request through them.

    python -m docs.drawing

Both come from the code: arrows from the imports, the way from the stack at the moment when bytes are read or
a file is opened or named. Run it after a change of either; a test fails until then.
"""

import hashlib
import inspect
import io
import sys
import tempfile
from collections.abc import Iterator
from functools import cache
from html import escape
from itertools import pairwise
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

from tests.project.test_layers import BESIDE, GROUND, LAYERS, arrows, room
from wsgi_store import Config, create_app

BEGIN, END = "<!-- The way of a request, by docs/drawing.py -->\n", "<!-- End -->\n"
PACKAGE = f"{Path(sys.modules['wsgi_store'].__path__[0])}/"
WIDTH, BOX, ROW, LEFT = 1000, 34, 96, 130
STYLE = """
text { font: 15px system-ui, sans-serif; text-anchor: middle; fill: #222 }
.layer { font-size: 12px; text-anchor: start; fill: #777 }
.band { fill: #f4f5f7 }
.room { fill: #fff; stroke: #445 } .beside { stroke-dasharray: 5 3 }
.arrow { fill: none; stroke: #9ab; marker-end: url(#end) }
.way { fill: none; stroke: #d60; stroke-width: 3; marker-end: url(#goal) } .download { stroke-dasharray: 7 5 }
"""
READ, PUBLISHED, OPENED = "An upload is read", "It is published", "A download is opened"
# The names of the layers for a reader, from the lowest to the highest.
NAMES = ("ground", "store", "receiving, upkeep", "access", "HTTP", "protocols", "assembly", "servers")


def edges() -> set[tuple[str, str]]:
    """Which room imports which, without the ground and without arrows that others imply."""
    direct: dict[str, set[str]] = {}
    for name, others in arrows().items():
        if name != "__init__.py":  # it hands on what is public, and loads it when asked
            direct.setdefault(room(name), set()).update(map(room, others))
    for source in direct:
        direct[source] -= {source, *GROUND}
    everything = {source: set(reachable(source, direct)) for source in direct}
    return {
        (source, target)
        for source, targets in direct.items()
        if source not in GROUND
        for target in targets
        if not any(target in everything[other] for other in targets - {target} if other in everything)
    }


def reachable(source: str, direct: dict[str, set[str]]) -> Iterator[str]:
    """The rooms that a room imports, itself or by way of others."""
    for target in direct.get(source, ()):
        yield target
        yield from reachable(target, direct)


class Box(NamedTuple):
    """The place and size of a room in the drawing."""

    middle: float
    top: float
    width: float

    def shifted(self, by: float) -> "Box":
        """The same box further to the right."""
        return Box(self.middle + by, self.top, self.width)

    def arrow(self, to: "Box") -> str:
        """The path of an arrow to another box: down, or along the row below both."""
        left, bottom = self.middle - self.width / 2, self.top + BOX
        if self.top == to.top:
            begin = self.middle + (self.width / 4 if to.middle > self.middle else -self.width / 4)
            half = (self.middle + to.middle) / 2
            return f"M{begin:.0f} {bottom} Q{half:.0f} {bottom + 24} {to.middle:.0f} {bottom}"
        if self.middle > WIDTH - 100 and to.middle < self.middle:  # from a room beside the layers
            height = self.top + BOX / 2
            return f"M{left:.0f} {height:.0f} Q{to.middle:.0f} {height:.0f} {to.middle:.0f} {to.top}"
        bend = (bottom + to.top) / 2
        down = f"C{self.middle:.0f} {bend:.0f} {to.middle:.0f} {bend:.0f} {to.middle:.0f} {to.top}"
        return f"M{self.middle:.0f} {bottom} {down}"


def boxes() -> dict[str, Box]:
    """The box of each room."""
    found = {}
    there = {room(name) for name in arrows()} - {"__init__"}
    for floor, layer in enumerate(LAYERS):
        rooms = [name for name in layer if name in there]
        step = (WIDTH - LEFT - 170) / len(rooms)
        top = ROW * (len(LAYERS) - 1 - floor) + 32
        for index, name in enumerate(rooms):
            found[name] = Box(LEFT + step * (index + 0.5), top, min(step - 14, 150))
    for index, name in enumerate(name for name in reversed(BESIDE) if name in there):
        found[name] = Box(WIDTH - 80, ROW * (1 + index * 2) + 32, 110)
    return found


def svg() -> str:
    """The drawing."""
    at = boxes()
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {ROW * len(LAYERS)}" role="img">',
        "<title>The rooms of wsgi_store and their imports</title>",
        f"<style>{STYLE}</style>",
        f"<defs>{head('end', '#9ab', 7)}{head('goal', '#d60', 4)}</defs>",
        *layers(),
        *(f'<path class="arrow" d="{at[source].arrow(at[target])}"/>' for source, target in sorted(edges())),
        *requests(at),
        *rooms(at),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def layers() -> Iterator[str]:
    """The bands behind the rooms, with their names."""
    for name, floor in zip(NAMES, reversed(range(len(LAYERS))), strict=True):
        top = ROW * floor + 16
        yield f'<rect class="band" x="4" y="{top}" width="{WIDTH - 164}" height="{BOX + 32}" rx="6"/>'
        yield f'<text class="layer" x="14" y="{top + 37}">{escape(name)}</text>'


def requests(at: dict[str, Box]) -> Iterator[str]:
    """The ways of an upload and of a download, beside each other."""
    for kind, title, shift in (("upload", PUBLISHED, 22), ("download", OPENED, -22)):
        for source, target in pairwise(through(ways()[title])):
            path = at[source].shifted(shift).arrow(at[target].shifted(shift))
            yield f'<path class="way {kind}" d="{path}"/>'


def rooms(at: dict[str, Box]) -> Iterator[str]:
    """The boxes with their names."""
    for name, box in sorted(at.items()):
        kind = "room beside" if name in BESIDE else "room"
        place = f'x="{box.middle - box.width / 2:.0f}" y="{box.top}" width="{box.width:.0f}" height="{BOX}"'
        yield f'<rect class="{kind}" {place} rx="5"/>'
        yield f'<text x="{box.middle:.0f}" y="{box.top + 22}">{escape(name)}</text>'


def head(name: str, color: str, size: int) -> str:
    """The head of an arrow."""
    return (
        f'<marker id="{name}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="{size}" markerHeight="{size}" '
        f'orient="auto"><path d="M0 0 8 4 0 8z" fill="{color}"/></marker>'
    )


def through(steps: list[str]) -> list[str]:
    """The rooms that a stack leads through, the server's before them, without the ground."""
    names = [room(step.split("`")[1]) for step in steps]
    return list(dict.fromkeys(["gunicorn", *(name for name in names if name not in GROUND)]))


def stack() -> list[str]:
    """The functions of the package that are running, from the outermost on."""
    frame: FrameType | None = inspect.currentframe()
    found = []
    while frame is not None:
        name = frame.f_code.co_filename
        if name.startswith(PACKAGE):
            found.append(f"`{name.removeprefix(PACKAGE)}` `{frame.f_code.co_qualname}`")
        frame = frame.f_back
    return found[::-1]


class Body(io.BytesIO):
    """A body that keeps the stack of its first reader."""

    reader: list[str] = []

    def read(self, size: int | None = -1, /) -> bytes:
        """Read, and remember who does."""
        self.reader = self.reader or stack()
        return super().read(size)


@cache
def ways() -> dict[str, list[str]]:
    """The stacks at which an upload is read and published, and a download is opened."""
    seen: dict[str, list[str]] = {}
    data = bytes(100_000)
    hash_ = hashlib.sha256(data).hexdigest()

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "os.link" and hash_ in str(arguments):
            seen.setdefault("publish", stack())
        elif event == "open" and str(arguments[0]).endswith(hash_):
            seen["open"] = stack()

    sys.addaudithook(hook)
    with tempfile.TemporaryDirectory() as root:
        application = create_app(Config(root=root))
        environ = {
            "SERVER_NAME": "localhost",
            "SERVER_PORT": "80",
            "wsgi.url_scheme": "http",
            "CONTENT_LENGTH": str(len(data)),
        }
        body = Body(data)
        list(application({**environ, "REQUEST_METHOD": "POST", "PATH_INFO": "/", "wsgi.input": body}, start))
        get = {**environ, "REQUEST_METHOD": "GET", "PATH_INFO": f"/{hash_}", "wsgi.input": io.BytesIO()}
        list(application(get, start))
    return {READ: body.reader, PUBLISHED: seen["publish"], OPENED: seen["open"]}


def start(status: str, *_: object) -> Any:
    """Ignore the head of an answer."""
    assert status.startswith("200"), status


def way() -> str:
    """The stacks as lists."""
    parts = []
    for title, steps in ways().items():
        lines = "\n".join(f"{number}. {step}" for number, step in enumerate(steps, 1))
        parts.append(f"**{title}:**\n\n{lines}\n")
    return "\n".join(parts)


def page(text: str) -> str:
    """The page with the way of a request as it is now."""
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}\n{way()}\n{END}{rest.partition(END)[2]}"


def main(folder: Path) -> None:
    """Write the drawing and the page of a folder anew."""
    (folder / "rooms.svg").write_text(svg(), encoding="utf-8")
    text = (folder / "index.md").read_text(encoding="utf-8")
    (folder / "index.md").write_text(page(text), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if sys.argv[1:] else Path(__file__).with_name("architecture"))
