"""The contract suite in use by another project: the example passes, and wrong stores fail."""

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.servers import PROJECT
from wsgi_store.testing import StoreContract

EXAMPLE = ("memory_store.py", "test_memory_store.py")
# A change to the store in memory, and a test that has to fail because of it.
WRONG = {
    "always new": (
        "        if digest not in self.blobs:\n",
        "        if True:\n",
        "test_add_tells_what_is_new",
    ),
    "never renewed": (
        "        self._modified[digest] = time.time()",
        "        self._modified.setdefault(digest, time.time())",
        "test_add_tells_what_is_new",
    ),
    "visible too early": (
        "        data = os.pread(staged.fd, os.fstat(staged.fd).st_size, 0)",
        "        data = os.pread(staged.fd, 1000, 0)",
        "test_a_blob_is_visible_only_whole",
    ),
    "never compared": (" or held == data)", " or True)", "test_flipped_bits"),
    "never found corrupt": ("and self._is_whole(digest):", "and True:", "test_flipped_bits"),
    "read from the start": (
        "Reader(blob, data, start, stop)",
        "Reader(blob, data, 0, stop)",
        "test_any_part_can_be_read",
    ),
    "read beyond the part": ("min(start + length, blob.size)", "blob.size", "test_any_part_can_be_read"),
    "removed without a lock": (
        "            if check is not None:\n                check(blob)\n",
        "",
        "test_remove_on_a_condition",
    ),
    "expired whenever": (
        "if self._modified.get(digest) != modified:",
        "if digest not in self.blobs:",
        "test_expire",
    ),
    "quarantine of good blobs": (
        "            if self._is_whole(digest):\n                return False\n",
        "",
        "test_a_good_blob_is_not_moved",
    ),
    "quarantine without bytes kept": (
        "            self._quarantine[digest] = Blob",
        "            Blob",
        "test_quarantine",
    ),
    "healed in silence": (
        "return Added.HEALED if digest in self._quarantine else Added.CREATED",
        "return Added.CREATED",
        "test_an_upload_heals_a_blob_in_quarantine",
    ),
    "not in order": (
        "blobs = sorted(map(self._stat, self.blobs), key=lambda blob: blob.digest.raw)",
        "blobs = list(map(self._stat, self.blobs))",
        "test_iterate_in_order",
    ),
    "from the one behind": (
        "blob.digest.raw > after.raw",
        "blob.digest.raw >= after.raw",
        "test_iterate_in_order",
    ),
    "notes lost": (
        "        with self._lock:\n            self._notes[name] = change",
        "        if True:\n            self._notes[name] = change",
        "test_notes_are_updated_one_after_the_other",
    ),
    "another error": (
        "raise BlobNotFound(hash=digest.hex) from None",
        "raise",
        "test_stat_of_an_absent_blob",
    ),
}


@dataclass
class Run:
    """The outcome of the tests of a directory."""

    status: int
    text: str

    @property
    def failed(self) -> set[str]:
        """The files and functions that failed."""
        return set(re.findall(r"^FAILED (\w+\.py::\w+::\w+)", self.text, re.M))


def run(directory: Path, *arguments: str) -> Run:
    """Run tests outside this project's configuration, as other projects do."""
    (directory / "pytest.ini").write_text("[pytest]\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    # pytest would close its usual directory to other users, one of whom may be in it for another test.
    command.append("--basetemp=.inner")
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=200, check=False)
    return Run(done.returncode, done.stdout)


def test_the_example_passes(tmp_path: Path) -> None:
    """Every test of the class runs on the store in memory, and passes."""
    for name in EXAMPLE:
        shutil.copy(PROJECT / "examples" / name, tmp_path)
    ended = run(tmp_path)
    assert ended.status == 0, ended.text
    passed = re.search(r"^(\d+) passed in", ended.text, re.M)
    assert passed, ended.text
    assert int(passed[1]) > len([name for name in dir(StoreContract) if name.startswith("test_")]) > 30


def file_of(name: str) -> str:
    """The file that tests a wrong store."""
    return f"test_{name.replace(' ', '_')}.py"


@pytest.fixture(name="wrong", scope="module")
def fixture_wrong(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """All wrong stores tested in one run, because pytest starts slowly."""
    directory = tmp_path_factory.mktemp("wrong")
    store, tests = ((PROJECT / "examples" / name).read_text() for name in EXAMPLE)
    asked = []
    for name, (right, wrong, test) in WRONG.items():
        assert store.count(right) == 1, name
        module = file_of(name).removeprefix("test_").removesuffix(".py")
        (directory / f"{module}.py").write_text(store.replace(right, wrong))
        (directory / file_of(name)).write_text(tests.replace("from memory_store", f"from {module}"))
        asked.append(f"{file_of(name)}::TestMemoryStore::{test}")
    return run(directory, *asked)


@pytest.mark.races
@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_store_fails(wrong: Run, name: str) -> None:
    """A store that breaks a sentence of the contract fails the test of that sentence."""
    assert f"{file_of(name)}::TestMemoryStore::{WRONG[name][2]}" in wrong.failed, wrong.text


def test_a_class_without_a_kind(tmp_path: Path) -> None:
    """A class without the fixture `kind` fails with an error that names the fixture."""
    (tmp_path / "test_nothing.py").write_text(
        "from wsgi_store.testing import StoreContract\n\n\nclass TestNothing(StoreContract):\n    pass\n"
    )
    ended = run(tmp_path, "-k", "test_remove_of")
    assert ended.status == 1
    assert "fixture 'kind' not found" in ended.text
