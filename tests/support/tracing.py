"""The system calls of a real process, in the order in which it makes them, told by strace."""

import functools
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.kinds import LocalKind
from tests.support.servers import PROJECT, until
from wsgi_store.store.contract import Durability

SUPPORT = Path(__file__).parent
# What makes, names, writes or syncs files, and what sends answers; some machines lack some.
CALLS = (
    "open openat flock write pwrite64 fsync fdatasync sync syncfs sync_file_range msync mkdir mkdirat "
    "link linkat rename renameat renameat2 unlink unlinkat rmdir utimensat sendto sendmsg"
).split()
LINE = re.compile(
    r"(?P<call>\w+)\((?P<arguments>.*)\) += (?P<result>-?\d+|\?)(?:<(?P<file>[^>]*)>| (?P<error>E\w+))?"
)
# A descriptor and its file, with a path below it perhaps, or a path.
NAME = re.compile(
    r'\b(?P<fd>\w+)<(?P<file>[^>]*)>(?:\(deleted\))?(?:, "(?P<below>[^"]*)")?|"(?P<path>[^"]*)"'
)
BY_DESCRIPTOR = re.compile("write|utimens|fsync|fdatasync|flock|syncfs|sync_file_range|pwrite64")
BY_PATH = re.compile("open|mkdir|link|unlink|rename|rmdir")


@functools.cache
def strace() -> str:
    """The program; skips where it is missing, or not allowed to look."""
    program = shutil.which("strace")
    if program is None:
        pytest.skip("strace is not installed")
    done = subprocess.run([program, "-o", "/dev/null", "true"], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"strace is not allowed here: {done.stderr.strip()}")
    return program


def python_path(kind: LocalKind) -> str:
    """PYTHONPATH for a process that stages files as this kind of store does."""
    here = [] if kind.nameless else [str(SUPPORT / "named")]
    return os.pathsep.join([*here, str(PROJECT), *filter(None, [os.environ.get("PYTHONPATH")])])


def uploader(
    root: Path, kind: LocalKind, durability: Durability, *steps: str
) -> tuple[list[str], dict[str, str]]:
    """The command and the environment of a process that does these steps; see uploader.py."""
    command = [sys.executable, str(SUPPORT / "uploader.py"), str(root), durability.value, *steps]
    return command, {**os.environ, "PYTHONPATH": python_path(kind)}


@dataclass
class Trace:
    """What processes do to the store at `root`; strace writes files into `directory`."""

    directory: Path
    root: Path

    def command(self, *options: str) -> tuple[str, ...]:
        """What to put before the command to be traced."""
        self.directory.mkdir()
        calls = ",".join(f"?{call}" for call in CALLS)
        # A file for each thread: none of its lines is cut in two by another thread's.
        output = str(self.directory / "thread")
        return (strace(), "-ff", "-y", "-s", "16", "-e", f"trace={calls}", "-o", output, *options)

    def until_ended(self) -> None:
        """Wait until all that was traced has been written."""
        # A thread that made none of these calls has nothing before its end.
        until(lambda: all("\n+++ " in f"\n{text}" for text in self.texts()), "the end of the trace")

    def texts(self) -> list[str]:
        """What strace wrote, thread by thread."""
        return [path.read_text(encoding="utf-8") for path in sorted(self.directory.iterdir())]

    def steps(self) -> list[list[str]]:
        """What each thread did from one answer to the next: `call name [name] [error]`."""
        steps = []
        for text in self.texts():
            step: list[str] = []
            for event, _ in self.events(text):
                if event not in step[-1:]:  # of several writes in a row one is told
                    step.append(event)
                if event == "answer":
                    steps.append(step)
                    step = []
        return steps

    def events(self, text: str) -> Iterator[tuple[str, str]]:
        """What a thread did, each time with the words for strace's `inject` that name this call."""
        opened: dict[str, str] = {}
        count: Counter[str] = Counter()
        for match in filter(None, map(LINE.match, text.splitlines())):
            call = match["call"]
            count[call] += 1
            if call.startswith("open"):
                opened[match["result"]] = match["file"]
            event = self._event(re.sub("at2?$", "", call), match, opened)
            if event is not None:
                yield event, f"{call}:when={count[call]}"

    def _event(self, call: str, match: re.Match[str], opened: dict[str, str]) -> str | None:
        arguments = match["arguments"]
        if call in ("sendto", "sendmsg") or re.match(r"write\((1<|\d+<socket:)", match[0]):
            return "answer"
        if call == "open" and not re.search("O_CREAT|O_TMPFILE", arguments):
            return None
        names = list(NAME.finditer(arguments))
        if call == "open" and match["file"]:
            paths = [match["file"]]  # of a file without a name its number, and not its directory
        elif BY_PATH.fullmatch(call):
            paths = [name["path"] or os.path.join(name["file"], name["below"]) for name in names]
            paths = [opened[path[14:]] if path.startswith("/proc/self/fd/") else path for path in paths]
        elif match["error"] == "EBADF":
            return None  # of a descriptor that is closed: there is no file that it could be about
        elif BY_DESCRIPTOR.fullmatch(call):
            paths = [names[0]["file"]]
        else:
            paths = [str(self.root)]  # what syncs everything
        shown = [self._show(path) for path in paths]
        return " ".join(filter(None, [call, *shown, match["error"]])) if None not in shown else None

    def _show(self, path: str) -> str | None:
        """A path relative to the store; None when it has nothing to do with it."""
        relative = os.path.relpath(path, self.root)
        if relative.startswith(".staging/"):
            return "staged"
        return relative if not relative.startswith("..") or set(relative) <= set("./") else None
