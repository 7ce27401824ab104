"""Browsers for tests of the page: each runs once, and each test gets a fresh profile in it."""

from collections.abc import Iterator

import pytest

from tests.support.access import KEY, line
from tests.support.browsers import PLAIN_HOST, PROGRAMS, Browser, Profile, running
from tests.support.relay import Relay
from tests.support.servers import Server, gunicorn
from tests.support.visits import Visit

TOKENS = {
    "all-token": "read,write,list,delete,link",
    "plain-token": "read,write,list,delete",
    "reading-token": "read,list",
    "writing-token": "write",
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test in both browsers, unless it is marked `only` for one."""
    if "browser" in metafunc.fixturenames:
        only = metafunc.definition.get_closest_marker("only")
        metafunc.parametrize("browser", only.args[:1] if only else PROGRAMS, indirect=True, scope="session")


@pytest.fixture(name="browser", scope="session")
def fixture_browser(request: pytest.FixtureRequest) -> Iterator[Browser]:
    """Chromium, and then Firefox."""
    with running(request.param) as browser:
        yield browser


@pytest.fixture(name="profile")
def fixture_profile(browser: Browser) -> Iterator[Profile]:
    """A fresh profile; at its end no tab may have said anything unexpected."""
    with browser.profile() as profile:
        yield profile


@pytest.fixture(name="service", scope="session")
def fixture_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The service, open to everybody."""
    with gunicorn(tmp_path_factory.mktemp("service"), WSGI_STORE_HOSTS=PLAIN_HOST) as server:
        yield server


@pytest.fixture(name="guarded", scope="session")
def fixture_guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The service, for those with tokens."""
    directory = tmp_path_factory.mktemp("guarded")
    tokens = directory / "tokens"
    tokens.write_text(
        "".join(line(token, scopes, token.partition("-")[0]) for token, scopes in TOKENS.items())
    )
    with gunicorn(directory, WSGI_STORE_TOKENS=str(tokens), WSGI_STORE_SIGNING_KEYS=KEY) as server:
        yield server


@pytest.fixture(name="visit")
def fixture_visit(profile: Profile, service: Server) -> Visit:
    """A person who has opened the page of the open service."""
    return Visit(profile.tab(f"http://127.0.0.1:{service.port}/"))


@pytest.fixture(name="slow")
def fixture_slow(service: Server) -> Iterator[Relay]:
    """A line to the open service that is slow enough to be interrupted."""
    with Relay(service.port, 16e6) as relay:
        yield relay
