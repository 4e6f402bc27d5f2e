"""Figures of a table of methods, as people read them."""

from typing import Any

from overpaint.pipeline.recipes.method_table import Cell, MethodTable

_GROUPS = {
    ("pictures", "none"): "no training for edits, no mask",
    ("pictures", "found"): "no training for edits, found mask",
    ("pictures", "given"): "no training for edits, given mask",
    ("edits", "none"): "trained for edits, no mask",
    ("edits", "found"): "trained for edits, found mask",
    ("edits", "given"): "trained for edits, given mask",
}


def figures_of(table: MethodTable) -> list[dict[str, Any]]:
    """Returns a table's cells as rows, by group, then by type, the most successful first."""
    order = list(_GROUPS.values())
    cells = sorted(
        table.cells,
        key=lambda cell: (order.index(group_of(cell)), cell.edit_type, -cell.success, cell.recipe),
    )
    return [
        {
            "group": group_of(cell),
            "edit_type": cell.edit_type,
            "recipe": cell.recipe,
            "rows": f"{cell.rows} {cell.split}",
            "success": cell.success,
            "oracle": cell.oracle,
            "gain": cell.gain,
            "outside_db": cell.outside_psnr_db,
            "attributes_right": cell.attributes_right,
            "mask_iou": cell.mask_iou,
            "forward": cell.evaluations.get("forward", 0.0),
            "backward": cell.evaluations.get("backward", 0.0),
            "seconds": cell.seconds,
        }
        for cell in cells
    ]


def group_of(cell: Cell) -> str:
    """Returns the words for what the editor was trained for, and the mask of the edits."""
    return _GROUPS[cell.training, cell.mask]
