"""`python -m benchmarks.folders`: what it costs to send a folder of small files, and to get it back.

A figure and what it is compared with are taken in the same round, and take turns at going first. The
command runs in a process that has imported everything (benchmarks/resident.py), so that its start is not in
the figures: to subtract it would leave its noise, as it takes a third of the time of a folder that is held.
"""

import argparse
import shutil
import signal
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import NamedTuple

from benchmarks import many, needs
from benchmarks.bucket import Bucket
from benchmarks.course import LOOP, OBSTORE, WRK, Course
from benchmarks.lineup import Unsynced, WSGIStore
from benchmarks.rclone import Rclone
from benchmarks.report import figures_table, print_goals
from benchmarks.resident import Resident
from benchmarks.targets import OURS, Goal
from benchmarks.work import Figures, Key
from tests.support import ceph

ROUNDS = 5
FILES = 10_000
MEMORY, DISK, BUCKET = "folders", "folders, on disk", "folders, in a bucket"
TITLES = {
    "new": "put -r, new files",
    "tree": "put -r --tree, new files",
    "held": "put -r, all held",
    "held tree": "put -r --tree, all held",
    "get": "get -r, new folder",
    "there": "get -r, all there",
}
RATES = {work: f"{title}, files/s" for work, title in TITLES.items()}
COSTS = {
    f"{work}, {side}": f"{title}, {side}, µs of a processor"
    for work, title in TITLES.items()
    for side in many.SIDES
}


def goals() -> Iterator[Goal]:
    """Return the goals."""
    new, held = Key(MEMORY, "new", OURS), Key(MEMORY, "held", OURS)
    get, durable = new._replace(work="get"), new._replace(place=DISK)
    stored = new._replace(place=BUCKET)
    yield Goal("put -r, new files, unsynced ÷ POSTs by wrk", 1.5, new, new._replace(server=WRK))
    yield Goal("put -r, new files, durable ÷ POSTs by wrk", 2.0, durable, durable._replace(server=WRK))
    yield Goal("put -r, all held ÷ bare loop", 0.4, held, held._replace(server=LOOP))
    yield Goal("get -r ÷ GETs by wrk", 1.0, get, get._replace(server=WRK))
    yield Goal("put -r, new files, bucket ÷ puts by obstore", 0.8, stored, stored._replace(server=OBSTORE))


class Fresh(Bucket):
    """This project on a part of the bucket that is empty."""

    def environ(self) -> dict[str, str]:
        """Return the settings."""
        return {**super().environ(), "WSGI_STORE_ROOT": f"s3://{ceph.BUCKET}/{self.directory.name}"}


def in_memory(course: Course, directory: Path, rounds: int) -> None:
    """Measure unsynced servers in memory."""
    with Unsynced(directory / "unsynced") as server, Rclone(directory / "rclone") as rclone:
        server.keep()
        works = [course.new, course.posts, course.held, course.whole, course.gets]
        for _ in range(rounds):
            course.take_turns(*(partial(work, server) for work in works), partial(course.rclone, rclone))
            server.clear()
            shutil.rmtree(rclone.data)
            rclone.data.mkdir()


def on_disk(course: Course, directory: Path, rounds: int) -> None:
    """Measure a server that syncs."""
    with WSGIStore(directory / "durable", sync=True) as server:
        server.keep()
        for _ in range(rounds):
            course.take_turns(partial(course.new, server), partial(course.posts, server))
            server.clear()


def in_a_bucket(course: Course, directory: Path, rounds: int) -> None:
    """Measure a server in front of a bucket, beside a client of the bucket."""
    ceph.cluster()
    for number in range(rounds):
        with Fresh(directory / f"folders-{number}") as server:
            course.take_turns(partial(course.new, server), partial(course.puts, f"direct-{number}"))


class Place(NamedTuple):
    """A place of measurements, and the programs that they need."""

    title: str
    measure: Callable[[Course, Path, int], None]
    programs: Sequence[str]


PLACES = {
    "memory": Place(MEMORY, in_memory, ["wrk"]),
    "disk": Place(DISK, on_disk, ["wrk"]),
    "bucket": Place(BUCKET, in_a_bucket, [*ceph.PROGRAMS, "setpriv"]),
}
GROWTH = "growth"


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.folders",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="default: %(default)s")
    parser.add_argument("--files", type=int, default=FILES, help="in a folder; default: %(default)s")
    parser.add_argument("--many", type=int, default=100_000, help="files that are to make memory grow")
    parser.add_argument("--lines", type=int, default=1_000_000, help="hashes that are to make memory grow")
    parser.add_argument("--seconds", type=int, default=3, help="of each load by wrk; default: %(default)s")
    parser.add_argument(
        "--places", nargs="+", default=[*PLACES, GROWTH], choices=[*PLACES, GROWTH], help="default: all"
    )
    parser.add_argument("--disk", type=Path, default="/var/tmp", help="where to make the durable store")
    parser.add_argument("--at", type=Path, default="/dev/shm", help="where to make all else")
    return parser.parse_args()


def main() -> None:
    """Measure and print the tables."""
    options = arguments()
    places = {name: place for name, place in PLACES.items() if name in options.places}
    programs = {program for place in places.values() for program in place.programs}
    needs.require("benchmarks.folders", sorted(programs))
    # SystemExit stops the servers and removes the directories.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    figures: Figures = defaultdict(dict)
    with ExitStack() as stack:
        memory, disk = (
            Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="folders-", dir=at)))
            for at in (options.at, options.disk)
        )
        resident = stack.enter_context(Resident())
        for name, place in places.items():
            course = Course(place.title, memory, resident, options, figures)
            # The first round warms up.
            place.measure(course, disk if name == "disk" else memory, options.rounds + 1)
        if GROWTH in options.places:
            many.measure(memory, options.lines, options.many, figures)
    print_goals([*goals(), *many.goals(options.lines, options.many)], figures, options.rounds)
    for place in places.values():
        print(figures_table(figures, place.title, {**RATES, **COSTS}), "\n")


if __name__ == "__main__":
    main()
