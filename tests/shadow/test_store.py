import pytest

from shadow.document import Tombstone
from shadow.errors import ShadowStoreError
from shadow.store import MemoryShadowStore
from shadow.topics import ShadowKey

A, B, NAMED = ShadowKey("a"), ShadowKey("b"), ShadowKey("a", "fw")


async def test_rows_are_found_under_their_keys_and_replaced() -> None:
    store = MemoryShadowStore()
    await store.commit({A: Tombstone(1, 0), NAMED: Tombstone(2, 0)})
    await store.commit({A: Tombstone(3, 0)})
    assert await store.load([A, B, NAMED]) == {A: Tombstone(3, 0), NAMED: Tombstone(2, 0)}


async def test_a_full_store_refuses_new_rows_as_a_whole_and_still_replaces() -> None:
    store = MemoryShadowStore(rows_maximum=1)
    await store.commit({A: Tombstone(1, 0)})
    with pytest.raises(ShadowStoreError):
        await store.commit({A: Tombstone(2, 0), B: Tombstone(1, 0)})
    assert await store.load([A, B]) == {A: Tombstone(1, 0)}
    await store.commit({A: Tombstone(2, 0)})
