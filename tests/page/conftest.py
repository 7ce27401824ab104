"""Browsers for tests of the page: each runs once, and each test gets a fresh profile in it."""

from collections.abc import Iterator

import pytest

from tests.support.browsers import PROGRAMS, Browser, Profile, running


@pytest.fixture(name="browser", scope="session", params=PROGRAMS)
def fixture_browser(request: pytest.FixtureRequest) -> Iterator[Browser]:
    """Chromium, and then Firefox."""
    with running(request.param) as browser:
        yield browser


@pytest.fixture(name="profile")
def fixture_profile(browser: Browser) -> Iterator[Profile]:
    """A fresh profile; at its end no tab may have said anything unexpected."""
    with browser.profile() as profile:
        yield profile
