"""Tenants: nothing of one is ever seen in another."""

from hypothesis import given, settings
from hypothesis import strategies as st

from engine_strategies import STEPS, Run, Step
from fakes import EngineDriver
from fakes_client import will


@settings(max_examples=60)
@given(steps=st.lists(st.tuples(st.sampled_from(["red", "blue"]), STEPS), max_size=60))
def test_nothing_crosses_from_one_tenant_to_another(steps: list[tuple[str, Step]]) -> None:
    """Same ClientIds, topics and filters in both, in-process services included."""
    driver = EngineDriver()
    runs = {tenant: Run(driver, tenant=tenant) for tenant in ("red", "blue")}
    mailboxes = {tenant: driver.mailbox(b"#", b"$x/#", tenant=tenant) for tenant in runs}
    for tenant, step in steps:
        runs[tenant].perform(step)
    for tenant, run in runs.items():
        mark = f"{tenant}:".encode()
        payloads = [message.payload for message in run.received if message.payload]
        payloads += [message.payload for message in mailboxes[tenant].messages if message.payload]
        assert all(payload.startswith(mark) for payload in payloads)
    for (tenant, _), message in driver.snapshot().retained.items():
        assert message.payload.startswith(f"{tenant}:".encode())


@settings(max_examples=40)
@given(red=st.lists(STEPS, max_size=25), blue=st.lists(STEPS, max_size=25), data=st.data())
def test_a_tenant_goes_on_as_if_it_were_alone(red: list[Step], blue: list[Step], data: st.DataObject) -> None:
    # Time is common to all tenants, so that nobody sleeps here.
    red = [step for step in red if step.verb != "sleep"]
    blue = [step for step in blue if step.verb != "sleep"]
    alone = Run(EngineDriver(), tenant="red")
    for step in red:
        alone.perform(step)
    driver = EngineDriver()
    beside, other = Run(driver, tenant="red"), Run(driver, tenant="blue")
    for step in red:
        for _ in range(data.draw(st.integers(0, 2))):
            if blue:
                other.perform(blue.pop())
        beside.perform(step)
    assert beside.received == alone.received


def test_the_same_client_id_in_two_tenants_is_two_clients() -> None:
    driver = EngineDriver()
    red = driver.connect("c", tenant="red", expiry=100)
    red.subscribe(b"t", qos=1)
    blue = driver.connect("c", tenant="blue", expiry=100, is_clean_start=False)
    assert not red.is_closed
    assert not blue.connack.is_session_present
    driver.connect("p", tenant="blue").publish(b"t", b"m", qos=1)
    assert red.take() == []


def test_a_will_stays_in_its_tenant() -> None:
    driver = EngineDriver()
    red, blue = driver.connect("r", tenant="red"), driver.connect("b", tenant="blue")
    for watcher in (red, blue):
        watcher.subscribe(b"#")
    driver.connect("c", tenant="red", will=will()).lose()
    assert red.payloads() == [b"gone"]
    assert blue.payloads() == []


def test_tenants_stay_apart_across_a_restart() -> None:
    driver = EngineDriver()
    driver.connect("c", tenant="red", expiry=100).subscribe(b"t", qos=1)
    driver.publish(b"t", b"red", tenant="red", qos=1, is_retain=True)
    driver.take_down()
    blue = driver.connect("c", tenant="blue", is_clean_start=False, expiry=100)
    assert not blue.connack.is_session_present
    blue.subscribe(b"#")
    assert blue.messages() == []
    red = driver.connect("c", tenant="red", is_clean_start=False, expiry=100)
    assert red.payloads() == [b"red"]
