"""`python -m benchmarks.bucket`: this project on a bucket, compared with direct use of the object store.

The object store is the Ceph cluster that the tests start. Client, service and Ceph share the processors
of one machine.
"""

import argparse
import base64
import itertools
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import obstore
from obstore.store import S3Store

from benchmarks import load, needs
from benchmarks.alone import highest
from benchmarks.client import MIB, Body, Connection, Failure, Payload
from benchmarks.lineup import Unsynced, WSGIStore
from benchmarks.report import table
from benchmarks.servers import Server, head
from tests.support import ceph

DIRECT, S3CMD = "obstore, direct", "s3cmd"
PROXIED, REDIRECTED, LOCAL = "wsgi_store", "wsgi_store, redirecting", "wsgi_store on tmpfs"
ANNOUNCED = "wsgi_store, hash announced"
TURNS = itertools.count()


class Bucket(WSGIStore):
    """This project on a bucket, with staging on tmpfs."""

    title = PROXIED
    redirect = "never"

    def environ(self) -> dict[str, str]:
        """Return the settings; the AWS variables hold the endpoint and the keys."""
        return {
            **super().environ(),
            "WSGI_STORE_ROOT": f"s3://{ceph.BUCKET}/bench",
            "WSGI_STORE_S3_STAGING": str(self.data),
            "WSGI_STORE_REDIRECT": self.redirect,
        }


class Redirecting(Bucket):
    """This project on a bucket, with downloads redirected to the object store."""

    title = REDIRECTED
    redirect = "always"


class Figures(defaultdict[tuple[str, str], list[float]]):
    """The figures of all rounds, by work and server."""

    def __init__(self) -> None:
        super().__init__(list)

    def ratio(self, work: str, ours: str, other: str, of: str | None = None) -> str:
        """Return the median of the ratios taken in each round."""
        pairs = zip(self[work, ours], self[of or work, other], strict=True)
        return f"{statistics.median(one / two for one, two in pairs):.2f} ×"


def located(server: Server, path: str) -> tuple[int, str]:
    """Return the port and the target of the URL that a download is redirected to."""
    with Connection(server.port) as connection:
        answer = connection.ask(head("GET", path))
    url = urlsplit(answer.field("Location") or "")
    if answer.status != 307 or url.port is None:
        raise Failure(f"{server.title} answered {answer.status}, not 307")
    return url.port, f"{url.path}?{url.query}"


def download(port: int, target: str, size: int) -> None:
    """Download a blob and discard it."""
    with Connection(port) as connection:
        answer = connection.download(head("GET", target))
    if answer != (200, size):
        raise Failure(f"answered {answer}, not {(200, size)}")


def puts(client: S3Store, seconds: float) -> float:
    """Put 4 KiB objects in one thread per connection of wrk; return the objects per second."""
    counts: list[int] = []
    end = time.monotonic() + seconds
    body = b"x" * load.SMALL

    def put() -> None:
        count = 0
        while time.monotonic() < end:
            obstore.put(client, f"small/{random.randbytes(16).hex()}", body, mode="create")
            count += 1
        counts.append(count)

    threads = [threading.Thread(target=put) for _ in range(load.CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / seconds


class Round:
    """One round: upload and download a large file and many small ones on every server."""

    def __init__(self, directory: Path, size: int, seconds: float, payload: Payload, found: Figures) -> None:
        self.directory = directory
        self.size = size
        self.seconds = seconds
        self.found = found
        self.payload = payload
        self.body = payload.body("raw", size)
        self.client = S3Store(
            ceph.BUCKET,
            prefix="direct",
            endpoint=os.environ["AWS_ENDPOINT_URL"],
            virtual_hosted_style_request=False,
            client_options={"allow_http": True, "timeout": timedelta(hours=1)},
        )
        started = str(time.monotonic_ns())
        self.proxied = Bucket(directory / started / "bucket")
        self.redirecting = Redirecting(directory / started / "redirecting")
        self.local = Unsynced(directory / started / "local")

    def run(self) -> None:
        """Measure one round."""
        with self.proxied, self.redirecting, self.local:
            self._large()
            self._small()

    def _time(self, work: str, moves: dict[str, Callable[[], object]]) -> None:
        # The servers take turns at going first, because earlier work changes the cost of an upload.
        names = list(moves)
        first = next(TURNS) % len(names)
        for who in names[first:] + names[:first]:
            begin = time.perf_counter()
            moves[who]()
            self.found[work, who].append(self.size / (time.perf_counter() - begin) / 1e6)

    def _large(self) -> None:
        big, got = str(self.directory / "big"), str(self.directory / "got")
        # Two bodies, because the second upload of the same bytes would be a duplicate.
        path, length = f"/{self.body.digest}", self.body.size
        other = announced(self.payload.body("raw", self.size))
        uploads: dict[str, Callable[[], object]] = {
            PROXIED: lambda: upload(self.proxied, self.body),
            ANNOUNCED: lambda: upload(self.proxied, other),
            DIRECT: lambda: obstore.put(self.client, "big", Path(big), max_concurrency=4),
            S3CMD: lambda: s3cmd("put", big, f"s3://{ceph.BUCKET}/direct/other"),
        }
        self._time("upload", uploads)
        downloads: dict[str, Callable[[], object]] = {
            PROXIED: lambda: download(self.proxied.port, path, length),
            REDIRECTED: lambda: download(*located(self.redirecting, path), length),
            DIRECT: lambda: sum(map(len, obstore.get(self.client, "big").stream(MIB))),
            S3CMD: lambda: s3cmd("get", f"s3://{ceph.BUCKET}/direct/other", got),
        }
        for _ in downloads:
            self._time("download", downloads)
        with Connection(self.proxied.port) as connection:
            connection.ask(head("DELETE", path))
            connection.ask(head("DELETE", f"/{other.digest}"))
        obstore.delete(self.client, ["big", "other"])

    def _small(self) -> None:
        file = self.directory / "small"
        hash_ = self.payload.write(file, load.SMALL)
        for server in (self.proxied, self.local):
            with Connection(server.port) as connection:
                answer = connection.ask(
                    head("POST", "/", f"Content-Length: {load.SMALL}") + file.read_bytes()
                )
            if answer.status != 200:
                raise Failure(f"{server.title} answered {answer.status}")
        titles = {PROXIED: self.proxied, REDIRECTED: self.redirecting, LOCAL: self.local}
        for title, server in titles.items():
            self.found["get", title].append(load.get(server, hash_, self.seconds).rate)
        port, target = located(self.redirecting, f"/{hash_}")
        self.found["get", DIRECT].append(load.wrk(port, head("GET", target), self.seconds).rate)
        self.found["post", PROXIED].append(load.post(self.proxied, "", self.seconds).rate)
        self.found["post", DIRECT].append(puts(self.client, self.seconds))


def upload(server: Server, body: Body) -> None:
    """Upload a blob."""
    with Connection(server.port) as connection:
        server.upload(connection, body)


def announced(body: Body) -> Body:
    """Return the same body with its hash announced in a header, as `wsgi-store put` does."""
    field = base64.b64encode(bytes.fromhex(body.digest)).decode()
    return replace(body, fields=(f"Repr-Digest: sha-256=:{field}:",))


def s3cmd(*arguments: str) -> None:
    """Run s3cmd, a plain S3 client."""
    host = urlsplit(os.environ["AWS_ENDPOINT_URL"]).netloc
    options = ["--no-ssl", "--no-progress", "--quiet", "--force", "--no-check-md5"]
    options += [f"--access_key={ceph.KEY}", f"--secret_key={ceph.SECRET}"]
    options += [f"--host={host}", f"--host-bucket={host}"]
    program = str(Path(sys.executable).with_name("s3cmd"))
    subprocess.run([program, *options, *arguments], check=True, timeout=600)


def growth(directory: Path, size: int, payload: Payload) -> dict[str, float]:
    """Return the growth of the server's memory during transfers of a large file, in MiB."""
    body = payload.body("raw", size)
    found = {}
    with Bucket(directory / "growth") as server:
        with Connection(server.port) as connection:
            connection.ask(head("GET", "/readyz"))
        for what, move in {
            "upload, hash announced": lambda: upload(server, announced(payload.body("raw", size))),
            "upload": lambda: upload(server, body),
            "download": lambda: download(server.port, f"/{body.digest}", body.size),
        }.items():
            before = sum(server.pss())
            found[what] = (highest(server, move) - before) / MIB
    return found


def main() -> None:
    """Measure and print the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bucket", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", type=int, default=1 << 30, help="size of the large file, in bytes")
    parser.add_argument("--seconds", type=float, default=2, help="duration of each load of small requests")
    options = parser.parse_args()
    needs.require("make bench-s3", [*ceph.PROGRAMS, "setpriv", "wrk"])
    ceph.cluster()
    found = Figures()
    with tempfile.TemporaryDirectory(prefix="benchmark-", dir="/dev/shm") as name:
        directory = Path(name)
        with closing(Payload(directory)) as payload:
            payload.write(directory / "big", options.size)
            for number in range(options.rounds):
                print(f"round {number + 1} of {options.rounds}", file=sys.stderr)
                Round(directory, options.size, options.seconds, payload, found).run()
            show(found, growth(directory, options.size, payload))


def show(found: Figures, grown: dict[str, float]) -> None:
    """Print the tables."""
    rows = []
    for (work, who), values in sorted(found.items()):
        unit = "MB/s" if work in ("upload", "download") else "/s"
        median = statistics.median(values)
        rows.append([work, who, f"{median:,.0f} {unit} ({min(values):,.0f}–{max(values):,.0f})"])
    print(table(["work", "by", "median (range)"], rows))
    print()
    ratios = [
        ("upload ÷ obstore, direct", "≥ 0.8 ×", found.ratio("upload", PROXIED, DIRECT)),
        ("upload, hash announced ÷ obstore, direct", "≥ 0.8 ×", found.ratio("upload", ANNOUNCED, DIRECT)),
        ("download ÷ obstore, direct", "≥ 0.8 ×", found.ratio("download", PROXIED, DIRECT)),
        ("download by redirect ÷ obstore, direct", "≥ 0.8 ×", found.ratio("download", REDIRECTED, DIRECT)),
        ("redirects ÷ GET of 4 KiB on tmpfs", "≥ 0.9 ×", found.ratio("get", REDIRECTED, LOCAL)),
        ("GET of 4 KiB ÷ the object store itself", "", found.ratio("get", PROXIED, DIRECT)),
        ("POST of 4 KiB ÷ obstore, direct", "", found.ratio("post", PROXIED, DIRECT)),
        *((f"memory growth, {what}", "≤ 64 MiB", f"{value:.0f} MiB") for what, value in grown.items()),
    ]
    print(table(["ratio", "target", "median of the rounds"], ratios))


if __name__ == "__main__":
    main()
