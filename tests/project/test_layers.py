"""The layers of the package, and the direction of its imports."""

import ast
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import wsgi_store

PACKAGE = Path(wsgi_store.__file__).parent
# From the lowest layer to the highest. A file imports from its own layer and from lower ones.
LAYERS = (
    ("version", "errors", "mapped", "filesystem", "authority", "digest", "hashing", "threads"),
    ("store",),
    ("staging", "readiness", "uploads", "upkeep", "config", "choices", "values"),
    ("access", "metrics", "logs"),
    ("web",),
    ("protocols",),
    ("assembly",),
    ("wsgi", "gunicorn", "banner", "loading"),
)
GROUND = LAYERS[0]
# Rooms next to the layers; each may import from itself and from the rooms listed here.
BESIDE = {
    "client": GROUND,
    "testing": (*GROUND, "store", "staging"),
    "__init__": (*(name for layer in LAYERS for name in layer), "client"),
    "cli": (*GROUND, "client", "store", "staging", "upkeep", "config", "values", "access", "logs"),
}
# Packages that only an extra installs, and where each may be imported.
EXTRAS = {
    "blake3": ("digest.py",),
    "coincurve": ("protocols/",),
    "click": ("cli/",),
    "rich": ("cli/",),
    "urllib3": ("client/",),
    "obstore": ("store/bucket/",),
    "botocore": ("store/bucket/",),
    "prometheus_client": ("metrics/",),
    "pytest": ("testing/",),
    "hypothesis": ("testing/",),
}
# A file of a protocol that servers and hosts import as they import the one at the top.
ENTRANCE = "protocols/blossom.py"
# Only these rooms know about HTTP.
HTTP = ("web/", "protocols/", "gunicorn/")


def sources() -> list[str]:
    """All files of the package."""
    return sorted(str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py"))


def file_of(module: str) -> str | None:
    """The file of a module of this package; None for anything else."""
    if module.partition(".")[0] != "wsgi_store":
        return None
    path = module.removeprefix("wsgi_store").strip(".").replace(".", "/")
    for name in (f"{path}.py", f"{path}/__init__.py"):
        if (PACKAGE / name.lstrip("/")).exists():
            return name.lstrip("/")
    return None


def imported(text: str, name: str) -> Iterator[str]:
    """The modules that the source of the file `name` imports, anywhere in it."""
    package = ["wsgi_store", *Path(name).parent.parts]
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *filter(None, [node.module])])
            submodules = [alias.name for alias in node.names if file_of(f"{module}.{alias.name}")]
            yield from (f"{module}.{submodule}" for submodule in submodules)
            if len(submodules) < len(node.names):
                yield module


@cache  # not at the import, which every process of the tests does
def arrows() -> dict[str, set[str]]:
    """The files of the package that each file imports."""
    return {
        name: {other for module in imported((PACKAGE / name).read_text(), name) if (other := file_of(module))}
        - {name}
        for name in sources()
    }


def room(name: str) -> str:
    """The room of a file: its folder in the package, or its own name."""
    return "wsgi" if name == ENTRANCE else Path(name).parts[0].removesuffix(".py")


FLOOR = {name: floor for floor, rooms in enumerate(LAYERS) for name in rooms}


def test_relative_and_nested_imports_are_seen() -> None:
    """Relative and nested imports are found, too."""
    text = """
from . import marker
from .disk.store import LocalStore
from .. import errors
def late(): from wsgi_store.store import contract
if TYPE_CHECKING: import wsgi_store.digest
"""
    found = {file_of(module) for module in imported(text, "store/open.py")}
    assert found == {"store/marker.py", "store/disk/store.py", "errors.py", "store/contract.py", "digest.py"}


@pytest.mark.parametrize("name", sources())
def test_imports_run_down(name: str) -> None:
    """A file imports from its own layer or from a lower one."""
    for other in arrows()[name]:
        if room(name) in BESIDE:
            assert room(other) in (room(name), *BESIDE[room(name)]), f"{name} imports {other}"
        else:
            assert room(other) in FLOOR, f"{name} imports {other}"
            assert FLOOR[room(other)] <= FLOOR[room(name)], f"{name} imports {other}"


def test_no_circle() -> None:
    """There are no import cycles between files or between rooms."""
    between: dict[str, set[str]] = {}
    for name, others in arrows().items():
        between.setdefault(room(name), set()).update(map(room, others))
    for graph in (arrows(), {name: others - {name} for name, others in between.items()}):
        try:
            TopologicalSorter(graph).prepare()
        except CycleError as error:
            pytest.fail(" imports ".join(reversed(error.args[1])))


@pytest.mark.parametrize("name", sorted(name for name in sources() if name.endswith("/__init__.py")))
def test_a_front_holds_no_code(name: str) -> None:
    """A folder's `__init__.py` only re-exports public names."""
    for node in ast.parse((PACKAGE / name).read_text()).body:
        is_all = isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
        assert is_all or isinstance(node, (ast.Expr, ast.ImportFrom)), f"{name}:{node.lineno}"


@pytest.mark.parametrize("name", sources())
def test_werkzeug_is_imported_where_http_is_known(name: str) -> None:
    """The store, staging and upkeep do not know about HTTP."""
    modules = {module.partition(".")[0] for module in imported((PACKAGE / name).read_text(), name)}
    assert "werkzeug" not in modules or name.startswith(HTTP)


@pytest.mark.parametrize("name", sources())
def test_extras_are_imported_in_their_rooms(name: str) -> None:
    """A package installed by an extra is imported in one room only."""
    for module in imported((PACKAGE / name).read_text(), name):
        if places := EXTRAS.get(module.partition(".")[0]):
            assert name.startswith(places), f"{name} imports {module}"
