import hashlib
from pathlib import Path

import numpy as np
import pytest
from overpaint.operators.store import Store
from overpaint.pipeline.images import encode_mask
from running import failure_code


def row(run_uri: object, number: int, image: bytes, **more: object) -> dict:
    key = f"{number:032x}"
    return {
        "key": key,
        "edited_image": image,
        "run_uri": str(run_uri),
        "image_format": "png",
        **more,
    }


def stored(rows: list[dict]) -> list:
    store = Store()
    with store.load() as threads:
        return store.run(rows, threads)


def files(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def test_store_image_and_masks_are_under_the_key(tmp_path, noise):
    image, mask = noise(1), encode_mask(np.zeros((2, 2), np.uint8))
    editable = encode_mask(np.full((2, 2), 255, np.uint8))
    masks = {"mask_image": mask, "editable_mask_image": editable}
    given = row(tmp_path, 0xAB, image, image_format="webp", **masks)
    (answer,) = stored([given])
    key = given["key"]
    assert answer == {
        "edited_uri": f"images/00/{key}.webp",
        "edited_sha256": hashlib.sha256(image).hexdigest(),
        "mask_uri": f"masks/00/{key}.png",
        "mask_sha256": hashlib.sha256(mask).hexdigest(),
        "editable_mask_uri": f"editable/00/{key}.png",
        "editable_mask_sha256": hashlib.sha256(editable).hexdigest(),
    }
    assert files(tmp_path) == {
        f"images/00/{key}.webp": image,
        f"masks/00/{key}.png": mask,
        f"editable/00/{key}.png": editable,
    }


def test_store_of_a_run_that_packs_names_members_and_writes_nothing(tmp_path, noise):
    given = row(tmp_path, 0xAB, noise(1), mask_image=noise(2), is_packed=True)
    (answer,) = stored([given])
    assert answer["edited_uri"] == f"{given['key']}.edited.png"
    assert answer["mask_uri"] == f"{given['key']}.mask.png"
    assert answer["edited_sha256"] == hashlib.sha256(noise(1)).hexdigest()
    assert files(tmp_path) == {}


def test_store_without_a_mask_writes_none(tmp_path, noise):
    answers = stored([row(tmp_path, 1, noise(1)), row(tmp_path, 2, noise(2), mask_image=None)])
    assert [answer["mask_uri"] for answer in answers] == [None, None]
    assert [answer["mask_sha256"] for answer in answers] == [None, None]
    assert [answer["editable_mask_uri"] for answer in answers] == [None, None]
    assert len(files(tmp_path)) == 2


def test_store_again_leaves_the_same_bytes_and_nothing_else(tmp_path, noise):
    rows = [row(tmp_path, number, noise(number)) for number in (1, 2)]
    first = stored(rows)
    before = files(tmp_path)
    assert stored([rows[1], rows[0], rows[0]]) == [first[1], first[0], first[0]]
    assert files(tmp_path) == before


@pytest.mark.parametrize("key", ["../../escape", "a" * 31, "A" * 32, "0" * 32 + "\n", ""])
def test_store_key_that_is_no_key_writes_nothing(tmp_path, noise, key):
    assert failure_code(Store(), {**row(tmp_path, 1, noise(1)), "key": key}) == "bad_key"
    assert files(tmp_path) == {}


@pytest.mark.s3
def test_store_writes_to_an_object_store(s3, noise):
    from overpaint.pipeline.storage.store import Storage

    (answer,) = stored([row(s3, 1, noise(1))])
    assert Storage(s3).read(answer["edited_uri"]) == noise(1)
