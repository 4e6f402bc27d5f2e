"""Plans of edits: columns, operators, plans, identity and storage. No Ray, no torch.

The names here are for operators and plans of one's own. To read the code, read in this order:

- `columns`   every column that a row can carry, in one place
- `operator`  the contract of one step
- `plan`      checked, ordered stages; `recipes` reads a plan from TOML
- `identity`  fingerprints, keys and seeds
- `runs`      a run on storage: `inputs` and `planning` write it down, `folder` names its files,
              `manifest` holds its results
- `storage`   reading and atomic writing
- `policy`    which results are accepted
"""

from overpaint.pipeline.columns import Column, Row, score
from overpaint.pipeline.cost import Cost
from overpaint.pipeline.errors import RowError
from overpaint.pipeline.images import Picture, decode, encode
from overpaint.pipeline.operator import (
    Answer,
    Kind,
    ModelOperator,
    NewColumns,
    Operator,
    Rejected,
)
from overpaint.pipeline.placement import Placement
from overpaint.pipeline.plan import Plan
from overpaint.pipeline.policy import Bounds, Policy
from overpaint.pipeline.stage import Stage

__all__ = [
    "Answer",
    "Bounds",
    "Column",
    "Cost",
    "Kind",
    "ModelOperator",
    "NewColumns",
    "Operator",
    "Picture",
    "Placement",
    "Plan",
    "Policy",
    "Rejected",
    "Row",
    "RowError",
    "Stage",
    "decode",
    "encode",
    "score",
]
