"""Fingerprints, keys and seeds: hashes of canonical JSON, and of nothing else.

Time, host and attempt never enter an identity. A value with no stable form is refused rather than
turned into text.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import date, time
from decimal import Decimal
from json.encoder import encode_basestring
from typing import Any

import numpy as np
from numpy.typing import NDArray
from overpaint.pipeline.catalogue import OPERATORS
from overpaint.pipeline.operator import Operator
from overpaint.pipeline.variant import VariantOperator
from pydantic import BaseModel
from pydantic.fields import FieldInfo

PIXELS_VERSION = 1
"""Raised only when Overpaint itself gives other bytes for the same plan and row."""
KEYS_VERSION = 2
"""Raised only when equal rows of equal plans get other keys than before. 1: until version 0.1."""


def canonical_json(value: Any) -> str:
    """Returns a value as JSON with sorted keys and no spaces.

    Raises:
        TypeError: JSON cannot hold the value.
        ValueError: a number is infinite or none at all.
    """
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def digest(value: Any, length: int = 16) -> str:
    """Returns the first `length` hex digits of the SHA-256 of a value's canonical JSON."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:length]


def sha256(data: bytes) -> str:
    """Returns the SHA-256 of bytes, in hex."""
    return hashlib.sha256(data).hexdigest()


def _excluded(model: BaseModel) -> set[str]:
    """Returns the names of the fields that cannot change a byte, as they are set."""
    fields = type(model).model_fields
    return {name for name, value in model if _is_excluded(fields[name], value)}


def _is_excluded(field: FieldInfo, value: Any) -> bool:
    extra = field.json_schema_extra
    identity = extra.get("identity") if isinstance(extra, dict) else None
    return identity is False or (identity == "unless_default" and value == field.default)


def identity_fields(operator: Operator[Any]) -> dict[str, Any]:
    """Returns the fields of an operator, and of its variant, that can change a byte, as JSON."""
    excluded = _excluded(operator)
    if isinstance(operator, VariantOperator):
        excluded |= _excluded(operator.settings) | operator.settings.idle_fields
    fields = operator.model_dump(mode="json")
    for name, value in operator:
        if isinstance(value, Mapping) and name in fields:
            fields[name] |= _operators(value)
    return {name: value for name, value in fields.items() if name not in excluded}


def _operators(values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the identity of the operators that a field holds, such as an edit's choices."""
    return {k: identity_fields(v) for k, v in values.items() if isinstance(v, Operator)}


def operator_fingerprint(operator: Operator[Any]) -> str:
    """Returns the fingerprint of all that decides an operator's answers.

    It covers the operator's name, its pixels version, its fields and its weights; of an operator
    with variants also the variant's name, pixels version and fields, and nothing of other variants.
    """
    identity: dict[str, Any] = {
        "operator": OPERATORS.name_of(type(operator)),
        "pixels_version": operator.pixels_version,
        "fields": identity_fields(operator),
        "revisions": operator.revisions(),
    }
    if isinstance(operator, VariantOperator):
        identity["method_pixels_version"] = operator.settings.pixels_version
    return digest(identity)


def plan_fingerprint(stage_fingerprints: Sequence[str], image_format: str) -> str:
    """Returns the fingerprint of the stages that make the pixels, and of the stored format."""
    return digest([PIXELS_VERSION, image_format, list(stage_fingerprints)])


class RowIdentity:
    """Makes the keys of a run's rows.

    Args:
        fingerprint: of the stages that make the pixels.
        columns: the input columns that those stages read, beside `source_uri`.
    """

    def __init__(self, fingerprint: str, columns: Sequence[str]) -> None:
        self._columns = tuple(sorted(columns))
        self._start = hashlib.sha256(canonical_json([fingerprint, self._columns]).encode())

    def key(self, row: Mapping[str, Any], candidate: int) -> str:
        """Returns 32 hex digits: equal for equal edits, wherever and whenever they run.

        Args:
            row: a `seed` counts only where the user gives one, since others are made of the key.
            candidate: which try at the edit this is.
        """
        values = [row["source_uri"], candidate, *(row.get(name) for name in self._columns)]
        if row.get("seed") is not None:
            values.append({"seed": row["seed"]})
        return self.key_of_json(_encode(values))

    def key_of_json(self, text: str) -> str:
        """Returns the key of a row whose list of values is given as `encoded_value` writes them.

        Args:
            text: source, candidate, the other columns in their order, and a given seed.
        """
        hasher = self._start.copy()
        hasher.update(text.encode())
        return hasher.hexdigest()[:32]


def encoded_value(value: Any) -> str:
    """Returns a value of a row as the JSON that keys are made of."""
    # By itself: planning does it for some values of millions of rows, most of which are texts.
    return encode_basestring(value) if isinstance(value, str) else _encode(value)


def _stable(value: Any) -> Any:
    if isinstance(value, bytes):
        return {"sha256": sha256(value)}
    if isinstance(value, date | time | Decimal):
        return {type(value).__name__: str(value)}
    raise TypeError(f"a {type(value).__name__} in an input column has no stable identity")


# Made once: json.dumps makes an encoder at every call, which is a third of the time of planning.
_encode = json.JSONEncoder(sort_keys=True, ensure_ascii=False, default=_stable).encode


def row_seed(key: str) -> int:
    """Returns the seed of a row: 63 bits of its key."""
    return int(key[:16], 16) >> 1


def row_seeds(keys: Sequence[str]) -> NDArray[np.int64]:
    """Returns the seed of each of some keys, see `row_seed`."""
    digits = bytes.fromhex("".join([key[:16] for key in keys]))
    return (np.frombuffer(digits, ">u8") >> np.uint64(1)).astype(np.int64)


def group_id(source_uri: str) -> str:
    """Returns 16 hex digits that all edits of one source share."""
    return hashlib.sha256(source_uri.encode()).hexdigest()[:16]
