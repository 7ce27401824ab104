"""The system calls of a real process in their order, traced by strace."""

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
# Calls that create, name, write or sync files, or send answers; some machines lack some.
CALLS = (
    "open openat flock write pwrite64 fsync fdatasync sync syncfs sync_file_range msync mkdir mkdirat "
    "link linkat rename renameat renameat2 unlink unlinkat rmdir utimensat sendto sendmsg"
).split()
LINE = re.compile(
    r"(?P<call>\w+)\((?P<arguments>.*)\) += (?P<result>-?\d+|\?)(?:<(?P<file>[^>]*)>| (?P<error>E\w+))?"
)
# A descriptor and its file, perhaps with a path below it, or a path.
NAME = re.compile(
    r'\b(?P<fd>\w+)<(?P<file>[^>]*)>(?:\(deleted\))?(?:, "(?P<below>[^"]*)")?|"(?P<path>[^"]*)"'
)
BY_DESCRIPTOR = re.compile("write|utimens|fsync|fdatasync|flock|syncfs|sync_file_range|pwrite64")
BY_PATH = re.compile("open|mkdir|link|unlink|rename|rmdir")


@functools.cache
def strace() -> str:
    """The path of strace; skips the test where it is missing or not permitted."""
    program = shutil.which("strace")
    if program is None:
        pytest.skip("strace is not installed")
    done = subprocess.run([program, "-o", "/dev/null", "true"], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"strace is not allowed here: {done.stderr.strip()}")
    return program


def python_path(kind: LocalKind, project: Path = PROJECT) -> str:
    """PYTHONPATH for a process that stages files as this kind of store does."""
    here = [] if kind.nameless else [str(SUPPORT / "named")]
    return os.pathsep.join([*here, str(project), *filter(None, [os.environ.get("PYTHONPATH")])])


def uploader(
    root: Path, kind: LocalKind, durability: Durability, *steps: str, project: Path = PROJECT
) -> tuple[list[str], dict[str, str]]:
    """The command and the environment of a process that does these steps; see uploader.py.

    The process imports the package from the directory `project`.
    """
    command = [sys.executable, str(SUPPORT / "uploader.py"), str(root), durability.value, *steps]
    return command, {**os.environ, "PYTHONPATH": python_path(kind, project)}


@dataclass
class Trace:
    """The actions of processes on the store at `root`; strace writes files into `directory`."""

    directory: Path
    root: Path

    def command(self, *options: str) -> tuple[str, ...]:
        """The beginning of a command line that traces the rest."""
        self.directory.mkdir()
        calls = ",".join(f"?{call}" for call in CALLS)
        # A file for each thread, so that no thread's lines are split by another's.
        output = str(self.directory / "thread")
        return (strace(), "-ff", "-y", "-s", "16", "-e", f"trace={calls}", "-o", output, *options)

    def until_ended(self) -> None:
        """Wait until the whole trace has been written."""
        # The file of a thread that made none of these calls stays empty until its end.
        until(lambda: all("\n+++ " in f"\n{text}" for text in self.texts()), "the end of the trace")

    def texts(self) -> list[str]:
        """The output of strace, thread by thread."""
        return [path.read_text(encoding="utf-8") for path in sorted(self.directory.iterdir())]

    def steps(self) -> list[list[str]]:
        """The actions of each thread between two answers: `call name [name] [error]`."""
        steps = []
        for text in self.texts():
            step: list[str] = []
            for event, _ in self.events(text):
                if event not in step[-1:]:  # of several equal events in a row one is kept
                    step.append(event)
                if event == "answer":
                    steps.append(step)
                    step = []
        return steps

    def events(self, text: str) -> Iterator[tuple[str, str]]:
        """The actions of a thread, each with the expression for strace's `inject` that selects the call."""
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
            paths = [match["file"]]  # a nameless file is shown by its number, not by its directory
        elif BY_PATH.fullmatch(call):
            paths = [name["path"] or os.path.join(name["file"], name["below"]) for name in names]
            paths = [opened[path[14:]] if path.startswith("/proc/self/fd/") else path for path in paths]
        elif match["error"] == "EBADF":
            return None  # of a closed descriptor, so there is no file
        elif BY_DESCRIPTOR.fullmatch(call):
            paths = [names[0]["file"]]
        else:
            paths = [str(self.root)]  # syncs everything
        shown = [self._show(path) for path in paths]
        return " ".join(filter(None, [call, *shown, match["error"]])) if None not in shown else None

    def _show(self, path: str) -> str | None:
        """A path relative to the store, or None outside it."""
        relative = os.path.relpath(path, self.root)
        if relative.startswith(".staging/"):
            return "staged"
        return relative if not relative.startswith("..") or set(relative) <= set("./") else None
