"""What every test gets: hypothesis profiles, and a PostgreSQL server for those that ask.

`ci` is the default; `make soak` uses `soak`. Neither has a deadline: a busy machine is no defect.
"""

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from postgresql import PostgresqlServer, running_postgresql

settings.register_profile(
    "ci", max_examples=100, deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("soak", settings.get_profile("ci"), max_examples=5000)
settings.load_profile("ci")


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[PostgresqlServer]:
    """One server for the whole run; stop or kill one of your own (`running_postgresql`) instead."""
    with running_postgresql() as server:
        yield server


@pytest.fixture
def postgresql_url(postgresql_server: PostgresqlServer) -> Iterator[str]:
    """An empty database of one's own."""
    name = postgresql_server.new_database()
    yield postgresql_server.url(name)
    postgresql_server.drop_database(name)
