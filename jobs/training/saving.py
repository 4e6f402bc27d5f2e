"""Export of modules as fp16 safetensors that plain `from_pretrained` loads in float32."""

import copy
import json
from pathlib import Path
from typing import Any

import torch


def fp16_copy(module: Any) -> Any:
    """Copies a module to the CPU in half precision."""
    half = copy.deepcopy(module).cpu().half().eval()
    # safetensors refuses the channels_last memory format.
    return half.to(memory_format=torch.contiguous_format)


def save_fp16(module: Any, folder: Path) -> None:
    """Saves a transformers or diffusers model to `folder`, its weights as fp16 safetensors.

    transformers would load such a folder in half precision, which is slow on a CPU, so the saved
    configuration names float32.
    """
    fp16_copy(module).save_pretrained(folder)
    clean_configs(folder)


def clean_configs(folder: Path) -> None:
    """Sets float32 in the configurations in and below `folder`, and removes local paths."""
    for path in folder.rglob("config.json"):
        config = _clean(json.loads(path.read_text()))
        path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def _clean(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return {
        key: "float32" if key == "dtype" and entry else _clean(entry)
        for key, entry in value.items()
        if key != "_name_or_path"
    }
