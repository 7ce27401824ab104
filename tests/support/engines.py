"""Object stores other than Ceph, and a proxy that counts or changes what they answer."""

import http.client
import http.server
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from tests.support.ceph import s3_environ

PROGRAMS = Path(sys.executable).parent
BUCKET = "blobs"
KEY, SECRET = "tests", "not-a-secret-of-anybody"
SECONDS = 60


@dataclass(frozen=True)
class Engine:
    """A running object store."""

    endpoint: str

    @property
    def environ(self) -> dict[str, str]:
        """The environment that a client needs to reach it."""
        return s3_environ(self.endpoint, KEY, SECRET)

    @property
    def client(self) -> Any:
        """An S3 client independent of the project."""
        return botocore.session.get_session().create_client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=KEY,
            aws_secret_access_key=SECRET,
            region_name="us-east-1",
            config=Config(retries={"total_max_attempts": 1}),
        )

    def objects(self, prefix: str = "") -> dict[str, bytes]:
        """The objects in the bucket, by key."""
        client = self.client
        listed = client.list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", ())
        return {one["Key"]: self.read(one["Key"]) for one in listed}

    def read(self, key: str) -> bytes:
        """The bytes of an object."""
        body: bytes = self.client.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        return body

    def write(self, key: str, data: bytes) -> None:
        """Put an object in the bucket, as a program that copies a store does."""
        self.client.put_object(Bucket=BUCKET, Key=key, Body=data)


def rclone(directory: Path, port: int) -> list[str]:
    """`rclone serve s3` on a directory."""
    (directory / "rclone" / BUCKET).mkdir(parents=True)
    keys = f"{KEY},{SECRET}"
    return ["rclone", "serve", "s3", "--addr", f"127.0.0.1:{port}", "--auth-key", keys, f"{directory}/rclone"]


def seaweedfs(directory: Path, port: int) -> list[str]:
    """SeaweedFS, all its servers in one process."""
    (directory / "weed").mkdir()
    credentials = [{"accessKey": KEY, "secretKey": SECRET}]
    identity = {"name": KEY, "credentials": credentials, "actions": ["Admin", "Read", "Write", "List"]}
    (directory / "s3.json").write_text(json.dumps({"identities": [identity]}), encoding="utf-8")
    ports = iter(free_ports(7))
    names = ("master.port", "master.port.grpc", "volume.port", "volume.port.grpc")
    names += ("filer.port", "filer.port.grpc", "s3.port.grpc")
    options = [f"-{name}={next(ports)}" for name in names]
    options += [f"-s3.port={port}", f"-s3.config={directory}/s3.json", "-filer", "-s3"]
    options += ["-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-master.volumeSizeLimitMB=64"]
    options += ["-master.telemetry=false", "-s3.port.iceberg=0", "-s3.port.lance=0"]
    options += [f"-{name}.localSocket={directory}/{name}.sock" for name in ("filer", "s3")]
    return ["weed", "server", f"-dir={directory}/weed", *options]


def moto(_: Path, port: int) -> list[str]:
    """moto's server, which keeps everything in memory."""
    return ["moto_server", "-H", "127.0.0.1", "-p", str(port)]


Start: TypeAlias = Callable[[Path, int], list[str]]


@contextmanager
def running(start: Start, directory: Path) -> Iterator[Engine]:
    """Run an object store with an empty bucket."""
    (port,) = free_ports(1)
    program, *arguments = start(directory, port)
    log = directory / "engine.log"
    with (
        log.open("wb") as output,
        subprocess.Popen(
            [str(PROGRAMS / program), *arguments],
            cwd=directory,
            env=os.environ | {"HOME": str(directory)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        ) as process,
    ):
        try:
            engine = Engine(f"http://127.0.0.1:{port}")
            end = time.monotonic() + SECONDS
            while not _has_bucket(engine):
                assert process.poll() is None and time.monotonic() < end, log.read_text()
                time.sleep(0.1)
            yield engine
        finally:
            process.kill()
            process.wait()
            for number in re.findall(r"=(\d{4,5})\b", " ".join(arguments)):  # SeaweedFS does not remove them
                for left in Path("/tmp").glob(f"*-grpc-{number}.sock"):
                    left.unlink()


def _has_bucket(engine: Engine) -> bool:
    client = engine.client
    try:
        with suppress(ClientError):  # rclone has made the bucket from the directory
            client.create_bucket(Bucket=BUCKET)
        client.put_object(Bucket=BUCKET, Key="ready", Body=b"?")
        client.delete_object(Bucket=BUCKET, Key="ready")
    except (BotoCoreError, ClientError):
        return False
    return True


def free_ports(count: int) -> list[int]:
    """This many free ports of this machine."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [one.getsockname()[1] for one in sockets]


@dataclass
class Request:
    """A request to an object store."""

    method: str
    path: str
    fields: dict[str, str]
    """By names in small letters."""

    def to(self, place: str) -> bool:
        """Whether the path contains this text."""
        return place in self.path


Answer: TypeAlias = tuple[int, bytes] | None


@dataclass
class Between:
    """A proxy in front of an object store that forwards requests or answers them itself."""

    url: str = ""
    seen: list[Request] = field(default_factory=list)
    answer: Callable[[Request], Answer] = lambda _: None

    def count(self, place: str, method: str = "") -> int:
        """The number of requests whose path contains this text."""
        return sum(one.to(place) and one.method.startswith(method) for one in self.seen)


@contextmanager
def between(port: int) -> Iterator[Between]:
    """Run a proxy in front of the object store at a port."""
    proxy = Between()

    class Handler(http.server.BaseHTTPRequestHandler):
        """Forwards the requests of a connection one by one."""

        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def _handle(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            fields = {name.lower(): value for name, value in self.headers.items()}
            request = Request(self.command, self.path, fields)
            proxy.seen.append(request)
            own = proxy.answer(request)
            if own is not None:
                status, data = own
                answered = {
                    "Content-Length": str(len(data)),
                    "ETag": '"0"',
                    "Content-Type": "application/xml",
                }
            else:
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
                try:
                    # With the same Host, because it is signed.
                    connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
                    for name, value in self.headers.items():
                        connection.putheader(name, value)
                    connection.endheaders(body)
                    response = connection.getresponse()
                    status, data = response.status, response.read()
                    answered = dict(response.getheaders())
                finally:
                    connection.close()
            self.send_response_only(status)
            for name, value in answered.items():
                if name.lower() not in ("connection", "transfer-encoding", "keep-alive"):
                    self.send_header(name, value)
            if "content-length" not in map(str.lower, answered) and status not in (204, 304):
                self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _handle

        def log_message(self, *_: object) -> None:  # pylint: disable=arguments-differ
            """Log nothing."""

    class Server(http.server.ThreadingHTTPServer):
        """Does not wait for its threads, because clients keep their connections open."""

        daemon_threads = True
        block_on_close = False
        request_queue_size = 100

        def handle_error(self, *_: object) -> None:  # pylint: disable=arguments-differ
            """Ignore errors, because clients may disconnect."""

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        proxy.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield proxy
        finally:
            server.shutdown()
            thread.join()
