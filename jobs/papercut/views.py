"""Conditioning signals of a scene, for editors that take more than text.

Segmentation map, sketch, layout boxes, pose keypoints, depth order and reference crop.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from overpaint.jobs.papercut.draw import draw_flat, item_mask, num_items, placed_cutouts
from overpaint.jobs.papercut.palette import COLOUR_RGB
from overpaint.jobs.papercut.people import JOINTS, POSE_POINTS
from overpaint.jobs.papercut.scene import COLOURS, KINDS, SIZE_PX, Figure, Scene
from overpaint.jobs.papercut.styles import outline_of
from overpaint.jobs.papercut.words import phrase
from PIL import Image, ImageChops

# Class indices of the segmentation map: 0 background, then the kinds, then the other families.
CLASSES: tuple[str, ...] = ("background", *KINDS, "face", "figure", "house", "car")


class LabelledBox(NamedTuple):
    """Bounding box with the words that name its content.

    Attributes:
        left_px: first column.
        top_px: first row.
        right_px: one past the last column.
        bottom_px: one past the last row.
        label: referring expression of the content.
    """

    left_px: int
    top_px: int
    right_px: int
    bottom_px: int
    label: str


class PosePoint(NamedTuple):
    """Keypoint of a figure.

    Attributes:
        joint: name of the joint.
        x_px: horizontal position.
        y_px: vertical position.
    """

    joint: str
    x_px: int
    y_px: int


def segmentation(scene: Scene) -> NDArray[np.uint8]:
    """Returns the segmentation map of a scene, indices into CLASSES, uint8 HW."""
    labels = np.zeros((SIZE_PX, SIZE_PX), np.uint8)
    for index in range(num_items(scene)):
        name = scene.family if scene.subject is not None else scene.things[index].kind
        labels[item_mask(scene, index) > 0] = CLASSES.index(name)
    return labels


def segmentation_image(scene: Scene) -> Image.Image:
    """Returns the segmentation map as a picture, RGB 64x64, one colour a class."""
    palette = np.array([_class_rgb(index) for index in range(len(CLASSES))], np.uint8)
    return Image.fromarray(palette[segmentation(scene)])


def sketch(scene: Scene) -> Image.Image:
    """Returns the outlines of a scene, L 64x64, dark lines on white."""
    return ImageChops.invert(outline_of(draw_flat(scene)))


def layout_boxes(scene: Scene) -> tuple[LabelledBox, ...]:
    """Returns the bounding box of every item, labelled with its referring expression."""
    return tuple(
        box_of(item_mask(scene, index), phrase(scene, index)) for index in range(num_items(scene))
    )


def box_of(mask: NDArray[np.uint8], label: str) -> LabelledBox:
    """Returns the bounding box of the set pixels of a mask.

    Args:
        mask: uint8 HW with at least one set pixel.
        label: referring expression of the content.
    """
    rows, columns = np.nonzero(mask.any(axis=1))[0], np.nonzero(mask.any(axis=0))[0]
    return LabelledBox(
        int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1, label
    )


def pose_points(scene: Scene) -> tuple[PosePoint, ...]:
    """Returns the keypoints of a scene's figure; empty for a scene without one."""
    figure = scene.subject
    if not isinstance(figure, Figure):
        return ()
    return tuple(
        PosePoint(
            name,
            figure.x_px + (x * figure.radius_px + 50) // 100,
            figure.y_px + (y * figure.radius_px + 50) // 100,
        )
        for name, (x, y) in zip(JOINTS, POSE_POINTS[figure.pose], strict=True)
    )


def depth_order(scene: Scene) -> tuple[int, ...]:
    """Returns the indices of the items from the farthest to the nearest."""
    return tuple(range(num_items(scene)))


def reference_crop(scene: Scene, index: int, size_px: int = SIZE_PX) -> Image.Image:
    """Returns one item alone on white, cropped to a square around it, RGB.

    Args:
        scene: any scene.
        index: number of the item, from the back.
        size_px: side of the result.
    """
    alone = Image.new("RGB", (SIZE_PX, SIZE_PX), (255, 255, 255))
    alone.paste(draw_flat(scene), None, _silhouette(scene, index))
    return _square_around(alone, scene, index, (255, 255, 255)).resize(
        (size_px, size_px), Image.Resampling.BICUBIC
    )


def reference_crop_alpha(scene: Scene, index: int, size_px: int = SIZE_PX) -> Image.Image:
    """Returns the alpha of the item that `reference_crop` shows, L.

    Args:
        scene: any scene.
        index: number of the item, from the back.
        size_px: side of the result.
    """
    return _square_around(_silhouette(scene, index), scene, index, 0).resize(
        (size_px, size_px), Image.Resampling.BICUBIC
    )


def _silhouette(scene: Scene, index: int) -> Image.Image:
    item = placed_cutouts(scene)[index]
    shape = Image.new("L", (SIZE_PX, SIZE_PX))
    shape.paste(item.cutout.silhouette, item.corner)
    return shape


def _square_around(
    picture: Image.Image, scene: Scene, index: int, fill: int | tuple[int, int, int]
) -> Image.Image:
    """Crops a picture to a square around an item; `fill` is beyond its edges."""
    left, top, right, bottom, _ = box_of(item_mask(scene, index), "")
    half = (max(right - left, bottom - top) + 5) // 2
    x, y = (left + right) // 2, (top + bottom) // 2
    square = Image.new(picture.mode, (2 * half, 2 * half), fill)
    square.paste(picture, (half - x, half - y))
    return square


def _class_rgb(index: int) -> tuple[int, int, int]:
    if index == 0:
        return (0, 0, 0)
    if index <= len(COLOURS):
        return COLOUR_RGB[COLOURS[index - 1]]
    return (60 + index * 37 % 180, 60 + index * 71 % 180, 60 + index * 113 % 180)
