import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from overpaint.pipeline.identity import (
    RowIdentity,
    canonical_json,
    digest,
    group_id,
    identity_fields,
    operator_fingerprint,
    plan_fingerprint,
    row_seed,
)
from toy_operators import ToyEdit
from toy_runs import toy_plan

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    # Text of a table is UTF-8: half a surrogate pair cannot come out of one.
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=20,
)


def test_identities_are_those_of_every_earlier_version():
    """A change here gives every user's rows new keys: raise PIXELS_VERSION only for new bytes."""
    identity = RowIdentity("0123456789abcdef", ["instruction", "box"])
    row = {"source_uri": "photos/a.jpg", "instruction": "make it ü", "box": [0.5, 1, None]}
    key = identity.key(row, 0)
    assert key == "c830263093efe789fe5a06882b5d8c04"
    assert identity.key(row, 1) == "67111d294583719e8b968d83c85ece9b"
    assert row_seed(key) == 7212535798274978756
    assert group_id("photos/a.jpg") == "58d4d8dec171db3f"
    assert plan_fingerprint(["0" * 16, "f" * 16], "png") == "ff1130eee90766b6"
    assert operator_fingerprint(ToyEdit()) == "b134afd2275247bb"
    assert toy_plan().fingerprint() == "dce38226b96f45e8"


@given(JSON)
def test_canonical_json_is_json_that_does_not_depend_on_order(value):
    text = canonical_json(value)
    assert canonical_json(json.loads(text)) == text
    assert canonical_json(_reversed(value)) == text
    assert digest(value) == digest(_reversed(value))


def _reversed(value):
    if isinstance(value, dict):
        return {key: _reversed(inner) for key, inner in reversed(value.items())}
    return [_reversed(inner) for inner in value] if isinstance(value, list) else value


@pytest.mark.parametrize("value", [{1, 2}, object(), b"bytes", float("nan"), float("inf")])
def test_canonical_json_of_what_json_cannot_hold_is_refused(value):
    with pytest.raises((TypeError, ValueError)):
        canonical_json(value)


def test_fingerprint_changes_with_what_changes_bytes_and_with_nothing_else():
    plain = operator_fingerprint(ToyEdit())
    assert operator_fingerprint(ToyEdit(batch_size=4, strength=0.5)) == plain
    assert operator_fingerprint(ToyEdit(timeout_s=99)) == plain, "a time limit changes no byte"
    assert operator_fingerprint(ToyEdit(strength=0.25)) != plain
    assert operator_fingerprint(ToyEdit(batch_size=2)) != plain
    assert "timeout_s" not in identity_fields(ToyEdit())


def test_plan_fingerprint_ignores_what_comes_after_the_edit():
    plan = toy_plan()
    assert toy_plan(policy={"brightness": {"min": 0.1}}).fingerprint() == plan.fingerprint()
    assert toy_plan(task_rows=8).fingerprint() == plan.fingerprint()
    assert toy_plan(image_format="webp").fingerprint() != plan.fingerprint()
    assert [stage.name for stage in plan.editing_stages()] == ["fetch", "caption", "invert", "edit"]


def test_key_depends_on_each_of_its_parts():
    identity = RowIdentity("f", ["instruction"])
    row = {"source_uri": "a.png", "instruction": "x", "other": 1}
    keys = [
        identity.key(row, 0),
        identity.key(row, 1),
        identity.key({**row, "source_uri": "b.png"}, 0),
        identity.key({**row, "instruction": "y"}, 0),
        identity.key({**row, "instruction": None}, 0),
        identity.key({**row, "seed": 7}, 0),
        RowIdentity("g", ["instruction"]).key(row, 0),
        RowIdentity("f", ["other"]).key(row, 0),
    ]
    assert len(set(keys)) == len(keys)
    assert all(len(key) == 32 and int(key, 16) >= 0 for key in keys)


def test_key_takes_null_and_absent_and_unread_columns_alike():
    identity = RowIdentity("f", ["instruction", "caption"])
    row = {"source_uri": "a.png", "instruction": "x"}
    same = {**row, "caption": None, "seed": None, "width": 3}
    assert identity.key(row, 0) == identity.key(same, 0)


def test_key_of_bytes_and_structures_is_stable():
    identity = RowIdentity("f", ["mask", "frame"])
    row = {"source_uri": "a", "mask": b"\x00\xff", "frame": {"x": 1, "y": [1.5]}}
    turned = {"frame": {"y": [1.5], "x": 1}, "mask": bytes([0, 255]), "source_uri": "a"}
    assert identity.key(row, 0) == identity.key(turned, 0)


@given(st.text(alphabet="0123456789abcdef", min_size=32, max_size=32))
def test_row_seed_fits_a_signed_64_bit_column(key):
    assert 0 <= row_seed(key) < 2**63
