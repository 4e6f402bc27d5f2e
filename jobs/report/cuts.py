"""Prompts that are longer than a text encoder sees: counted over all rows of a manifest."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import pyarrow as pa
from overpaint.jobs.report.format import whole


@dataclass(slots=True)
class CutPrompts:
    """The rows with a prompt that one stage's text encoder does not see whole.

    Attributes:
        stage: name of the stage; "" where the plan cannot be read.
        num_rows: rows whose prompts were measured.
        num_cut: rows with a prompt that was cut.
        most: the most tokens that were cut of one.
    """

    stage: str
    num_rows: int = 0
    num_cut: int = 0
    most: int = 0

    def in_words(self, column: str) -> str:
        """Returns the counts as a sentence.

        Args:
            column: column that tells the tokens of each row.
        """
        encoder = f"the text encoder of {self.stage}" if self.stage else "the text encoder"
        return (
            f"{whole(self.num_cut)} of {whole(self.num_rows)} prompts were longer than {encoder} "
            f"sees: {column} is up to {whole(self.most)}"
        )


class CutCounter:
    """Rows with prompts that were cut, by the column that tells it.

    Args:
        stages: name of the stage that wrote each column.

    Attributes:
        by_name: rows that were cut, by column.
    """

    def __init__(self, stages: Mapping[str, str]) -> None:
        self.by_name = {name: CutPrompts(stage) for name, stage in stages.items()}

    @property
    def found(self) -> dict[str, CutPrompts]:
        """The columns that tell of a cut in any row."""
        return {name: cut for name, cut in self.by_name.items() if cut.num_cut}

    def columns(self, part: int, schema: pa.Schema) -> Collection[str]:
        """Names the columns that a part has."""
        del part
        return set(self.by_name) & set(schema.names)

    def add_part(self, part: int, table: pa.Table) -> None:
        """Counts the rows of one part."""
        for name in self.columns(part, table.schema):
            cut, values = self.by_name[name], table[name].to_pylist()
            tokens = [number for number in values if number is not None]
            cut.num_rows += len(tokens)
            cut.num_cut += sum(number > 0 for number in tokens)
            cut.most = max(cut.most, *tokens, 0)
