"""The programs that a benchmark needs, checked before it begins."""

import os
import shutil
import sys
from collections.abc import Iterable

PATH = f"{os.environ['PATH']}:/usr/local/sbin:/usr/sbin:/sbin"
# Debian and Ubuntu packages whose name differs from that of the program.
PACKAGES = {
    "ceph": "ceph-common",
    "monmaptool": "ceph-base",
    "nginx": "nginx-light",
    "rados": "ceph-common",
    "radosgw-admin": "ceph-common",
    "setpriv": "util-linux",
}


def missing(programs: Iterable[str]) -> list[str]:
    """Return the programs that are not installed."""
    return [program for program in programs if shutil.which(program, path=PATH) is None]


def told(programs: Iterable[str]) -> str:
    """Return the names of programs and how to install them."""
    programs = list(programs)
    packages = sorted({PACKAGES.get(program, program) for program in programs})
    return f"{', '.join(programs)} (apt install {' '.join(packages)})"


def require(target: str, programs: Iterable[str]) -> None:
    """Exit with one line unless all programs are installed."""
    if lacking := missing(programs):
        sys.exit(f"{target} needs programs that are not here: {told(lacking)}")
