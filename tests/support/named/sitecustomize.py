"""On PYTHONPATH, makes a process see a file system without nameless files (O_TMPFILE), as on NFS."""

import errno
import os

_open = os.open


def _refuse(path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
    if flags & os.O_TMPFILE == os.O_TMPFILE:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP), path)
    return _open(path, flags, mode, dir_fd=dir_fd)


os.open = _refuse  # type: ignore[assignment]
