"""Pictures that a table names beside the source: fetched, checked, hashed, and in the key."""

import io
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import pytest
from overpaint.cluster.worker.in_process import run_local
from overpaint.operators.fetch import Fetch
from overpaint.pipeline import columns as c
from overpaint.pipeline.columns import Column, Row
from overpaint.pipeline.conditions import (
    BOXES,
    CONDITIONS,
    EDIT_CONCEPTS,
    MASK,
    PICTURES,
    POINTS,
    REFERENCES,
    SKETCH,
    STRENGTH_MAP,
    Condition,
)
from overpaint.pipeline.errors import UsageError
from overpaint.pipeline.identity import operator_fingerprint, sha256
from overpaint.pipeline.images import decode_mask
from overpaint.pipeline.operator import Kind, NewColumns
from overpaint.pipeline.plan import Plan
from overpaint.pipeline.runs.planning import plan_parts
from overpaint.pipeline.runs.tasks import remaining
from overpaint.pipeline.stage import Stage
from PIL import Image
from pydantic import ValidationError
from running import failure_code, outcomes
from toy_operators import ToyOperator
from toy_runs import finish, manifest_rows, planned_run, table_of

SINGLE = sorted(name for name in PICTURES if name not in ("mask", "references"))


@pytest.fixture
def folder(tmp_path, noise):
    """Sources and pictures, and files that are none."""
    for number in range(4):
        (tmp_path / f"{number}.png").write_bytes(noise(number, 40 + number, 30))
    data = noise(9, 300, 200)
    (tmp_path / "cut.png").write_bytes(data[: len(data) // 2])
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.png").write_bytes(b"not a picture")
    return tmp_path


def row_of(folder, **columns):
    return {"source_uri": "0.png", "base_uri": str(folder), **columns}


def fetched(folder, condition, value, **fields):
    operator = Fetch(conditions=(condition.name,), **fields)
    (answer,) = outcomes(operator, [row_of(folder, **{condition.input.name: value})])
    return answer


@pytest.mark.parametrize("name", SINGLE)
def test_fetch_picture_comes_as_its_bytes_and_their_hash(folder, name):
    answer = fetched(folder, PICTURES[name], "1.png")
    data = (folder / "1.png").read_bytes()
    assert answer[f"{name}_image"] == data
    assert answer[f"{name}_sha256"] == sha256(data)
    assert answer["width_px"] == 40
    absent = fetched(folder, PICTURES[name], None)
    assert absent[f"{name}_image"] is absent[f"{name}_sha256"] is None


def test_fetch_references_come_in_order(folder):
    names = ["2.png", "1.png", "2.png"]
    files = [(folder / name).read_bytes() for name in names]
    answer = fetched(folder, REFERENCES, names)
    assert answer["reference_images"] == files
    assert answer["reference_sha256"] == [sha256(data) for data in files]
    for none in (None, [], [None], [""]):
        absent = fetched(folder, REFERENCES, none)
        assert absent["reference_images"] is absent["reference_sha256"] is None


@pytest.mark.parametrize("name", sorted(PICTURES))
@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("no.png", "missing"),
        ("../x.png", "forbidden"),
        ("http://127.0.0.1/x.png", "forbidden"),
        ("text.png", "unreadable"),
        ("empty.png", "unreadable"),
        ("cut.png", "unreadable"),
    ],
)
def test_fetch_broken_picture_fails_its_row_alone(folder, name, uri, reason):
    condition = PICTURES[name]
    uris = ["1.png", uri, "2.png"]
    rows = [
        row_of(folder, **{condition.input.name: [uri] if name == "references" else uri})
        for uri in uris
    ]
    first, broken, last = outcomes(Fetch(conditions=(name,)), rows)
    assert broken.code == f"{name}_{reason}"
    assert condition.table_name in broken.message
    assert first["source_image"] == last["source_image"] == (folder / "0.png").read_bytes()


def test_fetch_picture_has_the_limits_of_a_source(folder):
    row = row_of(folder, sketch_uri="3.png")
    size = max((folder / name).stat().st_size for name in ("0.png", "3.png"))
    for fields, code in (
        ({"max_pixels": 40 * 30}, "sketch_too_large"),
        ({"max_bytes": size - 1}, "sketch_too_large"),
    ):
        assert failure_code(Fetch(conditions=("sketch",), **fields), row) == code


def test_fetch_broken_source_is_not_blamed_on_its_condition(folder):
    row = {**row_of(folder, sketch_uri="1.png"), "source_uri": "cut.png"}
    assert failure_code(Fetch(conditions=("sketch",)), row) == "image_truncated"


def test_fetch_mask_gets_the_sources_size_and_two_values(folder):
    drawn = Image.new("L", (20, 15), 10)
    drawn.paste(240, (10, 0, 20, 15))
    drawn.save(folder / "mask.jpg", quality=60)
    answer = fetched(folder, MASK, "mask.jpg")
    assert Image.open(io.BytesIO(answer["mask_image"])).mode == "L"
    mask = decode_mask(answer["mask_image"], 40, 30)
    assert set(np.unique(mask)) == {0, 255}
    assert mask[:, 20:].all()
    assert not mask[:, :20].any()
    assert answer["mask_source"] == "given"


@pytest.mark.parametrize("none", [None, ""])
def test_fetch_row_without_a_mask_fails_where_one_is_required(folder, none):
    row = row_of(folder, in_mask_uri=none)
    assert failure_code(Fetch(conditions=("mask",)), row) == "mask_missing"
    for fields in (
        {"conditions": ("mask",), "require_mask": False},
        {"optional_conditions": ("mask",)},
    ):
        (absent,) = outcomes(Fetch(**fields), [row])
        assert absent["mask_image"] is absent["mask_source"] is None


def _turned_source(folder):
    """A source of 30x40 px that is stored on its side, as 40x30 px."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 30), "teal").save(folder / "turned.jpg", exif=exif)
    return {"source_uri": "turned.jpg", "base_uri": str(folder)}


def test_fetch_mask_goes_with_the_upright_source(folder):
    mask = np.zeros((40, 30), np.uint8)
    mask[5:20, 3:9] = 255
    Image.fromarray(mask).save(folder / "upright.png")
    Image.fromarray(np.rot90(mask, 1)).save(folder / "stored.png")
    row = _turned_source(folder)
    operator = Fetch(conditions=("mask",))
    rows = [{**row, "in_mask_uri": name} for name in ("upright.png", "stored.png")]
    fits, fails = outcomes(operator, rows)
    np.testing.assert_array_equal(decode_mask(fits["mask_image"], 30, 40), mask)
    assert fails.code == "mask_size"
    assert fails.message.startswith("mask_uri: 40x30 px")
    assert "as that is stored" in fails.message


@pytest.mark.parametrize("name", ["mask", "strength_map", "reference_mask"])
def test_fetch_weights_in_two_channels_are_ambiguous(folder, name):
    image = Image.open(folder / "0.png").convert("RGBA")
    alpha = Image.new("L", image.size)
    alpha.paste(255, (5, 5, 15, 15))
    image.putalpha(alpha)
    image.save(folder / "both.png")
    row = row_of(folder, **{PICTURES[name].input.name: "both.png"})
    assert failure_code(Fetch(conditions=(name,)), row) == f"{name}_ambiguous"


def test_fetch_mask_of_labels_is_refused_and_one_of_0_and_1_is_read(folder):
    labels = np.zeros((30, 40), np.uint8)
    labels[5:9, 7:20] = 1
    for factor, name in ((1, "one.png"), (3, "three.png")):
        Image.fromarray(labels * factor).save(folder / name)
    found = fetched(folder, MASK, "one.png")
    np.testing.assert_array_equal(decode_mask(found["mask_image"], 40, 30), labels * 255)
    refused = fetched(folder, MASK, "three.png")
    assert (refused.code, "value is 3 of 255" in refused.message) == ("mask_values", True)


def test_fetch_asking_for_a_mask_is_no_part_of_the_identity():
    asking, not_asking = (Fetch(conditions=("mask",), require_mask=asks) for asks in (True, False))
    assert operator_fingerprint(asking) == operator_fingerprint(not_asking)


def test_fetch_reads_what_it_is_told_in_one_order():
    one = Fetch(conditions=("sketch", "mask"), optional_conditions=("strokes", "sketch"))
    assert one == Fetch(
        conditions=("mask", "sketch", "mask"), optional_conditions=one.optional_conditions
    )
    assert [column.name for column in one.inputs] == [
        *("source_uri", "base_uri", "in_mask_uri", "sketch_uri"),
    ]
    assert [column.name for column in one.optional] == ["strokes_uri", "in_tar_spans"]
    assert {"mask_image", "sketch_image", "strokes_image"} <= {o.name for o in one.outputs}
    assert "mask_image" not in {column.name for column in Fetch().outputs}


@pytest.mark.parametrize("name", ["sketsh", "boxes"])
def test_fetch_condition_that_is_not_a_picture_is_refused(name):
    with pytest.raises(ValidationError, match=name):
        Fetch(conditions=(name,))


class Steered(ToyOperator):
    """Answers with the columns of its conditions, as text."""

    kind: ClassVar[Kind] = "caption"

    needs: tuple[str, ...] = ()
    uses: tuple[str, ...] = ()

    @property
    def inputs(self) -> tuple[Column, ...]:
        return (c.SOURCE_IMAGE, *(CONDITIONS[name].column for name in self.needs))

    @property
    def optional(self) -> tuple[Column, ...]:
        return tuple(CONDITIONS[name].column for name in self.uses)

    @property
    def outputs(self) -> tuple[Column, ...]:
        return (c.CAPTION,)

    def answer(self, row: Row) -> NewColumns:
        names = [CONDITIONS[name].column.name for name in (*self.needs, *self.uses)]
        return {"caption": " ".join(_told(row.get(name)) for name in names)}


def _told(value: object) -> str:
    if isinstance(value, list) and all(isinstance(part, bytes) for part in value):
        return ",".join(sha256(part)[:8] for part in value)
    return sha256(value)[:8] if isinstance(value, bytes) else str(value)


def plan_of(
    needs: Sequence[Condition] = (), uses: Sequence[Condition] = (), fetch: object = None
) -> Plan:
    steered = Steered(needs=[o.name for o in needs], uses=[o.name for o in uses])
    first = [] if fetch is None else [Stage(operator=fetch, name="fetch")]
    return Plan(name="steered", stages=[*first, Stage(operator=steered, name="steered")])


def ran(plan, rows, folder, out):
    given = table_of(rows, folder)
    plan.check_input(given.table.column_names)
    run = planned_run(plan, given, out)
    list(run_local(run, remaining(run.folder, plan.task_rows).tasks))
    finish(run)
    return manifest_rows(run.folder)


def test_plan_table_with_every_condition_goes_through_fetch(folder, tmp_path):
    columns = {
        "mask_uri": "1.png",
        "references": ["1.png", "2.png"],
        **{f"{name}_uri": f"{index % 4}.png" for index, name in enumerate(SINGLE)},
        "boxes": [{"label": "star", "box": [1, 2, 3, 4]}],
        "points": [[1, 2, 3.5, 4]],
        "edit_concepts": [{"prompt": "a hat", "reverse": True, "weight": 2.0}],
    }
    plan = plan_of(tuple(CONDITIONS.values()))
    rows = [{"source_uri": "0.png", **columns}, {"source_uri": "1.png"}]
    steered, plain = ran(plan, rows, folder, tmp_path / "out")
    assert (steered["status"], plain["status"]) == ("accepted", "accepted")
    files = {name: (folder / name).read_bytes() for name in ("0.png", "1.png", "2.png")}
    assert steered["reference_sha256"] == [sha256(files["1.png"]), sha256(files["2.png"])]
    assert steered["in_references"] == ["1.png", "2.png"]
    assert steered["in_boxes"] == [{"label": "star", "box": [1.0, 2.0, 3.0, 4.0]}]
    for index, name in enumerate(SINGLE):
        assert steered[f"{name}_sha256"] == sha256((folder / f"{index % 4}.png").read_bytes())
        assert plain[f"{name}_sha256"] is None
    assert sha256(files["1.png"])[:8] in steered["caption"]
    assert "[[1.0, 2.0, 3.5, 4.0]]" in steered["caption"]
    (concept,) = steered["in_edit_concepts"]
    given = {name: value for name, value in concept.items() if value is not None}
    assert given == {"prompt": "a hat", "reverse": True, "weight": 2.0}


def keys(plan, rows):
    return [row["key"] for part, _ in plan_parts(plan, table_of(rows)) for row in part.to_pylist()]


@pytest.mark.parametrize(
    ("condition", "values"),
    [
        (SKETCH, ("a.png", "b.png", None)),
        (MASK, ("a.png", "b.png", None)),
        (REFERENCES, (["a.png"], ["b.png"], ["a.png", "b.png"], ["b.png", "a.png"], None)),
        (
            BOXES,
            ([{"label": "a", "box": [0, 0, 1, 1]}], [{"label": "b", "box": [0, 0, 1, 1]}], None),
        ),
        (POINTS, ([[0, 0, 1, 1]], [[0, 0, 1, 2]], None)),
        (EDIT_CONCEPTS, ([{"prompt": "a"}], [{"prompt": "a", "reverse": True}], None)),
    ],
)
def test_plan_key_changes_with_a_condition_that_a_stage_reads(condition, values):
    rows = [{"source_uri": "0.png", condition.table_name: value} for value in values]
    assert len(set(keys(plan_of([condition]), rows))) == len(rows)
    assert len(set(keys(plan_of(), rows))) == 1


def test_plan_key_without_conditions_does_not_depend_on_their_columns():
    plain = keys(plan_of(), [{"source_uri": "0.png"}])
    assert plain == keys(plan_of(), [{"source_uri": "0.png", "sketch_uri": "a.png"}])


def test_plan_fetches_what_stages_read_and_no_stage_writes():
    fetch = plan_of([SKETCH], [STRENGTH_MAP, MASK]).stages[0].operator
    assert fetch.conditions == ("sketch",)
    assert fetch.optional_conditions == ("strength_map",)
    masked = plan_of([MASK]).stages[0].operator
    assert (masked.conditions, masked.require_mask) == (("mask",), False)
    assert plan_of([SKETCH]).stages[0].operator.require_mask
    assert plan_of().stages[0].operator == Fetch()


def test_plan_optional_condition_is_read_where_the_table_has_it(folder, tmp_path):
    plan = plan_of(uses=[SKETCH])
    (row,) = ran(plan, [{"source_uri": "0.png"}], folder, tmp_path / "plain")
    assert (row["caption"], row["sketch_sha256"]) == ("None", None)
    rows = [{"source_uri": "0.png", "sketch_uri": "1.png"}]
    (row,) = ran(plan, rows, folder, tmp_path / "sketched")
    assert row["caption"] == row["sketch_sha256"][:8]


@pytest.mark.parametrize("fetch", [Fetch(), Fetch(conditions=("mask",))])
def test_plan_whose_own_fetch_lacks_a_condition_is_refused(fetch):
    with pytest.raises(ValidationError, match='"sketch"'):
        plan_of([SKETCH], fetch=fetch)


@pytest.mark.parametrize("condition", [SKETCH, MASK, REFERENCES])
def test_plan_input_without_a_needed_condition_is_refused_and_named(condition):
    near = f"{condition.table_name}s"
    with pytest.raises(UsageError) as raised:
        plan_of([condition]).check_input(["source_uri", near])
    assert "'steered'" in str(raised.value)
    assert repr(condition.table_name) in str(raised.value)
    assert near in str(raised.value)
