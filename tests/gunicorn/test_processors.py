"""The number of processors available to the service."""

import os
from pathlib import Path

import pytest

from wsgi_store.gunicorn.processors import processors

AVAILABLE = len(os.sched_getaffinity(0))
Groups = dict[str, str]


def tree(root: Path, proc: str, groups: Groups) -> tuple[str, str]:
    """Create files like those in /proc and /sys; returns their directory."""
    for name, text in groups.items():
        path = root / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="ascii")
    (root / "proc").write_text(proc, encoding="ascii")
    return str(root / "proc"), str(root / "cgroup")


@pytest.mark.parametrize(
    "proc, groups",
    [
        ("0::/\n", {"cpu.max": "50000 100000\n"}),
        ("0::/a/b\n", {"a/b/cpu.max": "50000 100000\n"}),
        ("0::/a/b/c\n", {"a/cpu.max": "90000 100000\n", "a/b/c/cpu.max": "max 100000\n"}),
        ("0::/a/b\n", {"a/cpu.max": "10000 10000\n", "a/b/cpu.max": "900000 100000\n"}),
        # As in a container: the path is the host's, the files are the container's.
        ("0::/../../pod/x\n", {"cpu.max": "50000 100000\n"}),
        ("0::/kubepods/pod/x\n", {"cpu.max": "50000 100000\n"}),
        (
            "3:cpuset:/\n2:cpu,cpuacct:/docker/x\n1:name=systemd:/a:b\n0::/\n",
            {"cpu,cpuacct/cpu.cfs_quota_us": "50000\n", "cpu,cpuacct/cpu.cfs_period_us": "100000\n"},
        ),
        (
            "1:cpu:/a/b\n",
            {
                "cpu/cpu.cfs_quota_us": "-1\n",
                "cpu/cpu.cfs_period_us": "100000\n",
                "cpu/a/cpu.cfs_quota_us": "100000\n",
                "cpu/a/cpu.cfs_period_us": "100000\n",
                "cpu/a/b/cpu.cfs_quota_us": "-1\n",
                "cpu/a/b/cpu.cfs_period_us": "100000\n",
            },
        ),
    ],
)
def test_quota(tmp_path: Path, proc: str, groups: Groups) -> None:
    """A quota of one processor or less, at any level, gives one."""
    assert processors(*tree(tmp_path, proc, groups)) == 1


@pytest.mark.parametrize(
    "proc, groups",
    [
        ("0::/a\n", {"a/cpu.max": "max 100000\n"}),
        ("0::/a\n", {"b/cpu.max": "50000 100000\n"}),
        ("0::/a\n", {}),
        ("", {}),
        ("1:cpuset:/a\n0::/\n", {"cpuset/a/cpu.max": "50000 100000\n"}),
        ("1:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}),
        ("0::/\n", {"cpu.max": "100000000 100000\n"}),
    ],
)
def test_no_quota(tmp_path: Path, proc: str, groups: Groups) -> None:
    """Without a lower quota, the number of processors is that of the CPU affinity."""
    assert processors(*tree(tmp_path, proc, groups)) == AVAILABLE


def test_no_proc(tmp_path: Path) -> None:
    """Without /proc there is no limit."""
    assert processors(str(tmp_path / "none"), str(tmp_path)) == AVAILABLE


def test_rounding(tmp_path: Path) -> None:
    """A fraction of a processor counts as a whole one."""
    if AVAILABLE < 2:
        pytest.skip("there is but one processor")
    assert processors(*tree(tmp_path, "0::/\n", {"cpu.max": "101000 100000\n"})) == 2
