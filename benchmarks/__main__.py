"""`python -m benchmarks`: measure, print the tables, write RESULTS.md and the plot."""

import argparse
import signal
import sys
import tempfile
import time
from contextlib import ExitStack, closing
from pathlib import Path

from benchmarks import alone, growth, lineup, needs, report
from benchmarks.client import UNIT, Payload
from benchmarks.durable import BareLoop
from benchmarks.load import SMALL
from benchmarks.servers import Server
from benchmarks.work import BY_WRK, WORKS, Bench, Work, prepare, rounds

PLACES = ("memory", "disk", "alone", "growth")
ON_MEMORY: list[type[Server]] = [
    lineup.WSGIStore,
    lineup.UWSGI,
    lineup.Limit,
    lineup.Stock,
    lineup.Pipeline,
    lineup.Nginx,
    lineup.Direct,
    lineup.Registry,
    lineup.Naive,
]
ON_DISK: list[type[Server]] = [
    lineup.WSGIStore,
    lineup.Unsynced,
    lineup.Pipeline,
    lineup.Nginx,
    lineup.Registry,
    lineup.Copyparty,
    lineup.Naive,
    BareLoop,
]
ALONE: list[type[Server]] = [
    lineup.WSGIStore,
    lineup.Limit,
    lineup.Nginx,
    lineup.Registry,
    lineup.Copyparty,
    lineup.Naive,
]
GIB = 1 << 30


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller files and fewer rounds")
    parser.add_argument("--rounds", type=int, help="the number of rounds")
    parser.add_argument(
        "--places", nargs="+", choices=PLACES, default=PLACES, metavar="PLACE", help="%(choices)s"
    )
    parser.add_argument(
        "--peers", nargs="+", metavar="NAME", help="compare with these servers only (part of a title)"
    )
    parser.add_argument("--work", nargs="+", choices=[work.name for work in WORKS], help="do only this work")
    parser.add_argument("--memory", default="/dev/shm", type=Path, help="a directory on tmpfs")
    parser.add_argument("--disk", default="/var/tmp", type=Path, help="a directory on a disk")
    parser.add_argument(
        "--grow",
        default="memory",
        choices=("memory", "disk"),
        help="where to make the growing store; removing a million files from a disk takes minutes",
    )
    parser.add_argument("--dry", action="store_true", help="print, do not write RESULTS.md and the plot")
    return parser.parse_args()


def main() -> None:
    """Measure what the command line selects."""
    options = arguments()
    together_at = {"memory", "disk"} & {*options.places}
    if together_at and any(work.name in BY_WRK for work in chosen_works(options)):
        needs.require("make bench", ["wrk"])
    # SystemExit stops the servers and removes the directories.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    begin = time.monotonic()
    quick = options.quick
    counts = (1_000, 100_000 if quick else 1_000_000)
    with ExitStack() as stack:
        directories = {
            place: Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="benchmark-", dir=parent)))
            for place, parent in (("memory", options.memory), ("disk", options.disk))
        }
        payload = stack.enter_context(closing(Payload(directories["memory"])))
        bench = Bench(
            payload,
            rounds=options.rounds or (2 if quick else 5),
            size=4 * UNIT if quick else GIB,
            transfer=GIB if quick else 4 * GIB,
            seconds=1 if quick else 2,
        )
        measure(options, directories, counts, bench)
    how = f" with `{' '.join(sys.argv[1:])}`" if sys.argv[1:] else ""
    text = report.text(bench, (growth.title(counts[0]), growth.title(counts[1])), how)
    print(text)
    if not options.dry:
        # Imported late, to keep the client small while it measures.
        from benchmarks import plot  # pylint: disable=import-outside-toplevel

        report.write(text)
        plot.write(bench.figures)
    print(f"measured in {(time.monotonic() - begin) / 60:.1f} minutes", file=sys.stderr)


def chosen_works(options: argparse.Namespace) -> list[Work]:
    """Return the selected work."""
    return [work for work in WORKS if not options.work or work.name in options.work]


def measure(
    options: argparse.Namespace, directories: dict[str, Path], counts: tuple[int, int], bench: Bench
) -> None:
    """Measure at each selected place."""
    missing = needs.missing(sorted(set(lineup.PROGRAMS.values())))
    if missing:
        bench.note(f"skipped, not installed: {needs.told(missing)}")

    def chosen(kinds: list[type[Server]]) -> list[type[Server]]:
        wanted = ["wsgi_store", *options.peers] if options.peers else [""]
        found = [kind for kind in kinds if any(part in kind.title for part in wanted)]
        return [kind for kind in found if lineup.PROGRAMS.get(kind) not in missing]

    works = chosen_works(options)
    for place, kinds in (("memory", ON_MEMORY), ("disk", ON_DISK)):
        if place in options.places:
            together(place, chosen(kinds), directories[place], works, bench)
    if "alone" in options.places:
        big = directories["disk"] / "alone.big"
        bench.big = bench.payload.write(big, bench.size)
        alone.measure(chosen(ALONE), directories["disk"], big, bench)
    if "growth" in options.places:
        growth.measure(directories[options.grow], counts, bench)


def together(place: str, kinds: list[type[Server]], directory: Path, works: list[Work], bench: Bench) -> None:
    """Run servers side by side and give each the same work."""
    big, small = directory / "big", directory / "small"
    bench.big = bench.payload.write(big, bench.size)
    bench.small = bench.payload.write(small, SMALL)
    servers = [kind(directory / kind.__name__, sync=place == "disk") for kind in kinds]
    try:
        rounds(place, prepare(servers, bench, big, small), works, bench)
    finally:
        for server in servers:
            server.stop()


if __name__ == "__main__":
    main()
