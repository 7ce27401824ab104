"""The move from a directory to a bucket as docs/object-storage.md shows it, with interruptions."""

import json
import signal
import subprocess
from pathlib import Path
from random import Random

import pytest

from tests.support import ceph
from tests.support.buckets import environ, held, serving
from tests.support.commands import environment, install, run
from tests.support.faults import hash_of
from tests.support.servers import until
from tests.support.upkeep import fill
from wsgi_store.digest import Algorithm

MANY = 300
LARGE = 3 << 20


@pytest.mark.races
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
def test_a_directory_moves_up(  # pylint: disable=too-many-locals
    tmp_path: Path, end: signal.Signals
) -> None:
    """After `put -r`, interrupted and run again, `verify` finds every blob intact."""
    random = Random(5)
    contents = [random.randbytes(random.randrange(20_000)) for _ in range(MANY)]
    contents += [random.randbytes(LARGE), random.randbytes(LARGE + 1), random.randbytes(20 << 20)]
    fill(tmp_path / "old", Algorithm.SHA256, contents)
    hashes = {hash_of(data) for data in contents}
    shards = sorted(str(path) for path in (tmp_path / "old").glob("[0-9a-f][0-9a-f]"))
    program = install(tmp_path)
    settings = environ(tmp_path)
    with serving(tmp_path) as server:
        server.expected.append("ERROR|incomplete_body")  # a truncated body is reported as an error
        url = f"http://127.0.0.1:{server.port}"
        command = [str(program), "put", "-r", "--json", *shards]
        with subprocess.Popen(
            command, env=environment(tmp_path, WSGI_STORE_URL=url), stdout=subprocess.DEVNULL
        ) as first:
            until(lambda: len(held(tmp_path)) >= 20, "a part of the blobs")
            first.send_signal(end)
            assert first.wait(20) == (130 if end is signal.SIGINT else -end)
        moved = held(tmp_path)
        assert 20 <= len(moved) < len(hashes)

        for fresh in (True, False):
            done = run(program, *command[1:], WSGI_STORE_URL=url)
            assert done.returncode == 0, done.stderr
            rows = [json.loads(line) for line in done.stdout.splitlines()]
            assert {row["hash"] for row in rows} == hashes
            created = {row["hash"] for row in rows if row["created"]}
            assert created <= hashes - moved if fresh else not created
            assert held(tmp_path) == hashes

        # The store itself reports its hash.
        variables = settings | ceph.cluster().environ | {"WSGI_STORE_HASH": "md5"}
        verified = run(program, "verify", "--json", **variables)
        assert verified.returncode == 0, verified.stderr
        report = json.loads(verified.stdout.splitlines()[-1])
        assert (report["result"], report["checked_blobs"]) == ("clean", len(hashes))
        assert report["checked_bytes"] == sum(map(len, contents))
        assert not server.staged()
