"""What the page and other protocols cost those who do not use them: nothing."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.servers import PROJECT
from tests.support.tracing import strace

# Coverage makes system calls of its own.
pytestmark = pytest.mark.uncounted
# Starts a service, stores a blob, and asks for things, each behind a mark that strace shows.
PROGRAM = """
import json, os, sys
from tests.support.calling import call
from wsgi_store import Config, create_app

def mark(name):
    try:
        os.stat(f"/-mark-/{name}")
    except OSError:
        pass

mark("start")
application = create_app(Config(root=sys.argv[1], min_free=0, **json.loads(sys.argv[2])))
mark("store")
hash_ = call(application, "POST", body=b"x" * 100_000).json["hash"]
browser = {"HTTP_ACCEPT": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
for accept in ({}, browser):
    for method, path in (("GET", f"/{hash_}"), ("HEAD", f"/{hash_}/a.txt"), ("GET", f"/{'0' * 64}")):
        for time in ("first", "second"):
            mark(f"{method} {path} {time} {accept}")
            call(application, method, path, **accept)
mark("modules")
print(*sorted(sys.modules))
"""


def followed(directory: Path, **settings: object) -> tuple[dict[str, list[str]], set[str]]:
    """The system calls behind each mark, and the modules that were loaded."""
    directory.mkdir()
    output = directory / "calls"
    program = [strace(), "-f", "-o", output, sys.executable, "-c", PROGRAM]
    # A fixed seed, so that sets are walked in the same order.
    done = subprocess.run(
        [*program, directory / "store", json.dumps(settings)],
        cwd=PROJECT,
        env={**os.environ, "PYTHONHASHSEED": "0", "PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    calls: dict[str, list[str]] = {}
    behind = "the interpreter"
    for text in output.read_text().splitlines():
        if mark := re.search('"/-mark-/(.*?)"', text):
            behind = mark[1]
        # A machine that is slow at this moment looks for uploads once more.
        elif '/.uploads"' in text:
            continue
        # How much memory an allocator needs depends on addresses.
        elif (call := re.search(r"^\d+ +(\w+)\(", text)) and call[1] not in ("brk", "mmap", "munmap"):
            calls.setdefault(behind, []).append(call[1])
    return calls, set(done.stdout.split())


def test_whoever_does_not_open_the_page_pays_nothing(tmp_path: Path) -> None:
    """The start, uploads and blobs make the same system calls with the page as without it."""
    (with_, modules), (without, fewer) = (
        followed(tmp_path / page, page=page == "on") for page in ("on", "off")
    )
    assert modules == fewer
    assert with_.keys() == without.keys()
    missing = [name for name in with_ if "0000" in name]
    assert len(missing) == 4
    for name, calls in without.items():
        if name == "the interpreter":
            continue
        # A missing blob is answered by a page for a browser, whose files are read once.
        if name in missing and "first" in name and "html" in name:
            assert len(with_[name]) > len(calls)
        else:
            assert with_[name] == calls, name
    assert any("openat" in calls for name, calls in with_.items() if name.startswith("GET"))


def test_whoever_uses_no_other_protocol_pays_nothing(tmp_path: Path) -> None:
    """Uploads and blobs make the same system calls, and without the setting nothing is loaded."""
    (with_, modules), (without, fewer) = (
        followed(tmp_path / str(len(names)), names=["md5"], protocols=names) for names in (["lfs", "dvc"], [])
    )
    of_protocols = {f"wsgi_store.protocols.{name}" for name in ("lfs", "dvc", "algorithms")}
    assert of_protocols <= modules and modules - fewer >= of_protocols
    others = {f"wsgi_store.protocols.{name}" for name in ("blossom", "metalink")}
    assert not modules & (others | {"coincurve"})
    assert with_.keys() == without.keys()
    for name, calls in without.items():
        if name not in ("the interpreter", "start", "modules"):
            assert with_[name] == calls, name
