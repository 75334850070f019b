import click
import pytest
from pydantic import BaseModel, Field

from gnomon.metric_table import Metric
from tools.generate_docs import (
    Statement,
    Statements,
    cli_page,
    conformance_gaps,
    conformance_page,
    metrics_page,
    settings_page,
    sources_of_tests,
    statements,
)


class Limits(BaseModel):
    """How much."""

    size: int = Field(default=8, ge=1, le=9, description="bytes | all")
    name: str | None = None
    wait_s: float | None = Field(default=None, gt=0, le=60)


class Listener(BaseModel):
    url: str


class Settings(BaseModel):
    loop: str = "auto"
    limits: Limits = Limits()
    listeners: tuple[str | Listener, ...] = ()


def test_every_setting_has_a_row_in_the_section_of_its_key() -> None:
    page = settings_page(Settings.model_json_schema())
    assert '| `loop` | string | `"auto"` |' in page.partition("## `[limits]`")[0]
    assert "| `size` | integer from 1 to 9 | `8` | bytes \\| all |" in page.partition("## `[limits]`")[2]
    assert "| `name` | string | none |" in page
    assert "| `wait_s` | number above 0 to 60 | none |" in page
    assert "| `listeners` | array | `[]` |" in page
    assert "| `url` | string | required |" in page.partition("## `[[listeners]]`")[2]


def test_every_visible_command_is_shown() -> None:
    inner = click.Group("inner", commands={"leaf": click.Command("leaf", help="Does it.")})
    page = cli_page(
        click.Group("gnomon", commands={"inner": inner, "secret": click.Command("secret", hidden=True)})
    )
    assert "## `gnomon inner leaf`" in page
    assert "Does it." in page
    assert "secret" not in page


def test_every_metric_has_a_row_with_the_name_that_is_scraped() -> None:
    page = metrics_page(
        [
            Metric("a_bytes", "counter", "Bytes | all.", lambda _: 1),
            Metric("b", "gauge", "By cause.", lambda _: {"x": 1}, "cause"),
        ]
    )
    assert "| `a_bytes_total` | counter |  | Bytes \\| all. |" in page
    assert "| `b` | gauge | `cause` | By cause. |" in page


_STATEMENTS: Statements = {
    "v3.1.1": {"MQTT-1-1": Statement("server", "First.")},
    "v5": {
        "MQTT-1-2": Statement("both", "a | b"),
        "MQTT-1-10": Statement("client", "Theirs."),
        "MQTT-1-11": Statement("client", "Theirs too."),
        "MQTT-1-12": Statement("server", "Hidden.", "nobody sees it"),
        "MQTT-1-13": Statement("server", "Last."),
    },
}
_SOURCES = {
    "b.py": 'x = pytest.mark.clause("v5", "MQTT-1-2")',
    "a.py": '@mark.clause("v5", "MQTT-1-2")\n@mark.clause("v5", "MQTT-1-11")\ndef f(): ...',
}


def test_every_statement_is_listed_with_its_tests_or_the_lack_of_them() -> None:
    page = conformance_page(_STATEMENTS, _SOURCES)
    of_v5 = page.partition("## MQTT Version 5.0")[2]
    assert "5 statements, of which 3 bind a server; 1 of these have a test." in of_v5
    assert of_v5.splitlines()[6:] == [
        "| MQTT-1-2 | both | a \\| b | `a.py`, `b.py` |",
        "| MQTT-1-10 | client | Theirs. | none: Binds Clients only. |",
        "| MQTT-1-11 | client | Theirs too. | `a.py` |",
        "| MQTT-1-12 | server | Hidden. | none: nobody sees it |",
        "| MQTT-1-13 | server | Last. | **missing** |",
    ]


def test_statements_without_test_and_tags_without_statement_are_named() -> None:
    assert conformance_gaps(_STATEMENTS, _SOURCES) == [
        "v3.1.1 MQTT-1-1: binds a server and has no test",
        "v5 MQTT-1-13: binds a server and has no test",
    ]
    unknown = {"c.py": 'x = mark.clause("v5", "MQTT-1-1")', "d.py": 'x = mark.clause("v5", "MQTT-1-13")'}
    assert conformance_gaps(_STATEMENTS, _SOURCES | unknown) == [
        "v3.1.1 MQTT-1-1: binds a server and has no test",
        "v5 MQTT-1-1: no such statement, in c.py",
    ]


def test_a_clause_of_an_unknown_version_is_refused() -> None:
    with pytest.raises(ValueError, match=r"v3\.1\.1, v5"):
        conformance_page(_STATEMENTS, {"a.py": 'clause = mark.clause("v3", "MQTT-1-2")'})


def test_a_statement_binds_server_client_or_both() -> None:
    with pytest.raises(ValueError, match="server, client, both"):
        Statement("broker", "Something.")


def test_every_statement_that_binds_a_server_has_a_test() -> None:
    assert conformance_gaps(statements(), sources_of_tests()) == []
