"""The table of docs/upload-cases.md; `python -m tests.protocols.table` writes it."""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.support.cases import Case, cases, run
from tests.support.documents import with_table
from tests.support.node import DIRECTORY, peer
from tests.support.servers import PROJECT, gunicorn
from tests.support.wire import Connection, message

PAGE = PROJECT / "docs" / "upload-cases.md"
TUS = list(cases(Path(__file__).with_name("tus.cases")))
# Bytes of the largest file, as the cases have it.
LARGEST = 1 << 20


def trial(port: int) -> Callable[[Case], str]:
    """Return a function that tells what became of a case on a server."""
    with Connection(port) as connection:
        answer = connection.ask(message("OPTIONS", "/uploads", Tus_Resumable="1.0.0"))
    offered = {"core", *answer.fields["tus-extension"].split(",")}

    def result(case: Case) -> str:
        if case.extension not in offered:
            return "not offered"
        try:
            run(case, port)
        except AssertionError:
            return "**no**"
        return "yes"

    return result


def table(directory: Path) -> str:
    """Try all cases on both servers."""
    packages = json.loads((DIRECTORY / "package.json").read_text(encoding="utf-8"))["dependencies"]
    lines = [
        f"| extension | what tus 1.0 asks for | this service | @tus/server {packages['@tus/server']} |",
        "|---|---|---|---|",
    ]
    with (
        gunicorn(directory, WSGI_STORE_MAX_SIZE=str(LARGEST)) as server,
        peer(directory, LARGEST) as other,
    ):
        ours, theirs = trial(server.port), trial(other.port)
        lines += [f"| {case.extension} | {case.says} | {ours(case)} | {theirs(case)} |" for case in TUS]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        PAGE.write_text(with_table(PAGE, table(Path(name))), encoding="utf-8")
