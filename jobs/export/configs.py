"""Ready settings of trainers for the layout `folders`: paths are relative to the export."""

import json
from collections.abc import Collection

RESOLUTION_PX = 1024

AI_TOOLKIT = """# The `datasets` of an ai-toolkit job, under `process`.
# Start ai-toolkit in the folder of this export, or write whole paths.
datasets:
  - folder_path: "{split}/targets"
    control_path: "{split}/sources"
    # mask_path: "{split}/masks"   # white: where to learn more
    caption_ext: "txt"
    caption_dropout_rate: 0.05
    resolution: [512, 768, 1024]
"""

DIFFUSION_PIPE = """# A dataset.toml of diffusion-pipe.
# Start it in the folder of this export, or write whole paths.
resolutions = [{resolution}]
enable_ar_bucket = true
min_ar = 0.5
max_ar = 2.0
num_ar_buckets = 7

[[directory]]
path = "{split}/targets"
control_path = "{split}/sources"
# mask_path = "{split}/masks"   # white: where to learn
num_repeats = 1
"""

MUSUBI = """# A data set of musubi-tuner.
# Start it in the folder of this export, or write whole paths.
[general]
resolution = [{resolution}, {resolution}]
caption_extension = ".txt"
batch_size = 1
enable_bucket = true
bucket_no_upscale = true

[[datasets]]
image_directory = "{split}/targets"
control_directory = "{split}/sources"
cache_directory = "cache/{split}"
num_repeats = 1
"""

MUSUBI_JSONL = """# A data set of musubi-tuner.
# Start it in the folder of this export, or write whole paths.
[general]
resolution = [{resolution}, {resolution}]
batch_size = 1
enable_bucket = true
bucket_no_upscale = true

[[datasets]]
image_jsonl_file = "{split}.jsonl"
cache_directory = "cache/{split}"
num_repeats = 1
"""


def trained(splits: Collection[str]) -> str:
    """Returns the split that settings name: `train`, or the first where there is none."""
    return "train" if "train" in splits or not splits else next(iter(splits))


def filled(config: str, split: str) -> str:
    """Returns settings with the name of a split in them."""
    return config.format(split=split, resolution=RESOLUTION_PX)


def simpletuner(split: str) -> str:
    """Returns a multidatabackend.json of SimpleTuner: targets, tied to sources of equal names."""
    shared = {"type": "local", "resolution": 1.0, "resolution_type": "area"}
    targets = {
        "id": f"{split}-targets",
        "dataset_type": "image",
        "instance_data_dir": f"{split}/targets",
        "caption_strategy": "textfile",
        "conditioning_data": f"{split}-sources",
        "cache_dir_vae": f"cache/{split}/targets",
    }
    sources = {
        "id": f"{split}-sources",
        "dataset_type": "conditioning",
        "conditioning_type": "reference_strict",
        "source_dataset_id": f"{split}-targets",
        "instance_data_dir": f"{split}/sources",
        "cache_dir_vae": f"cache/{split}/sources",
    }
    words = {
        "id": "text-embeds",
        "type": "local",
        "dataset_type": "text_embeds",
        "default": True,
        "cache_dir": "cache/text",
    }
    return json.dumps([{**targets, **shared}, {**sources, **shared}, words], indent=2) + "\n"


def onetrainer(split: str) -> str:
    """Returns a concepts file of OneTrainer for the layout `folders` as `onetrainer`."""
    concept = {
        "name": split,
        "path": split,
        "enabled": True,
        "include_subdirectories": False,
        "text": {"prompt_source": "sample"},
    }
    return json.dumps([concept], indent=2) + "\n"
