"""The rules file: TOML text to rules, or one sentence about what is wrong.

Knows: the format below.
Does not know: the file system, what rules mean (rules), clients.
Spec: TOML 1.0.

    version = 1

    [[rule]]
    effect = "allow"                       # or "deny"
    actions = ["publish", "subscribe"]     # to subscribe includes to receive
    topics = ["dt/${client_id}/#"]         # Topic Filters; ${...} stands for an attribute of the client
    when = { "cert.organizational_unit" = "press-*" }   # optional; all must hold; `*` may end a value
    retain = false                         # optional, allow and publish only: may RETAIN be set?

What no rule allows is denied, and a deny beats every allow, in whatever order they stand. Attributes
stand in attributes.py; a topic into which a client's attribute does not fit as a part of one level
matches nothing, in a deny rule too. Reserved topics are decided before the rules (reserved.py).
"""

import re
import tomllib
from collections.abc import Collection, Mapping
from difflib import get_close_matches
from typing import Any, Final

from ..protocol.errors import BrokerError, PeerError
from ..protocol.topics import check_topic_filter, split_shared
from .attributes import ABSENT, CONDITIONS, PLACEHOLDERS, PRESENT
from .rules import Condition, Rule, TopicTemplate

RULES_SIZE_MAXIMUM: Final = 4 * 1024 * 1024

_EFFECTS: Final = ("allow", "deny")
_ACTIONS: Final = ("publish", "subscribe")
_RULE_KEYS: Final = ("effect", "actions", "topics", "when", "retain")
_PLACEHOLDER: Final = re.compile(r"\$\{([^{}]*)\}")


class RulesError(BrokerError):
    """A rules file cannot be used; the text is one sentence with file, rule, key and what would be right."""


def parse_rules(text: str, *, source: str) -> tuple[Rule, ...]:
    """Return the rules that `text` holds; `source` names it in errors.

    Raises:
        RulesError: it is not a rules file in every detail.
    """
    if len(text) > RULES_SIZE_MAXIMUM:
        raise RulesError(f"{source}: a rules file has at most {RULES_SIZE_MAXIMUM} characters")
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RulesError(f"{source}: this is not TOML: {error}") from None
    except RecursionError:
        raise RulesError(f"{source}: tables or arrays are nested too deeply") from None
    _check_keys(document, ("version", "rule"), source)
    version = document.get("version")
    if type(version) is not int or version != 1:  # `true` equals 1 too.
        raise RulesError(f"{source}: the file must say version = 1")
    tables = document.get("rule", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise RulesError(f"{source}: each rule must be a table that begins with [[rule]]")
    return tuple(_rule(table, f"{source}: rule {number}") for number, table in enumerate(tables, start=1))


def _rule(table: Mapping[str, Any], where: str) -> Rule:
    _check_keys(table, _RULE_KEYS, where)
    effect = table.get("effect")
    if effect not in _EFFECTS:
        raise RulesError(f'{where}: effect must be "allow" or "deny"')
    actions = _texts(table, "actions", where)
    for action in actions:
        if action not in _ACTIONS:
            raise RulesError(f"{where}: actions cannot be {_quote(action)}; {_advice(action, _ACTIONS)}")
    topics = tuple(_template(topic, f"{where}: topics") for topic in _texts(table, "topics", where))
    when = table.get("when", {})
    if not isinstance(when, dict):
        raise RulesError(f'{where}: when must be a table such as {{ client_id = "pump-*" }}')
    retain = table.get("retain", True)
    if not isinstance(retain, bool):
        raise RulesError(f"{where}: retain must be true or false")
    if "retain" in table and (effect == "deny" or "publish" not in actions):
        raise RulesError(f"{where}: retain belongs to rules that allow to publish")
    return Rule(
        is_allow=effect == "allow",
        is_for_publish="publish" in actions,
        is_for_subscribe="subscribe" in actions,
        topics=topics,
        when=tuple(_condition(name, value, f"{where}: when") for name, value in when.items()),
        is_retain_allowed=retain,
    )


def _template(text: str, where: str) -> TopicTemplate:
    parts = _PLACEHOLDER.split(text)
    for name in parts[1::2]:
        if name not in PLACEHOLDERS:
            raise RulesError(
                f"{where}: {_quote(text)} has the unknown placeholder ${{{name}}}; "
                f"{_advice(name, PLACEHOLDERS)}"
            )
    if any("${" in literal for literal in parts[0::2]):
        raise RulesError(f"{where}: {_quote(text)} has a placeholder that is not closed by }}")
    if len(parts) > 1 and parts[0].startswith("$") and "/" not in parts[0]:
        raise RulesError(f"{where}: {_quote(text)} must spell its first level out, because it begins with $")
    example = _PLACEHOLDER.sub("x", text).encode()
    try:
        check_topic_filter(example)
    except PeerError as error:
        raise RulesError(f"{where}: {_quote(text)} is not a Topic Filter: {error}") from None
    if split_shared(example) is not None:
        raise RulesError(f"{where}: {_quote(text)} must be written without its $share/{{group}}/")
    return TopicTemplate(tuple(parts))


def _condition(name: str, value: object, where: str) -> Condition:
    if name == "cert" and isinstance(value, dict):
        raise RulesError(f'{where}: a certificate field must be quoted, as in "cert.common_name" = "pump-7"')
    if name not in CONDITIONS:
        raise RulesError(f"{where}: {_quote(name)} is not an attribute; {_advice(name, CONDITIONS)}")
    if not isinstance(value, str) or not value:
        raise RulesError(f"{where}: {_quote(name)} must be a text that is not empty")
    if name == "certificate":
        if value not in (PRESENT, ABSENT):
            raise RulesError(f'{where}: certificate must be "{PRESENT}" or "{ABSENT}"')
        return Condition(name, value)
    literal = value.removesuffix("*")
    if "*" in literal:
        raise RulesError(f"{where}: {_quote(name)} may have one * and only at its end")
    return Condition(name, literal, is_prefix=literal != value)


def _texts(table: Mapping[str, Any], key: str, where: str) -> list[str]:
    texts = table.get(key)
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise RulesError(f"{where}: {key} must be a list of at least one text")
    return texts


def _check_keys(table: Mapping[str, Any], known: Collection[str], where: str) -> None:
    for key in table:
        if key not in known:
            raise RulesError(f"{where}: {_quote(key)} is not a key here; {_advice(key, known)}")


def _advice(word: str, known: Collection[str]) -> str:
    close = get_close_matches(word, known, n=1)
    return f"did you mean {close[0]}?" if close else f"known are {', '.join(sorted(known))}"


def _quote(text: str) -> str:
    shown = text if len(text) <= 80 else f"{text[:77]}..."
    return f'"{shown}"'
