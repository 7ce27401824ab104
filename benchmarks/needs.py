"""Programs beside Python's that a benchmark needs: what is missing is said before it begins."""

import os
import shutil
import sys
from collections.abc import Iterable

PATH = f"{os.environ['PATH']}:/usr/local/sbin:/usr/sbin:/sbin"
# The packages of Debian and Ubuntu that programs are in, where they are called otherwise.
PACKAGES = {
    "ceph": "ceph-common",
    "monmaptool": "ceph-base",
    "nginx": "nginx-light",
    "rados": "ceph-common",
    "radosgw-admin": "ceph-common",
    "setpriv": "util-linux",
}


def missing(programs: Iterable[str]) -> list[str]:
    """Those that are not here."""
    return [program for program in programs if shutil.which(program, path=PATH) is None]


def told(programs: Iterable[str]) -> str:
    """Programs, and what installs them."""
    programs = list(programs)
    packages = sorted({PACKAGES.get(program, program) for program in programs})
    return f"{', '.join(programs)} (apt install {' '.join(packages)})"


def require(target: str, programs: Iterable[str]) -> None:
    """End the process with one line unless they are all here."""
    if lacking := missing(programs):
        sys.exit(f"{target} needs programs that are not here: {told(lacking)}")
