"""Payloads that say which message they are, and show any damage; topics of Wills.

Knows: the form PUBLISHER|NUMBER|SIZE|FILLING.
Does not know: who reads them.
Spec: none.
"""

from .history import Key


def payload_of(key: Key, topic: str, size: int = 0) -> bytes:
    """Return the payload of a message, with `size` bytes of filling that depend on key and topic."""
    stem = f"{key.publisher}|{key.number}|{size}|"
    filling = f"{stem}{topic} "
    return (stem + (filling * (size // len(filling) + 1))[:size]).encode()


def key_of(payload: bytes, topic: str) -> Key | None:
    """Return whose payload this is; None where it is not exactly one that was made for this topic."""
    try:
        publisher, number, size, _ = payload.decode().split("|", 3)
        key = Key(publisher, int(number))
        return key if payload == payload_of(key, topic, int(size)) else None
    except ValueError:
        return None


def will_topic(client: str) -> str:
    """Return where the Will of a client goes."""
    return f"will/{client}"
