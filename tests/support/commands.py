"""The command `wsgi-store` for tests, as an installed program."""

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

from tests.support.servers import PROJECT

# Coverage measures subprocesses by these.
COUNTING = ("COVERAGE_PROCESS_CONFIG", "COVERAGE_PROCESS_START")
# As pip writes it if the interpreter's path contains blanks, which are not allowed in a `#!` line.
PROGRAM = f"""#!/bin/sh
'''exec' "{sys.executable}" "$0" "$@"
' '''
import sys
sys.path.insert(0, {str(PROJECT)!r})
from wsgi_store.cli.main import main
main()
"""


def install(directory: Path) -> Path:
    """Install the program in a directory; returns its path."""
    directory.mkdir(exist_ok=True)
    program = directory / "wsgi-store"
    program.write_text(PROGRAM, encoding="utf-8")
    program.chmod(0o755)
    return program


def environment(home: Path, **env: str) -> dict[str, str]:
    """The environment of a shell with an empty home directory."""
    counting = {name: os.environ[name] for name in COUNTING if name in os.environ}
    return {"PATH": os.environ["PATH"], "HOME": str(home), "LC_ALL": "C.UTF-8", **counting, **env}


def run(program: Path, *arguments: str, stdin: bytes = b"", **env: str) -> subprocess.CompletedProcess[bytes]:
    """Run the program to its end, in its directory."""
    return subprocess.run(
        [program, *arguments],
        cwd=program.parent,
        env=environment(program.parent, **env),
        input=stdin,
        capture_output=True,
        timeout=60,
        check=False,
    )


def start(program: Path, *arguments: str) -> "subprocess.Popen[bytes]":
    """Start the program in its directory, with an empty standard input."""
    return subprocess.Popen(
        [program, *arguments],
        cwd=program.parent,
        env=environment(program.parent),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def terminal(program: Path, *arguments: str) -> str:
    """The command's output on a terminal; fails when the command fails."""
    pid, master = pty.fork()
    if not pid:
        os.chdir(program.parent)
        os.execve(
            program, [str(program), *arguments], environment(program.parent, TERM="xterm", COLUMNS="120")
        )
    shown = b""
    try:
        while data := os.read(master, 1 << 16):
            shown += data
    except OSError:
        pass  # the end of a terminal's output
    os.close(master)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, shown
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.decode())


def in_own_group(directory: Path, *command: str | Path) -> "subprocess.Popen[bytes]":
    """Start a command in a process group of its own, which a test can signal as a terminal does."""
    return subprocess.Popen(  # pylint: disable=consider-using-with  # the caller does
        command,
        cwd=directory,
        env=environment(directory),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        process_group=0,
    )
