"""Shadow documents at the command line: JSON, paths of keys, merge patches, differences.

Knows: JSON objects, how a path is written, which values a shadow can hold.
Does not know: MQTT, terminals, the shadow engine.
Spec: RFC 8259; RFC 7396, as AWS IoT shadow documents use it.

Everything here may come from a stranger's device: depths are bounded before anything recurses.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from typing import Any, Final, NamedTuple, TypeAlias

JsonObject: TypeAlias = dict[str, Any]
#: Keys from the section on: `("desired", "light", "color")`.
KeyPath: TypeAlias = tuple[str, ...]

SECTIONS: Final = ("desired", "reported")

#: Beyond any setting of the service, and far below what Python can recurse.
_DEPTH_MAXIMUM: Final = 100
_BARE_KEY: Final = re.compile(r"[^\s\"\\.=]+")
_decode_string: Final = json.JSONDecoder().raw_decode


class Missing(Enum):
    """What stands where there is no value; null is one."""

    MISSING = "missing"


MISSING: Final = Missing.MISSING


class Change(NamedTuple):
    """One value that differs; MISSING where there is none."""

    path: KeyPath
    before: Any
    after: Any


# JSON.


def parse_json(text: str | bytes) -> Any:  # noqa: ANN401  (untrusted input)
    """Return the value of strict JSON: no NaN, no number beyond a float's range, no key twice.

    Raises:
        ValueError: one sentence; where it is a json.JSONDecodeError it has a place.
    """
    if isinstance(text, bytes):
        text = text.decode()  # json would take UTF-16, too.
    try:
        value = json.loads(
            text, object_pairs_hook=_unique, parse_constant=_refuse_constant, parse_float=_finite
        )
    except RecursionError:
        raise ValueError("nested too deeply") from None
    _check_depth(value)
    return value


def parse_object(text: str | bytes) -> JsonObject:
    """Return the object of strict JSON.

    Raises:
        ValueError: as `parse_json`, or it is no object.
    """
    value = parse_json(text)
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004  (a value of the text)
    return value


def has_null(value: object) -> bool:
    """Say whether there is a null anywhere: no shadow can hold one."""
    if isinstance(value, dict):
        return any(map(has_null, value.values()))
    if isinstance(value, list):
        return any(map(has_null, value))
    return value is None


def is_equal(one: object, other: object) -> bool:
    """Say whether two values are the same JSON: numbers by value, and true is not 1."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(is_equal(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(is_equal, one, other))
    return isinstance(one, bool) == isinstance(other, bool) and one == other


# Paths.


def parse_path(text: str) -> KeyPath:
    """Return the keys of `light.color` or `light."odd.key"`; quoted keys are JSON strings.

    Raises:
        ValueError: one sentence with what would be right.
    """
    keys, rest = _take_path(text)
    if rest:
        raise _wrong_path(text)
    return keys


def parse_assignment(text: str) -> tuple[KeyPath, Any]:
    """Return path and value of `light.color="red"`.

    Raises:
        ValueError: one sentence with what would be right.
    """
    keys, rest = _take_path(text)
    if not rest.startswith("="):
        raise ValueError(f"{text!r} is no assignment; say PATH=VALUE, such as power=true")
    try:
        value = parse_json(rest[1:])
    except ValueError as error:
        raise ValueError(
            f"{text!r}: the value is not JSON ({error}); a string needs its quotes, as in 'color=\"red\"'"
        ) from None
    if value is None:
        raise ValueError(f"{text!r}: null removes a key; say: gnomon shadow unset")
    return keys, value


def format_path(path: Sequence[str]) -> str:
    """Return what `parse_path` reads as `path`."""
    return ".".join(
        key if _BARE_KEY.fullmatch(key) and key.isprintable() else json.dumps(key) for key in path
    )


# Patches.


def nested(pairs: Sequence[tuple[KeyPath, Any]]) -> JsonObject:
    """Return the object that holds each value at its path.

    Raises:
        ValueError: one path is another's beginning, or there twice.
    """
    root: JsonObject = {}
    ends: set[KeyPath] = set()
    for path, value in pairs:
        place = root
        for depth, key in enumerate(path[:-1], 1):
            if path[:depth] in ends:
                raise ValueError(f"{format_path(path)}: {format_path(path[:depth])} is given, too")
            place = place.setdefault(key, {})
        if path[-1] in place:
            raise ValueError(f"{format_path(path)} is given twice, or a part of it is given, too")
        place[path[-1]] = value
        ends.add(path)
    return root


def merge_patch(old: Mapping[str, Any], new: Mapping[str, Any]) -> JsonObject:
    """Return what turns `old` into `new` by `merged`; empty where they are equal. `new` has no null."""
    patch: JsonObject = dict.fromkeys(key for key in old if key not in new)
    for key, value in new.items():
        before = old.get(key, MISSING)
        if isinstance(value, dict) and isinstance(before, dict):
            if inner := merge_patch(before, value):
                patch[key] = inner
        elif not is_equal(before, value):
            patch[key] = value
    return patch


def merged(target: Mapping[str, Any], patch: Mapping[str, Any]) -> JsonObject:
    """Return `target` with `patch` laid over it; null removes a key, objects merge, the rest replaces."""
    result = dict(target)
    for key, value in patch.items():
        below = result.get(key)
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict):
            result[key] = merged(below if isinstance(below, dict) else {}, value)
        else:
            result[key] = value
    return result


# Documents.


def section(document: Mapping[str, Any], name: str) -> JsonObject:
    """Return the object under a name, an empty one where there is none."""
    value = document.get(name)
    return value if isinstance(value, dict) else {}


def leaves(value: object, path: KeyPath = ()) -> Iterator[tuple[KeyPath, Any]]:
    """Yield each value that is no object, or an empty one, with its path; arrays are values."""
    if isinstance(value, dict) and (value or not path):
        for key, child in value.items():
            yield from leaves(child, (*path, key))
    else:
        yield path, value


def value_at(value: object, path: KeyPath) -> Any:  # noqa: ANN401  (JSON)
    """Return the value at a path, MISSING where there is none."""
    for key in path:
        value = value.get(key, MISSING) if isinstance(value, dict) else MISSING
    return value


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Change]:
    """Return every leaf that differs, in the order of `before`, then what `after` adds."""
    old, new = dict(leaves(before)), dict(leaves(after))
    pairs = [Change(path, old.get(path, MISSING), new.get(path, MISSING)) for path in {**old, **new}]
    return [change for change in pairs if not is_equal(change.before, change.after)]


def _unique(pairs: list[tuple[str, Any]]) -> JsonObject:
    found: JsonObject = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {json.dumps(key)} is there twice")
        found[key] = value
    return found


def _refuse_constant(text: str) -> Any:  # noqa: ANN401  (the hook's type)
    raise ValueError(f"{text} is no number of JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("a number is too large")
    return number


def _check_depth(value: object) -> None:
    level = [value]
    for _ in range(_DEPTH_MAXIMUM):
        level = [child for node in level if isinstance(node, (dict, list)) for child in _children(node)]
        if not level:
            return
    raise ValueError("nested too deeply")


def _children(node: JsonObject | list[Any]) -> Iterator[Any]:
    return iter(node.values() if isinstance(node, dict) else node)


def _take_path(text: str) -> tuple[KeyPath, str]:
    """Return the keys at the beginning of `text`, and what follows them."""
    keys: list[str] = []
    rest = text
    while True:
        if rest.startswith('"'):
            try:
                key, end = _decode_string(rest)
            except ValueError:
                raise _wrong_path(text) from None
        elif (found := _BARE_KEY.match(rest)) is not None:
            key, end = found[0], found.end()
        else:
            raise _wrong_path(text)
        keys.append(key)
        rest = rest[end:]
        if not rest.startswith("."):
            return tuple(keys), rest
        rest = rest[1:]


def _wrong_path(text: str) -> ValueError:
    return ValueError(f'{text!r} is no path; say KEY.KEY, and quote odd keys as JSON, as in light."a b"')
