"""The guides in ``docs/`` that are generated: what stands in the code is not written twice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trajectory.schemas import Table

_GENERATED = "<!-- generated: {command} -->\n\n"


def tables_guide() -> str:
    """Markdown of every table: its rows, columns, units, definitions and sources."""
    from trajectory.schemas import TABLES

    parts = [
        _GENERATED.format(command="trajectory tables docs > docs/tables.md"),
        "# Tables\n\n"
        "Every measured number is a row of `heads`, `layers` or `checkpoints`, whichever world it "
        "comes from. `scan(results, table)` of `trajectory.tables` reads a run's tables as a lazy "
        "Polars frame. Units and definitions are also in the Parquet files' field metadata, "
        "versions and configuration in the file metadata.\n\n"
        "In the definitions s is the sink, i a query and j a key. z_ij is a logit and A_ij a "
        "weight. q, k and v are queries, keys and values; h is the residual stream. Shares and "
        "probabilities lie between 0 and 1, and so do weights of softmax attention.\n",
    ]
    for table in TABLES.values():
        parts.append(f"\n## {table.name}\n\nOne row per {table.row}.\n\n")
        parts.append(table_columns(table))
    return "".join(parts)


def table_columns(table: Table) -> str:
    """Markdown of a table's columns: types, units, definitions and sources."""
    parts = ["| column | type | unit | definition |\n| --- | --- | --- | --- |\n"]
    for field in table.fields:
        facts = {key.decode(): value.decode() for key, value in field.metadata.items()}
        source = f" ({facts['source']})" if "source" in facts else ""
        kind = f"{field.type}, may be empty" if field.nullable else f"{field.type}"
        definition = _cell(facts["definition"] + source)
        parts.append(f"| `{field.name}` | {kind} | {facts.get('unit', '')} | {definition} |\n")
    return "".join(parts)


def config_guide() -> str:
    """Markdown of every key of the config: its type, default and meaning."""
    from trajectory.config import Config

    schema = Config.model_json_schema(by_alias=True)
    parts = [
        _GENERATED.format(command="trajectory config docs > docs/config.md"),
        "# Config\n\n"
        "A config is one YAML file and one run. It is checked before any job starts "
        "(`trajectory config check FILE`); editors can check it against "
        "`workflow/schemas/config.schema.json`.\n",
    ]
    waiting, documented = ["Config"], set()
    while waiting:
        name = waiting.pop(0)
        if name in documented:
            continue
        documented.add(name)
        node = schema if name == "Config" else schema["$defs"][name]
        parts.append(f"\n## {name}\n\n{node['description']}\n\n")
        parts.append("| key | type | default | meaning |\n| --- | --- | --- | --- |\n")
        for key, value in node["properties"].items():
            default = "required" if key in node.get("required", []) else _default(value)
            meaning = _cell(value.get("description", ""))
            parts.append(f"| `{key}` | {_type(value)} | {default} | {meaning} |\n")
            waiting += [link for link in _links(value) if link not in documented]
        if isinstance(other := node.get("additionalProperties"), dict):
            parts.append(f"| a name | {_type(other)} |  | {_cell(_summary(other, schema))} |\n")
            waiting += [link for link in _links(other) if link not in documented]
    return "".join(parts)


def _summary(node: dict[str, Any], schema: dict[str, Any]) -> str:
    """First sentence about the section a schema node refers to."""
    description: str = schema["$defs"][_links(node)[0]]["description"]
    return description.split("\n\n", maxsplit=1)[0]


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


def _default(value: dict[str, Any]) -> str:
    default = value.get("default")
    return "" if default is None or isinstance(default, dict) else f"`{default}`"


def _links(node: Any) -> list[str]:
    """Names of the sections a schema node refers to."""
    if isinstance(node, dict):
        own = [node["$ref"].rsplit("/", 1)[-1]] if "$ref" in node else []
        return own + [link for child in node.values() for link in _links(child)]
    return [link for child in node for link in _links(child)] if isinstance(node, list) else []


def _type(value: dict[str, Any]) -> str:
    """A schema node's type, for people."""
    if "$ref" in value:
        name = value["$ref"].rsplit("/", 1)[-1]
        return f"[{name}](#{name.lower()})"
    if "const" in value:
        return f"`{value['const']}`"
    if "enum" in value:
        return " or ".join(f"`{choice}`" for choice in value["enum"])
    for union in ("anyOf", "oneOf"):
        if union in value:
            return " or ".join(dict.fromkeys(_type(choice) for choice in value[union]))
    if value.get("type") == "array":
        items = value.get("items") or (value.get("prefixItems") or [{}])[0]
        return f"list of {_type(items)}"
    if value.get("type") == "object":
        below: dict[str, Any] = next(iter(value.get("patternProperties", {}).values()), {})
        return f"{_type(below)} by name" if below else "mapping"
    bounds = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    limits = [f"{sign} {value[key]:g}" for key, sign in bounds.items() if key in value]
    return " ".join([value.get("type", "any").replace("null", "empty"), ", ".join(limits)]).strip()
