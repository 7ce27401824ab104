"""The rules that keep what was acknowledged of an upload, in rounds of requests that meet at every call.

Each round is an upload, some processes that serve requests for it, and an order of their system calls that
the number of the round decides. In some rounds one of the processes is killed on the way. A process that
does not get its turn for long is like one that was stopped by a signal. `make races` plays 1,000 rounds.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.support.rounds import ROUNDS
from tests.support.senders import DATA, DIGEST, Meeting, Sent, boots, impatient
from wsgi_store.errors import UploadLocked
from wsgi_store.store.contract import Durability

FEW = 25


@pytest.fixture(name="memory")
def fixture_memory() -> Iterator[Path]:
    """A directory in memory, for many short rounds, in which newcomers take over at once."""
    with TemporaryDirectory(dir="/dev/shm") as name, impatient():
        yield Path(name)


@pytest.fixture(name="reboot")
def fixture_reboot(memory: Path) -> Iterator[Callable[[], None]]:
    """A function that starts the system again."""
    with boots(memory) as start:
        yield start


@pytest.fixture(name="rounds", params=[FEW, pytest.param(ROUNDS, marks=pytest.mark.races)])
def fixture_rounds(request: pytest.FixtureRequest) -> int:
    """How many rounds to play."""
    rounds: int = request.param
    return rounds


def play(memory: Path, rounds: int, one_round: Callable[[Meeting], object]) -> None:
    """Play rounds."""
    for number in range(rounds):
        one = Meeting(memory, number, one_round.__qualname__)
        try:
            one_round(one)
        except BaseException:
            print(f"round {number}\n" + "\n".join(one.turns.trace[-400:]))
            raise
        one.end()


def begun(one: Meeting) -> Sent:
    """An upload whose length or digest may be known."""
    length = one.choice.choice([None, len(DATA)])
    expected = one.choice.choice([(), (DIGEST,)]) if length else ()
    durability = one.choice.choice([Durability.NONE, Durability.FULL])
    return Sent(one.root, length=length, expected=expected, durability=durability)


def test_rule_1_whoever_was_fenced_off_changes_nothing(memory: Path, rounds: int) -> None:
    """Of several processes that append at once, whichever stop or die, none changes what another counts."""

    def one_round(one: Meeting) -> None:
        sent = begun(one)
        acts = [partial(sent.process().work, one.choice) for _ in range(one.choice.choice([2, 2, 3]))]
        one.turns.run(acts, one.kill_some(len(acts), 0.4))
        sent.settle()

    play(memory, rounds, one_round)


def test_rule_1_nobody_writes_to_a_published_file(memory: Path, rounds: int) -> None:
    """A file is published once, with its bytes, although others send more bytes or read its parts."""

    def one_round(one: Meeting) -> None:
        sent = begun(one)
        first = sent.process()
        first.send(0, DATA[:-1], complete=False)
        overrun = partial(sent.process().overrun, one.choice.randrange(1, 9))
        acts = [
            partial(first.send, len(DATA) - 1, DATA[-1:], complete=True),
            *(partial(sent.process().work, one.choice, 2) for _ in range(one.choice.randrange(2))),
            *(overrun for _ in range(one.choice.choice([1, 2]))),
        ]
        one.turns.run(acts, one.kill_some(1, 0.5, most=30))
        sent.settle()

    play(memory, rounds, one_round)


def test_rule_1_removal_while_others_append(memory: Path, rounds: int) -> None:
    """A removed upload is gone for all, and another one of the same file has its own bytes."""

    def one_round(one: Meeting) -> None:
        sent = begun(one)
        sent.process().send(0, DATA[: one.choice.randrange(len(DATA))], complete=False)
        again = sent.process()

        def remove_and_create() -> None:
            again.remove()
            with suppress(UploadLocked):
                sent.identity = again.uploads.create("me", sent.announced).identity
                again.work(one.choice, 1)

        workers = [partial(sent.process().work, one.choice, 3) for _ in range(one.choice.choice([1, 2]))]
        one.turns.run([*workers, remove_and_create], one.kill_some(1 + len(workers), 0.3))
        sent.identity = sent.process().uploads.create("me", sent.announced).identity
        sent.settle()
        assert sent.finished is not None

    play(memory, rounds, one_round)


def test_rule_3_a_power_failure_keeps_what_was_acknowledged(
    memory: Path, rounds: int, reboot: Callable[[], None]
) -> None:
    """After another start of the system, only bytes beyond the last acknowledged offset may be dropped."""

    def one_round(one: Meeting) -> None:
        sent = begun(one)
        sent.durability = one.choice.choice([Durability.FULL, Durability.FILE])
        for _ in range(one.choice.choice([1, 2])):
            acts = [partial(sent.process().work, one.choice, 2) for _ in range(2)]
            one.turns.run(acts, {number: one.choice.randrange(1, 60) for number in range(2)})
            reboot()
        sent.settle()

    play(memory, rounds, one_round)
