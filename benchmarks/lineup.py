"""The compared servers: how to configure, start and address each of them."""

import getpass
import os
import shutil
import sys
from pathlib import Path

from benchmarks.client import Body, Connection, Failure
from benchmarks.needs import PATH
from benchmarks.servers import WORKERS, Server, Target, head

DEPLOY = Path(__file__).parent.parent / "deploy"
ALL = frozenset({"raw", "chunked", "form"})


class Gunicorn(Server):
    """An application on gunicorn with the shipped settings, log and threads included."""

    application = ""

    def command(self) -> list[str]:
        """Return the command: the shipped configuration with this application."""
        command = [sys.executable, "-m", "gunicorn", "-c", str(DEPLOY / "gunicorn.conf.py")]
        return [*command, "--bind", f"127.0.0.1:{self.port}", "--workers", str(WORKERS), self.application]

    def environ(self) -> dict[str, str]:
        """Return the settings of the shipped configuration; other applications read the root."""
        return {
            "WSGI_STORE_ROOT": str(self.data),
            "WSGI_STORE_HASH": "sha256",
            "WSGI_STORE_DURABILITY": "full" if self.sync else "none",
        }

    def target(self, name: str) -> Target:
        """Return the path of a blob; its hash names it."""
        return Target("POST", "/")


class WSGIStore(Gunicorn):
    """This project."""

    title = "wsgi_store"
    takes = ALL
    ready = "/healthz"
    application = "wsgi_store.wsgi:application"


class UWSGI(WSGIStore):
    """This project on uWSGI with the shipped settings."""

    title = "uWSGI"

    def command(self) -> list[str]:
        """Return the command with the shipped configuration, which has two workers."""
        return [str(Path(sys.executable).parent / "pyuwsgi"), "--ini", str(DEPLOY / "uwsgi.ini")]

    def environ(self) -> dict[str, str]:
        """Return the settings, with the address."""
        return {**super().environ(), "BIND": f"127.0.0.1:{self.port}"}


class Unsynced(WSGIStore):
    """This project with durability `none`, to compare with peers that never sync."""

    title = "wsgi_store, unsynced"

    def environ(self) -> dict[str, str]:
        """Return the settings, with durability none."""
        return {**super().environ(), "WSGI_STORE_DURABILITY": "none"}


class Limit(Gunicorn):
    """A bare WSGI callable on the same server."""

    title = "limit"
    application = "benchmarks.peers.limit:application"
    ready = "/ready"
    keeps = False

    def file(self, digest: str) -> Path:
        """Return the path of a file; all are in one directory."""
        return self.data / digest

    def start(self) -> float:
        """Start it with a file to serve."""
        (self.data / "ready").write_bytes(b"ready\n")
        return super().start()


class Stock(Limit):
    """A bare WSGI callable on gunicorn's own thread worker, to show the limit of that server."""

    title = "limit, gunicorn's own worker"

    def command(self) -> list[str]:
        """Return the command, which differs only in the worker."""
        return [*super().command(), "--worker-class", "gthread"]


class Pipeline(Limit):
    """A bare WSGI callable that also stores uploads."""

    title = "pipeline limit"
    keeps = True
    application = "benchmarks.peers.pipeline:application"


class Naive(Gunicorn):
    """A quickly written store in Flask, on the same gunicorn."""

    title = "naive Flask"
    takes = frozenset({"form"})
    application = "benchmarks.peers.naive:application"


class Nginx(Server):
    """nginx: static files and the DAV module."""

    title = "nginx"
    names_by_digest = False
    server = """
        root {data};
        client_max_body_size 0;
        client_body_buffer_size 1m;
        dav_methods PUT;
        sendfile on;
        tcp_nopush on;
    """
    main = """
        {user}
        worker_processes {workers};
        daemon off;
        pid {directory}/pid;
        error_log stderr;
        events {{ }}
        http {{
            access_log {directory}/access.log;
            keepalive_requests 1000000;
            client_body_temp_path {directory}/body;
            proxy_temp_path {directory}/proxy;
            fastcgi_temp_path {directory}/fastcgi;
            uwsgi_temp_path {directory}/uwsgi;
            scgi_temp_path {directory}/scgi;
            {site}
        }}
    """

    def command(self) -> list[str]:
        """Return the command, with a configuration for this directory."""
        # Started by root, nginx would switch to nobody, who cannot read these files.
        user = f"user {getpass.getuser()};" if os.getuid() == 0 else ""
        text = self.main.format(user=user, workers=WORKERS, directory=self.directory, site=self.site())
        (self.directory / "nginx.conf").write_text(text, encoding="utf-8")
        program = shutil.which("nginx", path=PATH) or "nginx"
        return [program, "-p", str(self.directory), "-c", "nginx.conf", "-e", "stderr"]

    def site(self) -> str:
        """Return the contents of the `http` block."""
        return f"server {{ listen 127.0.0.1:{self.port}; {self.server.format(data=self.data)} }}"

    def target(self, name: str) -> Target:
        """Return the path of a file; the client names it."""
        return Target("PUT", f"/{name}")

    def file(self, digest: str) -> Path:
        """Return the path of a file; all are in one directory."""
        return self.data / digest


class Direct(Nginx):
    """nginx that serves the blobs of a store from disk, as in the shipped configuration."""

    title = "nginx, store's directory"
    takes = frozenset()

    def site(self) -> str:
        """Return deploy/nginx.conf with public reading, adapted to this address and directory."""
        text = (DEPLOY / "nginx.conf").read_text(encoding="utf-8")
        public = (DEPLOY / "nginx-public-read.conf").read_text(encoding="utf-8")
        for shipped, here in {
            "listen 80;": f"listen 127.0.0.1:{self.port};",
            "#include /etc/nginx/snippets/wsgi-store-public-read.conf;": public,
            "/var/lib/wsgi-store": str(self.data),
            "/var/log/nginx": str(self.directory),
        }.items():
            if shipped not in text:
                raise Failure(f"deploy/nginx.conf has no {shipped!r} to replace")
            text = text.replace(shipped, here)
        return text

    def file(self, digest: str) -> Path:
        """Return the path of a blob in the directory of a store."""
        return self.data / digest[:2] / digest

    @property
    def ready(self) -> str:  # type: ignore[override]
        """Return the path of a blob, because only blobs are served without the service."""
        return self.path(next(self.data.glob("??/*")).name)


class Registry(Server):
    """Docker's registry, from the Debian package."""

    title = "docker-registry"
    takes = frozenset({"raw"})
    ready = "/v2/"
    repository = "/v2/bench/blobs"

    def command(self) -> list[str]:
        """Return the command, with a minimal configuration."""
        (self.directory / "config.yml").write_text(
            f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {self.data}}}}}\n"
            f'http: {{addr: "127.0.0.1:{self.port}"}}\nlog: {{level: error}}\n',
            encoding="utf-8",
        )
        return [shutil.which("docker-registry") or "docker-registry", "serve", f"{self.directory}/config.yml"]

    def target(self, name: str) -> Target:
        """Return the path that starts an upload."""
        return Target("POST", f"{self.repository}/uploads/")

    def upload(self, connection: Connection, body: Body) -> None:
        """Start an upload, then send the whole body with its digest."""
        answer = connection.ask(self.request("", 0))
        location = answer.field("Location")
        if answer.status != 202 or location is None:
            raise Failure(f"{self.title} refused to start an upload: {answer.status}")
        path = "/" + location.split("/", 3)[3]
        framing = "Transfer-Encoding: chunked" if body.length is None else f"Content-Length: {body.length}"
        fields = ("Content-Type: application/octet-stream", framing)
        connection.send(head("PUT", f"{path}&digest=sha256:{body.digest}", *fields), body)
        answer = connection.answer()
        if answer.status != 201:
            raise Failure(f"{self.title} answered {answer.status} to an upload: {answer.body[:200]!r}")

    def path(self, digest: str) -> str:
        """Return the path of a blob in a repository."""
        return f"{self.repository}/sha256:{digest}"

    def file(self, digest: str) -> Path:
        """Return the path on disk, in the layout of the file system driver."""
        return self.data / "docker/registry/v2/blobs/sha256" / digest[:2] / digest / "data"

    def place(self, source: Path, digest: str) -> None:
        """Write a blob and its link in the repository."""
        super().place(source, digest)
        link = self.data / "docker/registry/v2/repositories/bench/_layers/sha256" / digest / "link"
        link.parent.mkdir(parents=True)
        link.write_text(f"sha256:{digest}", encoding="ascii")


class Copyparty(Server):
    """copyparty, open to everybody, without thumbnails."""

    title = "copyparty"
    names_by_digest = False
    takes = frozenset({"raw", "form"})
    form_fields = (("act", "bput"),)
    file_field = "f"

    def command(self) -> list[str]:
        """Return the command: one volume that everybody may read and write."""
        command = [sys.executable, "-m", "copyparty", "-i", "127.0.0.1", "-p", str(self.port)]
        return [*command, "-j", str(WORKERS), "-v", f"{self.data}::rw", "--no-thumb"]

    def environ(self) -> dict[str, str]:
        """Return the settings, which put its own files beside the data."""
        return {"XDG_CONFIG_HOME": str(self.directory), "HOME": str(self.directory)}

    def target(self, name: str) -> Target:
        """Return the path of a file; the client names it."""
        return Target("PUT", f"/{name}")

    def request(self, name: str, length: int | None, fields: tuple[str, ...] = ()) -> bytes:
        """Return the path of the directory that forms are posted to."""
        text = super().request(name, length, fields)
        return text.replace(f"PUT /{name} ".encode(), b"POST / ") if fields else text

    def file(self, digest: str) -> Path:
        """Return the path of a file; all are in one directory."""
        return self.data / digest


# The order in tables, after this project and its reference.
ORDER: list[type[Server]] = [
    WSGIStore,
    Unsynced,
    UWSGI,
    Limit,
    Stock,
    Pipeline,
    Nginx,
    Direct,
    Registry,
    Copyparty,
    Naive,
]


# The programs that servers need.
PROGRAMS: dict[type[Server], str] = {Nginx: "nginx", Direct: "nginx", Registry: "docker-registry"}
