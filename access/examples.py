"""Examples for the OpenAPI description, made from the schemas themselves, so that they can never disagree with them."""

from __future__ import annotations

from typing import Any, Final

ID: Final = "6f1f2c1e-3c55-4d53-9b0e-5a1d8f6a7c10"
# What a field of this name usually holds; of a nullable field too. A name that is not here is told from its type.
WORDS: Final[dict[str, Any]] = {
    "name": "prod-checkout",
    "slug": "checkout",
    "description": "The shop's checkout service.",
    "consumer_group": "checkout",
    "consumer_groups": ["checkout"],
    "owner": "tom.becker",
    "created_by": "tom.becker",
    "revoked_by": None,
    "username": "tom.becker",
    "managers": ["tom.becker"],
    "email": "tom.becker@example.com",
    "hint": "kt_gk_a1b2…",
    "value": "The value, shown this once.",
    "token": "The token, shown this once.",
    "allowed_networks": ["10.0.0.0/8"],
    "status": "active",
    "reason": "leaked",
    "revoke_reason": "",
    "expires_at": "2030-01-31T12:00:00Z",
    "until": "2030-01-31T12:00:00Z",
    "disabled_at": None,
    "revoked_at": None,
    "grace_seconds": 86_400,
    "overlap_seconds": 3_600,
    "credential": "access key ci (kt_ak_c3d4…)",
    "model": "gpt-5-mini",
    "cost": "0.001250000",
    "client_ip": "10.20.4.17",
    "ip": "10.20.4.17",
    "path": "/v1/chat/completions",
    "method": "POST",
    "number": 1,
    "key_version": 1,
    "error_rate": 0.01,
    "error_rate_24h": 0.01,
    "error": None,
    "next": None,
    "previous": None,
    "count": 1,
    "default_lifetime_days": 90,
    "max_lifetime_days": 365,
    "max_grace_seconds": 86_400,
    "idle_days": None,
}
DEEPEST: Final = 8


def example_of(schema: dict[str, Any], components: dict[str, Any], name: str = "", depth: int = 0) -> Any:
    """Return a value that `schema` allows. name: of the field that holds it. components: the document's schemas."""
    if "$ref" in schema:
        return example_of(components[schema["$ref"].rpartition("/")[2]], components, name, depth)
    if schema.get("examples"):
        return schema["examples"][0]
    if "allOf" in schema:
        return example_of(schema["allOf"][0], components, name, depth)
    if one_of := schema.get("oneOf") or schema.get("anyOf"):
        return example_of(one_of[0], components, name, depth)
    if name in WORDS and _allowed(schema, WORDS[name]):
        return WORDS[name]
    if "enum" in schema:
        return schema["enum"][0]
    kinds = schema.get("type", "object")
    kind = kinds if isinstance(kinds, str) else kinds[0]
    if kind == "object":
        return _object(schema, components, depth)
    if kind == "array":
        return [example_of(schema.get("items", {}), components, name, depth + 1)] if depth < DEEPEST else []
    return _plain(kind, schema)


def _object(schema: dict[str, Any], components: dict[str, Any], depth: int) -> dict[str, Any]:
    fields = schema.get("properties", {}) if depth < DEEPEST else {}
    return {name: example_of(below, components, name, depth + 1) for name, below in fields.items()}


def _plain(kind: str, schema: dict[str, Any]) -> Any:
    match kind, schema.get("format"):
        case "string", "uuid":
            return ID
        case "string", "date-time":
            return "2026-11-24T09:30:00Z"
        case "string", _:
            return "text"[: schema.get("maxLength", 4)]
        case "boolean", _:
            return False
        case "null", _:
            return None
        case _:
            return max(schema.get("minimum", 0), 0)


def _allowed(schema: dict[str, Any], value: Any) -> bool:
    """Say whether the usual value is of the type that this field has here."""
    kinds = schema.get("type", [])
    names = {"NoneType": "null", "str": "string", "int": "integer", "float": "number", "list": "array"}
    fits = names.get(type(value).__name__) in ([kinds] if isinstance(kinds, str) else kinds)
    return fits and value in schema.get("enum", [value])
