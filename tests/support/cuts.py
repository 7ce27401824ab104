"""Disks whose power is cut: whatever was not synced is lost, as in a crash of the machine."""

import fcntl
import os
import shutil
import struct
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.faults import mounted, run, unmount
from tests.support.servers import until

# Shuts a file system down without writing out its log (EXT4_IOC_SHUTDOWN, XFS_IOC_GOINGDOWN).
SHUTDOWN = 0x8004587D
WITHOUT_LOG = struct.pack("I", 2)
SIZES = {"ext4": 64 << 20, "xfs": 320 << 20}
# ext4 would sync a file that is renamed over another; a store must not rely on that.
OPTIONS = {"ext4": "loop,noauto_da_alloc", "xfs": "loop"}
LAZYFS = """
[faults]
fifo_path = "{directory}/faults"
[cache]
apply_eviction = false
[cache.simple]
custom_size = "0.01GB"
blocks_per_page = 1
[filesystem]
log_all_operations = false
logfile = "{directory}/lazyfs.log"
"""


class Disk(ABC):
    """A file system mounted at `path` until the block ends."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "mounted"

    @abstractmethod
    def mount(self) -> None:
        """Mount it, as after a start of the machine."""

    @abstractmethod
    def cut(self) -> None:
        """Lose what was not synced; whatever a process does afterwards has no effect or fails."""

    def restart(self) -> None:
        """Start the machine again after a cut."""
        unmount(self.path)
        self.mount()

    def sync(self) -> None:
        """Sync this file system."""
        run("sync", "--file-system", str(self.path))

    def end(self) -> None:
        """Unmount it."""
        unmount(self.path)


class Journalled(Disk):
    """An ext4 or xfs in a file."""

    def __init__(self, directory: Path, kind: str) -> None:
        super().__init__(directory)
        self._kind = kind
        self._image = directory / f"{kind}.img"
        self.path.mkdir()
        with self._image.open("wb") as file:
            file.truncate(SIZES[kind])
        run(f"mkfs.{kind}", "-q", *(["-F", "-m", "0"] if kind == "ext4" else []), str(self._image))
        self.mount()

    def mount(self) -> None:
        """Mount the image; the kernel replays its journal."""
        run("mount", "-t", self._kind, "-o", OPTIONS[self._kind], str(self._image), str(self.path))

    def cut(self) -> None:
        """Shut the file system down, with everything in its caches lost."""
        fd = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.ioctl(fd, SHUTDOWN, WITHOUT_LOG)
        finally:
            os.close(fd)


class Lazy(Disk):
    """LazyFS, which keeps written bytes to itself until they are synced.

    It is no package: build it and put `lazyfs` on the path (github.com/dsrhaslab/lazyfs).
    """

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._directory = directory
        for path in (self.path, directory / "below"):
            path.mkdir()
        (directory / "lazyfs.toml").write_text(LAZYFS.format(directory=directory), encoding="ascii")
        self.mount()

    def mount(self) -> None:
        """Start LazyFS."""
        program = shutil.which("lazyfs")
        assert program is not None
        with (self._directory / "output").open("ab") as output:
            self._process = subprocess.Popen(  # pylint: disable=consider-using-with  # killed by `cut`
                [program, str(self.path), "--config-path", str(self._directory / "lazyfs.toml")]
                + ["-o", "allow_other", "-o", "modules=subdir", "-o", f"subdir={self._directory / 'below'}"]
                + ["-f"],
                stdout=output,
                stderr=output,
            )

        def ready() -> bool:
            assert self._process.poll() is None, (self._directory / "output").read_text()
            return os.path.ismount(self.path)

        until(ready, "LazyFS")

    def cut(self) -> None:
        """Kill it; what was not synced was in its memory only."""
        self._process.kill()
        self._process.wait()

    def sync(self) -> None:
        """Sync each file, and begin with an empty cache."""
        for path in self.path.rglob("*"):
            if path.is_file() and not path.is_symlink():
                with path.open("rb") as file:
                    os.fsync(file.fileno())
        self.cut()
        self.restart()

    def end(self) -> None:
        """Unmount it, and end the program."""
        self.cut()
        super().end()


def kinds() -> list[str]:
    """The kinds of disk that can be cut on this machine."""
    return ["ext4", "xfs", *(["lazyfs"] if shutil.which("lazyfs") else [])]


@contextmanager
def cuttable(kind: str, directory: Path) -> Iterator[Disk]:
    """A new empty disk of a kind."""
    with mounted(directory / "probe", "tmpfs", "size=4k"):
        pass  # the test is skipped where nothing may be mounted
    disk = Lazy(directory) if kind == "lazyfs" else Journalled(directory, kind)
    try:
        yield disk
    finally:
        disk.end()
