"""How far the memory of both sides grows with the number of files, and of hashes that a client asks for."""

import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.client import MIB
from benchmarks.course import EACH, fill
from benchmarks.lineup import Unsynced
from benchmarks.resident import Done, Resident
from benchmarks.servers import Server
from benchmarks.targets import OURS, Goal
from benchmarks.work import Figures, Key
from tests.support.peaks import Peak

PLACE = "folders, memory"
TITLES = {
    "missing": "{lines:,} lines of /missing",
    "put": "put -r of {many:,} files",
    "tree": "put -r --tree of {many:,} files",
    "get": "get -r of {many:,} files",
}
SIDES = ("client", "server")


def goals(lines: int, many: int) -> Iterator[Goal]:
    """Return the goals."""
    for work, title in TITLES.items():
        for side in SIDES:
            told = f"growth, {title.format(lines=lines, many=many)}, {side}"
            yield Goal(told, 64, Key(PLACE, f"{work}, {side}", OURS), at_most=True, unit="MiB")


def measure(directory: Path, lines: int, many: int, figures: Figures) -> None:
    """Do each work with little, which warms both sides up, and then with much."""
    counts = {directory / "few": EACH, directory / "many": many}
    hashes = {}
    with Unsynced(directory / "kept") as kept, Resident() as resident:
        for folder, count in counts.items():
            fill(folder, count)
            hashes[folder] = resident.command(kept, "put", "-r", "--tree", str(folder)).last
    for work in TITLES:
        print(f"{PLACE}: {work}", file=sys.stderr)
        # In new processes: what was done before would hide what grows.
        with kept if work == "get" else Unsynced(directory / work) as server, Resident() as resident:
            for folder, count in zip(counts, (EACH, lines), strict=True):
                peak = Peak(server.processes())
                done = do(work, resident, server, folder, hashes[folder], count)
                figures[Key(PLACE, f"{work}, client", OURS)][1] = done.growth / MIB
                figures[Key(PLACE, f"{work}, server", OURS)][1] = peak.growth() / MIB


def do(  # pylint: disable=too-many-arguments,too-many-positional-arguments
    work: str, resident: Resident, server: Server, folder: Path, hash_: str, count: int
) -> Done:
    """Do a work with a folder or with so many hashes."""
    if work == "missing":
        return resident.run("missing", f"http://127.0.0.1:{server.port}", str(count))
    if work == "get":
        return resident.command(server, "get", "-r", hash_, f"{folder}-back")
    tree = ["--tree"] if work == "tree" else []
    return resident.command(server, "put", "-r", *tree, str(folder))
