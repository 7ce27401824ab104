"""`python -m benchmarks.metrics`: the cost of metrics for a GET of 4 KiB."""

import argparse
import hashlib
import os
import statistics
import tempfile
from contextlib import ExitStack
from pathlib import Path

from benchmarks.lineup import WSGIStore
from benchmarks.load import SMALL, get

ROUNDS = 41
SECONDS = 1


class Counting(WSGIStore):
    """This project with metrics enabled."""

    title = "wsgi_store, counting"

    def environ(self) -> dict[str, str]:
        """Return the settings, with metrics enabled."""
        return {**super().environ(), "WSGI_STORE_METRICS": "on"}


def main() -> None:
    """Measure both in turn; print the medians, and the median of the ratios."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.metrics", description=__doc__)
    parser.add_argument("--memory", default="/dev/shm", type=Path, help="where to make the stores")
    parser.add_argument("--rounds", default=ROUNDS, type=int, help="default: 41")
    options = parser.parse_args()
    rates: dict[str, list[float]] = {WSGIStore.title: [], Counting.title: []}
    with (
        tempfile.TemporaryDirectory(prefix="benchmark-", dir=options.memory) as directory,
        ExitStack() as stack,
    ):
        servers = [stack.enter_context(kind(Path(directory, kind.title))) for kind in (WSGIStore, Counting)]
        source = Path(directory, "blob")
        source.write_bytes(os.urandom(SMALL))
        digest = hashlib.sha256(source.read_bytes()).hexdigest()
        for server in servers:
            server.place(source, digest)
        for number in range(options.rounds + 1):
            for server in servers[:: -1 if number % 2 else 1]:
                rate = get(server, digest, SECONDS).rate
                if number:  # the first round warms up
                    rates[server.title].append(rate)
    for title, found in rates.items():
        print(f"{title}: {statistics.median(found):,.0f} GETs of 4 KiB a second")
    ratios = sorted(counting / plain for plain, counting in zip(*rates.values(), strict=True))
    print(f"ratio {statistics.median(ratios):.3f} ({ratios[0]:.3f}-{ratios[-1]:.3f})")


if __name__ == "__main__":
    main()
