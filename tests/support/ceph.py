"""A real object store for tests: Ceph with one monitor, one disk in memory and one S3 gateway."""

import atexit
import contextlib
import functools
import http.client
import os
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from unittest import mock

import obstore
import pytest
from obstore.store import S3Store

from tests.support.pauses import paused

PROGRAMS = ("ceph", "ceph-mon", "ceph-osd", "monmaptool", "rados", "radosgw", "radosgw-admin")
BUCKET = "blobs"
KEY, SECRET = "tests", "not-a-secret-of-anybody"
SECONDS = 60
STARTED = "TESTS_CEPH_STARTED_BY"


def s3_environ(endpoint: str, key: str, secret: str) -> dict[str, str]:
    """The environment that an S3 client needs to reach an engine."""
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": key,
        "AWS_SECRET_ACCESS_KEY": secret,
        "AWS_REGION": "us-east-1",
    }


CONFIG = """
[global]
fsid = {fsid}
mon_host = v2:127.0.0.1:{monitor}
public_addr = 127.0.0.1
cluster_addr = 127.0.0.1
ms_bind_msgr1 = false
auth_cluster_required = none
auth_service_required = none
auth_client_required = none
ms_mon_client_mode = crc
run_dir = {directory}
admin_socket =
crash_dir = {directory}/crash
log_file =
log_to_stderr = true
mon_cluster_log_to_file = false
# Alone on a machine, and on a disk that may be nearly full.
mon_data = {directory}/mon
mon_data_avail_crit = 1
mon_data_avail_warn = 1
mon_allow_pool_size_one = true
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 4
osd_pool_default_pg_autoscale_mode = off
osd_crush_chooseleaf_type = 0
mon_max_pg_per_osd = 1000
# Decisions need no time to gather: there is nobody to agree with.
paxos_propose_interval = 0.02
paxos_min_wait = 0.01
osd_data = {directory}/osd
osd_objectstore = memstore
memstore_device_bytes = 17179869184
rgw_data = {directory}/rgw
rgw_frontends = beast endpoint=127.0.0.1:{gateway} tcp_nodelay=1
rgw_run_sync_thread = false
rgw_dynamic_resharding = false
rgw_override_bucket_index_max_shards = 1
# What was deleted leaves the memory soon.
rgw_gc_obj_min_wait = 20
rgw_gc_processor_period = 10
rgw_gc_processor_max_time = 10
"""


class Cluster:
    """The daemons, which end with this process, however it ends."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._config = directory / "ceph.conf"
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}
        monitor, self.port = _free_ports(2)
        self.endpoint = f"http://127.0.0.1:{self.port}"
        for name in ("mon", "osd", "rgw", "crash"):
            (directory / name).mkdir()
        fsid = str(uuid.uuid4())
        self._config.write_text(
            CONFIG.format(fsid=fsid, directory=directory, monitor=monitor, gateway=self.port),
            encoding="ascii",
        )
        monmap = str(directory / "monmap")
        self._run(
            "monmaptool", "--create", "--fsid", fsid, "--addv", "a", f"[v2:127.0.0.1:{monitor}]", monmap
        )
        self._run("ceph-mon", "--mkfs", "-i", "a", "--monmap", monmap)
        self._start("ceph-mon", "-i", "a")
        disk = str(uuid.uuid4())
        self._run("ceph", "osd", "new", disk, "0")
        self._run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", disk)
        self._start("ceph-osd", "-i", "0")
        keys = (f"--access-key={KEY}", f"--secret-key={SECRET}")
        self._run("radosgw-admin", "-n", "client.rgw", "user", "create", "--uid=t", "--display-name=t", *keys)
        self.start_gateway()
        self.make_bucket(BUCKET)

    @property
    def environ(self) -> dict[str, str]:
        """The environment that an S3 client needs to reach the cluster."""
        return s3_environ(self.endpoint, KEY, SECRET)

    def start_gateway(self, *before: str) -> None:
        """Start the S3 gateway unless it runs, and wait until it answers.

        `before` is a command that executes the rest of the command line.
        """
        if "radosgw" in self._daemons:
            return
        gateway = self._start("radosgw", "-n", "client.rgw", before=before)
        end = time.monotonic() + SECONDS
        while not self._answers():
            assert gateway.poll() is None and time.monotonic() < end, self._log("radosgw")
            time.sleep(0.05)

    def stop_gateway(self) -> None:
        """Kill the gateway, as in a crash."""
        gateway = self._daemons.pop("radosgw")
        gateway.kill()
        gateway.wait()

    @contextlib.contextmanager
    def hung(self) -> Iterator[None]:
        """Suspend the gateway, which then accepts connections and never answers."""
        with paused(self._daemons["radosgw"].pid):
            yield

    @contextlib.contextmanager
    def clock(self) -> Iterator[Callable[[str], object]]:
        """Run the gateway with a clock that can be set wrong, by `+1h` or the like (libfaketime)."""
        libraries = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
        if not libraries:
            pytest.skip("not installed: faketime")
        file = self._directory / "clock"
        file.write_text("+0", encoding="ascii")
        settings = (
            "FAKETIME_NO_CACHE=1",
            "FAKETIME_DONT_FAKE_MONOTONIC=1",
            f"FAKETIME_TIMESTAMP_FILE={file}",
        )
        self.stop_gateway()
        try:
            self.start_gateway("env", f"LD_PRELOAD={libraries[0]}", *settings)
            yield functools.partial(file.write_text, encoding="ascii")
        finally:
            gateway = self._daemons["radosgw"].pid
            self.stop_gateway()
            # A killed process leaves the shared memory it made for its children.
            for name in (f"faketime_shm_{gateway}", f"sem.faketime_sem_{gateway}"):
                Path("/dev/shm", name).unlink(missing_ok=True)
            self.start_gateway()

    @contextlib.contextmanager
    def suspended(self) -> Iterator[None]:
        """Suspend the keys."""
        self._run("radosgw-admin", "-n", "client.rgw", "user", "suspend", "--uid=t")
        try:
            yield
        finally:
            self._run("radosgw-admin", "-n", "client.rgw", "user", "enable", "--uid=t")

    def read_only_keys(self) -> dict[str, str]:
        """Keys of the same user that may only get and list."""
        name, *keys = "t:reader", f"--access-key={KEY}-reader", f"--secret-key={SECRET}"
        options = ("--uid=t", f"--subuser={name}", "--key-type=s3", "--access=read", *keys)
        self._run("radosgw-admin", "-n", "client.rgw", "subuser", "create", *options)
        return {"AWS_ACCESS_KEY_ID": f"{KEY}-reader", "AWS_SECRET_ACCESS_KEY": SECRET}

    def write_below(self, key: str, data: bytes) -> None:
        """Change the bytes of a small object in the storage itself, unnoticed by the gateway."""
        command = ["rados", "-c", str(self._config), "-p", "default.rgw.buckets.data"]
        listed = subprocess.run([*command, "ls"], stdout=subprocess.PIPE, timeout=SECONDS, check=True)
        (name,) = (name for name in listed.stdout.decode().splitlines() if name.endswith(f"_{key}"))
        subprocess.run([*command, "put", name, "-"], input=data, timeout=SECONDS, check=True)

    def make_bucket(self, name: str) -> None:
        """Make a bucket; obstore signs the request if it takes the bucket for a host."""
        with mock.patch.dict(os.environ, self.environ):
            root = S3Store(
                name,
                endpoint=self.endpoint,
                virtual_hosted_style_request=True,
                client_options={"allow_http": True},
            )
            url = obstore.sign(root, "PUT", name, timedelta(minutes=1))
        with urllib.request.urlopen(urllib.request.Request(url, method="PUT"), timeout=SECONDS):
            pass

    def stop(self) -> None:
        """End the daemons."""
        for daemon in reversed(self._daemons.values()):
            daemon.kill()
            daemon.wait()

    def _answers(self) -> bool:
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=2)) as connection:
            with contextlib.suppress(OSError, http.client.HTTPException):
                connection.request("GET", "/")
                return connection.getresponse().status == 200
        return False

    def _run(self, program: str, *arguments: str) -> None:
        with (self._directory / f"{program}.log").open("ab") as log:
            subprocess.run(
                [program, *([] if program == "monmaptool" else ["-c", str(self._config)]), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                timeout=SECONDS,
                check=True,
            )

    def _start(
        self, program: str, *arguments: str, before: tuple[str, ...] = ()
    ) -> "subprocess.Popen[bytes]":
        # The kernel kills it together with this process; signals from the terminal do not reach it.
        command = ["setpriv", "--pdeathsig", "KILL", *before, program, "-f", "-c", str(self._config)]
        command += arguments
        with (self._directory / f"{program}.log").open("ab") as log:
            self._daemons[program] = subprocess.Popen(  # pylint: disable=consider-using-with
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        return self._daemons[program]

    def _log(self, program: str) -> str:
        return (self._directory / f"{program}.log").read_text(encoding="utf-8", errors="replace")[-3000:]


@functools.cache
def cluster() -> Cluster:
    """The cluster of this session, started by the first test that needs it."""
    missing = [program for program in (*PROGRAMS, "setpriv") if shutil.which(program) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    directory = Path(tempfile.mkdtemp(prefix="ceph-"))
    atexit.register(shutil.rmtree, directory)
    started = Cluster(directory)
    atexit.register(started.stop)
    # For this process and for those that tests start, which inherit the environment.
    os.environ.update({**started.environ, STARTED: str(os.getpid())})
    return started


def ensure() -> None:
    """Start the cluster unless this process or its parent has."""
    if STARTED not in os.environ:
        cluster()


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [one.getsockname()[1] for one in sockets]
