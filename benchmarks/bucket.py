"""`python -m benchmarks.bucket`: this project on a bucket, beside direct use of the same object store.

The object store is the Ceph that the tests start, so that programs of Debian's packages ceph-mon,
ceph-osd, ceph-common and radosgw are needed; all of it shares the processors of this machine.
"""

import argparse
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack, closing
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import obstore
from obstore.store import S3Store

from benchmarks import load
from benchmarks.alone import highest
from benchmarks.client import MIB, Connection, Failure, Payload
from benchmarks.lineup import Unsynced, WSGIStore
from benchmarks.report import table
from benchmarks.servers import Server, head
from tests import ceph

GIB = 1 << 30
DIRECT, S3CMD = "obstore, direct", "s3cmd"
PROXIED, REDIRECTED, LOCAL = "wsgi_store", "wsgi_store, redirecting", "wsgi_store on tmpfs"


class Bucket(WSGIStore):
    """This project on a bucket; uploads are received on tmpfs."""

    title = PROXIED
    redirect = "never"

    def environ(self) -> dict[str, str]:
        """As told by the variables of AWS."""
        return {
            **super().environ(),
            "WSGI_STORE_ROOT": f"s3://{ceph.BUCKET}/bench",
            "WSGI_STORE_S3_STAGING": str(self.data),
            "WSGI_STORE_REDIRECT": self.redirect,
        }


class Redirecting(Bucket):
    """The same, where downloads are sent to the object store."""

    title = REDIRECTED
    redirect = "always"


class Figures(defaultdict[tuple[str, str], list[float]]):
    """Every figure by work and by who did it."""

    def __init__(self) -> None:
        super().__init__(list)

    def ratio(self, work: str, ours: str, other: str, of: str | None = None) -> str:
        """The median of the ratios within the rounds."""
        pairs = zip(self[work, ours], self[of or work, other], strict=True)
        return f"{statistics.median(one / two for one, two in pairs):.2f} ×"


def timed(size: int, move: Callable[[], object]) -> float:
    """How fast something moves so many bytes, in MB/s."""
    begin = time.perf_counter()
    move()
    return size / (time.perf_counter() - begin) / 1e6


def located(server: Server, path: str) -> tuple[int, str]:
    """The port and the target of the URL that a download is sent to."""
    with Connection(server.port) as connection:
        answer = connection.ask(head("GET", path))
    url = urlsplit(answer.field("Location") or "")
    if answer.status != 307 or url.port is None:
        raise Failure(f"{server.title} answered {answer.status}, not 307")
    return url.port, f"{url.path}?{url.query}"


def download(port: int, target: str, size: int) -> None:
    """Get a blob and drop it."""
    with Connection(port) as connection:
        answer = connection.download(head("GET", target))
    if answer != (200, size):
        raise Failure(f"answered {answer}, not {(200, size)}")


def puts(client: S3Store, seconds: float) -> float:
    """Objects of 4 KiB that as many threads as there are connections elsewhere put, in objects a second."""
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


def one_round(
    stack: ExitStack, directory: Path, size: int, seconds: float, payload: Payload, found: Figures
) -> None:
    """Move a large file and many small ones each way."""
    servers: list[Server] = [
        kind(directory / f"{kind.__name__}{time.monotonic_ns()}") for kind in (Bucket, Redirecting, Unsynced)
    ]
    for server in servers:
        stack.enter_context(server)
    proxied, redirecting, local = servers
    client = S3Store(
        ceph.BUCKET,
        prefix="direct",
        endpoint=os.environ["AWS_ENDPOINT_URL"],
        virtual_hosted_style_request=False,
        client_options={"allow_http": True, "timeout": timedelta(hours=1)},
    )
    big = directory / "big"
    body = payload.body("raw", size)

    def send() -> None:
        with Connection(proxied.port) as connection:
            proxied.upload(connection, body)

    found["upload", PROXIED].append(timed(size, send))
    found["upload", DIRECT].append(
        timed(size, lambda: obstore.put(client, "big", big, chunk_size=8 << 20, max_concurrency=4))
    )
    s3cmd = [
        "s3cmd", "--no-ssl", "--no-progress", "--quiet", "--force", "--no-check-md5",
        f"--access_key={ceph.KEY}", f"--secret_key={ceph.SECRET}",
        f"--host={urlsplit(os.environ['AWS_ENDPOINT_URL']).netloc}",
        f"--host-bucket={urlsplit(os.environ['AWS_ENDPOINT_URL']).netloc}",
    ]  # fmt: skip
    if shutil.which("s3cmd"):
        put = [*s3cmd, "put", str(big), f"s3://{ceph.BUCKET}/direct/other"]
        found["upload", S3CMD].append(timed(size, lambda: subprocess.run(put, check=True, timeout=600)))
    path = f"/{body.digest}"
    found["download", PROXIED].append(timed(size, lambda: download(proxied.port, path, body.size)))
    found["download", REDIRECTED].append(
        timed(size, lambda: download(*located(redirecting, path), body.size))
    )

    def get() -> None:
        for _ in obstore.get(client, "big").stream(min_chunk_size=MIB):
            pass

    found["download", DIRECT].append(timed(size, get))
    if shutil.which("s3cmd"):
        got = [*s3cmd, "get", f"s3://{ceph.BUCKET}/direct/other", str(directory / "got")]
        found["download", S3CMD].append(timed(size, lambda: subprocess.run(got, check=True, timeout=600)))
    with Connection(proxied.port) as connection:
        connection.ask(head("DELETE", path))
    obstore.delete(client, ["big", "other"])
    small = payload.write(directory / "small", load.SMALL)
    data = (directory / "small").read_bytes()
    for server in (proxied, local):
        with Connection(server.port) as connection:
            answer = connection.ask(head("POST", "/", f"Content-Length: {len(data)}") + data)
        if answer.status != 200:
            raise Failure(f"{server.title} answered {answer.status}")
    for server, title in ((proxied, PROXIED), (redirecting, REDIRECTED), (local, LOCAL)):
        found["get", title].append(load.get(server, small, seconds).rate)
    port, target = located(redirecting, f"/{small}")
    found["get", DIRECT].append(load.wrk(port, head("GET", target), seconds).rate)
    found["post", PROXIED].append(load.post(proxied, "", seconds).rate)
    found["post", DIRECT].append(puts(client, seconds))


def growth(directory: Path, size: int, payload: Payload) -> dict[str, float]:
    """The MiB by which the server's memory grows while a large file moves."""
    body = payload.body("raw", size)
    with Bucket(directory / "growth") as server:

        def send() -> None:
            with Connection(server.port) as connection:
                server.upload(connection, body)

        def receive() -> None:
            download(server.port, f"/{body.digest}", body.size)

        with Connection(server.port) as connection:
            connection.ask(head("GET", "/readyz"))
        found = {}
        for what, move in {"upload": send, "download": receive}.items():
            before = sum(server.pss())
            found[what] = (highest(server, move) - before) / MIB
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bucket", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", type=int, default=GIB, help="of the large file, in bytes")
    parser.add_argument("--seconds", type=float, default=2, help="of each load of small requests")
    options = parser.parse_args()
    ceph.cluster()
    found = Figures()
    with tempfile.TemporaryDirectory(prefix="benchmark-", dir="/dev/shm") as name:
        directory = Path(name)
        with closing(Payload(directory)) as payload:
            payload.write(directory / "big", options.size)
            for number in range(options.rounds):
                print(f"round {number + 1} of {options.rounds}", file=sys.stderr)
                with ExitStack() as stack:
                    one_round(stack, directory, options.size, options.seconds, payload, found)
            grown = growth(directory, options.size, payload)
    rows = []
    for (work, who), values in sorted(found.items()):
        unit = "MB/s" if work in ("upload", "download") else "/s"
        median = statistics.median(values)
        rows.append([work, who, f"{median:,.0f} {unit} ({min(values):,.0f}–{max(values):,.0f})"])
    print(table(["work", "by", "median (range)"], rows))
    print()
    ratios = [
        ("upload ÷ obstore, direct", "≥ 0.8 ×", found.ratio("upload", PROXIED, DIRECT)),
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
