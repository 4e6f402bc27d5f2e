"""`import`: benchmarks in their published layouts, on small folders of the same form."""

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from openpyxl import Workbook
from overpaint.jobs.cli import main
from overpaint.jobs.imports.benchmarks import BENCHMARKS
from overpaint.jobs.imports.benchmarks.editeval import TASKS
from overpaint.jobs.imports.run_lengths import decode_run_lengths
from overpaint.jobs.imports.writing import write_table
from overpaint.pipeline.edit_types import EDIT_TYPES
from overpaint.pipeline.errors import UsageError
from overpaint.pipeline.runs.inputs import read_input
from PIL import Image

HEADERS = ("Source Prompt", "Target Prompt", "Instruction")


def picture(seed, image_format="PNG", size=(24, 16)):
    pixels = np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, image_format)
    return out.getvalue()


def put(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def table(name, folder, out, **options):
    write_table(BENCHMARKS.find(name)(), folder, out, **options)
    return [json.loads(line) for line in (out / "rows.jsonl").read_text().splitlines()]


def refused(name, folder, out):
    with pytest.raises(UsageError) as caught:
        table(name, folder, out)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def sheet(folder, lines):
    book = Workbook()
    for line in lines:
        book.active.append(line)
    book.save(folder / "editing_prompts_collection.xlsx")


@pytest.fixture
def editeval(tmp_path):
    """Two tasks as they are published: a misspelt folder, two endings, and no picture column."""
    folder = tmp_path / "EditEval_v1" / "Dataset"
    put(folder / "object_addition" / "1.jpg", picture(1, "JPEG"))
    put(folder / "object_addition" / "2.jpeg", picture(2, "JPEG"))
    put(folder / "object_removel" / "1.jpg", picture(3, "JPEG"))
    lines = [
        ["Object Addition", *HEADERS],
        [None, "A road", "A car on a road", "Add a car"],
        [None, "A lake", "A canoe on a lake", "Add a canoe"],
        ["Object Removal", "A bench on a hill", "A hill", "Remove the bench"],
        [None, None, None, None],
    ]
    sheet(folder, lines)
    return folder


def test_editeval_is_read_as_it_is_published(editeval, tmp_path):
    (tmp_path / "out").mkdir()
    rows = table("editeval", editeval.parent, tmp_path / "out")
    assert [row["benchmark_key"] for row in rows] == [
        *("object_addition/1", "object_addition/2", "object_removal/1")
    ]
    assert [row["edit_type"] for row in rows] == ["add", "add", "remove"]
    assert rows[1]["instruction"] == "Add a canoe"
    assert (rows[2]["source_prompt"], rows[2]["target_prompt"]) == ("A bench on a hill", "A hill")
    stored = (tmp_path / "out" / rows[1]["source_uri"]).read_bytes()
    assert stored == picture(2, "JPEG")
    assert rows[1]["source_uri"].endswith(".jpg")
    assert "mask_uri" not in rows[0]


def test_editeval_with_lines_of_prompts(tmp_path):
    folder, out = tmp_path / "editeval", tmp_path / "out"
    put(folder / "images" / "style_change_1.jpg", picture(1, "JPEG"))
    entry = {"file_name": "style_change_1.jpg", "edit_type": "style_change", "source_prompt": "a"}
    entry |= {"target_prompt": "b", "instruction": "c"}
    (folder / "prompts.jsonl").write_text(json.dumps(entry) + "\n\n")
    out.mkdir()
    (row,) = table("editeval", folder, out)
    assert (row["edit_type"], row["task"]) == ("style", "style_change")
    assert row["benchmark_key"] == "style_change_1"


def test_every_edit_type_has_one_task_of_editeval():
    assert sorted(TASKS.values()) == sorted(EDIT_TYPES)


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([["Object Addition", "a", "b", None]], "line 1: instruction = None"),
        ([["Object Additoin", "a", "b", "c"]], "did you mean 'object_addition'"),
        ([[None, "a", "b", "c"]], "line 1: unknown task ''"),
        ([["Style Change", "a", "b", "c"]], "no folder for task 'style_change'"),
        (
            [["Object Removal", "a", "b", "c"], [None, "d", "e", "f"]],
            "line 2: there is no picture 2",
        ),
    ],
)
def test_editeval_odd_rows_are_refused(editeval, tmp_path, lines, words):
    sheet(editeval, lines)
    (tmp_path / "out").mkdir()
    assert words in refused("editeval", editeval, tmp_path / "out")


def test_editeval_without_a_sheet_is_not_editeval(tmp_path):
    (tmp_path / "out").mkdir()
    assert "not EditEval's layout" in refused("editeval", tmp_path, tmp_path / "out")
    (tmp_path / "editing_prompts_collection.xlsx").write_text("no workbook")
    assert "not a workbook" in refused("editeval", tmp_path, tmp_path / "out")


GEDIT = {
    "task_type": ["subject-add", "subject-add", "ps_human"],
    "key": ["k1", "k1", "k2"],
    "instruction": ["add a cat", "\u52a0\u4e00\u53ea\u732b", "smooth the skin"],
    "instruction_language": ["en", "cn", "en"],
    "Intersection_exist": [True, True, False],
}


def gedit(folder, **columns):
    shots = [{"bytes": picture(seed), "path": f"{seed}.png"} for seed in (1, 1, 2)]
    small = [{"bytes": picture(seed), "path": None} for seed in (7, 7, 8)]
    data = {**GEDIT, "input_image": small, "input_image_raw": shots, **columns}
    kept = {name: values for name, values in data.items() if values is not None}
    (folder / "data").mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(kept), folder / "data" / "train-00000-of-00001.parquet")


def test_gedit_bench_takes_raw_pictures_and_each_once(tmp_path):
    folder, out = tmp_path / "gedit", tmp_path / "out"
    gedit(folder)
    out.mkdir()
    rows = table("gedit_bench", folder, out)
    assert [row["edit_type"] for row in rows] == ["add", "add", None]
    assert [row["language"] for row in rows] == ["en", "cn", "en"]
    assert [row["in_intersection"] for row in rows] == [True, True, False]
    assert rows[1]["instruction"] == GEDIT["instruction"][1]
    assert rows[0]["source_uri"] == rows[1]["source_uri"] != rows[2]["source_uri"]
    assert (out / rows[2]["source_uri"]).read_bytes() == picture(2)
    assert len(list((out / "images").iterdir())) == 2


def test_gedit_bench_of_one_language_and_without_raw_pictures(tmp_path):
    folder, out = tmp_path / "gedit", tmp_path / "out"
    gedit(folder, input_image_raw=None)
    out.mkdir()
    rows = table("gedit_bench", folder, out, only={"language": "en", "in_intersection": "true"})
    assert [row["instruction"] for row in rows] == ["add a cat"]
    assert (out / rows[0]["source_uri"]).read_bytes() == picture(7)


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"task_type": ["subject-ad", "x", "y"]}, "row 1: unknown task_type 'subject-ad': did you"),
        ({"instruction": ["a", None, "b"]}, "row 2: instruction = None"),
        ({"input_image_raw": [{"bytes": b"text"}] * 3}, "row 1: its source is not a picture"),
        ({"input_image_raw": [{"bytes": None}] * 3}, "row 1: input_image_raw holds no picture"),
        ({"input_image": None, "input_image_raw": None}, "no column 'input_image'"),
        ({"key": None}, "row 1: no field 'key'"),
    ],
)
def test_gedit_bench_odd_rows_are_refused(tmp_path, columns, words):
    gedit(tmp_path / "gedit", **columns)
    (tmp_path / "out").mkdir()
    assert words in refused("gedit_bench", tmp_path / "gedit", tmp_path / "out")


def imgedit(folder, entries, name="singleturn/singleturn.json"):
    put(folder / name, json.dumps(entries).encode())


BASIC = {
    "1082": {"id": "animal/1.jpg", "prompt": "Change the shell", "edit_type": "adjust"},
    "673": {"id": "style/2.jpg", "prompt": "Make it ukiyo-e", "edit_type": "style"},
    "1009": {"id": "animal/1.jpg", "prompt": "Lift its head", "edit_type": "action"},
}


@pytest.fixture
def bench(tmp_path):
    folder = tmp_path / "Benchmark"
    imgedit(folder, BASIC)
    imgedit(folder, {"adjust": "You are a rater"}, "singleturn/judge_prompt.json")
    imgedit(folder, {"1": {"id": "9.jpg", "prompt": "Remove both"}}, "hard/UGE_edit.json")
    put(folder / "singleturn" / "animal" / "1.jpg", picture(1, "JPEG"))
    put(folder / "singleturn" / "style" / "2.jpg", picture(2, "JPEG"))
    put(folder / "hard" / "9.jpg", picture(9, "JPEG"))
    (tmp_path / "out").mkdir()
    return folder


def test_imgedit_bench_reads_its_suites_and_passes_over_prompts(bench, tmp_path):
    rows = table("imgedit_bench", bench, tmp_path / "out")
    assert [row["suite"] for row in rows] == ["UGE_edit", *["singleturn"] * 3]
    assert [row["task"] for row in rows] == ["uge", "adjust", "style", "action"]
    assert [row["edit_type"] for row in rows] == [None, None, "style", "pose"]
    assert rows[1]["source_uri"] == rows[3]["source_uri"]
    assert rows[0]["instruction"] == "Remove both"


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"id": "animal/7.jpg", "prompt": "x", "edit_type": "add"}, "there is no picture"),
        ({"id": "../../secret.png", "prompt": "x", "edit_type": "add"}, "outside of"),
        ({"id": "animal/1.jpg", "prompt": " ", "edit_type": "add"}, "prompt = ' '"),
        ({"id": "animal/1.jpg", "edit_type": "add"}, "no field 'prompt'"),
        ({"id": "animal/1.jpg", "prompt": "x", "edit_type": "ad"}, "did you mean 'add'"),
        ({"id": "animal/1.jpg", "turn1": "x", "turn2": "y"}, "several turns"),
        ("text", "stands where an object"),
    ],
)
def test_imgedit_bench_odd_rows_are_refused(bench, tmp_path, entry, words):
    put(tmp_path / "secret.png", picture(0))
    imgedit(bench, {**BASIC, "odd": entry})
    sentence = refused("imgedit_bench", bench, tmp_path / "out")
    assert words in sentence
    assert "'odd'" in sentence
    assert not (tmp_path / "out" / "rows.jsonl").exists(), "a table that is there is whole"


PIE = {
    "image_path": "0_random_140/000000000000.jpg",
    "original_prompt": "a slanted mountain bicycle",
    "editing_prompt": "a slanted [rusty] mountain bicycle",
    "editing_instruction": "Make the bike rusty",
    "editing_type_id": "7",
    "blended_word": "bicycle bicycle",
    "mask": [0, 3, 512, 2, 262143, 9],
}


def pie(folder, **entries):
    put(folder / "annotation_images" / PIE["image_path"], picture(1, "JPEG", (512, 512)))
    put(folder / "mapping_file.json", json.dumps(entries).encode())


def test_pie_bench_has_masks_and_no_brackets(tmp_path):
    folder, out = tmp_path / "data", tmp_path / "out"
    pie(folder, a=PIE, b={**PIE, "mask": [], "blended_word": "", "editing_type_id": "0"})
    out.mkdir()
    first, second = table("pie_bench", folder, out)
    assert first["target_prompt"] == "a slanted rusty mountain bicycle"
    assert (first["edit_type"], first["task"]) == ("texture", "change_attribute_material")
    assert (second["edit_type"], second["mask_uri"], second["blended_word"]) == (None, None, None)
    mask = np.asarray(Image.open(out / first["mask_uri"]))
    assert mask.shape == (512, 512)
    # Three pixels of the first line, two of the second, and the last of all.
    assert np.argwhere(mask == 255).tolist() == [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [511, 511]]
    assert set(np.unique(mask)) == {0, 255}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"mask": [0, 3, 5]}, "not pairs"),
        ({"mask": [0, 1.5]}, "not pairs"),
        ({"mask": "counts"}, "not pairs"),
        ({"mask": [512 * 512 + 1, 1]}, "not inside of its 512x512 px"),
        ({"mask": [-1, 4]}, "not inside"),
        ({"editing_type_id": "10"}, "editing_type_id = '10'"),
        ({"editing_type_id": 3}, "editing_type_id = 3: it should be a text"),
        ({"image_path": "1.jpg"}, "there is no picture"),
    ],
)
def test_pie_bench_odd_rows_are_refused(tmp_path, change, words):
    pie(tmp_path / "data", fine=PIE, odd={**PIE, **change})
    (tmp_path / "out").mkdir()
    sentence = refused("pie_bench", tmp_path / "data", tmp_path / "out")
    assert words in sentence
    assert "'odd'" in sentence


def test_run_lengths_are_those_of_a_slow_decoder():
    rng = np.random.default_rng(0)
    cuts = np.sort(rng.choice(40 * 30, 20, replace=False))
    runs = [int(value) for a, b in cuts.reshape(-1, 2) for value in (a, b - a)]
    slow = np.zeros(40 * 30, np.uint8)
    for start, length in zip(runs[::2], runs[1::2], strict=True):
        for place in range(start, start + length):
            slow[place] = 255
    assert (decode_run_lengths(runs, 40, 30, "x") == slow.reshape(30, 40)).all()


def test_command_writes_a_table_that_a_run_reads(editeval, tmp_path, capfd):
    given = ["import", "editeval", str(editeval), "--output"]
    assert main([*given, str(tmp_path / "one")]) == 0
    assert "wrote 3 rows of EditEval" in capfd.readouterr().out
    assert (
        main([*given, str(tmp_path / "two"), "--per-task", "1", "--only", "task=object_addition"])
        == 0
    )
    found = read_input(str(tmp_path / "two"))
    assert found.table.to_pylist()[0]["instruction"] == "Add a car"
    assert found.table.num_rows == 1
    assert main([*given, str(tmp_path / "one")]) == 2
    assert "is not empty" in capfd.readouterr().err


def test_equal_imports_are_equal_bytes(editeval, tmp_path):
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
        table("editeval", editeval, folder)
    one, two = (
        {
            path.relative_to(folder): path.read_bytes()
            for path in folder.rglob("*")
            if path.is_file()
        }
        for folder in folders
    )
    assert one == two


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["import", "gedit", "{folder}", "--output", "{out}"], "did you mean 'gedit_bench'"),
        (["import", "editeval", "{out}/none", "--output", "{out}"], "no such folder"),
        (["import", "editeval", "{folder}", "--output", "{out}", "--only", "tsk=x"], "mean 'task'"),
        (["import", "editeval", "{folder}", "--output", "{out}", "--only", "task"], "NAME=VALUE"),
        (
            ["import", "editeval", "{folder}", "--output", "{out}", "--only", "task=x"],
            "no row of EditEval has task=x",
        ),
    ],
)
def test_command_refuses_what_is_not_there(editeval, tmp_path, capfd, arguments, words):
    places = {"folder": str(editeval), "out": str(tmp_path / "new")}
    assert main([argument.format(**places) for argument in arguments]) == 2
    assert words in capfd.readouterr().err


def test_own_benchmark_is_found_by_its_class(tmp_path, monkeypatch, capfd):
    code = '''
from overpaint.jobs.imports.benchmark import Benchmark, BenchmarkRow

class Mine(Benchmark):
    """A benchmark of somebody's own."""
    title = "Mine"
    columns = ("instruction", "task")

    def rows(self, folder):
        for path in sorted(folder.glob("*.png")):
            yield BenchmarkRow(place=str(path), image=path, values={"instruction": path.stem})
'''
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "my_benchmark.py").write_text(code)
    put(tmp_path / "mine" / "paint.png", picture(4))
    arguments = ["import", "my_benchmark:Mine", str(tmp_path / "mine")]
    assert main([*arguments, "--output", str(tmp_path / "out")]) == 0
    assert "wrote 1 rows of Mine" in capfd.readouterr().out
