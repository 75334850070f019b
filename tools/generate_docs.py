"""Writes the pages of the documentation that are generated, or checks that they are current.

Knows: where each page comes from: the command line, the schema of the settings, the table of metrics, the
    statements of the specifications and the tests that name them.
"""

import ast
import json
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import click

from gnomon.cli import cli
from gnomon.metric_table import METRICS, Metric, written_name

ROOT: Final = Path(__file__).resolve().parents[1]
_NOTICE: Final = "<!-- Written by tools/generate_docs.py (make docs); edit its source. -->"
#: Key of a JSON schema to the word for it.
_BOUNDS: Final = {
    "minimum": "from",
    "exclusiveMinimum": "above",
    "maximum": "to",
    "exclusiveMaximum": "below",
}
_VERSIONS: Final = {"v3.1.1": "MQTT Version 3.1.1", "v5": "MQTT Version 5.0"}
_STATEMENTS: Final = "tests/conformance/statements"
_BINDS: Final = ("server", "client", "both")


def cli_page(command: click.Command) -> str:
    """Return the page that shows the help of every command."""
    parts = ["# Command line", _NOTICE]
    for context in _contexts(command, click.Context(command, info_name="gnomon", terminal_width=100)):
        parts += [f"## `{context.command_path}`", f"```text\n{context.command.get_help(context)}\n```"]
    return "\n\n".join(parts) + "\n"


def _contexts(command: click.Command, context: click.Context) -> Iterator[click.Context]:
    yield context
    if isinstance(command, click.Group):
        for name, child in sorted(command.commands.items()):
            if not child.hidden:
                yield from _contexts(child, click.Context(child, context, info_name=name, terminal_width=100))


def settings_page(schema: Mapping[str, Any]) -> str:
    """Return the page that lists every setting: key, type, default, meaning."""
    parts = [
        "# Settings",
        _NOTICE,
        "Precedence: command line, environment (`GNOMON_SECTION__KEY`), TOML file, default. "
        "An unknown key stops the start.",
    ]
    for path, section in _sections("", schema, schema.get("$defs", {})):
        rows = [
            f"| `{key}` | {_type(value)} | {_default(value)} | {_cell(value.get('description', ''))} |"
            for key, value in section["properties"].items()
            if _table(value) is None or "items" in value
        ]
        if rows:
            parts += [f"## `[{path}]`", section.get("description", "")] if path else ["## Top level"]
            parts.append("| key | type | default | meaning |\n| --- | --- | --- | --- |\n" + "\n".join(rows))
    return "\n\n".join(filter(None, parts)) + "\n"


def _sections(
    path: str, schema: Mapping[str, Any], definitions: Mapping[str, Any]
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    yield path, schema
    for key, value in schema.get("properties", {}).items():
        if (table := _table(value)) is not None:
            name = f"{path}.{key}" if path else key
            yield from _sections(f"[{name}]" if "items" in value else name, definitions[table], definitions)


def _table(value: Mapping[str, Any]) -> str | None:
    # A setting that is a table of settings, or an array of them, refers to their definition.
    holder = value.get("items", value)
    for choice in (holder, *holder.get("anyOf", ())):
        if "$ref" in choice:
            return str(choice["$ref"]).rpartition("/")[2]
    return None


def _type(value: Mapping[str, Any]) -> str:
    # A setting that may be absent is a choice between its type and null.
    kinds = [kind for kind in value.get("anyOf", [value]) if kind.get("type") != "null"]
    return " or ".join(_kind(kind) for kind in kinds)


def _kind(kind: Mapping[str, Any]) -> str:
    if "enum" in kind:
        return " or ".join(f"`{choice}`" for choice in kind["enum"])
    bounds = [f"{word} {kind[key]}" for key, word in _BOUNDS.items() if key in kind]
    return f"{kind.get('type', 'any')} {' '.join(bounds)}".rstrip()


def _default(value: Mapping[str, Any]) -> str:
    if "default" not in value:
        return "required"
    default = value["default"]
    return "none" if default is None else f"`{json.dumps(default)}`"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def metrics_page(metrics: Sequence[Metric]) -> str:
    """Return the page that lists every metric."""
    rows = [
        f"| `{written_name(metric)}` | {metric.kind} | {metric.label and f'`{metric.label}`'} | "
        f"{_cell(metric.meaning)} |"
        for metric in metrics
    ]
    intro = (
        "What `/metrics` tells ([how to switch it on](../how-to/monitor.md)); counters begin with the server."
    )
    table = "| name | type | label | meaning |\n| --- | --- | --- | --- |\n" + "\n".join(rows)
    return "\n\n".join(["# Metrics", _NOTICE, intro, table]) + "\n"


@dataclass(frozen=True, slots=True)
class Statement:
    """One normative statement: whom it binds, what it says, and why no test can prove it, if so."""

    binds: str
    says: str
    untestable: str | None = None

    def __post_init__(self) -> None:
        if self.binds not in _BINDS:
            raise ValueError(f"binds = {self.binds!r}: it is one of {', '.join(_BINDS)}")

    @property
    def needs_test(self) -> bool:
        """Whether it binds a server, and can be proven."""
        return self.binds != "client" and self.untestable is None


#: Version to the statements by their tag, in the order of the specification.
Statements: TypeAlias = Mapping[str, Mapping[str, Statement]]


def statements() -> Statements:
    """Return the statements of every version."""
    tables = {
        version: tomllib.loads((ROOT / _STATEMENTS / f"{version}.toml").read_text("utf-8"))
        for version in _VERSIONS
    }
    return {
        version: {tag: Statement(**fields) for tag, fields in table.items()}
        for version, table in tables.items()
    }


def conformance_page(table: Statements, sources: Mapping[str, str]) -> str:
    """Return the page that names, for each statement, the test files that prove it.

    Args:
        table: the statements.
        sources: path of a test file to its text.
    """
    proofs = _proofs(sources)
    parts = [
        "# Conformance",
        _NOTICE,
        "The normative statements of both versions in our words, and the tests that prove them. "
        "A test of a statement that binds clients proves what the broker answers to one that breaks it.",
    ]
    for version, title in _VERSIONS.items():
        rows = [
            f"| {tag} | {statement.binds} | {_cell(statement.says)} | "
            f"{_proof(statement, proofs.get((version, tag), ()))} |"
            for tag, statement in table[version].items()
        ]
        binding = [tag for tag, statement in table[version].items() if statement.binds != "client"]
        tested = sum((version, tag) in proofs for tag in binding)
        parts += [
            f"## {title}",
            f"{len(rows)} statements, of which {len(binding)} bind a server; {tested} of these have a test.",
            "| statement | binds | says | tests |\n| --- | --- | --- | --- |\n" + "\n".join(rows),
        ]
    return "\n\n".join(parts) + "\n"


def _proof(statement: Statement, files: Iterable[str]) -> str:
    if files:
        return ", ".join(f"`{path}`" for path in sorted(files))
    if statement.untestable is not None:
        return f"none: {_cell(statement.untestable)}"
    return "**missing**" if statement.needs_test else "none: Binds Clients only."


def conformance_gaps(table: Statements, sources: Mapping[str, str]) -> list[str]:
    """Return what is missing: tests for statements, and statements for the tags that tests name."""
    proofs = _proofs(sources)
    without_test = [
        f"{version} {tag}: binds a server and has no test"
        for version, rows in table.items()
        for tag, statement in rows.items()
        if statement.needs_test and (version, tag) not in proofs
    ]
    unknown = [
        f"{version} {tag}: no such statement, in {', '.join(sorted(files))}"
        for (version, tag), files in proofs.items()
        if tag not in table[version]
    ]
    return without_test + unknown


def _proofs(sources: Mapping[str, str]) -> dict[tuple[str, str], set[str]]:
    proofs: dict[tuple[str, str], set[str]] = {}
    for path, text in sources.items():
        for clause in _clauses(text):
            proofs.setdefault(clause, set()).add(path)
    return proofs


def _clauses(text: str) -> Iterator[tuple[str, str]]:
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.Call(
                func=ast.Attribute(attr="clause"),
                args=[ast.Constant(value=str(version)), ast.Constant(value=str(tag))],
            ):
                if version not in _VERSIONS:
                    raise ValueError(
                        f"clause({version!r}, {tag!r}): the version is one of {', '.join(_VERSIONS)}"
                    )
                yield version, tag


def sources_of_tests() -> dict[str, str]:
    """Return every test file: path from the root, and its text."""
    return {
        path.relative_to(ROOT).as_posix(): path.read_text("utf-8")
        for path in sorted(ROOT.glob("tests/**/test_*.py"))
    }


def pages() -> dict[Path, str]:
    """Return every generated page: path from the root, and its text."""
    schema = json.loads((ROOT / "config/settings.schema.json").read_text("utf-8"))
    return {
        Path("docs/reference/cli.md"): cli_page(cli),
        Path("docs/reference/settings.md"): settings_page(schema),
        Path("docs/reference/metrics.md"): metrics_page(METRICS),
        Path("docs/conformance.md"): conformance_page(statements(), sources_of_tests()),
    }


def main() -> int:
    """Write the pages, or with `--check` name those that are not current."""
    stale = [path for path, text in pages().items() if not _holds(ROOT / path, text)]
    if sys.argv[1:] == ["--check"]:
        for path in stale:
            print(f"{path}: not current; run `make docs`")
        return 1 if stale else 0
    for path, text in pages().items():
        (ROOT / path).write_text(text, "utf-8")
    return 0


def _holds(path: Path, text: str) -> bool:
    return path.is_file() and path.read_text("utf-8") == text


if __name__ == "__main__":
    sys.exit(main())
