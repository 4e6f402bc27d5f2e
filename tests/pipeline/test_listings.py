"""Folders of images: all that can be decoded, once, and an account of all that is left out."""

import os
import random
import unicodedata
from collections import Counter
from pathlib import PurePosixPath

import pytest
from overpaint.pipeline.errors import UsageError
from overpaint.pipeline.image_formats import IMAGE_SUFFIXES
from overpaint.pipeline.runs.inputs import read_input
from overpaint.pipeline.storage.store import Storage

ENDINGS = [".png", ".JPG", ".avif", ".jfif", ".jp2", ".ppm", ".svg", ".psd", ".txt", ".json", ""]
FOLDERS = ["", "a", "a/b", "a/b/c", "ä é", ".git", "a/.cache/x", "@eaDir", "b/__MACOSX", "d.png"]


def listed(uri):
    return read_input(str(uri)).table["source_uri"].to_pylist()


def note_of(uri):
    notes = read_input(str(uri)).notes
    return notes[0] if notes else ""


def files_of(seed):
    """Some files in some folders, by chance."""
    draw = random.Random(seed)
    names = [f"{draw.choice(['x', '.h', 'é', 'a b', '#%'])}{i}" for i in range(6)]
    folders = draw.sample(FOLDERS, 6)
    paths = [f"{folder}/{name}{draw.choice(ENDINGS)}" for folder in folders for name in names]
    return [*(path.lstrip("/") for path in paths), "last.png"]


def is_hidden(path):
    return any(part.startswith(".") or part in ("@eaDir", "__MACOSX") for part in path.split("/"))


def is_image(path):
    return ending(path) in (".png", ".jpg", ".avif", ".jfif", ".jp2", ".ppm")


def ending(path):
    return PurePosixPath(path).suffix.lower()


def check_account(uri, paths):
    """Holds the rows and the words of a listing against what lies there."""
    visible = [path for path in paths if not is_hidden(path)]
    assert listed(uri) == sorted(path for path in visible if is_image(path))
    others = Counter(ending(path) for path in visible if not is_image(path))
    words = note_of(uri)
    hidden = [path for path in paths if is_hidden(path) and is_image(path)]
    in_folders = sum(is_hidden(path.rpartition("/")[0]) for path in hidden)
    for number, word in (
        (others[".svg"], ".svg ("),
        (others[".psd"], ".psd ("),
        (others[".txt"] + others[".json"] + others[""], "other file"),
        (in_folders, "in a hidden folder" if in_folders == 1 else "in hidden folders"),
        (len(hidden) - in_folders, "hidden"),
    ):
        assert (f"{number} {word}" in words) == (number > 0), (number, word, words)


@pytest.mark.parametrize("seed", range(20))
def test_listing_of_a_folder_is_its_images_and_accounts_for_the_rest(tmp_path, seed):
    paths = files_of(seed)
    for path in paths:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    check_account(tmp_path, paths)


@pytest.mark.s3
@pytest.mark.parametrize("seed", range(3))
def test_listing_of_a_prefix_is_that_of_the_same_folder(moto_s3, seed):
    paths = files_of(seed)
    for path in paths:
        Storage(moto_s3).write(path, b"x")
    check_account(moto_s3, paths)


@pytest.mark.parametrize("suffix", IMAGE_SUFFIXES)
def test_every_ending_that_can_be_decoded_is_taken(tmp_path, suffix):
    (tmp_path / f"x{suffix.upper()}").touch()
    assert listed(tmp_path) == [f"x{suffix.upper()}"]


def test_names_of_one_letter_in_two_forms_are_two_rows(tmp_path):
    names = [unicodedata.normalize(form, "é.png") for form in ("NFC", "NFD")]
    for name in names:
        (tmp_path / name).touch()
    assert listed(tmp_path) == sorted(names)


@pytest.fixture
def tree(tmp_path):
    """A folder of one image, with a folder of another beside it."""
    for path in ("top/in/a.png", "beside/z.png"):
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).touch()
    return tmp_path / "top"


def test_linked_folders_are_followed_once_each(tree):
    (tree / "l2").symlink_to("../beside")
    (tree / "l1").symlink_to(tree.parent / "beside")
    (tree / "again").symlink_to("in")
    assert listed(tree) == ["in/a.png", "l1/z.png"]
    assert "2 links to folders listed already" in note_of(tree)


def test_links_in_linked_folders_are_followed_and_circles_end(tree):
    (tree / "link").symlink_to("../beside")
    (tree.parent / "far").mkdir()
    (tree.parent / "far/f.png").touch()
    (tree.parent / "beside/far").symlink_to("../far")
    (tree.parent / "far/back").symlink_to("../beside")
    (tree.parent / "far/up").symlink_to("../top/in")
    assert listed(tree) == ["in/a.png", "link/far/f.png", "link/z.png"]


def test_links_to_folders_above_are_not_followed(tree):
    (tree / "up").symlink_to("..")
    (tree / "in/top").symlink_to(tree)
    assert listed(tree) == ["in/a.png"]
    assert "2 links to folders above" in note_of(tree)


def test_linked_files_are_taken(tree):
    (tree / "b.png").symlink_to("../beside/z.png")
    assert listed(tree) == ["b.png", "in/a.png"]


def test_entries_that_cannot_be_looked_at_are_left_out_and_counted(tree):
    (tree / "notes").symlink_to("notes")
    (tree / "dead.png").symlink_to("nowhere.png")
    (tree / "deep").symlink_to("notes/x")
    os.mkfifo(tree / "pipe.png")
    assert listed(tree) == ["in/a.png"]
    assert "3 links that lead nowhere, 1 entry that is no file" in note_of(tree)


def test_names_of_folders_that_are_no_text_leave_their_images_out(tree):
    folder = tree / os.fsdecode(b"\xe9")
    folder.mkdir()
    (folder / "b.png").touch()
    assert listed(tree) == ["in/a.png"]
    assert r"1 whose name is not UTF-8 text; rename it (\udce9/b.png)" in note_of(tree)


def test_account_of_a_folder_without_images_is_in_the_error(tmp_path):
    for name in ("a.svg", ".b.png", "c.txt"):
        (tmp_path / name).touch()
    with pytest.raises(UsageError, match=r"no images there; left out: 1 \.svg .*1 hidden, 1 other"):
        read_input(str(tmp_path))


def test_tables_and_captions_beside_images_are_told(tmp_path):
    for name in ("a.png", "b.png", "a.txt", "readme.txt"):
        (tmp_path / name).touch()
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "a.png", "text": "a cat"}\n')
    notes = read_input(str(tmp_path)).notes
    metadata = tmp_path / "metadata.jsonl"
    assert f"--input {metadata} --map file_name=source_uri" in notes[1]
    assert "texts beside images of the same name (1 .txt)" in notes[2]
    mapped = read_input(str(metadata), mapping={"file_name": "source_uri"})
    assert mapped.table["source_uri"].to_pylist() == ["a.png"]


@pytest.mark.s3
def test_key_with_colons_is_listed_and_read(moto_s3):
    from overpaint.operators.sources.access import Access, read_source
    from overpaint.pipeline.errors import RowError

    Storage(moto_s3).write("a::b.png", b"pixels")
    assert listed(moto_s3) == ["a::b.png"]
    assert read_source(moto_s3, "a::b.png", Access()) == b"pixels"
    for base, uri in (("/nowhere", f"{moto_s3}/a::b.png"), (moto_s3, "x::s3://other/a.png")):
        with pytest.raises(RowError) as caught:
            read_source(base, uri, Access())
        assert caught.value.code == "source_forbidden"
