"""Outlines of the kinds of things: bold silhouettes that fill a circle of radius 100."""

from functools import lru_cache

from overpaint.jobs.papercut.paper import Cutout, Piece, cut, piece
from overpaint.jobs.papercut.scene import Kind


@lru_cache(maxsize=512)
def thing_cutout(kind: Kind, radius_px: int) -> Cutout:
    """Cuts a kind of thing; the paint `main` is the thing's own colour."""
    return cut(_pieces(kind), radius_px)


def _pieces(kind: Kind) -> tuple[Piece, ...]:
    return _SIMPLE[kind] if kind in _SIMPLE else _DETAILED[kind]


_SIMPLE: dict[Kind, tuple[Piece, ...]] = {
    "circle": (piece("main", "O 0,0 98,98"),),
    "square": (piece("main", "M-88,-88 L88,-88 88,88 -88,88Z"),),
    "triangle": (piece("main", "M0,-96 L100,82 -100,82Z"),),
    "star": (
        piece(
            "main",
            "M0,-98 L29,-35 97,-27 47,21 60,90 0,56 -60,90 -47,21 -97,-27 -29,-35Z",
        ),
    ),
    "heart": (
        piece(
            "main",
            "M0,92 C-40,60 -100,22 -100,-32 C-100,-70 -72,-88 -48,-88 C-24,-88 -8,-72 0,-54"
            " C8,-72 24,-88 48,-88 C72,-88 100,-70 100,-32 C100,22 40,60 0,92Z",
        ),
    ),
    "diamond": (piece("main", "M0,-104 L84,0 0,104 -84,0Z"),),
    "moon": (
        piece(
            "main",
            "M38,-98 C-40,-112 -96,-58 -96,0 C-96,58 -40,112 38,98"
            " C62,94 76,84 84,72 C30,66 2,36 2,0 C2,-36 30,-66 84,-72 C76,-84 62,-94 38,-98Z",
        ),
    ),
}

_DETAILED: dict[Kind, tuple[Piece, ...]] = {
    "flower": (
        piece(
            "main",
            "O 0,-58 36,40",
            "O 52,-30 38,38",
            "O 52,30 38,38",
            "O 0,58 36,40",
            "O -52,30 38,38",
            "O -52,-30 38,38",
            "O 0,0 50,50",
        ),
        piece("centre", "O 0,0 30,30"),
    ),
    "leaf": (
        piece(
            "main",
            "M-92,92 C-96,60 -92,48 -86,36 C-96,-40 -40,-96 92,-92 C98,36 40,98 -42,84"
            " C-56,82 -64,78 -70,92 Z",
        ),
        piece("shade", "S 11 -78,80 40,-42", "S 9 -22,22 -24,-34", "S 9 -22,22 36,24"),
    ),
    "fish": (
        piece(
            "main",
            "M-98,4 C-80,-48 -30,-72 10,-58 C30,-50 40,-34 50,-16 L98,-62 C88,-20 88,28 98,66"
            " L50,24 C40,44 26,60 4,66 C-36,74 -80,50 -98,4Z",
        ),
        piece("shade", "M-4,6 C14,-8 34,-6 40,6 C32,22 12,26 -4,14Z"),
        piece("cream", "O -56,-12 16,16"),
        piece("ink", "O -58,-12 8,8"),
    ),
    "tree": (
        piece("wood", "M-16,20 L16,20 20,100 -20,100Z"),
        piece(
            "main",
            "O 0,-46 54,54",
            "O -46,8 48,46",
            "O 46,8 48,46",
            "O 0,20 50,40",
        ),
    ),
    "mushroom": (
        piece("cream", "M-30,10 C-26,50 -34,70 -38,96 L38,96 C34,70 26,50 30,10Z"),
        piece(
            "main",
            "M-98,24 C-100,-44 -52,-94 0,-94 C52,-94 100,-44 98,24 C60,40 -60,40 -98,24Z",
        ),
    ),
    "cup": (
        piece("main", "O 58,8 42,44", "-O 56,8 22,24"),
        piece("main", "M-94,-68 L60,-68 C62,0 52,60 30,88 L-64,88 C-86,60 -96,0 -94,-68Z"),
        piece("shade", "O -17,-68 77,18"),
    ),
    "boat": (
        piece("wood", "S 9 -4,-94 -4,40"),
        piece("light", "M6,-98 C40,-60 66,-20 74,22 L6,22Z"),
        piece("light", "M-14,-70 C-34,-40 -52,-10 -66,22 L-14,22Z"),
        piece("main", "M-100,32 L100,32 C92,66 74,84 56,92 L-56,92 C-74,84 -92,66 -100,32Z"),
    ),
    "balloon": (
        piece("ink", "S 6 0,70 6,84 -4,96 2,108"),
        piece("main", "M0,54 L14,76 -14,76Z"),
        piece(
            "main",
            "M0,64 C-40,52 -80,14 -80,-26 C-80,-70 -44,-98 0,-98 C44,-98 80,-70 80,-26"
            " C80,14 40,52 0,64Z",
        ),
        piece("light", "M-54,-32 C-54,-56 -40,-72 -22,-78 C-18,-66 -38,-54 -42,-30Z"),
    ),
    "apple": (
        piece("wood", "S 13 0,-50 10,-92"),
        piece("leaf", "M12,-68 C24,-100 58,-104 78,-92 C70,-66 40,-54 12,-68Z"),
        piece(
            "main",
            "M0,-50 C20,-66 92,-72 92,2 C92,54 52,96 26,92 C12,90 8,86 0,86"
            " C-8,86 -12,90 -26,92 C-52,96 -92,54 -92,2 C-92,-72 -20,-66 0,-50Z",
        ),
        piece("light", "M-66,-6 C-66,-28 -52,-40 -38,-40 C-34,-30 -50,-24 -52,-2Z"),
    ),
    "butterfly": (
        piece(
            "main",
            "M0,6 C-20,-50 -60,-92 -92,-78 C-112,-56 -96,4 -56,16 C-92,22 -92,72 -62,84"
            " C-36,90 -12,60 0,24 C12,60 36,90 62,84 C92,72 92,22 56,16"
            " C96,4 112,-56 92,-78 C60,-92 20,-50 0,6Z",
        ),
        piece("light", "O -62,-42 17,19", "O 62,-42 17,19"),
        piece("light", "O -48,52 12,13", "O 48,52 12,13"),
        piece("ink", "S 16 0,-34 0,62", "S 5 -2,-34 -22,-72", "S 5 2,-34 22,-72"),
    ),
    "cat": (
        piece(
            "main",
            "M-88,-94 L-34,-64 C-14,-70 14,-70 34,-64 L88,-94 C92,-56 98,-20 96,14"
            " C92,64 50,92 0,92 C-50,92 -92,64 -96,14 C-98,-20 -92,-56 -88,-94Z",
        ),
        piece("light", "M-74,-66 L-44,-48 -66,-26Z", "M74,-66 L44,-48 66,-26Z"),
        piece("cream", "O -38,4 20,20", "O 38,4 20,20"),
        piece("ink", "O -34,6 11,13", "O 34,6 11,13"),
        piece("light", "O -14,48 19,15", "O 14,48 19,15"),
        piece("nose", "M-12,32 L12,32 0,46Z"),
    ),
}
