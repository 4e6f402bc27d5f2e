"""Drawn edits in EditEval's published layout: what the benchmark has not, in all twelve types."""

from pathlib import Path
from typing import Any

from overpaint.jobs.imports.benchmarks.editeval import HEADERS, SHEET, TASKS
from overpaint.jobs.papercut.dataset import SEEDS_PER_DATASET
from overpaint.jobs.papercut.draw import draw
from overpaint.jobs.papercut.edits import sample_edit

_LARGE = 1 << 20  # Apart from the datasets that `overpaint papercut` draws of small seeds.


def write_drawn(out: Path, *, images: int, seed: int = 0) -> None:
    """Writes a folder for each of the twelve tasks, and the prompt sheet.

    Args:
        out: folder, made where there is none; files that are there are written over.
        images: pictures of each task, at least 1; fewer of a seed are the first of more.
        seed: any integer; each gives other pictures.

    Example:
        >>> write_drawn(Path("drawn"), images=4)
        >>> sorted(path.name for path in Path("drawn/object_addition").iterdir())
        ['1.png', '2.png', '3.png', '4.png']
    """
    from openpyxl import Workbook

    book = Workbook(write_only=True)
    sheet: Any = book.create_sheet("Sheet1")
    for place, (task, edit_type) in enumerate(TASKS.items()):
        (out / task).mkdir(parents=True, exist_ok=True)
        title = task.replace("_", " ").title()
        for number in range(1, images + 1):
            own = (_LARGE + seed) * SEEDS_PER_DATASET + number * len(TASKS) + place
            edit = sample_edit(own, edit_type, "test")
            draw(edit.source).save(out / task / f"{number}.png")
            if place == 0 and number == 1:
                sheet.append([title, *HEADERS])
            starts = number == 1 and place > 0
            texts = (edit.source_prompt, edit.target_prompt, edit.instruction)
            sheet.append([title if starts else None, *texts])
    book.save(out / SHEET)
