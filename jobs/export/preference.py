"""Preferences: what the layouts for trainers of preferences share."""

from collections.abc import Mapping
from typing import Any, ClassVar

from overpaint.jobs.export.choice import Kind
from overpaint.jobs.export.example import Edit, Example
from overpaint.jobs.export.exported import Exported, unfit
from overpaint.jobs.export.format import Format


class Preference(Format):
    """A layout of winners and losers of one request.

    Edits are files named by their own keys, which several examples may share.
    """

    makes: ClassVar[Kind] = "preferences"

    def write_pictures(self, example: Example) -> tuple[str, str, str]:
        """Writes the three pictures; returns the paths of source, winner and loser."""
        source = f"sources/{example.winner.key}{self.suffix}"
        self.destination.write(source, example.source.data)
        winner, loser = (self._write_edit(edit) for edit in (example.winner, loser_of(example)))
        return source, winner, loser

    def _write_edit(self, edit: Edit) -> str:
        path = f"edits/{edit.key}{self.suffix}"
        self.destination.write(path, edit.picture.data)
        return path


def loser_of(example: Example) -> Edit:
    """Returns the worse candidate of a preference."""
    assert example.loser is not None
    return example.loser


def fault_of_files(exported: Exported, paths: Mapping[str, Any]) -> str | None:
    """Returns what is wrong with the files of a preference; None where nothing is.

    Args:
        exported: export that holds the files.
        paths: path of each by its name in the format: the source first where there is one.
    """
    for word, path in paths.items():
        if not isinstance(path, str):
            return f"{word} is no path: a list stands where one path is read, or none"
    files = {word: exported.read(path) for word, path in paths.items()}
    words = list(files)
    for word in words[1:]:
        if fault := unfit(files[words[0]], files[word], words=(words[0], word)):
            return fault
    return None


def fault_of_scores(winner: Any, loser: Any, words: tuple[str, str]) -> str | None:
    """Returns what is wrong with the scores of a preference: a tie, or the worse one first."""
    if not isinstance(winner, int | float) or not isinstance(loser, int | float):
        return f"{words[0]} or {words[1]} is missing"
    if winner == loser:
        return f"{words[0]} and {words[1]} are equal: a tie would count as a win of one side"
    if winner < loser:
        return f"{words[0]} is below {words[1]}: the trainer would learn the worse edit"
    return None


def name_of(winner: Any, loser: Any) -> str:
    """Returns the name of the example whose edits are in two files."""
    stems = (str(path).rpartition("/")[2].rpartition(".")[0] for path in (winner, loser))
    return "-".join(stems)
