"""Settings as TOML text with a comment for every key.

Knows: how values, tables and comments are written.
Does not know: which settings there are, where the text goes.
Spec: TOML 1.0.
"""

import json
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from pydantic import BaseModel

_WIDTH: Final = 100


def settings_text(settings: BaseModel) -> str:
    """Return the settings as a TOML file; a key without a value stands there as a comment."""
    return "\n".join(_table(settings, "")).strip("\n") + "\n"


def _table(model: BaseModel, path: str) -> Iterator[str]:
    """Yield the lines of one table: first its plain keys, then its tables, as TOML wants it."""
    tables: list[tuple[str, BaseModel | tuple[BaseModel, ...], str]] = []
    for name, field in type(model).model_fields.items():
        value, comment = getattr(model, name), field.description or ""
        if isinstance(value, BaseModel) or (
            isinstance(value, tuple) and value and isinstance(value[0], BaseModel)
        ):
            tables.append((f"{path}.{name}".lstrip("."), value, comment))
            continue
        yield from textwrap.wrap(comment, _WIDTH, initial_indent="# ", subsequent_indent="# ")
        yield f"# {name} =" if value is None else f"{name} = {_value(value)}"
    for name, content, comment in tables:
        yield ""
        yield from textwrap.wrap(comment, _WIDTH, initial_indent="# ", subsequent_indent="# ")
        if isinstance(content, BaseModel):
            yield f"[{name}]"
            yield from _table(content, name)
        else:
            for item in content:
                yield f"[[{name}]]"
                yield from _table(item, name)


def _value(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            return repr(value)
        case str() | Path():
            return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
        case tuple() | list() | frozenset():
            return f"[{', '.join(_value(item) for item in value)}]"
        case _:
            raise TypeError(f"no TOML form for {type(value).__name__}")
