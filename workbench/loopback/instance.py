"""The smallest instance of a JSON Schema that a model under that schema could give."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from workbench.records import Json

_DEEPEST = 20
_FORMATS = {
    "date": "2020-01-01",
    "date-time": "2020-01-01T00:00:00Z",
    "time": "00:00:00Z",
    "email": "a@example.com",
    "uri": "http://example.com",
    "uuid": "00000000-0000-0000-0000-000000000000",
    "ipv4": "127.0.0.1",
    "hostname": "example.com",
}
_MERGED = ("properties", "required", "$defs", "definitions")


class UnsupportedError(Exception):
    """No instance was found; the message says why."""


class _DeeperError(Exception):
    """Only a deeper instance may exist."""


@lru_cache(maxsize=256)
def minimal_json(schema: str) -> str:
    """The instance of a schema, both as JSON text; raises UnsupportedError."""
    import jsonschema

    read = json.loads(schema)
    validator = jsonschema.validators.validator_for(read)
    try:
        validator.check_schema(read)
        found = _shallowest(read)
        validator(read).validate(found)
    except jsonschema.SchemaError as error:
        raise UnsupportedError(f"this is no JSON Schema: {error.message}") from error
    except jsonschema.ValidationError as error:
        raise UnsupportedError(f"no instance was found for this schema: {error.message}") from error
    return json.dumps(found, ensure_ascii=False)


def _shallowest(schema: Json) -> Json:
    """Tries ever deeper, so that of `anyOf: [itself, null]` it is the end that is taken, not the recursion."""
    for room in range(_DEEPEST):
        try:
            return _build(schema, schema, room)
        except _DeeperError:
            continue
    raise UnsupportedError("this schema has no finite instance, or one that is nested too deeply")


def _build(schema: Json, root: Json, room: int) -> Json:
    """An instance that is at most `room` steps deep; raises _DeeperError where there is none."""
    if room < 0:
        raise _DeeperError
    if not isinstance(schema, Mapping):
        return None
    if "$ref" in schema:
        rest = {key: value for key, value in schema.items() if key != "$ref"}
        return _build({**_target(schema["$ref"], root), **rest}, root, room - 1)
    if "allOf" in schema:
        return _build(_merged(schema, root), root, room - 1)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][0]
    for word in ("anyOf", "oneOf"):
        if word in schema:
            return _first({k: v for k, v in schema.items() if k != word}, schema[word], root, room)
    return _of_type(_type(schema), schema, root, room)


def _first(rest: Mapping[str, Any], branches: list[Json], root: Json, room: int) -> Json:
    """The first branch that has an instance."""
    problem: Exception = UnsupportedError("anyOf has no branch")
    for branch in branches:
        try:
            return _build({**rest, **branch}, root, room - 1)
        except (UnsupportedError, _DeeperError) as error:
            problem = error
    raise problem


def _type(schema: Mapping[str, Any]) -> str:
    kind = schema.get("type")
    if isinstance(kind, list):
        return "null" if "null" in kind else str(kind[0])
    if kind:
        return str(kind)
    if "properties" in schema or "required" in schema:
        return "object"
    return "array" if "items" in schema or "prefixItems" in schema else "string"


def _of_type(kind: str, schema: Mapping[str, Any], root: Json, room: int) -> Json:
    if kind == "object":
        properties = schema.get("properties", {})
        return {name: _build(properties.get(name, {}), root, room - 1) for name in schema.get("required", ())}
    if kind == "array":
        first = schema.get("prefixItems", [])
        count = max(schema.get("minItems", 0), len(first))
        kinds = [*first, *[schema.get("items", {})] * (count - len(first))]
        return [_build(item, root, room - 1) for item in kinds]
    if kind in ("integer", "number"):
        return _number(schema, kind == "integer")
    if kind == "string":
        text = _FORMATS.get(schema.get("format", ""), "")
        return text.ljust(schema.get("minLength", 0), "a")
    return {"boolean": False, "null": None}.get(kind)


def _number(schema: Mapping[str, Any], whole: bool) -> float:
    """The number nearest to 0 within the bounds."""
    step = schema.get("multipleOf", 1 if whole else 0)
    low = schema.get("minimum", -math.inf)
    high = schema.get("maximum", math.inf)
    if (above := schema.get("exclusiveMinimum")) is not None:
        low = max(low, math.floor(above / step) * step + step if step else math.nextafter(above, math.inf))
    if (below := schema.get("exclusiveMaximum")) is not None:
        high = min(high, math.ceil(below / step) * step - step if step else math.nextafter(below, -math.inf))
    nearest = min(max(0, low), high)
    if step:
        nearest = (math.ceil if nearest > 0 else math.floor)(nearest / step) * step
    return int(nearest) if float(nearest).is_integer() else nearest


def _target(reference: str, root: Json) -> Mapping[str, Any]:
    """What `#/a/b` points to (JSON Pointer, RFC 6901)."""
    found = root
    for part in reference.removeprefix("#").removeprefix("/").split("/") if reference != "#" else ():
        key = part.replace("~1", "/").replace("~0", "~")
        if not isinstance(found, Mapping) or key not in found:
            raise UnsupportedError(f"nothing is at {reference}")
        found = found[key]
    return found if isinstance(found, Mapping) else {}


def _merged(schema: Mapping[str, Any], root: Json) -> dict[str, Any]:
    whole = {key: value for key, value in schema.items() if key != "allOf"}
    for part in schema["allOf"]:
        for key, value in {**_target(part["$ref"], root), **part}.items() if "$ref" in part else part.items():
            if key in _MERGED and key in whole:
                both = (whole[key], value)
                whole[key] = {**both[0], **both[1]} if isinstance(value, Mapping) else [*both[0], *both[1]]
            elif key != "$ref":
                whole[key] = value
    return whole
