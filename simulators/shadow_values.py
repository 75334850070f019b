"""Shadow arithmetic as a device or an operator does it: parse, merge, compare.

Knows: JSON objects, what a delta is.
Does not know: MQTT, topics, the shadow engine (a second opinion on it, on purpose).
Spec: AWS IoT device shadow service, document syntax.
"""

import json
from collections.abc import Mapping
from typing import Any

JsonObject = dict[str, Any]


def parse_object(payload: bytes) -> JsonObject | None:
    """Return a payload's JSON object, or None if it holds anything else."""
    try:
        value = json.loads(payload)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def section(document: Mapping[str, Any], *path: str) -> JsonObject:
    """Return the object at a path of keys; an empty one where there is none."""
    value: Any = document
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return dict(value) if isinstance(value, Mapping) else {}


def merge(target: Mapping[str, Any], patch: Mapping[str, Any]) -> JsonObject:
    """Return `target` with `patch` laid over it; null removes a key, objects merge, the rest replaces."""
    merged = dict(target)
    for key, value in patch.items():
        below = merged.get(key)
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, Mapping):
            merged[key] = merge(below if isinstance(below, Mapping) else {}, value)
        else:
            merged[key] = value
    return merged


def delta(desired: Mapping[str, Any], reported: Mapping[str, Any]) -> JsonObject:
    """Return what is desired and not reported; types matter, so `true` is not `1`."""
    missing: JsonObject = {}
    for key, wanted in desired.items():
        if key not in reported:
            missing[key] = wanted
        elif isinstance(wanted, Mapping) and isinstance(reported[key], Mapping):
            if below := delta(wanted, reported[key]):
                missing[key] = below
        elif not is_equal(wanted, reported[key]):
            missing[key] = wanted
    return missing


def is_equal(one: object, other: object) -> bool:
    """Whether two JSON values are the same; numbers compare by value, and no number is a boolean."""
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(is_equal, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(is_equal(one[key], other[key]) for key in one)
    return isinstance(one, bool) == isinstance(other, bool) and one == other
