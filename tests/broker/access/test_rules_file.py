"""A rules file is right in every detail, or one sentence says what is wrong."""

from pathlib import Path

import pytest

from broker.access import RulesError, builtin_rules, parse_rules

EXAMPLE = Path(__file__).parents[3] / "config" / "rules.example.toml"

GOOD = 'effect = "allow"\nactions = ["publish"]\ntopics = ["a"]\n'


def _with(line: str) -> str:
    key = line.partition(" =")[0]
    kept = [other for other in GOOD.splitlines() if other.partition(" =")[0] != key]
    return "\n".join(["version = 1", "[[rule]]", *kept, line])


MALFORMED = [
    ("", "r.toml: the file must say version = 1"),
    ("version = 2", "r.toml: the file must say version = 1"),
    ("version = true", "r.toml: the file must say version = 1"),
    ("version = 1.0", "r.toml: the file must say version = 1"),
    ("version = 1\nx = [", "r.toml: this is not TOML: Invalid value (at end of document)"),
    ("version = 1\nx = " + "[" * 10_000, "r.toml: tables or arrays are nested too deeply"),
    ("version = 1\n[[rules]]\n" + GOOD, 'r.toml: "rules" is not a key here; did you mean rule?'),
    ("version = 1\n[rule]\n" + GOOD, "r.toml: each rule must be a table that begins with [[rule]]"),
    ("version = 1\nrule = [1]", "r.toml: each rule must be a table that begins with [[rule]]"),
    (
        f"version = 1\n[[rule]]\n{GOOD}[[rule]]\n{GOOD}efect = 1",
        'r.toml: rule 2: "efect" is not a key here; did you mean effect?',
    ),
    (
        _with("zzz = 1"),
        'r.toml: rule 1: "zzz" is not a key here; known are actions, effect, retain, topics, when',
    ),
    (_with('effect = "permit"'), 'r.toml: rule 1: effect must be "allow" or "deny"'),
    (_with("effect = []"), 'r.toml: rule 1: effect must be "allow" or "deny"'),
    ("version = 1\n[[rule]]", 'r.toml: rule 1: effect must be "allow" or "deny"'),
    (_with('actions = "publish"'), "r.toml: rule 1: actions must be a list of at least one text"),
    (_with("actions = []"), "r.toml: rule 1: actions must be a list of at least one text"),
    (_with("actions = [1]"), "r.toml: rule 1: actions must be a list of at least one text"),
    (_with('actions = ["pubish"]'), 'r.toml: rule 1: actions cannot be "pubish"; did you mean publish?'),
    (
        _with('actions = ["receive"]'),
        'r.toml: rule 1: actions cannot be "receive"; known are publish, subscribe',
    ),
    (_with("topics = []"), "r.toml: rule 1: topics must be a list of at least one text"),
    (_with('topics = ["a", 1]'), "r.toml: rule 1: topics must be a list of at least one text"),
    (
        _with('topics = ["a/#/b"]'),
        'r.toml: rule 1: topics: "a/#/b" is not a Topic Filter: `#` is not the last character '
        "(v5 [MQTT-4.7.1-1])",
    ),
    (
        _with('topics = ["+${client_id}/b"]'),
        'r.toml: rule 1: topics: "+${client_id}/b" is not a Topic Filter: `+` shares its level '
        "(v5 [MQTT-4.7.1-2])",
    ),
    (
        _with('topics = [""]'),
        'r.toml: rule 1: topics: "" is not a Topic Filter: a topic is empty (v5 [MQTT-4.7.3-1])',
    ),
    (
        _with('topics = ["$share/g/a"]'),
        'r.toml: rule 1: topics: "$share/g/a" must be written without its $share/{group}/',
    ),
    (
        _with('topics = ["a/${cilent_id}"]'),
        'r.toml: rule 1: topics: "a/${cilent_id}" has the unknown placeholder ${cilent_id}; '
        "did you mean client_id?",
    ),
    (
        _with('topics = ["a/${cert.common_nam}"]'),
        'r.toml: rule 1: topics: "a/${cert.common_nam}" has the unknown placeholder ${cert.common_nam}; '
        "did you mean cert.common_name?",
    ),
    (
        _with('topics = ["a/${client_id/b"]'),
        'r.toml: rule 1: topics: "a/${client_id/b" has a placeholder that is not closed by }',
    ),
    (
        _with('topics = ["$${client_id}/b"]'),
        'r.toml: rule 1: topics: "$${client_id}/b" must spell its first level out, because it begins with $',
    ),
    (_with('when = "x"'), 'r.toml: rule 1: when must be a table such as { client_id = "pump-*" }'),
    (
        _with('when = { cert.common_name = "x" }'),
        'r.toml: rule 1: when: a certificate field must be quoted, as in "cert.common_name" = "pump-7"',
    ),
    (
        _with('when = { clientid = "x" }'),
        'r.toml: rule 1: when: "clientid" is not an attribute; did you mean client_id?',
    ),
    (_with("when = { client_id = 7 }"), 'r.toml: rule 1: when: "client_id" must be a text that is not empty'),
    (
        _with('when = { client_id = "" }'),
        'r.toml: rule 1: when: "client_id" must be a text that is not empty',
    ),
    (
        _with('when = { client_id = "a*b" }'),
        'r.toml: rule 1: when: "client_id" may have one * and only at its end',
    ),
    (
        _with('when = { client_id = "a**" }'),
        'r.toml: rule 1: when: "client_id" may have one * and only at its end',
    ),
    (
        _with('when = { certificate = "yes" }'),
        'r.toml: rule 1: when: certificate must be "present" or "absent"',
    ),
    (_with('retain = "no"'), "r.toml: rule 1: retain must be true or false"),
    (
        _with("retain = true").replace("allow", "deny"),
        "r.toml: rule 1: retain belongs to rules that allow to publish",
    ),
    (
        _with("retain = true").replace('"publish"', '"subscribe"'),
        "r.toml: rule 1: retain belongs to rules that allow to publish",
    ),
    (f"version = 1\n# {'x' * 4 * 1024 * 1024}", "r.toml: a rules file has at most 4194304 characters"),
]


@pytest.mark.parametrize(("text", "sentence"), MALFORMED, ids=range(len(MALFORMED)))
def test_a_malformed_file_gives_one_sentence(text: str, sentence: str) -> None:
    with pytest.raises(RulesError) as raised:
        parse_rules(text, source="r.toml")
    assert str(raised.value) == sentence


def test_a_long_text_is_cut_in_the_sentence() -> None:
    with pytest.raises(RulesError) as raised:
        parse_rules(_with(f'topics = ["{"x" * 100_000}"]'), source="r.toml")
    assert len(str(raised.value)) < 250


def test_a_file_without_rules_is_right_and_allows_nothing() -> None:
    assert parse_rules("version = 1", source="r.toml") == ()


def test_the_example_begins_with_the_built_in_rules() -> None:
    rules = parse_rules(EXAMPLE.read_text(encoding="utf-8"), source="example")
    builtin = builtin_rules()
    assert rules[: len(builtin)] == builtin
    assert len(rules) > len(builtin)
