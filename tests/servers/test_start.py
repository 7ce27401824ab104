"""The start of a server: its first log lines, and its one-line errors before a port is opened."""

import os
import re
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.access import ALL, line
from tests.support.calling import call
from tests.support.commands import install
from tests.support.servers import DEPLOY, gunicorn, refusal, uwsgi, waitress
from wsgi_store import __version__
from wsgi_store.assembly import create_app
from wsgi_store.config import Config
from wsgi_store.logs import logger

CONF = str(DEPLOY / "gunicorn.conf.py")
KEYS = "0123456789abcdef"
# Settings, and the message they cause.
REFUSED: dict[str, tuple[dict[str, str], str]] = {
    "keys without tokens": ({"SIGNING_KEYS": KEYS}, "SIGNING_KEYS: has no effect without WSGI_STORE_TOKENS"),
    "public without tokens": ({"PUBLIC_READ": "yes"}, "PUBLIC_READ: has no effect without WSGI_STORE_TOKENS"),
    "no file of tokens": ({"TOKENS": "{here}/nothing"}, "TOKENS: cannot read .*/nothing: No such file"),
    "a bad file of tokens": ({"TOKENS": "{here}/bad"}, "TOKENS: .*/bad, line 1: expected a name"),
    "a file of tokens for all": ({"TOKENS": "{here}/all"}, "TOKENS: .*/all can be written by others"),
    "a directory of tokens": ({"TOKENS": "{here}"}, "TOKENS: .*(Is a directory|no regular file)"),
    "tokens misspelt": ({"TOKEN": "{here}/tokens"}, "TOKEN: .*not a file: set WSGI_STORE_TOKENS"),
    "a place without nginx": (
        {"ACCEL_LOCATION": "/other/"},
        "ACCEL_LOCATION: has no effect without WSGI_STORE_SENDFILE=x-accel",
    ),
    "a staging directory": ({"S3_STAGING": "/x"}, "S3_STAGING: has no effect without a bucket"),
    "an endpoint": ({"S3_ENDPOINT": "http://localhost"}, "S3_ENDPOINT: has no effect without s3://"),
    "a style": ({"S3_PATH_STYLE": "no"}, "S3_PATH_STYLE: has no effect without s3://"),
    "a timeout": ({"S3_TIMEOUT": "5s"}, "S3_TIMEOUT: has no effect without a bucket"),
    "redirecting from a directory": ({"REDIRECT": "always"}, "REDIRECT: requires s3://"),
    "an unknown name": ({"MAXSIZE": "1"}, "MAXSIZE: unknown setting"),
    "a bad value": ({"HASH": "crc32"}, "HASH: expected one of"),
    "an unknown kind of store": ({"ROOT": "ftp://x/y"}, "ROOT: unsupported scheme 'ftp'"),
    "another hash": ({"ROOT": "{here}/sha256", "HASH": "md5"}, "sha256 holds sha256 digests, not md5"),
    "nothing to read": ({"ROOT": "{here}/no", "READ_ONLY": "yes"}, "there is no store at .*/no"),
}
SERVERS = {
    "gunicorn": ["gunicorn", "-c", CONF, "--bind"],
    "gunicorn preloading": ["gunicorn", "-c", CONF, "--preload", "--bind"],
    "gunicorn without settings": ["gunicorn", "wsgi_store.wsgi", "--bind"],
    "uwsgi": ["pyuwsgi", "--ini", str(DEPLOY / "uwsgi.ini")],
}


@pytest.fixture(name="here")
def fixture_here(tmp_path: Path) -> Path:
    """A directory with token files and a store of another hash."""
    (tmp_path / "bad").write_text("nonsense\n")
    for name, mode in (("tokens", 0o600), ("all", 0o666)):
        (tmp_path / name).write_text(line("all", ALL))
        (tmp_path / name).chmod(mode)
    create_app(Config(root=str(tmp_path / "sha256"), hash="sha256"))  # type: ignore[arg-type]
    return tmp_path


def refused(command: list[str], here: Path, settings: dict[str, str]) -> tuple[int, list[str]]:
    """Start a server that must exit; return its status and output."""
    env = {f"WSGI_STORE_{name}": value.format(here=here) for name, value in settings.items()}
    return refusal(command, here / "store", BIND="127.0.0.1:0", **env)


@pytest.mark.parametrize("name", REFUSED)
def test_a_refusal_is_one_line(here: Path, name: str) -> None:
    """With the shipped settings gunicorn prints one line, opens no port and exits with 1."""
    settings, said_ = REFUSED[name]
    status, lines = refused([*SERVERS["gunicorn"], "127.0.0.1:0"], here, settings)
    assert len(lines) == 1, lines
    assert re.match(f"wsgi-store: (WSGI_STORE_)?.*{said_}", lines[0]), lines
    assert status == 1
    assert not (here / "no").exists()


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("name", ["keys without tokens", "no file of tokens", "a bad value"])
def test_every_server_ends(here: Path, server: str, name: str) -> None:
    """Every server exits, with the message once."""
    settings, said_ = REFUSED[name]
    address = [] if server == "uwsgi" else ["127.0.0.1:0", "--workers=1"]
    if server == "gunicorn without settings":
        address.remove("--workers=1")
    status, lines = refused([*SERVERS[server], *address], here, settings)
    assert status not in (0, None)
    assert len([text for text in lines if re.search(said_, text)]) == 1, lines
    assert not [text for text in lines if "wsgi_store/" in text and "File" in text], lines


def test_the_command_is_refused_once(here: Path) -> None:
    """`wsgi-store serve` prints the message once, too."""
    program = install(here / "bin")
    command = [str(program), "serve", "--", "--bind", "127.0.0.1:0"]
    settings, said_ = REFUSED["keys without tokens"]
    status, lines = refused(command, here, settings)
    assert (status, len(lines)) == (1, 1), lines
    assert re.search(said_, lines[0])


def test_figures_without_their_library(here: Path) -> None:
    """Without prometheus_client the message names the extra to install."""
    hidden = here / "hidden"
    (hidden / "prometheus_client").mkdir(parents=True)
    (hidden / "prometheus_client" / "__init__.py").write_text("raise ImportError('no prometheus_client')\n")
    command = [*SERVERS["gunicorn"], "127.0.0.1:0"]
    status, lines = refusal(
        command, here / "store", WSGI_STORE_METRICS="on", PYTHONPATH=f"{hidden}:{DEPLOY.parent}"
    )
    assert (status, len(lines)) == (1, 1), lines
    assert re.match(r"wsgi-store: WSGI_STORE_METRICS: .*install the extra metrics", lines[0])


def test_blake3_without_its_package(here: Path) -> None:
    """Without the package blake3 the message names the extra to install, and no store is made."""
    hidden = here / "hidden"
    hidden.mkdir()
    (hidden / "blake3.py").write_text("raise ImportError('no blake3')\n")
    command = [*SERVERS["gunicorn"], "127.0.0.1:0"]
    status, lines = refusal(
        command, here / "store", WSGI_STORE_HASH="blake3", PYTHONPATH=f"{hidden}:{DEPLOY.parent}"
    )
    assert (status, len(lines)) == (1, 1), lines
    assert lines[0].startswith("wsgi-store: WSGI_STORE_HASH: blake3 needs the package blake3: install ")
    assert not (here / "store").exists()


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
def test_no_port_is_opened(here: Path, name: str) -> None:
    """Settings are checked before the address, so a port in use makes no difference."""
    with socket.create_server((name, 0)) as taken:
        port = taken.getsockname()[1]
        status, lines = refused([*SERVERS["gunicorn"], f"{name}:{port}"], here, {"SIGNING_KEYS": KEYS})
    assert (status, len(lines)) == (1, 1), lines


@pytest.mark.parametrize(
    "options", [(), ("--preload",), ("--logger-class=gunicorn.glogging.Logger",)], ids=" ".join
)
def test_the_store_is_tried_before_anything_is_done(here: Path, options: tuple[str, ...]) -> None:
    """An unusable store ends the start with any logger, and leaves no pid file."""
    command = [*SERVERS["gunicorn"], "127.0.0.1:0", "--pid", str(here / "pid"), *options]
    status, lines = refused(command, here, REFUSED["another hash"][0])
    assert (status, len(lines)) == (1, 1), lines
    assert re.match("wsgi-store: .*sha256 holds sha256 digests, not md5", lines[0])
    assert not (here / "pid").exists()


def test_the_first_lines_with_another_logger(here: Path) -> None:
    """With another logger the store is logged as well, and workers start."""
    with gunicorn(here, "--logger-class=gunicorn.glogging.Logger", workers=1) as server:
        assert len(server.logged(f"wsgi_store {__version__}: {here}/store, sha256, durability full")) == 1


def test_the_client_s_token_stops_no_server(tmp_path: Path) -> None:
    """WSGI_STORE_TOKEN is meant for clients: a server only warns that it has no effect."""
    with gunicorn(
        tmp_path, workers=1, WSGI_STORE_TOKEN="an-exported-secret", WSGI_STORE_URL="http://x"
    ) as server:
        assert len(server.logged("WARNING.*WSGI_STORE_TOKEN is for clients")) == 1
        assert "an-exported-secret" not in server.text()


def test_the_first_lines(here: Path) -> None:
    """The log starts with version, root, hash and durability, then permissions, once for all workers."""
    settings = {"WSGI_STORE_TOKENS": str(here / "tokens"), "WSGI_STORE_PUBLIC_READ": "yes"}
    with gunicorn(here, workers=2, WSGI_STORE_DURABILITY="file", **settings) as server:
        first, second, *_ = server.text().splitlines()
        assert first.endswith(f" wsgi_store {__version__}: {here}/store, sha256, durability file")
        assert second.endswith(f" tokens of {here}/tokens; anybody may read blobs")
        assert len(server.logged(f"wsgi_store {__version__}: ")) == 1
    for start in (uwsgi, waitress):
        with start(here) as server:
            assert len(server.logged(f"wsgi_store {__version__}: {here}/store, sha256, durability full")) == 1
            assert len(server.logged("no tokens: everybody may read, write and delete everything")) == 1


def test_a_full_disk_tells_the_numbers(config: Config, tmp_path: Path) -> None:
    """The answer has the numbers, and the log has the path as well."""
    status = os.statvfs(tmp_path)
    reserve = status.f_blocks * status.f_frsize
    told: list[str] = []
    application = create_app(replace(config, min_free=reserve))
    sink = logger.add(told.append, level="ERROR", format="{message}")  # type: ignore[arg-type]
    try:
        answer = call(application, "POST", body=b"hello")
        ready = call(application, path="/readyz")
    finally:
        logger.remove(sink)
    for problem, needed in ((answer, 5), (ready, 1)):
        assert problem.status == (507 if problem is answer else 503)
        assert {name: problem.json[name] for name in ("needed", "available", "reserve")} == {
            "needed": needed,
            "available": 0,
            "reserve": reserve,
        }
        assert str(tmp_path) not in problem.body.decode()
    for text, needed in zip(told, ("5", "1"), strict=True):
        assert f"{config.root}/.staging: {needed} needed, 0 available, {reserve:,} reserve" in text
