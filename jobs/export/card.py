"""The card of an export: README.md, which says what is in it, how it came about, how to load it."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from overpaint.jobs.export.format import Format
from overpaint.jobs.export.summary import REASONS
from overpaint.pipeline.terms import TERMS

_NO_TRAINING = (
    "Terms of an editor may forbid that its pictures train another model, judges have terms too, "
    "and sources have licences of their own: read them before you train."
)


def card(facts: Mapping[str, Any], layout: type[Format]) -> str:
    """Returns the text of the card.

    Args:
        facts: content of `export.json`.
        layout: format of the export.
    """
    parts = [
        _header(facts, layout),
        f"# {_title(facts)}\n\n{_opening(facts)}",
        f"## Loading\n\n{layout.usage(facts)}",
        f"## Counts\n\n{_counts(facts)}",
        f"## Choice\n\n{_choice(facts)}",
        f"## Left out\n\n{_left_out(facts)}",
        f"## Pictures\n\n{_pictures(facts)}",
        f"## Models and rights\n\n{_rights(facts)}",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _header(facts: Mapping[str, Any], layout: type[Format]) -> str:
    """Returns the front matter by which `datasets` finds the files of each split."""
    pattern = layout.data_files
    if pattern is None:
        return ""
    lines = [
        f"      - split: {split}\n        path: {pattern.format(split=split)}"
        for split, number in facts["splits"].items()
        if number
    ]
    entries = "\n".join(lines)
    return f"---\nconfigs:\n  - config_name: default\n    data_files:\n{entries}\n---"


def _title(facts: Mapping[str, Any]) -> str:
    names = dict.fromkeys(run["recipe"] for run in facts["runs"])
    return f"{', '.join(names)}: {facts['examples']} {facts['kind']}"


def _opening(facts: Mapping[str, Any]) -> str:
    layout = facts["format"] + (f" as {facts['like']}" if facts["like"] else "")
    way = " from the edited image back to the source" if facts["reverse"] else ""
    return (
        f"Made by Overpaint {facts['overpaint']} as `{layout}`{way}. Files are named by the keys "
        "of their rows; `rows.parquet` has each example's row of the manifest: words, parameters, "
        "every score. `overpaint verify FOLDER` reads the export as its trainer would."
    )


def _counts(facts: Mapping[str, Any]) -> str:
    splits = list(facts["splits"])
    rows = [
        [
            name,
            *(str(counts[key]) for key in ("planned", "accepted", "exported")),
            _share(counts["exported"], counts["planned"]),
            *(str(counts["by_split"].get(split, 0)) for split in splits),
        ]
        for name, counts in facts["edit_types"].items()
    ]
    header = ["edit type", "planned", "accepted", "exported", "yield", *splits]
    sources = facts["sources"]
    more = (
        f"{sources['distinct']} distinct sources, of which near-duplicates make "
        f"{sources['groups']} groups: no group is in two splits."
    )
    return f"{_table(header, rows)}\n\n{more}\n\n{_survival(facts['survival'])}".rstrip()


def _survival(survival: Mapping[str, Any] | None) -> str:
    if survival is None:
        return ""
    header = ["edit type", *(f"{least:g}" for least in survival["thresholds"])]
    rows = [[name, *(f"{share:.0%}" for share in kept)] for name, kept in survival["kept"].items()]
    return (
        f"Share of edited rows, accepted or not, whose `{survival['column']}` is at least:\n\n"
        f"{_table(header, rows)}"
    )


def _choice(facts: Mapping[str, Any]) -> str:
    policy = facts["policy"]
    chosen = {
        "accepted": "every accepted row",
        "best": "one row of each request, the best by rank",
        "all": "every row that has pictures, **rejected ones too**",
    }[policy["choice"]]
    if facts["kind"] == "preferences":
        losers = "the worst" if policy["choice"] == "best" else "each worse candidate"
        chosen = f"the best candidate of a request against {losers}; never a tie"
    elif facts["kind"] == "prompts":
        chosen = "each request once"
    is_ranked = policy["choice"] == "best" or facts["kind"] == "preferences"
    order = ", the lowest first" if policy.get("order") == "lowest" else ""
    ranked = f", ranked by `{policy['rank_by']}`{order}, ties by key" if is_ranked else ""
    margin = f", with a lead of {policy['min_margin']:g}" if policy["min_margin"] else ""
    bounds = [f"- `{run['recipe']}` accepted by {_bounds(run['policy'])}" for run in facts["runs"]]
    return f"Exported: {chosen}{ranked}{margin}.\n\n" + "\n".join(bounds)


def _bounds(policy: Mapping[str, Any]) -> str:
    return f"`{json.dumps(policy)}`" if policy else "no bounds"


def _left_out(facts: Mapping[str, Any]) -> str:
    rows = [
        [f"`{name}`", str(number), REASONS.get(name, "an error code of the source")]
        for name, number in facts["left_out"].items()
    ]
    return _table(["reason", "candidates", "meaning"], rows) if rows else "Nothing."


def _pictures(facts: Mapping[str, Any]) -> str:
    policy = facts["policy"]
    fit = {
        "refuse": "pairs of unequal sizes are left out",
        "crop": "pairs of unequal sizes are cut around their centre to what they share",
    }[policy["fit"]]
    return (
        f"{facts['image_format']}, upright, 8 bits; over {policy['background']} where transparent; "
        f"{fit}. Masks: {facts['mask']}. Edited images say that they are, by IPTC's digital source "
        "type in their XMP, with the key of their row."
    )


def _rights(facts: Mapping[str, Any]) -> str:
    models = [
        [
            run["recipe"],
            *(_cell(model, key) for key in ("stage", "method", "checkpoint")),
            ", ".join(f"{k} {v}" for k, v in model["revisions"].items()),
            _cell(model, "terms") or _cell(model, "license"),
        ]
        for run in facts["runs"]
        for model in run["models"]
    ]
    lines = [f"- `{run['recipe']}`: {_terms(run['terms'])}" for run in facts["runs"]]
    parts = [_NO_TRAINING, "\n".join(lines)]
    if models:
        header = ["recipe", "stage", "method", "checkpoint", "revision", "terms"]
        parts.append(_table(header, models))
    rows = [
        [f"`{name}`", value, str(number)]
        for name, values in facts["rights"].items()
        for value, number in values.items()
    ]
    if rows:
        parts.append(_table(["column", "value", "examples"], rows))
    return "\n\n".join(parts)


def _terms(terms: str | None) -> str:
    """Returns what the terms of a recipe mean for pairs that train another model."""
    word = terms or "unknown"
    stated = f"terms {terms}" if terms else "no terms stated"
    return f"{stated}: {TERMS.get(word, 'read them before any pair trains an editor')}"


def _cell(model: Mapping[str, Any], key: str) -> str:
    value = model.get(key) or (model.get("model") if key == "checkpoint" else None)
    return str(value or "")


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.0%}" if whole else ""


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(_plain(cell) for cell in line)} |" for line in lines)


def _plain(text: str) -> str:
    """Returns a text that cannot break a table."""
    return " ".join(text.replace("|", "\\|").split())
