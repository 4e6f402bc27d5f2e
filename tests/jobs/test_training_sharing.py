"""Equal files of several checkpoints are one file and links to it."""

import shutil
from pathlib import Path

import pytest
from overpaint.jobs.training.sharing import own_files, share_files
from overpaint.operators.models.weights import Checkpoint

WEIGHTS = "model.safetensors"
BIG, OTHER = b"a" * 5000, b"b" * 5000


@pytest.fixture
def checkpoints(tmp_path: Path) -> Path:
    files = {"vae": BIG, "clip": OTHER, "draw/vae": BIG, "edit/vae": BIG, "edit/text": OTHER}
    for folder, content in files.items():
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / WEIGHTS).write_bytes(content)
        (tmp_path / folder / "config.json").write_text("{}")
    share_files(tmp_path)
    return tmp_path


def links(checkpoints: Path) -> dict[str, str]:
    found = [path for path in sorted(checkpoints.rglob("*")) if path.is_symlink()]
    return {p.relative_to(checkpoints).as_posix(): p.readlink().as_posix() for p in found}


SHARED = {
    f"draw/vae/{WEIGHTS}": f"../../vae/{WEIGHTS}",
    f"edit/text/{WEIGHTS}": f"../../clip/{WEIGHTS}",
    f"edit/vae/{WEIGHTS}": f"../../vae/{WEIGHTS}",
}


def test_large_equal_files_become_relative_links_and_small_ones_stay(checkpoints: Path) -> None:
    assert links(checkpoints) == SHARED
    share_files(checkpoints)
    assert links(checkpoints) == SHARED
    assert (checkpoints / f"edit/text/{WEIGHTS}").read_bytes() == OTHER


def test_identity_of_a_checkpoint_is_the_same_through_links(checkpoints: Path) -> None:
    shared = Checkpoint(name=str(checkpoints / "edit"))
    shutil.copytree(checkpoints / "edit", checkpoints / "copied")
    copied = Checkpoint(name=str(checkpoints / "copied"))
    assert not any(path.is_symlink() for path in Path(copied.name).rglob("*"))
    assert shared.identity() == copied.identity()


def test_replaced_file_leaves_others_with_what_they_had(checkpoints: Path) -> None:
    with own_files(checkpoints, "vae"):
        (checkpoints / "vae" / WEIGHTS).write_bytes(b"c" * 5000)
    assert (checkpoints / f"draw/vae/{WEIGHTS}").read_bytes() == BIG
    assert links(checkpoints) == {
        f"edit/text/{WEIGHTS}": f"../../clip/{WEIGHTS}",
        f"edit/vae/{WEIGHTS}": f"../../draw/vae/{WEIGHTS}",
    }


def test_replaced_link_is_one_again_where_the_file_is_equal(checkpoints: Path) -> None:
    with own_files(checkpoints, "draw"):
        shutil.rmtree(checkpoints / "draw")
        (checkpoints / "draw" / "vae").mkdir(parents=True)
        (checkpoints / "draw" / "vae" / WEIGHTS).write_bytes(BIG)
    assert links(checkpoints) == SHARED


def test_folder_without_links_gets_none(tmp_path: Path) -> None:
    for name in ("vae", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / WEIGHTS).write_bytes(BIG)
    with own_files(tmp_path, "vae"):
        pass
    assert links(tmp_path) == {}


def test_checkpoints_that_come_along_hold_no_file_twice(tmp_path: Path) -> None:
    shipped = Path(Checkpoint(name="papercut", part="vae").path).parent
    shutil.copytree(shipped, tmp_path / "papercut", symlinks=True)
    share_files(tmp_path / "papercut")
    assert links(tmp_path / "papercut") == links(shipped)
