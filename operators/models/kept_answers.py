"""Answers of a server that a run has paid for: kept in its folder until their rows have ended.

A run that stops, however it does, asks for none of them again.
"""

from dataclasses import dataclass
from typing import Any

from overpaint.pipeline.runs.folder import ANSWERS, WORK, RunFolder
from overpaint.pipeline.storage.store import Storage


@dataclass(frozen=True, slots=True)
class KeptAnswers:
    """Answers of one run.

    Attributes:
        folder: run folder.
    """

    folder: RunFolder

    @classmethod
    def at(cls, run_uri: str | None) -> "KeptAnswers | None":
        """Returns those of a run folder; None where there is none, as in a replay."""
        return None if run_uri is None else cls(RunFolder(Storage(run_uri)))

    def find(self, key: str, request: str) -> bytes | None:
        """Returns the answer to a row's request; None where there is none.

        Args:
            key: key of the row.
            request: digest of the request.
        """
        try:
            return self.folder.storage.read(f"{ANSWERS}/{key}/{request}")
        except FileNotFoundError:
            return None

    def keep(self, key: str, request: str, answer: bytes) -> None:
        """Writes the answer to a row's request."""
        self.folder.storage.write(f"{ANSWERS}/{key}/{request}", answer)

    def probed(self, name: str) -> dict[str, Any] | None:
        """Returns what the probe of a server has found; None where it was not made."""
        return self.folder.read_json(f"{WORK}/probes/{name}.json")

    def keep_probe(self, name: str, found: dict[str, Any]) -> None:
        """Writes what the probe of a server has found."""
        self.folder.write_json(f"{WORK}/probes/{name}.json", found)
