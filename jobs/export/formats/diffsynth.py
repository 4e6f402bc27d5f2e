"""diffsynth: the files and the JSON list that DiffSynth-Studio reads."""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, ClassVar

from overpaint.jobs.export.example import Example
from overpaint.jobs.export.exported import Exported, Fault, Finding, finding, unfit, wrong_text
from overpaint.jobs.export.format import Format, Target
from overpaint.jobs.export.text_files import BySplit, JsonList


class Diffsynth(Format):
    """A folder for each split: pictures, and `metadata.json` with image, edit_image, prompt."""

    takes_references: ClassVar[bool] = True

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self._lists = BySplit(lambda split: JsonList(self.destination, f"{split}/metadata.json"))

    def add(self, example: Example) -> None:
        """Writes the pictures, and adds an object to the list of the example's split."""
        name, suffix = example.name, self.suffix
        files = {
            f"images/{name}{suffix}": example.winner.picture,
            f"sources/{name}{suffix}": example.source,
        }
        for number, reference in enumerate(example.references):
            files[f"sources/{name}_{number + 1}{suffix}"] = reference
        for path, picture in files.items():
            self.destination.write(f"{example.split}/{path}", picture.data)
        shown = list(files)[1:]
        self._lists.of(example.split).add(
            {
                "image": f"images/{name}{suffix}",
                "edit_image": shown if len(shown) > 1 else shown[0],
                "prompt": example.caption,
            }
        )

    def close(self) -> None:
        """Writes the lists."""
        self._lists.close()

    @classmethod
    def usage(cls, facts: Mapping[str, Any]) -> str:
        """Returns the arguments of DiffSynth-Studio's training scripts."""
        del facts
        return (
            "DiffSynth-Studio: `--dataset_base_path FOLDER/train --dataset_metadata_path "
            "FOLDER/train/metadata.json --data_file_keys image,edit_image --extra_inputs "
            "edit_image`. `image` is the target; `edit_image` the source, or a list of it and of "
            "references."
        )

    @classmethod
    def findings(cls, exported: Exported) -> Iterator[Finding]:
        """Yields what the script's data set makes of each object of the lists."""
        for split in exported.splits:
            path = f"{split}/metadata.json"
            found = exported.json_list(path)
            if found is None:
                yield Fault(f"{path}: there is no JSON list")
                continue
            yield from exported.each(partial(cls._one, exported, split, one) for one in found)

    @classmethod
    def _one(cls, exported: Exported, split: str, one: Any) -> Finding:
        if not isinstance(one, dict) or not {"image", "edit_image", "prompt"} <= one.keys():
            return Fault(f"{split}/metadata.json: an entry has no image, edit_image or prompt")
        target, sources = one["image"], one["edit_image"]
        if not isinstance(target, str):
            return Fault(f"{split}/metadata.json: image is a list where one path is read")
        name = target.rpartition("/")[2].rpartition(".")[0]
        listed = sources if isinstance(sources, list) else [sources]
        files = [exported.read(f"{split}/{path}") for path in listed]
        if not files or None in files:
            return Fault("edit_image is missing", split, name)
        fault = wrong_text(one["prompt"], "prompt") or unfit(
            files[0],
            exported.read(f"{split}/{target}"),
            key=name,
            is_reversed=exported.is_reversed,
            words=("edit_image", "image"),
        )
        return finding(fault, split, name)
