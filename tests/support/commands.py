"""The command `wsgi-store` for tests: as a program, and where a shell finds it."""

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

from tests.support.servers import PROJECT

# By these a process counts what it runs of the package (coverage).
COUNTING = ("COVERAGE_PROCESS_CONFIG", "COVERAGE_PROCESS_START")
# As pip writes it where the path of the interpreter has blanks, which end it in a first line.
PROGRAM = f"""#!/bin/sh
'''exec' "{sys.executable}" "$0" "$@"
' '''
import sys
sys.path.insert(0, {str(PROJECT)!r})
from wsgi_store.cli.main import main
main()
"""


def install(directory: Path) -> Path:
    """Put the program into a directory; returns where it is."""
    directory.mkdir(exist_ok=True)
    program = directory / "wsgi-store"
    program.write_text(PROGRAM, encoding="utf-8")
    program.chmod(0o755)
    return program


def environment(home: Path, **env: str) -> dict[str, str]:
    """What a shell would pass on, in whose home directory nothing is."""
    counting = {name: os.environ[name] for name in COUNTING if name in os.environ}
    return {"PATH": os.environ["PATH"], "HOME": str(home), "LC_ALL": "C.UTF-8", **counting, **env}


def run(program: Path, *arguments: str, stdin: bytes = b"", **env: str) -> subprocess.CompletedProcess[bytes]:
    """Run it to its end, in its directory."""
    return subprocess.run(
        [program, *arguments],
        cwd=program.parent,
        env=environment(program.parent, **env),
        input=stdin,
        capture_output=True,
        timeout=60,
        check=False,
    )


def terminal(program: Path, *arguments: str) -> str:
    """What a person sees of the command; fails when it does."""
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
        pass  # how a terminal ends
    os.close(master)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, shown
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.decode())
