"""The pages about protocols: their commands, run as they stand by the real clients, print what is shown."""

import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.project.test_readme import ADDRESS, pattern
from tests.support.commands import environment
from tests.support.documents import OF_CLIENTS, PROJECT, examples

pytestmark = pytest.mark.clients
# What they need of other packages than those of Python.
PROGRAMS = {
    "docs/clients.md": ["curl", "wget", "wget2", "aria2c", "dpkg-deb", "/usr/lib/apt/apt-helper"],
    "docs/lfs.md": ["git-lfs"],
}
# Between the outputs of two blocks.
NEXT = "--- next block ---\n"
# Ends the server that a page starts, and waits for its port to be free.
STOP = """trap 'kill "$(cat "$HOME/server.pid")"; wait' EXIT\n"""


@pytest.mark.parametrize("page", OF_CLIENTS)
def test_the_page(page: str, tmp_path: Path) -> None:
    """All blocks of a page, pasted into one shell in a directory that has the examples of this project."""
    for program in PROGRAMS.get(page, ()):
        if not shutil.which(program):
            pytest.skip(f"{program} is not installed")
    (tmp_path / "examples").symlink_to(PROJECT / "examples")
    with socket.create_server(("127.0.0.1", 0)) as free:
        here = f"127.0.0.1:{free.getsockname()[1]}"
    found = list(examples(page))
    assert found
    commands = f"echo '{NEXT.strip()}'\n".join(commands for commands, _ in found)
    person = {
        f"GIT_{role}_{what}": "me@example.org"
        for role in ("AUTHOR", "COMMITTER")
        for what in ("NAME", "EMAIL")
    }
    done = subprocess.run(
        ["bash", "-e", "-c", STOP + commands.replace(ADDRESS, here)],
        cwd=tmp_path,
        env=environment(tmp_path, PATH=f"{Path(sys.executable).parent}:{os.environ['PATH']}", **person),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )
    told = (done.stdout, (tmp_path / "server.log").read_text())
    assert done.returncode == 0, told
    printed = done.stdout.split(NEXT)
    assert len(printed) == len(found), told
    for (block, shown), output in zip(found, printed, strict=True):
        assert re.fullmatch(pattern(shown.replace(ADDRESS, here)), output), (block, told)
    assert "ERROR" not in told[1] and "WARNING" not in told[1], told
