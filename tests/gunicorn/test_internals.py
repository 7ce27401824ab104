"""The list of gunicorn internals that the worker relies on is complete and correct."""

import ast
import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from wsgi_store import gunicorn as room
from wsgi_store.gunicorn.internals import ATTRIBUTES, ERRORS, PATTERNS, SIGNATURES

ROOM = Path(room.__path__[0])
# A settings file, run by gunicorn.
MODULES = sorted({module.name for module in pkgutil.iter_modules(room.__path__)} - {"conf"})
MEMBERS = [f"{owner}.{name}" for owner, names in ATTRIBUTES.items() for name in names]
NAMES = [*MEMBERS, *PATTERNS, *SIGNATURES, *(f"http.errors.{name}" for name in ERRORS)]


def found(name: str) -> Any:
    """The object with this dotted name in gunicorn."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        try:
            thing: Any = importlib.import_module(".".join(["gunicorn", *parts[:end]]))
        except ImportError:
            continue
        for part in parts[end:]:
            thing = getattr(thing, part)
        return thing
    raise AttributeError(name)


def sets(cls: type, name: str) -> bool:
    """Tell whether a class, or a method of it, sets an attribute."""
    if hasattr(cls, name):
        return True
    for base in cls.__mro__[:-1]:
        for node in ast.walk(ast.parse(inspect.getsource(base).lstrip())):
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and node.attr == name:
                return True
    return False


@pytest.mark.parametrize("name", NAMES)
def test_gunicorn_has(name: str) -> None:
    """The installed gunicorn has each listed name, with the listed signature."""
    if name in SIGNATURES:
        assert str(inspect.signature(found(name))) == SIGNATURES[name], name
    elif name in MEMBERS:
        owner, _, attribute = name.rpartition(".")
        assert sets(found(owner), attribute), name
    else:
        assert found(name), name


def classes() -> Iterator[type]:
    """The classes of the package wsgi_store.gunicorn."""
    for module in MODULES:
        name = f"{room.__name__}.{module}"
        for thing in vars(importlib.import_module(name)).values():
            if inspect.isclass(thing) and thing.__module__ == name:
                yield thing


def test_overridden_methods_are_listed() -> None:
    """Every overridden gunicorn method is listed."""
    for cls in classes():
        bases = [base for base in cls.__mro__ if base.__module__.startswith("gunicorn.")]
        for name in vars(cls):
            owners = [base for base in bases if callable(vars(base).get(name))]
            listed = [f"{base.__module__}.{base.__name__}.{name}".removeprefix("gunicorn.") for base in bases]
            assert not owners or set(listed) & set(SIGNATURES), f"{cls.__name__}.{name}"


def test_imported_names_are_listed() -> None:
    """Every name used from gunicorn's modules is listed."""
    known = {*NAMES, *ATTRIBUTES, *(name.rpartition(".")[0] for name in SIGNATURES)}
    for path in ROOM.glob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        modules: dict[str, str] = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "gunicorn":
                for alias in node.names:
                    name = f"{node.module}.{alias.name}".removeprefix("gunicorn.")
                    if inspect.ismodule(found(name)):
                        modules[alias.asname or alias.name] = name
                    else:
                        assert name in known, f"{path.name} uses {name}"
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                if module := modules.get(node.value.id):
                    name = f"{module}.{node.attr}"
                    assert name in known, f"{path.name} uses {name}"
