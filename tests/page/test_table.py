"""The table of cases and browsers."""

from tests.page.table import PAGE, table
from tests.support.documents import with_table


def test_the_table_tells_what_is_tested() -> None:
    """docs/page-cases.md has each test of the page, and the browsers in which it runs."""
    assert PAGE.read_text(encoding="utf-8") == with_table(PAGE, table()), "run: python -m tests.page.table"
