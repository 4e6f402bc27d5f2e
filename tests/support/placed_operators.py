"""An operator that tells on which kind of node of a Ray cluster it runs."""

from collections.abc import Sequence
from typing import ClassVar

import pyarrow as pa
import ray
from overpaint.cluster.ray.scheduling import ACCELERATOR_LABEL, MARKET_LABEL
from overpaint.pipeline import columns as c
from overpaint.pipeline.columns import Column, Row
from overpaint.pipeline.operator import Answer, Kind, Operator

NODE = Column("node", pa.string(), doc="accelerator and market of the node, as it is labelled")


class WhereItRuns(Operator[None]):
    kind: ClassVar[Kind] = "score"

    @property
    def inputs(self) -> tuple[Column, ...]:
        return (c.SOURCE_IMAGE,)

    @property
    def outputs(self) -> tuple[Column, ...]:
        return (NODE,)

    def load(self) -> None: ...

    def run(self, rows: Sequence[Row], model: None) -> list[Answer]:
        labels = ray.get_runtime_context().get_node_labels()
        found = [labels.get(name, "none") for name in (ACCELERATOR_LABEL, MARKET_LABEL)]
        return [{"node": " ".join(found)} for _ in rows]
