"""The types of edits of the survey (arXiv 2402.17525), as the column `edit_type` names them."""

from typing import Literal, get_args

EditType = Literal[
    "add",
    "remove",
    "replace",
    "background",
    "expression",
    "color",
    "texture",
    "style",
    "move",
    "resize",
    "pose",
    "viewpoint",
]
EDIT_TYPES: tuple[EditType, ...] = get_args(EditType)
"""All of them; the labels of checkpoints that are told a task count in this order."""
