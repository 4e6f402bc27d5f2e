"""PIE-Bench: 700 pictures of 512 px with two prompts, an instruction and a mask (arXiv 2310.01506).

`mapping_file.json` is an object by key, each with `image_path` (below `annotation_images`),
`original_prompt`, `editing_prompt`, `editing_instruction`, `editing_type_id` ("0" to "9"),
`blended_word` and `mask`: run lengths over 512x512 pixels, row by row. Square brackets in prompts
mark the words that differ; they are left out, as the benchmark's own scripts do. Those scripts also
count the frame's outermost pixels as editable; the masks here are as they were drawn.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from overpaint.jobs.imports.benchmark import Benchmark, BenchmarkRow
from overpaint.jobs.imports.run_lengths import decode_run_lengths
from overpaint.jobs.imports.values import entry_of, picture_at, read_json, text_of
from overpaint.pipeline.edit_types import EditType
from overpaint.pipeline.errors import UsageError

MAPPING = "mapping_file.json"
IMAGES = "annotation_images"
MASK_PX = 512
"""Side of PIE-Bench's masks."""
TYPES: Mapping[str, tuple[str, EditType | None]] = {
    "0": ("random", None),
    "1": ("change_object", "replace"),
    "2": ("add_object", "add"),
    "3": ("delete_object", "remove"),
    "4": ("change_attribute_content", None),
    "5": ("change_attribute_pose", "pose"),
    "6": ("change_attribute_color", "color"),
    "7": ("change_attribute_material", "texture"),
    "8": ("change_background", "background"),
    "9": ("change_style", "style"),
}
"""Names and edit types by PIE-Bench's ids; None for those that mix the survey's types."""

_BRACKETS = str.maketrans("", "", "[]")


class PIEBench(Benchmark):
    """PIE-Bench: ten types of edits of real pictures, with masks."""

    title: ClassVar[str] = "PIE-Bench"
    columns: ClassVar[tuple[str, ...]] = (
        *("instruction", "source_prompt", "target_prompt", "edit_type"),
        *("task", "benchmark_key", "blended_word"),
    )
    has_masks: ClassVar[bool] = True

    def rows(self, folder: Path) -> Iterator[BenchmarkRow]:
        """Yields the rows of the mapping file."""
        file = folder / MAPPING
        if not file.is_file():
            raise UsageError(f"{folder}: no {MAPPING} is there: not PIE-Bench's layout")
        for key, value in entry_of(read_json(file), str(file)).items():
            place = f"{file}: {key!r}"
            yield _row(folder / IMAGES, key, entry_of(value, place), place)


def _row(images: Path, key: str, entry: Mapping[str, Any], place: str) -> BenchmarkRow:
    kind = text_of(entry, "editing_type_id", place)
    if kind not in TYPES:
        raise UsageError(f"{place}: editing_type_id = {kind!r}: one of {', '.join(TYPES)}")
    task, edit_type = TYPES[kind]
    mask = decode_run_lengths(entry.get("mask"), MASK_PX, MASK_PX, place)
    word: Any = entry.get("blended_word")
    return BenchmarkRow(
        place=place,
        image=picture_at(images, text_of(entry, "image_path", place), place),
        values={
            "instruction": text_of(entry, "editing_instruction", place),
            "source_prompt": _prompt(entry, "original_prompt", place),
            "target_prompt": _prompt(entry, "editing_prompt", place),
            "edit_type": edit_type,
            "task": task,
            "benchmark_key": key,
            "blended_word": word if isinstance(word, str) and word else None,
        },
        mask=mask if mask.any() else None,
    )


def _prompt(entry: Mapping[str, Any], field: str, place: str) -> str:
    return " ".join(text_of(entry, field, place).translate(_BRACKETS).split())
