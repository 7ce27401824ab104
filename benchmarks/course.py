"""A round of sending a folder of small files and getting it back, and of what that is compared with."""

import argparse
import os
import shutil
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from obstore.store import S3Store

from benchmarks import load
from benchmarks.bucket import puts
from benchmarks.load import SMALL
from benchmarks.rclone import Rclone
from benchmarks.resident import Done, Resident
from benchmarks.servers import Server
from benchmarks.targets import OURS
from benchmarks.work import Figures, Key
from tests.support import ceph

WRK, LOOP, OBSTORE = "wrk", "bare loop", "obstore, direct"
# Files in a directory.
EACH = 100
# Of the files, rclone copies one in so many, as it takes long.
SHARE = 5


def fill(directory: Path, count: int) -> None:
    """Make a folder of new files."""
    for number in range(count):
        if number % EACH == 0:
            place = directory / f"{number // EACH:05}"
            place.mkdir(parents=True)
        (place / f"{number % EACH:02}").write_bytes(os.urandom(SMALL))


class Course:
    """The rounds at one place."""

    def __init__(
        self, place: str, directory: Path, resident: Resident, options: argparse.Namespace, figures: Figures
    ) -> None:
        self._place = place
        self._folder, self._back = directory / "folder", directory / "back"
        self._resident = resident
        self._files: int = options.files
        self._seconds: float = options.seconds
        self._figures = figures
        self.number = 0
        """The number of the round."""

    def take_turns(self, *works: Callable[[], None]) -> None:
        """Do works in an order that changes from round to round."""
        print(f"{self._place}: round {self.number}", file=sys.stderr)
        first = self.number % len(works)
        for work in works[first:] + works[:first]:
            work()
        self.number += 1

    def note(self, work: str, by: str, figure: float) -> None:
        """Note a figure of this round."""
        self._figures[Key(self._place, work, by)][self.number] = figure

    def command(self, server: Server, work: str, *arguments: str) -> Done:
        """Run the command, and note its rate and what it costs both sides."""
        before = server.cpu()
        done = self._resident.command(server, *arguments)
        self.note(work, OURS, self._files / done.seconds)
        self.note(f"{work}, client", OURS, done.cpu / self._files * 1e6)
        self.note(f"{work}, server", OURS, (server.cpu() - before) / self._files * 1e6)
        return done

    def new(self, server: Server) -> None:
        """Send a new folder."""
        fill(self._folder, self._files)
        self.command(server, "new", "put", "-r", str(self._folder))
        shutil.rmtree(self._folder)

    def whole(self, server: Server) -> None:
        """Send a new folder, send it again, and get it back."""
        folder = str(self._folder)
        fill(self._folder, self._files)
        hash_ = self.command(server, "tree", "put", "-r", "--tree", folder).last
        self.command(server, "held tree", "put", "-r", "--tree", folder)
        for work in ("get", "there"):
            self.command(server, work, "get", "-r", hash_, str(self._back))
        shutil.rmtree(self._folder)
        shutil.rmtree(self._back)

    def held(self, server: Server) -> None:
        """Send a folder that the server has, and walk through it."""
        fill(self._folder, self._files)
        self._resident.command(server, "put", "-r", str(self._folder))

        def walk() -> None:
            seconds = self._resident.run("walk", str(self._folder)).seconds
            self.note("held", LOOP, self._files / seconds)

        works = [lambda: self.command(server, "held", "put", "-r", str(self._folder)), walk]
        for work in works[:: -1 if self.number % 2 else 1]:
            work()
        shutil.rmtree(self._folder)

    def posts(self, server: Server) -> None:
        """Let wrk send new files."""
        self.note("new", WRK, load.post(server, "", self._seconds).rate)

    def gets(self, server: Server) -> None:
        """Let wrk get a file."""
        file = server.directory / "small"
        file.write_bytes(os.urandom(SMALL))
        hash_ = self._resident.command(server, "put", str(file)).last
        self.note("get", WRK, load.get(server, hash_, self._seconds).rate)

    def rclone(self, server: Rclone) -> None:
        """Let rclone copy a smaller folder there and back."""
        count = self._files // SHARE
        fill(self._folder, count)
        for work, source, target in (
            ("new", str(self._folder), ":webdav:"),
            ("get", ":webdav:", str(self._back)),
        ):
            self.note(work, Rclone.title, count / server.copy(source, target))
        shutil.rmtree(self._folder)
        shutil.rmtree(self._back)

    def puts(self, prefix: str) -> None:
        """Let obstore put new objects."""
        client = S3Store(
            ceph.BUCKET,
            prefix=prefix,
            endpoint=os.environ["AWS_ENDPOINT_URL"],
            virtual_hosted_style_request=False,
            client_options={"allow_http": True, "timeout": timedelta(hours=1)},
        )
        self.note("new", OBSTORE, puts(client, self._seconds))
