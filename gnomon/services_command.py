"""`gnomon services`: the command.

Knows: its options, and which settings they stand for.
Does not know: how services are run.
Spec: none.
"""

from pathlib import Path
from typing import Any

import click

from .settings import load_settings


@click.command()
@click.option("--config", type=click.Path(path_type=Path, dir_okay=False), help="TOML file of settings.")
@click.option("--data", type=click.Path(path_type=Path, file_okay=False), help="Data folder of the database.")
@click.option("--broker", metavar="URL", help="Broker, such as mqtts://broker:8883?cert=..&key=..&ca=..")
@click.option("--root", metavar="LEVEL", help="First level of the shadow topics; else $aws.")
@click.option("--share", metavar="GROUP", help="Share the work of GROUP; it needs storage.url (PostgreSQL).")
@click.option("--client-id", metavar="ID", help="Client id; each process needs its own, and keeps it.")
@click.option("--http", metavar="URL", help="Metrics and health, such as http://127.0.0.1:9464.")
def services(
    config: Path | None,
    data: Path | None,
    broker: str | None,
    root: str | None,
    share: str | None,
    client_id: str | None,
    http: str | None,
) -> None:
    """Run the device shadows beside another MQTT 5 broker until SIGTERM.

    Shadows are kept in the data folder, or in PostgreSQL where storage.url says so. Requests stay with
    the broker until they are answered.

    \b
    Examples:
      gnomon services --data ./data --broker 'mqtts://broker:8883?cert=svc.pem&key=svc.key&ca=ca.pem'
      GNOMON_STORAGE__URL=postgresql://gnomon@db/gnomon \\
        gnomon services --broker mqtts://broker --root aws --share shadow --client-id shadow-1
    """  # noqa: D301  (\b keeps click from joining the lines)
    from .services import run_services  # The other commands start without the broker.

    given = {"url": broker, "share": share, "client_id": client_id}
    overrides: dict[str, Any] = {
        "foreign_broker": {key: value for key, value in given.items() if value is not None}
    }
    if data is not None:
        overrides["data"] = data
    if root is not None:
        overrides["broker"] = {"topics_root": root}
    if http is not None:
        overrides["http"] = {"url": http}
    run_services(load_settings(config, overrides))
