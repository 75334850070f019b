"""The places that a contract test of SessionStore is run at."""

from collections.abc import Iterator
from functools import partial

import pytest

from postgresql import PostgresqlServer
from session_stores import Place, postgresql


@pytest.fixture(scope="session")
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    """One for the whole run, since hypothesis takes no other; each use of it begins empty."""
    if request.param is not postgresql:
        yield request.param
        return
    server: PostgresqlServer = request.getfixturevalue("postgresql_server")
    name = server.new_database()
    yield partial(postgresql, server.url(name))
    server.drop_database(name)
