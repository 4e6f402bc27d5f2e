"""The conditions of a drawn dataset: each true to its edit, and one independent of the others."""

import json
import time
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from overpaint.jobs.cli import main
from overpaint.jobs.papercut.conditions import CONDITIONS
from overpaint.jobs.papercut.dataset import SEEDS_PER_DATASET, write_dataset
from overpaint.jobs.papercut.edits import sample_edit
from overpaint.jobs.papercut.palette import COLOUR_RGB
from overpaint.jobs.papercut.sample import PortableRandom, split_of
from overpaint.jobs.papercut.sheet import dataset_sheet
from overpaint.jobs.papercut.twins import changed_things, twin_of
from overpaint.jobs.papercut.views import segmentation_image, sketch
from overpaint.jobs.papercut.words import LEXICON, attributes
from overpaint.operators.fetch import Fetch
from overpaint.operators.framing.conditions import condition_view
from overpaint.operators.framing.frame import Size, frame_whole
from overpaint.pipeline import columns as c
from overpaint.pipeline.conditions import CONDITIONS as READ
from overpaint.pipeline.conditions import PICTURES
from overpaint.pipeline.edit_types import EDIT_TYPES
from PIL import Image, ImageFilter
from running import outcomes
from skimage.morphology import convex_hull_image

NAMES = CONDITIONS.names()
SEED, ROWS = 4, 60
THINGS = ("add", "remove", "replace", "color", "texture")
SCENES = ("background", "style", "expression", "pose", "viewpoint")


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """A dataset of every edit type with every condition."""
    folder = tmp_path_factory.mktemp("drawn") / "all"
    write_dataset(folder, rows=ROWS, seed=SEED, edit_types=["all"], conditions=["all"])
    return folder


@pytest.fixture(scope="module")
def rows(drawn):
    return read_rows(drawn)


def read_rows(folder):
    return [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]


def read_files(folder):
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


@pytest.fixture
def pixels(drawn):
    def read(uri):
        return np.asarray(Image.open(drawn / uri)).astype(int)

    return read


def edit_of(number):
    edit_type = EDIT_TYPES[number % len(EDIT_TYPES)]
    return sample_edit(SEED * SEEDS_PER_DATASET + number, edit_type, "test")


def of_types(rows, types):
    return [row for row in rows if row["edit_type"] in types]


def share_near(picture_hw3, rgb, tolerance=50):
    distance = ((picture_hw3 - np.array(rgb)) ** 2).sum(axis=-1)
    return (distance < tolerance**2).mean()


def test_every_row_has_every_column_and_null_only_where_its_type_says_so(rows):
    for name in NAMES:
        kind = CONDITIONS.find(name)
        for row in rows:
            values = [row[column] for column in kind.columns]
            assert any(value is not None for value in values) == (
                row["edit_type"] in kind.edit_types
            )
    nulls = {name: set(EDIT_TYPES) - set(CONDITIONS.find(name).edit_types) for name in NAMES}
    assert nulls.pop("reference") == {"remove", "move", "resize"}
    assert nulls.pop("concepts") == {"move", "resize"}
    assert not any(nulls.values())


def test_conditions_change_nothing_else(drawn, rows, tmp_path):
    write_dataset(tmp_path / "plain", rows=ROWS, seed=SEED, edit_types=["all"])
    plain, files = read_files(tmp_path / "plain"), read_files(drawn)
    del plain["rows.jsonl"]
    assert plain.items() <= files.items()
    for bare, row in zip(read_rows(tmp_path / "plain"), rows, strict=True):
        boxes, points = bare.pop("boxes"), bare.pop("points")
        assert bare.items() <= row.items()
        assert boxes in (None, row["boxes"])
        assert points in (None, row["points"])


@pytest.mark.parametrize("name", NAMES)
def test_a_condition_is_the_same_alone_and_among_others(name, drawn, rows, tmp_path):
    arguments = {"rows": 12, "seed": SEED, "edit_types": ["all"]}
    write_dataset(tmp_path / "alone", conditions=[name], **arguments)
    alone, files = read_files(tmp_path / "alone"), read_files(drawn)
    del alone["rows.jsonl"]
    assert alone.items() <= files.items()
    for own, row in zip(read_rows(tmp_path / "alone"), rows, strict=False):
        for column in CONDITIONS.find(name).columns:
            assert own[column] == row[column]


def test_same_arguments_give_the_same_bytes_and_another_seed_others(tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        folder = tmp_path / name
        write_dataset(folder, rows=12, seed=seed, edit_types=["all"], conditions=["all"])
    first = read_files(tmp_path / "a")
    assert read_files(tmp_path / "b") == first
    other = read_files(tmp_path / "c")
    shared = first.keys() & other.keys()
    assert sum(first[name] == other[name] for name in shared) < len(shared) / 4


def test_every_column_has_the_type_that_a_run_reads(rows):
    table = pa.Table.from_pylist(rows)
    read = [condition.input for condition in READ.values()]
    columns = {column.name.removeprefix("in_"): column.type for column in read}
    concepts = (c.SOURCE_CLASS, c.TARGET_CLASS, c.EDIT_CONCEPTS)
    columns |= {column.name: column.type for column in concepts}
    for name, kind in columns.items():
        assert table[name].cast(kind).null_count < ROWS


def test_a_run_reads_every_condition_and_frames_it(drawn, rows):
    names = tuple(name for name in PICTURES if name != "mask")
    given = [{**row, "base_uri": str(drawn)} for row in rows[:12]]
    fetched = outcomes(Fetch(conditions=names), given)
    frame = frame_whole(64, 64, Size(64, 64))
    for row, new in zip(given, fetched, strict=True):
        for name, condition in READ.items():
            if name != "mask" and row[condition.table_name] is not None:
                assert condition_view(frame, condition, {**row, **new}) is not None


def test_reference_shows_the_new_thing_and_not_the_old_one(rows, pixels):
    for number, row in enumerate(rows):
        if row["edit_type"] in ("add", "replace", "color", "texture"):
            edit = edit_of(number)
            (uri,) = row["references"]
            shown = pixels(uri)[pixels(row["reference_mask_uri"]) == 255]
            old, new = changed_things(edit)
            share = share_near(shown, COLOUR_RGB[new.colour])
            assert share > 0.1
            if old is not None and old.colour != new.colour:
                assert share > share_near(shown, COLOUR_RGB[old.colour])


def test_reference_of_a_thing_is_alone_on_white(rows, pixels):
    for row in of_types(rows, ("add", "replace", "color", "texture")):
        picture, mask = pixels(row["references"][0]), pixels(row["reference_mask_uri"])
        reach = Image.fromarray(mask.astype(np.uint8)).filter(ImageFilter.MaxFilter(11))
        assert (picture[np.asarray(reach) == 0] > 250).all()
        assert 0.15 < (mask == 255).mean() < 0.95


def test_reference_of_a_background_has_the_background_of_the_target(rows, pixels):
    for row in of_types(rows, ("background",)):
        source, target = pixels(row["source_uri"]), pixels(row["target_uri"])
        reference = pixels(row["references"][0])
        both = (pixels(row["mask_uri"]) == 255) & (pixels(row["reference_mask_uri"]) == 255)
        shares = [(reference == other).all(axis=-1)[both].mean() for other in (target, source)]
        assert shares[0] > max(0.6, shares[1] + 0.2)


def facts(scene):
    return {(fact.name, fact.value) for fact in attributes(scene)}


@pytest.mark.parametrize("edit_type", [*THINGS, *SCENES])
@pytest.mark.parametrize("split", ["train", "test"])
def test_twin_has_what_the_edit_brings_and_is_another_scene(edit_type, split):
    for seed in range(24):
        edit = sample_edit(seed, edit_type, split)
        twin = twin_of(edit, PortableRandom(f"{seed}"))
        before, after = facts(edit.source), facts(edit.target)
        new, old = (after - before, before - after)
        assert (old if edit_type == "remove" else new) <= facts(twin)
        if edit_type in SCENES and edit_type != "style":
            assert not old & facts(twin)
        assert facts(twin) != after
        assert split == "test" or split_of(twin) == "train"


def test_sketch_and_segmentation_are_views_of_the_target(drawn, rows):
    for number, row in enumerate(rows):
        edit = edit_of(number)
        for column, picture in (
            ("sketch_uri", sketch(edit.target)),
            ("segmentation_uri", segmentation_image(edit.target)),
            ("source_segmentation_uri", segmentation_image(edit.source)),
        ):
            assert Image.open(drawn / row[column]).tobytes() == picture.tobytes()


def test_boxes_enclose_the_items_of_the_target_and_nothing_else(rows, pixels):
    for row in rows:
        items = pixels(row["segmentation_uri"]).any(axis=-1)
        left = items.copy()
        for entry in row["boxes"]:
            x0, y0, x1, y1 = entry["box"]
            inside = items[y0:y1, x0:x1]
            sides = (inside[0], inside[-1], inside[:, 0], inside[:, -1])
            assert all(side.any() for side in sides)
            assert entry["label"]
            left[y0:y1, x0:x1] = False
        assert not left.any()


def test_points_drag_what_moves_and_hold_the_rest(rows):
    for number, row in enumerate(rows):
        edit, points = edit_of(number), row["points"]
        if edit.drag_points is not None:
            assert points == [list(point) for point in edit.drag_points]
            continue
        kept = len(edit.source.things) - (row["edit_type"] == "remove")
        if edit.source.subject is None:
            assert len(points) == kept
        boxes = [entry["box"] for entry in row["boxes"]]
        for from_x, from_y, to_x, to_y in points:
            assert (from_x, from_y) == (to_x, to_y)
            assert any(x0 <= to_x < x1 and y0 <= to_y < y1 for x0, y0, x1, y1 in boxes)


def test_strokes_lie_in_the_mask_and_have_the_colours_of_the_target(rows, pixels):
    differences = []
    for row in rows:
        source, target, strokes = (
            pixels(row[name]) for name in ("source_uri", "target_uri", "strokes_uri")
        )
        in_mask = pixels(row["mask_uri"]) == 255
        painted = (strokes != source).any(axis=-1)
        assert not painted[~in_mask].any()
        assert painted.any()
        colours = set(map(tuple, target[in_mask]))
        assert set(map(tuple, strokes[painted])) <= colours
        differences.append([abs(picture - target).mean() for picture in (source, strokes)])
    before, after = np.mean(differences, axis=0)
    assert after < 0.8 * before


def test_strength_map_is_one_in_the_mask_and_falls_to_nothing(rows, pixels):
    for row in rows:
        strength, mask = pixels(row["strength_map_uri"]), pixels(row["mask_uri"])
        reaches = [
            np.asarray(Image.fromarray(mask.astype(np.uint8)).filter(ImageFilter.MaxFilter(size)))
            for size in (1, 3, 5, 7, 9, 11, 13)
        ]
        assert (strength[reaches[0] == 255] == 255).all()
        assert (strength[reaches[-1] == 0] == 0).all()
        rings = [strength[outer > inner] for inner, outer in pairwise(reaches)]
        means = [ring.mean() for ring in rings if ring.size]
        assert means == sorted(means, reverse=True)


def test_mask_shapes_contain_the_mask_and_grow(rows, pixels):
    for row in rows:
        mask, hull, box, loose = (
            pixels(row[name]) == 255
            for name in ("mask_uri", "mask_hull_uri", "mask_box_uri", "mask_loose_uri")
        )
        assert (mask <= hull).all()
        assert (hull <= box).all()
        assert (box <= loose).all()
        expected = convex_hull_image(mask, offset_coordinates=False)
        assert (hull != expected).mean() < 0.002
        ys, xs = np.nonzero(mask)
        assert box[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1].all()
        assert box.sum() == (np.ptp(ys) + 1) * (np.ptp(xs) + 1)
        assert loose.sum() > box.sum() or box.all()


def test_concepts_say_the_change(rows):
    for number, row in enumerate(rows):
        if row["edit_type"] in ("move", "resize"):
            continue
        edit = edit_of(number)
        before, after = (
            {value for _, value in facts(scene)} for scene in (edit.source, edit.target)
        )
        words = {None, "plain", "picture"}
        assert row["source_class"] in before | words
        assert row["target_class"] in after | words or row["edit_type"] == "style"
        assert row["source_class"] != row["target_class"]
        for concept in row["edit_concepts"]:
            prompt = row["source_prompt"] if concept["reverse"] else row["target_prompt"]
            said = concept["prompt"].removeprefix("plain ")
            assert said in prompt or set(said.split()) <= set(prompt.split())
            assert set(concept["prompt"].split()) <= LEXICON
        signs = [concept["reverse"] for concept in row["edit_concepts"]]
        expected = {"add": [False], "style": [False], "remove": [True]}
        assert signs == expected.get(row["edit_type"], [False, True])


def test_concept_pictures_show_the_concept_each_in_its_own_scene(rows, pixels):
    for row in rows:
        if row["edit_type"] in ("move", "resize"):
            assert row["concept_uris"] is None
            continue
        pictures = [pixels(uri) for uri in row["concept_uris"]]
        others = [pixels(row["source_uri"]), pixels(row["target_uri"])]
        assert len({picture.tobytes() for picture in (*pictures, *others)}) == len(pictures) + 2
        colours = set(row["edit_concepts"][0]["prompt"].split()) & set(COLOUR_RGB)
        if row["edit_type"] in THINGS:
            (colour,) = colours
            assert all(share_near(picture, COLOUR_RGB[colour]) > 0.01 for picture in pictures)


@pytest.mark.parametrize("name", NAMES)
def test_a_condition_takes_at_most_5_ms_a_row(name):
    condition = CONDITIONS.find(name)()
    edits = [sample_edit(seed, edit_type) for seed in range(6) for edit_type in EDIT_TYPES]
    spent = 0.0
    for _ in range(2):  # the first time fills the caches of paper shapes
        start = time.process_time()
        for number, edit in enumerate(edits):
            condition.row(edit, PortableRandom(f"{number}"))
        spent = time.process_time() - start
    assert spent / len(edits) < 0.005


@pytest.mark.parametrize(
    ("given", "words"),
    [("skech", "did you mean 'sketch'"), ("sketch,zzz", "known: boxes, "), ("sketch,", "known: ")],
)
def test_unknown_condition_is_refused_before_anything_is_written(given, words, tmp_path, capsys):
    assert main(["papercut", str(tmp_path / "d"), "--rows", "1", "--with", given]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "d").exists()


OWN = '''
from overpaint.jobs.papercut.condition import DrawnCondition
from overpaint.jobs.papercut.views import depth_order


class Depth(DrawnCondition):
    """Order of the source's items, from far to near."""

    columns = ("depth_order",)
    edit_types = ("color",)

    def values(self, edit, rng):
        return {"depth_order": list(depth_order(edit.source))}
'''


def test_command_writes_conditions_a_users_own_too_and_a_sheet(tmp_path, monkeypatch):
    (tmp_path / "my_conditions.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    out, sheet = tmp_path / "d", tmp_path / "rows.png"
    arguments = ["papercut", str(out), "--rows", "4", "--sheet", str(sheet)]
    assert main([*arguments, "--with", "concepts,boxes,my_conditions:Depth"]) == 0
    rows = read_rows(out)
    assert [row["depth_order"] is None for row in rows] == [False, True] * 2
    assert all(row["boxes"] and row["concept_uris"] for row in rows)
    assert "sketch_uri" not in rows[0]
    assert Image.open(sheet).width > 4 * 128


def test_sheet_shows_every_picture_of_the_first_row(drawn):
    sheet = np.asarray(dataset_sheet(drawn, rows=1))
    row = read_rows(drawn)[0]
    for column in ("source_uri", "target_uri", "sketch_uri", "strokes_uri", "mask_box_uri"):
        picture = Image.open(drawn / row[column]).convert("RGB")
        assert holds(sheet, np.asarray(picture.resize((128, 128), Image.Resampling.NEAREST)))


def holds(sheet, tile):
    """Whether a picture is somewhere in a sheet, pixel for pixel."""
    height, width = tile.shape[:2]
    first = (sheet[: -height + 1, : -width + 1] == tile[0, 0]).all(axis=-1)
    places = zip(*np.nonzero(first), strict=True)
    return any((sheet[y : y + height, x : x + width] == tile).all() for y, x in places)


def test_sheet_with_an_unknown_format_is_refused_before_anything_is_written(tmp_path, capsys):
    sheet = str(tmp_path / "rows.foo")
    assert main(["papercut", str(tmp_path / "d"), "--rows", "1", "--sheet", sheet]) == 2
    assert "rows.foo" in capsys.readouterr().err
    assert not (tmp_path / "d").exists()
