"""Outlines of faces with expressions and of figures with poses."""

from functools import lru_cache

from overpaint.jobs.papercut.paper import Cutout, Piece, cut, piece
from overpaint.jobs.papercut.scene import Expression, HairStyle, Pose

JOINTS: tuple[str, ...] = (
    "head",
    "neck",
    "hip",
    "left elbow",
    "left hand",
    "right elbow",
    "right hand",
    "left knee",
    "left foot",
    "right knee",
    "right foot",
)


@lru_cache(maxsize=256)
def face_cutout(expression: Expression, hair_style: HairStyle, radius_px: int) -> Cutout:
    """Cuts a head of 100 units radius; paints `skin`, `hair` and those of the features."""
    behind = _HAIR_BEHIND[hair_style]
    head = (
        piece("skin", "O -92,10 16,20", "O 92,10 16,20"),
        piece("skin", "O 0,4 92,92"),
    )
    return cut((*behind, *head, *_EXPRESSIONS[expression], _HAIR_FRONT[hair_style]), radius_px)


@lru_cache(maxsize=256)
def figure_cutout(pose: Pose, radius_px: int) -> Cutout:
    """Cuts a person of 200 units; paints `shirt`, `sleeve`, `trousers`, `skin`, `hair`, `wood`."""
    at = {name: f"{x},{y}" for name, (x, y) in zip(JOINTS, POSE_POINTS[pose], strict=True)}
    head_x, head_y = POSE_POINTS[pose][0]
    stool = (piece("wood", "M-40,36 L14,36 14,46 -40,46Z", "S 9 -32,40 -36,98", "S 9 6,40 10,98"),)
    return cut(
        (
            *(stool if pose == "sitting" else ()),
            piece("trousers", f"S 23 {at['hip']} {at['left knee']} {at['left foot']}"),
            piece("ink", f"S 21 {at['left foot']} {_toe(pose, 8)}"),
            piece("trousers", f"S 23 {at['hip']} {at['right knee']} {at['right foot']}"),
            piece("ink", f"S 21 {at['right foot']} {_toe(pose, 10)}"),
            piece("shirt", f"S 46 {at['neck']} {at['hip']}"),
            piece("sleeve", f"S 17 {_shoulder(pose, -1)} {at['left elbow']} {at['left hand']}"),
            piece("sleeve", f"S 17 {_shoulder(pose, 1)} {at['right elbow']} {at['right hand']}"),
            piece("skin", f"O {at['left hand']} 12,12"),
            piece("skin", f"O {at['right hand']} 12,12"),
            piece("skin", f"O {at['head']} 29,29"),
            piece("hair", _hair(head_x, head_y)),
        ),
        radius_px,
    )


def _hair(x: int, y: int) -> str:
    return (
        f"M{x - 31},{y + 4} C{x - 34},{y - 24} {x - 18},{y - 36} {x},{y - 36}"
        f" C{x + 18},{y - 36} {x + 34},{y - 24} {x + 31},{y + 4}"
        f" C{x + 22},{y - 4} {x + 14},{y - 10} {x + 8},{y - 16}"
        f" C{x - 6},{y - 8} {x - 20},{y - 4} {x - 31},{y + 4}Z"
    )


def _toe(pose: Pose, joint: int) -> str:
    x, y = POSE_POINTS[pose][joint]
    outward = 8 if pose in ("running", "sitting") or joint == 10 else -8
    return f"{x + outward},{y + 1}"


def _shoulder(pose: Pose, side: int) -> str:
    x, y = POSE_POINTS[pose][1]
    return f"{x + side * 16},{y - 8}"


# One point for each of JOINTS, in hundredths of the radius; "left" is left in the picture.
POSE_POINTS: dict[Pose, tuple[tuple[int, int], ...]] = {
    "standing": (
        (0, -66),
        (0, -16),
        (0, 24),
        (-32, 4),
        (-38, 30),
        (32, 4),
        (38, 30),
        (-15, 56),
        (-17, 88),
        (15, 56),
        (17, 88),
    ),
    "cheering": (
        (0, -58),
        (0, -10),
        (0, 28),
        (-44, -34),
        (-56, -78),
        (44, -34),
        (56, -78),
        (-24, 56),
        (-34, 88),
        (24, 56),
        (34, 88),
    ),
    "waving": (
        (0, -66),
        (0, -16),
        (0, 24),
        (-32, 4),
        (-38, 30),
        (44, -30),
        (60, -70),
        (-15, 56),
        (-17, 88),
        (15, 56),
        (17, 88),
    ),
    "running": (
        (18, -66),
        (8, -16),
        (-6, 22),
        (-34, -12),
        (-54, 14),
        (40, 8),
        (64, -14),
        (-30, 50),
        (-72, 58),
        (32, 42),
        (40, 84),
    ),
    "sitting": (
        (-12, -52),
        (-12, -4),
        (-12, 28),
        (-38, 10),
        (-34, 28),
        (14, 18),
        (36, 20),
        (32, 34),
        (34, 86),
        (44, 38),
        (54, 88),
    ),
}

_HAIR_BEHIND: dict[HairStyle, tuple[Piece, ...]] = {
    "short": (),
    "long": (
        piece(
            "hair",
            "M-96,20 C-112,-66 -58,-112 0,-112 C58,-112 112,-66 96,20 C98,60 106,84 112,104"
            " L-112,104 C-106,84 -98,60 -96,20Z",
        ),
    ),
    "curly": (
        piece(
            "hair",
            "O -84,-34 36,36",
            "O -92,6 28,28",
            "O 84,-34 36,36",
            "O 92,6 28,28",
            "O -56,-74 38,38",
            "O 56,-74 38,38",
            "O 0,-88 42,38",
        ),
    ),
}
_FRINGE = (
    "M-92,6 C-104,-66 -54,-106 0,-106 C54,-106 104,-66 92,6"
    " C76,-16 62,-34 50,-52 C10,-34 -40,-24 -72,-34 C-82,-22 -88,-8 -92,6Z"
)
_HAIR_FRONT: dict[HairStyle, Piece] = {
    "short": piece("hair", _FRINGE),
    "long": piece(
        "hair",
        "M-96,16 C-108,-66 -54,-108 0,-108 C54,-108 108,-66 96,16"
        " C84,-20 48,-44 0,-66 C-48,-44 -84,-20 -96,16Z",
    ),
    "curly": piece(
        "hair", "O -58,-58 30,26", "O -22,-70 30,26", "O 22,-70 30,26", "O 58,-58 30,26"
    ),
}
_OPEN_EYES = (
    piece("white", "O -36,0 17,20", "O 36,0 17,20"),
    piece("ink", "O -35,2 11,14", "O 35,2 11,14"),
)
_EXPRESSIONS: dict[Expression, tuple[Piece, ...]] = {
    "happy": (
        piece("blush", "O -60,32 19,14", "O 60,32 19,14"),
        piece("ink", "O -36,0 14,18", "O 36,0 14,18"),
        piece("white", "O -32,-6 5,6", "O 40,-6 5,6"),
        piece("mouth", "M-44,32 C-20,42 20,42 44,32 C44,64 24,80 0,80 C-24,80 -44,64 -44,32Z"),
        piece("white", "M-36,35 C-16,43 16,43 36,35 L32,47 C14,53 -14,53 -32,47Z"),
    ),
    "sad": (
        piece("ink", "S 10 -56,-14 -24,-30", "S 10 56,-14 24,-30"),
        *_OPEN_EYES,
        piece("tear", "M44,22 C56,42 60,54 50,60 C36,64 30,52 44,22Z"),
        piece("ink", "S 13 -32,70 -20,56 0,51 20,56 32,70"),
    ),
    "surprised": (
        piece("ink", "S 9 -54,-38 -36,-44 -20,-38", "S 9 54,-38 36,-44 20,-38"),
        piece("white", "O -36,-4 25,26", "O 36,-4 25,26"),
        piece("ink", "O -36,-4 11,12", "O 36,-4 11,12"),
        piece("mouth", "O 0,56 23,29"),
    ),
    "angry": (
        piece("flush", "O -58,34 24,18", "O 58,34 24,18"),
        *_OPEN_EYES,
        piece("ink", "S 15 -62,-38 -16,-14", "S 15 62,-38 16,-14"),
        piece("ink", "M-40,74 C-36,46 36,46 40,74Z"),
        piece("white", "M-28,67 C-22,56 22,56 28,67Z"),
    ),
    "sleepy": (
        piece("ink", "S 10 -56,0 -46,10 -36,13 -26,10 -16,0", "S 10 56,0 46,10 36,13 26,10 16,0"),
        piece("mouth", "O 4,56 13,10"),
        piece("blush", "O -60,34 17,12", "O 60,34 17,12"),
        piece("tear", "M62,-104 L92,-104 92,-97 74,-76 92,-76 92,-66 60,-66 60,-73 78,-94 62,-94Z"),
    ),
}
