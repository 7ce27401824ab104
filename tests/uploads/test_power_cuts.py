"""Power cuts before each change while an upload is created, received, taken over and finished.

Whatever offset was acknowledged is there afterwards, and a file that was told to be stored is.
"""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.support.cuts import cuttable, kinds
from tests.support.senders import DATA, DIGEST, Meeting, Sender, Sent, boots, impatient
from wsgi_store.store.contract import Durability

pytestmark = pytest.mark.races
HALF = len(DATA) // 2


@pytest.fixture(name="memory")
def fixture_memory() -> Iterator[Path]:
    """A directory in memory for the images of disks; newcomers take over at once."""
    with TemporaryDirectory(dir="/dev/shm") as name, impatient():
        yield Path(name)


@contextmanager
def stuck(sent: Sent) -> Iterator[None]:
    """A request that holds the first part, and is stopped."""
    fd = os.open(sent.folder / "0", os.O_RDWR)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(fd)


def receive(sender: Sender) -> None:
    """An upload in pieces, of which one is checked."""
    sender.send(0, DATA[:7], complete=False)
    sender.send(7, DATA[7:HALF], complete=False, checked=True, pieces=2)
    sender.spoil(HALF, 3)


def plain(sent: Sent) -> None:
    """An upload that one process receives."""
    sender = sent.process()
    receive(sender)
    assert sender.ask() is not None
    sender.send(HALF, DATA[HALF:], complete=True)
    assert sent.finished is not None
    sender.ask()


def taken_over(sent: Sent) -> None:
    """An upload that another process takes over and finishes."""
    first = sent.process()
    receive(first)
    first.break_off(HALF, 4)
    with stuck(sent):
        other = sent.process()
        state = other.ask()
        assert state is not None and state.offset == HALF + 4
        other.send(HALF + 4, DATA[HALF + 4 : HALF + 9], complete=False)
        other.send(HALF + 9, DATA[HALF + 9 :], complete=True)
    assert sent.finished is not None


@pytest.mark.parametrize("act", [plain, taken_over], ids=["plain", "taken over"])
@pytest.mark.parametrize("kind", kinds())
def test_a_cut_before_each_change(memory: Path, kind: str, act: Callable[[Sent], None]) -> None:
    """After a cut before any change no acknowledged byte is missing, and the upload can be finished."""
    with boots(memory) as start, cuttable(kind, memory) as disk:
        for number in count(1):
            one = Meeting(disk.path, number, kind)
            disk.sync()
            # With an announced digest the same upload is found again without its id.
            sent = Sent(
                one.root, length=len(DATA), expected=(DIGEST,), durability=Durability.FULL, begin=False
            )

            def run(sent: Sent = sent) -> None:
                sent.create()
                act(sent)

            one.turns.at_kill = disk.cut
            one.turns.run([run], {0: number})
            if not one.turns.killed:
                disk.cut()
            disk.restart()
            start()
            if not sent.identity:
                sent.create()
            sent.settle()
            one.end()
            if not one.turns.killed:
                assert number > 50
                break
