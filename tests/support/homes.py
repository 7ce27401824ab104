"""Folders as people have them, and whether two of them are the same."""

import os
import shutil
import stat
import subprocess
import sysconfig
from pathlib import Path
from random import Random
from typing import NamedTuple

# The library of the running Python without what was compiled or installed later.
LEFT_OUT = ("__pycache__", "site-packages", "dist-packages")
# Sizes of random files: nothing, little, a block more or less, and what is sent alone.
SIZES = [0, 1, 100, 4095, 4096, 4097, 8000, 300_000]


class Found(NamedTuple):
    """What lstat(2) and readlink(2) tell of a path."""

    kind: int
    mode: int
    size: int
    modified: int
    """In nanoseconds; 0 for directories and links, of which a tree keeps no time."""
    target: bytes


def library(folder: Path) -> None:
    """Copy the library of the running Python, and add what else folders contain."""
    left_out = shutil.ignore_patterns(*LEFT_OUT)
    shutil.copytree(sysconfig.get_path("stdlib"), folder, symlinks=True, ignore=left_out)
    odd(folder / "odd")


def odd(folder: Path) -> None:
    """Make a folder with links, odd modes, names and times, and with empty directories and files."""
    folder.mkdir()
    (folder / "empty directory" / "in it").mkdir(parents=True)
    (folder / "empty file").touch()
    (folder / "twice").write_bytes(b"the same bytes")
    (folder / "twice again").write_bytes(b"the same bytes")
    (folder / "large").write_bytes(Random(1).randbytes(20 << 20))
    for number, name in enumerate(
        (
            b"line\nbreak",
            b"tab\t",
            b"#hash",
            b"a=b",
            b"back\\slash",
            b"*?[x]",
            b"\xc3\xa4 \xe6\x97\xa5",
            b"\xff\xfe",
            b" ",
        )
    ):
        path = os.path.join(os.fsencode(folder), name)
        os.mkdir(path)
        with open(os.path.join(path, name), "wb") as file:
            file.write(bytes([number]))
    for mode in (0o400, 0o444, 0o555, 0o600, 0o640, 0o711, 0o755, 0o777):
        file_ = folder / f"mode {mode:o}"
        file_.write_text(oct(mode))
        file_.chmod(mode)
    for number, modified in enumerate((0, 1, 999_999_999, 1_700_000_000_123_456_789, 4_102_444_800 * 10**9)):
        file_ = folder / f"time {number}"
        file_.write_text(str(modified))
        os.utime(file_, ns=(0, modified))
    links = folder / "links"
    links.mkdir()
    for name, target in {
        "file": "../twice",
        "directory": "../empty directory",
        "dangling": "nothing here",
        "around": "../links",
        "itself": "itself",
        "link": "file",
        "blank and more": "../a b\n#=\\",
    }.items():
        (links / name).symlink_to(target)
    os.symlink(b"\xff", os.path.join(os.fsencode(links), b"\xfe"))
    os.link(folder / "twice", folder / "hard link")
    deep = folder.joinpath(*(f"level {number}" for number in range(40)))
    deep.mkdir(parents=True)
    (deep / "file").write_text("deep")
    (folder / "read-only" / "below").mkdir(parents=True)
    (folder / "read-only" / "below" / "file").write_text("read-only")
    (folder / "read-only" / "below").chmod(0o555)
    (folder / "read-only").chmod(0o500)


def random_files(folder: Path, count: int, seed: int) -> None:
    """Make a folder of so many files, ten in a directory."""
    random = Random(seed)
    for number in range(count):
        directory = folder / f"{number // 10:04}"
        directory.mkdir(parents=True, exist_ok=True)
        size = random.choice(SIZES) if number % 20 else SIZES[-1]
        (directory / f"{number % 10}").write_bytes(random.randbytes(size))


def paths(folder: Path) -> list[bytes]:
    """The paths below a folder, that of the folder itself among them."""
    found = []
    for directory, directories, files in os.walk(os.fsencode(folder)):
        found += [directory, *(os.path.join(directory, name) for name in files)]
        found += [path for name in directories if os.path.islink(path := os.path.join(directory, name))]
    return [os.path.relpath(path, os.fsencode(folder)) for path in found]


def looked_at(folder: Path) -> dict[bytes, Found]:
    """What is in a folder, by path."""
    found = {}
    for path in paths(folder):
        status = os.lstat(os.path.join(os.fsencode(folder), path))
        is_file, is_link = stat.S_ISREG(status.st_mode), stat.S_ISLNK(status.st_mode)
        found[path] = Found(
            stat.S_IFMT(status.st_mode),
            stat.S_IMODE(status.st_mode),
            status.st_size if is_file else 0,
            status.st_mtime_ns if is_file else 0,
            os.readlink(os.path.join(os.fsencode(folder), path)) if is_link else b"",
        )
    return found


def check_same(one: Path, other: Path) -> None:
    """Check that two folders are the same: every byte by diff(1), all else by lstat(2)."""
    compared = subprocess.run(
        ["diff", "-r", "--no-dereference", one, other], capture_output=True, check=False, timeout=120
    )
    assert (compared.returncode, compared.stdout, compared.stderr) == (0, b"", b"")
    before, after = looked_at(one), looked_at(other)
    assert {path: after.get(path) for path, found in before.items() if after.get(path) != found} == {}
    assert after.keys() == before.keys()
