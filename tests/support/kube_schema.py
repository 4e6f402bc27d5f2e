"""Kubernetes' check of an object, stricter: what a schema does not know is an error, not pruned.

The schemas are those of KubeRay 1.7 (ray-project/kuberay, ray-operator/config/crd/bases,
Apache-2.0), version v1, without their descriptions and CEL rules.
"""

import gzip
import json
import re
from pathlib import Path

_FOLDER = Path(__file__).parents[1] / "cluster" / "kuberay"
_TYPES = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "integer": int,
    "number": (int, float),
}


def schema_of(kind):
    return json.loads(gzip.decompress((_FOLDER / f"{kind}.json.gz").read_bytes()))


def problems(value, schema, where=""):
    """Yields what is wrong with a value, each with its path."""
    if schema.get("x-kubernetes-int-or-string"):
        if not isinstance(value, int | str) or isinstance(value, bool):
            yield f"{where}: {value!r} is no integer or string"
        elif isinstance(value, str) and not re.search(schema.get("pattern", ""), value):
            yield f"{where}: {value!r} does not match {schema['pattern']}"
        return
    kind = schema.get("type")
    is_wrong = kind and not isinstance(value, _TYPES[kind])
    if is_wrong or (isinstance(value, bool) and kind in ("integer", "number")):
        yield f"{where}: {value!r} is no {kind}"
        return
    if "enum" in schema and value not in schema["enum"]:
        yield f"{where}: {value!r} is not one of {schema['enum']}"
    if isinstance(value, dict):
        yield from _object(value, schema, where)
    elif isinstance(value, list):
        yield from _array(value, schema, where)
    else:
        yield from _scalar(value, schema, where)


def _object(value, schema, where):
    known, more = schema.get("properties", {}), schema.get("additionalProperties")
    for name in schema.get("required", ()):
        if name not in value:
            yield f"{where}: {name} is missing"
    for name, item in value.items():
        if name in known:
            yield from problems(item, known[name], f"{where}.{name}")
        elif isinstance(more, dict):
            yield from problems(item, more, f"{where}.{name}")
        elif where == ".metadata" or schema.get("x-kubernetes-preserve-unknown-fields"):
            continue
        elif more is not True:
            yield f"{where}: no field {name}"


def _array(value, schema, where):
    for bound, is_wrong in (
        ("minItems", lambda limit: len(value) < limit),
        ("maxItems", lambda limit: len(value) > limit),
    ):
        if bound in schema and is_wrong(schema[bound]):
            yield f"{where}: {len(value)} items, {bound} is {schema[bound]}"
    keys = schema.get("x-kubernetes-list-map-keys")
    if keys:
        named = [tuple(item.get(key) for key in keys) for item in value]
        if len(set(named)) < len(named):
            yield f"{where}: two items have the same {keys}"
    for index, item in enumerate(value):
        yield from problems(item, schema["items"], f"{where}[{index}]")


def _scalar(value, schema, where):
    if "pattern" in schema and not re.search(schema["pattern"], value):
        yield f"{where}: {value!r} does not match {schema['pattern']}"
    if "minimum" in schema and value < schema["minimum"]:
        yield f"{where}: {value!r} is less than {schema['minimum']}"
    if "maximum" in schema and value > schema["maximum"]:
        yield f"{where}: {value!r} is more than {schema['maximum']}"
    if "maxLength" in schema and len(value) > schema["maxLength"]:
        yield f"{where}: {value!r} is longer than {schema['maxLength']}"
    if "minLength" in schema and len(value) < schema["minLength"]:
        yield f"{where}: {value!r} is shorter than {schema['minLength']}"
