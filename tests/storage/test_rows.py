import sqlite3
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage import MultiRowInsert, json_array

_TABLE = "CREATE TABLE entry (id INTEGER PRIMARY KEY, text TEXT, data BLOB) STRICT"


@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 500, 4096, 4097, 10_000])
def test_every_row_goes_in_once_and_in_order(count: int) -> None:
    insert = MultiRowInsert("INSERT INTO entry (id, text, data)", 3)
    rows = [(number, str(number), b"\0" * (number % 5)) for number in range(count, 0, -1)]
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute(_TABLE)
        insert(connection, rows)
        assert connection.execute("SELECT * FROM entry ORDER BY id DESC").fetchall() == rows


@given(st.lists(st.tuples(st.integers(0, 20), st.none() | st.text(), st.none() | st.binary()), max_size=40))
def test_a_batch_of_upserts_equals_single_upserts(rows: list[tuple[int, str | None, bytes | None]]) -> None:
    conflict = "ON CONFLICT (id) DO UPDATE SET text = excluded.text, data = excluded.data"
    insert = MultiRowInsert("INSERT INTO entry (id, text, data)", 3, conflict)
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute(_TABLE)
        insert(connection, rows)
        kept = {row[0]: row for row in rows}
        assert {row[0]: row for row in connection.execute("SELECT * FROM entry")} == kept


def test_a_batch_is_one_statement() -> None:
    insert = MultiRowInsert("INSERT INTO entry (id, text, data)", 3)
    told: list[str] = []
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute(_TABLE)
        connection.set_trace_callback(told.append)
        insert(connection, [(number, None, None) for number in range(1000)])
    assert len([text for text in told if text.startswith("INSERT")]) == 1


def test_wide_rows_stay_below_the_limit_of_variables() -> None:
    names = [f"c{number}" for number in range(100)]
    insert = MultiRowInsert(f"INSERT INTO wide ({','.join(names)})", len(names))
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, 32_766)
        connection.execute(f"CREATE TABLE wide ({','.join(names)})")
        insert(connection, [range(100)] * 1000)
        assert connection.execute("SELECT count(*), sum(c99) FROM wide").fetchone() == (1000, 99_000)


def test_keys_travel_as_one_parameter() -> None:
    with closing(sqlite3.connect(":memory:")) as connection:
        found = connection.execute(
            "SELECT value FROM json_each(?)", [json_array({3, 2**63 - 1, -5})]
        ).fetchall()
        assert sorted(found) == [(-5,), (3,), (2**63 - 1,)]
        pairs = connection.execute(
            "SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(?)",
            [json_array([(1, "ä'\""), (2, "b")])],
        ).fetchall()
    assert pairs == [(1, "ä'\""), (2, "b")]
