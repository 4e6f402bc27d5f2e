"""Policies that come with Overpaint, by name: the rules by which published pair sets were kept."""

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from overpaint.pipeline.errors import UsageError, near_miss

USE = "use"
"""Key of a policy's table that names the policy which its own rules stand beside."""


@cache
def named_policies() -> Mapping[str, Mapping[str, Any]]:
    """Returns the tables of each policy, by name."""
    folder = files("overpaint.pipeline") / "recipes" / "policies"
    entries = sorted((e for e in folder.iterdir() if e.name.endswith(".toml")), key=str)
    return {e.name.removesuffix(".toml"): tomllib.loads(e.read_text()) for e in entries}


def with_named_policy(table: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a policy's table with the rules of the policy that it names by `use`.

    Rules of its own stand beside those, or in place of those of the same name.

    Raises:
        UsageError: there is no such policy.
    """
    own = {key: value for key, value in table.items() if key != USE}
    if USE not in table:
        return own
    name = table[USE]
    if name not in named_policies():
        raise UsageError(f"no policy {name!r}: {near_miss(str(name), named_policies())}")
    return {**named_policies()[name], **own}
