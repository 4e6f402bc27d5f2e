"""diffusers' own script for InstructPix2Pix trains on an export; the script does not come along.

    OVERPAINT_IP2P_SCRIPT=train_instruct_pix2pix.py pytest -m slow tests/jobs/test_export_trainer.py

The script is `examples/instruct_pix2pix/train_instruct_pix2pix.py` of diffusers; it needs
torchvision, datasets and tensorboard.
"""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from export_runs import exported
from overpaint.jobs.cli import main
from overpaint.jobs.papercut.dataset import write_dataset
from overpaint.operators.models.weights import Checkpoint

SCRIPT = os.environ.get("OVERPAINT_IP2P_SCRIPT", "")
RECIPE = """
name = "negative"
[[stage]]
operator = "negative"
"""


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(not Path(SCRIPT).is_file(), reason="OVERPAINT_IP2P_SCRIPT names no script")
def test_diffusers_script_takes_20_steps_on_an_export(tmp_path):
    for package in ("torchvision", "datasets", "tensorboard"):
        if find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    write_dataset(tmp_path / "input", rows=8, seed=3)
    (tmp_path / "recipe.toml").write_text(RECIPE)
    run, x = str(tmp_path / "run"), tmp_path / "pairs"
    arguments = ["--input", str(tmp_path / "input"), "--output", run, "--no-ray"]
    assert main(["run", str(tmp_path / "recipe.toml"), *arguments]) == 0
    exported(run, x, "ip2p")
    base = Path(Checkpoint(name="papercut").path).parent / "text_to_image"
    command = [sys.executable, SCRIPT, "--pretrained_model_name_or_path", str(base)]
    command += ["--dataset_name", str(x), "--resolution", "64", "--train_batch_size", "2"]
    command += ["--max_train_steps", "20", "--seed", "0", "--output_dir", str(tmp_path / "out")]
    command += ["--cache_dir", str(tmp_path / "cache")]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert "Num examples = 8" in ended.stderr
    assert (tmp_path / "out/unet/diffusion_pytorch_model.safetensors").is_file()
