"""Rights that change under a connected Client, because the rules did."""

import pytest
from msgspec.structs import replace

from broker.access.ports import AccessRefusedError
from broker.engine import Authenticate
from broker.protocol.packets import V3_1_1, V5, Disconnect, PubAck, PubRec
from broker.protocol.reason_codes import ReasonCode
from fakes import EngineDriver, FakePermissions
from fakes_client import FakeClient, will

versions = pytest.mark.parametrize("version", [V3_1_1, V5])


@pytest.fixture
def driver() -> EngineDriver:
    return EngineDriver(is_durable=False)


def ask_again(driver: EngineDriver, client: FakeClient) -> None:
    """Put the same question once more, as the server does when the rules have changed."""
    request = client.connection.request
    assert request is not None
    answer = driver.answer(Authenticate(client.connection, request))
    driver.engine.authenticated_again(client.connection, answer, driver.now)
    driver.settle()


def test_equal_rights_change_nothing(driver: EngineDriver) -> None:
    client = driver.connect("a")
    client.subscribe(b"t/#")
    ask_again(driver, client)
    driver.publish(b"t/1", b"x")
    assert client.payloads() == [b"x"]
    assert not client.is_closed


def test_a_topic_that_is_forbidden_now_cannot_be_published_any_more(driver: EngineDriver) -> None:
    client = driver.connect("a")
    client.publish(b"t", qos=1)
    assert client.take_one(PubAck).reason_code is not ReasonCode.NOT_AUTHORIZED
    driver.permissions["a"] = FakePermissions(no_publish=(b"t",))
    ask_again(driver, client)
    client.publish(b"t", qos=1)
    assert client.take_one(PubAck).reason_code is ReasonCode.NOT_AUTHORIZED


def test_a_topic_that_is_allowed_now_can_be_published(driver: EngineDriver) -> None:
    driver.permissions["a"] = FakePermissions(no_publish=(b"t",))
    client = driver.connect("a")
    client.publish(b"t", qos=2)
    assert client.take_one(PubRec).reason_code is ReasonCode.NOT_AUTHORIZED
    del driver.permissions["a"]
    ask_again(driver, client)
    client.publish(b"t", qos=2)
    assert client.take_one(PubRec).reason_code is not ReasonCode.NOT_AUTHORIZED


def test_a_subscription_that_is_forbidden_now_is_withdrawn(driver: EngineDriver) -> None:
    client = driver.connect("a")
    client.subscribe(b"t/#", b"u/#")
    driver.permissions["a"] = FakePermissions(no_subscribe=(b"t/#",))
    ask_again(driver, client)
    for topic in (b"t/1", b"u/1"):
        driver.publish(topic, topic)
    assert client.payloads() == [b"u/1"]


def test_a_topic_inside_a_subscription_that_is_forbidden_now_is_held_back(driver: EngineDriver) -> None:
    client = driver.connect("a")
    client.subscribe(b"t/#")
    driver.publish(b"t/1", b"before")
    driver.permissions["a"] = FakePermissions(no_receive=(b"t/1",))
    ask_again(driver, client)
    driver.publish(b"t/1", b"after")
    driver.publish(b"t/2", b"other")
    assert client.payloads() == [b"before", b"other"]


def test_a_will_that_is_forbidden_now_is_not_published(driver: EngineDriver) -> None:
    watcher = driver.connect("w")
    watcher.subscribe(b"will")
    client = driver.connect("a", will=will())
    driver.permissions["a"] = FakePermissions(no_publish=(b"will",))
    ask_again(driver, client)
    client.lose()
    assert watcher.messages() == []


@versions
@pytest.mark.parametrize(
    ("code", "told"),
    [
        (ReasonCode.NOT_AUTHORIZED, ReasonCode.NOT_AUTHORIZED),
        (ReasonCode.BAD_USER_NAME_OR_PASSWORD, ReasonCode.NOT_AUTHORIZED),
        (ReasonCode.SERVER_UNAVAILABLE, ReasonCode.SERVER_BUSY),
    ],
)
def test_who_is_refused_now_is_closed(
    driver: EngineDriver, version: int, code: ReasonCode, told: ReasonCode
) -> None:
    client = driver.connect("a", version)
    driver.refusals["a"] = AccessRefusedError(code, "no more")
    ask_again(driver, client)
    assert client.close_reason is told
    if version == V5:
        assert client.take_one(Disconnect).reason_code is told


@pytest.mark.parametrize("change", [{"tenant": "other"}, {"user_name": "bob"}, {"client_id": "b"}])
def test_who_has_become_somebody_else_is_closed(driver: EngineDriver, change: dict[str, str]) -> None:
    client = driver.connect("a")
    principal = client.connection.principal
    assert principal is not None
    driver.engine.authenticated_again(client.connection, replace(principal, **change), driver.now)
    driver.settle()
    assert client.close_reason is ReasonCode.NOT_AUTHORIZED


def test_an_answer_that_comes_after_the_client_has_left_does_nothing(driver: EngineDriver) -> None:
    client = driver.connect("a")
    client.lose()
    ask_again(driver, client)
    assert driver.engine.take_effects() == []


def test_a_client_that_is_not_let_in_yet_is_not_asked_about_twice(driver: EngineDriver) -> None:
    driver.is_holding_answers = True
    client = driver.open()
    client.send_bytes(bytes.fromhex("100e00044d5154540502003c00000161"))
    driver.refusals["a"] = AccessRefusedError(ReasonCode.NOT_AUTHORIZED, "no")
    ask_again(driver, client)
    assert not client.is_closed
