"""Compare this project's counting with that of prometheus-client: `python -m benchmarks.counting`.

Both use a shared directory on tmpfs, without a server. Measured are the time to count one duration, and the
time to add everything up after many processes have counted and ended.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from benchmarks.report import table

ROUNDS = 7
COUNTED = 100_000
SUMMED = 10
# The number of series of a worker that has answered a few routes.
SERIES = 20
BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)

Counter = list[Callable[[float], object]]


def ours(directory: str) -> tuple[Counter, Callable[[], object]]:
    """Return the functions that count in each series, and the one that adds them up."""
    # pylint: disable-next=import-outside-toplevel
    from wsgi_store.metrics.shared import Counts, Durations, Key

    counts = Counts(directory)
    series = [Durations(counts, Key("seconds", (str(number),)), BOUNDS) for number in range(SERIES)]
    return [one.add for one in series], counts.totals


def theirs(directory: str) -> tuple[Counter, Callable[[], object]]:
    """Return the same functions of prometheus-client in its multiprocess mode."""
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = directory
    # It reads the environment when it is imported.
    # pylint: disable-next=import-outside-toplevel
    from prometheus_client import CollectorRegistry, Histogram

    # pylint: disable-next=import-outside-toplevel
    from prometheus_client.multiprocess import MultiProcessCollector

    histogram = Histogram("seconds", "Seconds.", ["number"], buckets=BOUNDS, registry=CollectorRegistry())
    collector = MultiProcessCollector(None, directory)
    series = [histogram.labels(str(number)) for number in range(SERIES)]
    return [one.observe for one in series], lambda: list(collector.collect())


def in_a_child(work: Callable[[], float]) -> float:
    """Run a function in a new process and return its result."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        with suppress(BaseException):
            os.write(writing, str(work()).encode())
        os._exit(0)
    os.close(writing)
    with open(reading, encoding="ascii") as pipe:
        result = float(pipe.read())
    os.waitpid(child, 0)
    return result


def microseconds(counter: Counter) -> float:
    """Return the time to count one duration, in microseconds."""
    begin = time.perf_counter()
    for number in range(COUNTED):
        counter[number % SERIES](0.003)
    return (time.perf_counter() - begin) / COUNTED * 1e6


def measure(
    make: Callable[[str], tuple[Counter, Callable[[], object]]], directory: str, ended: int
) -> list[str]:
    """Return a row of the table."""
    counter, add_up = make(directory)

    def summed() -> float:
        add_up()
        begin = time.perf_counter()
        for _ in range(SUMMED):
            add_up()
        return (time.perf_counter() - begin) / SUMMED * 1000

    def count() -> float:
        for one in counter:
            one(0.003)
        return 0.0

    costs = [in_a_child(lambda: microseconds(counter)) for _ in range(ROUNDS)]
    few = summed()
    for _ in range(ended):
        in_a_child(count)
    many = summed()
    files = list(Path(directory).iterdir())
    held = sum(file.stat().st_blocks for file in files) * 512
    cells = [
        f"{statistics.median(costs):.2f}",
        f"{few:.2f}",
        f"{many:.2f}",
        str(len(files)),
        f"{held / 1024:,.0f}",
    ]
    return [make.__name__, *cells]


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.counting",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--ended", type=int, default=500, help="the number of ended processes; default: %(default)s"
    )
    parser.add_argument("--memory", default="/dev/shm", type=Path, help="where to make the directories")
    options = parser.parse_args()
    rows = []
    for make in (ours, theirs):
        with tempfile.TemporaryDirectory(prefix="counting-", dir=options.memory) as directory:
            rows.append(measure(make, directory, options.ended))
    few, many = (f"sum of {number} processes, ms" for number in (ROUNDS, ROUNDS + options.ended))
    print(table(["", "to count, µs", few, many, "files", "KiB"], rows))


if __name__ == "__main__":
    main()
