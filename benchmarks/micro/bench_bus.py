"""What a request beside a foreign broker costs its service: our own client, or paho-mqtt (ADR 0006).

Each takes requests of QoS 1, replies to each at QoS 1, and acknowledges it after that, beside mosquitto.
Printed is its CPU per request, the best of three runs.

Run: .venv/bin/python -m benchmarks.micro.bench_bus
"""

import asyncio
import multiprocessing as mp
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from broker.foreign import ForeignBus
from broker.foreign_settings import ForeignBusSettings

_REQUESTS: Final = 20_000
_WARM: Final = 1_000
_PAYLOAD: Final = bytes(200)


def serve_own(port: int, told: Connection) -> None:
    """Serve with `ForeignBus` on uvloop."""
    import uvloop

    uvloop.run(_serve_own(port, told))


async def _serve_own(port: int, told: Connection) -> None:
    bus = ForeignBus(ForeignBusSettings(url=f"mqtt://127.0.0.1:{port}", client_id="service"))
    bus.subscribe("req")
    async with asyncio.TaskGroup() as group:
        group.create_task(bus.run())
        await bus.wait_connected()
        told.send(None)
        count = 0
        began = 0.0
        while count < _REQUESTS:
            messages = await bus.receive()
            for message in messages:
                bus.publish("rep", message.payload, qos=1)
            bus.acknowledge(len(messages))
            if count < _WARM <= count + len(messages):
                began = time.process_time()
            count += len(messages)
        told.send(time.process_time() - began)
        await bus.finish()


def serve_paho(port: int, told: Connection) -> None:
    """Serve with paho-mqtt in its own loop, acknowledging by hand."""
    client = paho.Client(
        CallbackAPIVersion.VERSION2, client_id="service", protocol=MQTTProtocolVersion.MQTTv5, manual_ack=True
    )
    client.max_inflight_messages_set(512)
    count, began = 0, 0.0

    def on_message(client: paho.Client, _data: object, message: paho.MQTTMessage) -> None:
        nonlocal count, began
        client.publish("rep", message.payload, qos=1)
        client.ack(message.mid, message.qos)
        count += 1
        if count == _WARM:
            began = time.process_time()
        elif count == _REQUESTS:
            told.send(time.process_time() - began)
            client.disconnect()

    def on_connect(client: paho.Client, *_details: object) -> None:
        client.subscribe("req", 1)

    client.on_subscribe = lambda *_: told.send(None)
    client.on_message = on_message
    client.on_connect = on_connect
    client.connect("127.0.0.1", port)
    client.loop_forever()


async def _ask(port: int) -> None:
    bus = ForeignBus(
        ForeignBusSettings(
            url=f"mqtt://127.0.0.1:{port}", client_id="client", outgoing_messages_maximum=2 * _REQUESTS
        )
    )
    async with asyncio.TaskGroup() as group:
        group.create_task(bus.run())
        await bus.wait_connected()
        for _ in range(_REQUESTS):
            bus.publish("req", _PAYLOAD, qos=1)
        await bus.finish()


def measure(serve: Callable[[int, Any], None]) -> float:
    """CPU of the service per request, in microseconds."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "mosquitto.conf"
        config.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\n")
        broker = subprocess.Popen(["/usr/sbin/mosquitto", "-c", str(config)], stderr=subprocess.DEVNULL)
        try:
            _await_port(port)
            here, there = mp.Pipe()
            process = mp.get_context("spawn").Process(target=serve, args=(port, there))
            process.start()
            there.close()  # So that the end of the process is the end of the pipe.
            here.recv()
            asyncio.run(_ask(port))
            cpu: float = here.recv()
            process.join()
        finally:
            broker.terminate()
            broker.wait()
    return cpu / (_REQUESTS - _WARM) * 1e6


def _await_port(port: int) -> None:
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            time.sleep(0.01)
        else:
            return


def main() -> None:
    """Measure both, in turn."""
    services = {"own": serve_own, "paho-mqtt": serve_paho}
    best = {name: float("inf") for name in services}
    for _ in range(3):
        for name, serve in services.items():
            best[name] = min(best[name], measure(serve))
    for name, cost in best.items():
        print(f"{name:<10} {cost:6.1f} µs of CPU per request")


if __name__ == "__main__":
    main()
