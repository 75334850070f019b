import click
import pytest
from pydantic import BaseModel, Field

from gnomon.metric_table import Metric
from tools.generate_docs import cli_page, conformance_page, metrics_page, settings_page


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


def test_clauses_are_listed_in_the_order_of_the_specification() -> None:
    page = conformance_page(
        {
            "b.py": 'x = pytest.mark.clause("v5", "MQTT-3.1.2-24")',
            "a.py": '@mark.clause("v5", "MQTT-3.1.2-24")\n@mark.clause("v5", "MQTT-3.1.2-3")\ndef f(): ...',
        }
    )
    assert "2 statements" in page
    assert page.index("| MQTT-3.1.2-3 | `a.py` |") < page.index("| MQTT-3.1.2-24 | `a.py`, `b.py` |")


def test_a_clause_of_an_unknown_version_is_refused() -> None:
    with pytest.raises(ValueError, match=r"v3\.1\.1, v5"):
        conformance_page({"a.py": 'clause = mark.clause("v3", "MQTT-3.1.2-3")'})
