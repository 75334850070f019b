"""Figures: of all services, and never so often that counting is all there is."""

import asyncio
import time
from datetime import UTC, datetime

from broker.access import RulesAuthenticator
from broker.api import Broker, Census
from broker.settings import BrokerSettings
from gnomon.figures import Monitor
from gnomon.storage import Stores
from shadow import ShadowStats


class SlowBroker(Broker):
    """Has so much that a census takes a while."""

    censuses = 0
    duration_s = 0.05

    async def census(self) -> Census:
        self.censuses += 1
        await asyncio.sleep(self.duration_s)
        return Census(sessions=self.censuses)


def broker() -> SlowBroker:
    authenticator = RulesAuthenticator(
        (), allow_anonymous=True, require_client_id_is_common_name=False, now=lambda: datetime.now(UTC)
    )
    return SlowBroker(BrokerSettings(), authenticator=authenticator)


async def test_those_who_ask_at_once_share_one_census() -> None:
    slow = broker()
    monitor = Monitor(slow, Stores(None))
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(monitor.figures()) for _ in range(20)]
    assert slow.censuses == 1
    assert {task.result().census.sessions for task in tasks} == {1}


async def test_counting_takes_a_tenth_of_the_time_at_most() -> None:
    slow = broker()
    slow.duration_s = 0.01
    monitor = Monitor(slow, Stores(None))
    began = time.monotonic()
    while slow.censuses < 4:
        await monitor.figures()
    assert time.monotonic() - began >= 3 * 10 * slow.duration_s


async def test_services_of_all_tenants_count_together() -> None:
    monitor = Monitor(broker(), Stores(None))
    monitor.shadow.extend([ShadowStats(requests=2, refused=1), ShadowStats(requests=3)])
    shadow = (await monitor.figures()).shadow
    assert (shadow.requests, shadow.refused, shadow.commits) == (5, 1, 0)
