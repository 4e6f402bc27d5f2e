"""`verify` refuses a broken export of each format with a sentence, and counts what is lost."""

import io
import json
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from export_runs import exported, noise, row, write_finished
from overpaint.jobs.cli import main
from PIL import Image


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    rows = [row(number, candidate) for number in range(4) for candidate in range(2)]
    return write_finished(tmp_path_factory.mktemp("run"), rows)


def png(pixels):
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


OTHER_ASPECT = png(noise(3, 24, 24))


def first(folder):
    return min(folder.iterdir())


def rewritten(path, change):
    pq.write_table(change(pq.read_table(path)), path)


def changed_rows(path, change):
    """Changes the rows of a table, whose schema and metadata stay."""
    table = pq.read_table(path)
    rows = table.to_pylist()
    change(rows)
    pq.write_table(pa.Table.from_pylist(rows, table.schema), path)


def changed_lines(path, change):
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    change(lines)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def changed_list(path, change):
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


def set_in(index, **values):
    return lambda rows: rows[index].update(values)


def table(folder):
    return folder / "data/train-00000.parquet"


def swap_columns(x):
    order = ["edited_image", "edit_prompt", "input_image"]
    rewritten(table(x), lambda t: t.select([*order, *t.column_names[3:]]))


def swap_pictures(x):
    def change(rows):
        one = rows[0]
        one["input_image"], one["edited_image"] = one["edited_image"], one["input_image"]

    changed_rows(table(x), change)


def drop_metadata(x):
    rewritten(table(x), lambda t: t.replace_schema_metadata(None))


def widen_bytes(x):
    wide = pa.struct([pa.field("bytes", pa.large_binary()), pa.field("path", pa.string())])

    def change(t):
        index = t.column_names.index("edited_image")
        return t.set_column(index, pa.field("edited_image", wide), t["edited_image"].cast(wide))

    rewritten(table(x), change)


def turn_struct(x):
    kind = pa.struct([pa.field("path", pa.string()), pa.field("bytes", pa.binary())])

    def change(t):
        rows = [{"path": r["path"], "bytes": r["bytes"]} for r in t["input_image"].to_pylist()]
        return t.set_column(0, pa.field("input_image", kind), pa.array(rows, kind))

    rewritten(table(x), change)


def other_aspect_in_table(column):
    return lambda x: changed_rows(
        table(x), set_in(0, **{column: {"bytes": OTHER_ASPECT, "path": "a.png"}})
    )


def no_caption(column):
    return lambda x: changed_rows(table(x), set_in(1, **{column: None}))


def list_of_captions(x):
    def change(t):
        words = pa.array([[text] for text in t["caption"].to_pylist()])
        return t.set_column(2, "caption", words)

    rewritten(table(x), change)


def drop_rows(x):
    rewritten(table(x), lambda t: t.slice(3))


def unlink_source(x):
    first(x / "train/sources").unlink()


def unlink_target(x):
    next((x / "train/targets").glob("*.png")).unlink()


def unlink_caption(x):
    next((x / "train/targets").glob("*.txt")).unlink()


def two_lines(x):
    next((x / "train/targets").glob("*.txt")).write_text("one\ntwo\n")


def jpg_beside_png(x):
    path = first(x / "train/sources")
    Image.open(path).convert("RGB").save(path.with_suffix(".jpg"))
    path.unlink()


def other_aspect(x):
    first(x / "train/sources").write_bytes(OTHER_ASPECT)


def garbage(x):
    first(x / "train/sources").write_bytes(b"nothing")


def swap_folders(x):
    name = first(x / "train/sources").name
    one, two = x / "train/sources" / name, x / "train/targets" / name
    before, after = one.read_bytes(), two.read_bytes()
    one.write_bytes(after)
    two.write_bytes(before)


def unlink_label(x):
    next((x / "train").glob("*-condlabel.png")).unlink()


def label_without_target(x):
    (target,) = [p for p in sorted((x / "train").glob("*.png")) if "label" not in p.name][:1]
    target.unlink()


def metadata(change):
    return lambda x: changed_list(x / "train/metadata.json", change)


def musubi(change):
    return lambda x: changed_lines(x / "train.jsonl", change)


def no_control(rows):
    rows[0].pop("control_path")


def control_list(rows):
    rows[0]["control_path"] = [rows[0]["control_path"]]


def retar(x, change):
    path = x / "train-00000.tar"
    with tarfile.open(path) as tar:
        members = [(m.name, tar.extractfile(m).read()) for m in tar]
    with tarfile.open(path, "w") as tar:
        for name, data in change(members):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def without_mask(x):
    retar(x, lambda members: [m for n, m in enumerate(members) if n != 6])


def scattered(x):
    retar(x, lambda members: [*members[1:], members[0]])


def dotted(x):
    retar(x, lambda members: [(f"a.{name}", data) for name, data in members])


def twice(x):
    retar(x, lambda members: [*members, *members[:4]])


def cut_tar(x):
    path = x / "train-00000.tar"
    path.write_bytes(path.read_bytes()[:3000])


def tie_labels(x):
    changed_rows(table(x), set_in(0, label_0=0.5, label_1=0.5))


def verl(x, **values):
    changed_rows(x / "train-00000.parquet", set_in(0, **values))


def swap_winner(rows):
    rows[0]["img_path_win"] = rows[0]["img_path_lose"]


def uri_field(rows):
    rows[0]["media"][0]["weight"] = 1


def messages(*content):
    return [{"role": "user", "content": text} for text in content]


BROKEN = [
    ("ip2p", swap_columns, "its first columns are edited_image, edit_prompt, input_image"),
    ("ip2p", swap_pictures, "swapped: the edited image is on the wrong side"),
    ("ip2p", drop_metadata, "its metadata does not say that input_image has pictures"),
    ("ip2p", widen_bytes, "edited_image is struct<bytes: large_binary"),
    ("ip2p", turn_struct, "input_image is struct<path: string, bytes: binary>"),
    ("ip2p", other_aspect_in_table("input_image"), "24x24 px and edited_image 24x16"),
    ("ip2p", no_caption("edit_prompt"), "edit_prompt is missing"),
    ("ip2p", drop_rows, "it is gone: the trainer does not see it"),
    ("ip2p", lambda x: table(x).unlink(), "it is gone: the trainer does not see it"),
    ("kontext", list_of_captions, "caption is list<"),
    ("kontext", other_aspect_in_table("cond_image"), "cond_image has 24x24 px and image 24x16"),
    ("kontext", no_caption("caption"), "caption is missing"),
    ("folders", unlink_source, "the control (source) is missing: ai-toolkit would train without"),
    ("folders", unlink_target, "has no target: trainers do not see it"),
    ("folders", unlink_caption, "the caption is missing"),
    ("folders", two_lines, "the caption has several lines"),
    ("folders", jpg_beside_png, "of another extension, SimpleTuner does not match them"),
    ("folders", other_aspect, "source has 24x24 px and target 24x16: of unequal proportions"),
    ("folders", garbage, "source is no picture"),
    ("folders", swap_folders, "source and target are swapped"),
    ("folders onetrainer", unlink_label, "condlabel is missing"),
    ("folders onetrainer", label_without_target, "has no target: OneTrainer does not see it"),
    ("diffsynth", unlink_source, "edit_image is missing"),
    ("diffsynth", other_aspect, "edit_image has 24x24 px and image 24x16"),
    ("diffsynth", metadata(set_in(0, prompt=["a"])), "prompt is a list where one text is read"),
    ("diffsynth", metadata(set_in(0, image=["a"])), "image is a list where one path is read"),
    ("diffsynth", metadata(lambda rows: rows.pop()), "it is gone"),
    ("diffsynth", lambda x: (x / "train/metadata.json").unlink(), "there is no JSON list"),
    ("musubi", musubi(no_control), "control_path is missing: it would train without one"),
    ("musubi", musubi(control_list), "control_path is a list where one path is read"),
    ("musubi", lambda x: first(x / "sources").unlink(), "a control image is missing"),
    ("musubi", lambda x: first(x / "images").write_bytes(OTHER_ASPECT), "image 24x24"),
    ("musubi", musubi(set_in(0, control_path="/etc/hostname")), "a control image is missing"),
    (
        "musubi",
        musubi(set_in(0, control_path="http://127.0.0.1:9/x.png")),
        "control image is missing",
    ),
    ("webdataset", without_mask, "its fields are not those of every sample (mask_image.png)"),
    ("webdataset", scattered, "its fields are not those of every sample (input_image.png)"),
    ("webdataset", dotted, "merge those with a dot in their names"),
    ("webdataset", twice, "its files are not together, or are there twice"),
    ("webdataset", cut_tar, "the file breaks off"),
    ("preference dpo", tie_labels, "label_0 and label_1 are equal: a tie"),
    (
        "preference dpo",
        lambda x: rewritten(table(x), lambda t: t.drop_columns("label_0")),
        "label_0",
    ),
    ("preference longcat", musubi(swap_winner), "winner and loser are one file: a tie"),
    ("preference longcat", musubi(set_in(0, width=None)), "width or height is missing"),
    ("preference longcat", musubi(set_in(0, ref_img_path="no.png")), "ref_img_path is missing"),
    (
        "preference editreward",
        lambda x: changed_list(x / "train.json", set_in(0, model1_overall_score=0)),
        "would learn the worse edit",
    ),
    (
        "preference editreward",
        lambda x: changed_list(x / "train.json", set_in(0, path_src=["a"])),
        "path_src is no path",
    ),
    ("preference verl", lambda x: verl(x, win_score=5.0), "a tie would count as a win"),
    ("preference verl", lambda x: verl(x, img_win="no.png"), "img_win is missing"),
    (
        "rl edit-r1",
        lambda x: changed_lines(x / "test_metadata.jsonl", set_in(0, requirement=None)),
        "requirement is missing",
    ),
    ("rl edit-r1", lambda x: (x / "test_metadata.jsonl").unlink(), "it is gone"),
    ("rl flow-factory", musubi(set_in(0, images=[])), "a line has no images"),
    ("rl flow-factory", lambda x: first(x / "images").unlink(), "an image is missing"),
    ("rl unirl", musubi(uri_field), "the trainer refuses the file"),
    ("rl verl", lambda x: verl(x, images=[]), "there are 0 pictures for one <image>"),
    ("rl verl", lambda x: verl(x, prompt=messages("do it")), "prompt has not one <image>"),
]


@pytest.mark.parametrize(("name", "breaks", "words"), BROKEN)
def test_broken_export_is_refused_with_a_sentence(run, tmp_path, capsys, name, breaks, words):
    split = "train=0.5,test=0.5" if name == "rl edit-r1" else "train=1"
    exported(run, tmp_path / "x", name, split=split)
    breaks(tmp_path / "x")
    assert main(["verify", str(tmp_path / "x")]) == 1
    said = capsys.readouterr().out
    assert words in said, said
    assert "a trainer sees every example" not in said


def test_first_ten_lost_are_named_and_the_others_counted(tmp_path, capsys):
    run = write_finished(tmp_path, [row(number) for number in range(14)])
    exported(run, tmp_path / "x", "folders")
    for path in (tmp_path / "x/train/sources").iterdir():
        path.unlink()
    assert main(["verify", str(tmp_path / "x")]) == 1
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "train: 14 examples written, 0 seen"
    assert sum("the control (source) is missing" in line for line in said) == 10
    assert said[-1] == "and 4 more"


def test_export_without_its_rows_is_refused(run, tmp_path, capsys):
    exported(run, tmp_path / "x", "ip2p")
    (tmp_path / "x/rows.parquet").unlink()
    assert main(["verify", str(tmp_path / "x")]) == 1
    assert "rows.parquet is missing" in capsys.readouterr().out


def test_repair_does_not_belong_to_an_export(run, tmp_path, capsys):
    exported(run, tmp_path / "x", "ip2p")
    assert main(["verify", str(tmp_path / "x"), "--repair"]) == 2
    assert "export again" in capsys.readouterr().err


def test_unreadable_record_of_an_export_is_named(tmp_path, capsys):
    (tmp_path / "export.json").write_text("[1]")
    assert main(["verify", str(tmp_path)]) == 2
    assert "not the record of an export" in capsys.readouterr().err


def test_noise_is_of_other_pixels_for_other_seeds():
    assert not np.array_equal(noise(1), noise(2))
