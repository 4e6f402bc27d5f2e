"""All checkpoints are trained at once: steps, banks, lanes that die, and what is left of them."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from overpaint.jobs.cli import main
from overpaint.jobs.training.parallel import drawing
from overpaint.jobs.training.parallel.__main__ import shipped_checkpoints
from overpaint.jobs.training.parallel.bank import Bank
from overpaint.jobs.training.parallel.kinds import KINDS
from overpaint.jobs.training.parallel.lane import stages_of
from overpaint.jobs.training.parallel.launcher import Training, train_all
from overpaint.jobs.training.parallel.plan import CHECKPOINTS, Plan, plan_for
from overpaint.jobs.training.parallel.recordable import tensors_on
from overpaint.jobs.training.parallel.stepper import Stepper, StepSettings
from overpaint.jobs.training.parallel.watch import copy_results, watch
from overpaint.jobs.training.parallel.workshop import Stage, Trainee, Workshop
from overpaint.pipeline.errors import UsageError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

CPU = torch.device("cpu")
NUM_DRAWN = 24
STAGES = {stage.name: stage for stage in stages_of("all")}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn")
    sizes = dict.fromkeys(KINDS, NUM_DRAWN)
    drawing.create_arrays(folder, sizes)
    drawing.draw_all(folder, sizes, 1)
    return folder


@pytest.fixture(scope="module", params=list(STAGES))
def built(request: pytest.FixtureRequest, drawn: Path) -> tuple[Stage, Trainee]:
    stage = STAGES[request.param]
    shop = Workshop(drawn=drawn, shipped=shipped_checkpoints(), device=CPU)
    trainee = stage.build(shop, 8)
    trainee.pull(at_least=NUM_DRAWN)
    return stage, trainee


class Sum(nn.Module):
    """Linear model that learns the sum of its inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 1)
        self.unused = nn.Linear(8, 1)

    def loss(self) -> Tensor:
        inputs = torch.randn(64, 8)
        predicted = self.linear(inputs.to(self.linear.weight.dtype)).float()
        return ((predicted.squeeze(1) - inputs.sum(1)) ** 2).mean()


def stepper_of(model: Sum, *, is_half: bool, loss: object = None) -> Stepper:
    settings = StepSettings(
        learning_rate=3e-2, warmup_steps=5, ema_decay=0.95, weight_decay=0.0, is_half=is_half
    )
    return Stepper({"model": model}, loss or model.loss, settings, CPU)  # type: ignore[arg-type]


@pytest.mark.parametrize("is_half", [True, False])
def test_steps_learn_and_ema_weights_are_exported_by_name(is_half: bool) -> None:
    torch.manual_seed(0)
    stepper = stepper_of(Sum(), is_half=is_half)
    stepper.step(0.0)
    first = stepper.loss()
    for step in range(400):
        stepper.step(step / 400)
    weights = stepper.ema_weights()
    assert stepper.loss() < first / 10
    assert set(weights) == {
        f"model.{part}.{name}" for part in ("linear", "unused") for name in ("weight", "bias")
    }
    assert torch.allclose(weights["model.linear.weight"].float(), torch.ones(1, 8), atol=0.02)


def test_parameter_that_the_loss_does_not_use_stays_as_it_is() -> None:
    model = Sum()
    before = model.unused.weight.detach().clone()
    stepper = stepper_of(model, is_half=False)
    for step in range(20):
        stepper.step(step / 20)
    assert torch.equal(stepper.ema_weights()["model.unused.weight"], before.half())


def test_step_that_is_not_finite_changes_nothing() -> None:
    torch.manual_seed(0)
    model, is_broken = Sum(), torch.zeros(())

    def loss() -> Tensor:
        return model.loss() + torch.where(is_broken > 0, torch.nan, 0.0) * model.linear.bias.sum()

    stepper = stepper_of(model, is_half=True, loss=loss)
    for step in range(50):
        stepper.step(step / 100)
    before = model.linear.weight.detach().clone()
    is_broken.fill_(1.0)
    stepper.step(0.5)
    assert torch.equal(model.linear.weight, before)
    is_broken.fill_(0.0)
    stepper.step(0.5)
    assert not torch.equal(model.linear.weight, before)


def test_guard_goes_back_to_the_sound_state_before_a_divergence() -> None:
    torch.manual_seed(0)
    model, factor = Sum(), torch.ones(())
    stepper = stepper_of(model, is_half=False, loss=lambda: model.loss() * factor)
    for step in range(300):
        stepper.step(step / 600)
    assert stepper.guard()
    sound = model.linear.weight.detach().clone()
    factor.fill_(-1e6)  # walks away from the minimum
    for _ in range(200):
        stepper.step(0.5)
    factor.fill_(1e6)
    for _ in range(200):
        stepper.step(0.5)
    assert not stepper.guard()
    assert torch.equal(model.linear.weight, sound)


def test_guard_forgets_its_best_where_the_loss_changes_its_meaning() -> None:
    torch.manual_seed(0)
    model, factor = Sum(), torch.ones(())
    stepper = stepper_of(model, is_half=False, loss=lambda: model.loss() * factor)
    for step in range(300):
        stepper.step(step / 600)
    assert stepper.guard()
    factor.fill_(100.0)
    stepper.forget_best()
    for _ in range(300):
        stepper.step(0.5)
    assert stepper.guard()


def test_bank_grows_with_what_is_drawn(tmp_path: Path) -> None:
    sizes = {"view": 2 * drawing.CHUNK + 3}
    drawing.create_arrays(tmp_path, sizes)
    done = np.load(tmp_path / "view.done.npy", mmap_mode="r+")
    images = np.load(tmp_path / "view.image.npy", mmap_mode="r+")
    images[:] = 7
    bank = Bank(tmp_path, "view", CPU)
    assert bank.pull() == 0
    done[1] = 1
    assert bank.pull() == 0  # the first chunk is still being drawn
    done[0] = 1
    assert bank.pull() == 2 * drawing.CHUNK
    done[2] = 1
    assert bank.pull(at_least=10**9) == sizes["view"]
    assert bool((bank.fields["image"] == 7).all())


def test_bank_picks_ready_examples_alone(drawn: Path) -> None:
    bank = Bank(drawn, "view", CPU)
    bank.pull()
    bank.ready.fill_(3.0)
    assert set(bank.pick(500).tolist()) == {0, 1, 2}


def test_bank_of_a_kind_that_is_not_drawn_says_so(tmp_path: Path) -> None:
    drawing.create_arrays(tmp_path, {"view": 1})
    with pytest.raises(ValueError, match="no drawn examples of the kind 'scene'"):
        Bank(tmp_path, "scene", CPU)


def test_loss_reads_no_value_from_the_device(built: tuple[Stage, Trainee]) -> None:
    # A fake tensor has no values: to read one, or to index by a mask, raises.
    with FakeTensorMode(allow_non_fake_inputs=True):
        assert built[1].loss().shape == ()


@pytest.mark.slow
def test_loss_of_bf16_weights_is_that_of_float32(built: tuple[Stage, Trainee]) -> None:
    stage, trainee = built
    if not stage.settings.is_half:
        pytest.skip("trains float32 weights")
    values = [loss_in(trainee, dtype) for dtype in (torch.float32, torch.bfloat16)]
    assert values[1] == pytest.approx(values[0], rel=0.05)


def loss_in(trainee: Trainee, dtype: torch.dtype) -> float:
    parameters = [p for module in trainee.modules.values() for p in module.parameters()]
    before = [parameter.data for parameter in parameters]
    for parameter in parameters:
        parameter.data = parameter.data.to(dtype)
    torch.manual_seed(0)
    with torch.no_grad():
        value = float(trainee.loss())
    for parameter, data in zip(parameters, before, strict=True):
        parameter.data = data
    return value


def test_tensors_are_made_on_the_device_that_is_set() -> None:
    with tensors_on(torch.device("meta")):
        made = [torch.arange(3), torch.zeros(2), torch.tensor(0.5), torch.tensor(True)]
    assert {tensor.device.type for tensor in made} == {"meta"}
    assert [tensor.dtype for tensor in made[2:]] == [torch.float32, torch.bool]


def test_plan_fits_the_disk_and_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    short = plan_for(60.0, tmp_path, has_gpu=True)
    long = plan_for(600.0, tmp_path, has_gpu=True)
    assert sum(long.sizes.values()) > 5 * sum(short.sizes.values())
    usage = shutil.disk_usage(tmp_path)._replace(free=50_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    small = plan_for(600.0, tmp_path, has_gpu=True)
    drawing.create_arrays(tmp_path / "drawn", small.sizes)
    used = sum(path.stat().st_size for path in (tmp_path / "drawn").iterdir())
    assert used < 50_000_000


def test_plan_of_some_checkpoints_draws_what_their_stages_read(drawn: Path, tmp_path: Path) -> None:
    assert {stage.checkpoint for stage in STAGES.values()} == set(CHECKPOINTS)
    whole = plan_for(600.0, tmp_path, has_gpu=True)
    for name in CHECKPOINTS:
        plan = plan_for(600.0, tmp_path, has_gpu=True, only=[name])
        assert all(plan.sizes[kind] > whole.sizes[kind] for kind in plan.sizes)
        only = tmp_path / name
        only.mkdir()
        for kind in plan.sizes:
            for path in drawn.glob(f"{kind}.*"):
                (only / path.name).symlink_to(path)
        sizes = json.loads((drawn / drawing.SIZES_FILE).read_text())["sizes"]
        kept = {kind: size for kind, size in sizes.items() if kind in plan.sizes}
        (only / drawing.SIZES_FILE).write_text(json.dumps({"sizes": kept}))
        shop = Workshop(drawn=only, shipped=shipped_checkpoints(), device=CPU)
        for stage in STAGES.values():
            if stage.checkpoint == name and stage.name != "decoder":
                stage.build(shop, 8)


def test_unknown_checkpoint_is_refused(tmp_path: Path) -> None:
    training = Training(
        out=tmp_path, seconds=60, device="cpu", shipped=shipped_checkpoints(), only=["judg"]
    )
    with pytest.raises(UsageError, match="did you mean 'judge'"):
        train_all(training)


def test_full_disk_is_told_before_anything_is_trained(tmp_path: Path) -> None:
    plan = Plan(sizes={"scene": 10**10}, num_workers=1, num_lanes=1)
    training = Training(
        out=tmp_path / "out", seconds=60, device="cpu", shipped=shipped_checkpoints(), plan=plan
    )
    with pytest.raises(UsageError, match=r"bytes free, and the drawn arrays need"):
        train_all(training)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train"], "train takes one of NAME, --all, --import, --watch"),
        (["train", "vae", "--all"], "not NAME and --all"),
        (["train", "--all", "--seconds", "5"], "--out"),
        (["train", "--all", "--out", "{tmp}/new"], "--seconds"),
        (["train", "--all", "--seconds", "0", "--out", "{tmp}/new"], "must be above 0"),
        (["train", "--all", "--seconds", "5", "--out", "{tmp}/full"], "not empty"),
        (["train", "--all", "--seconds", "5", "--out", "{tmp}/n", "--device", "x"], "device is"),
        (["train", "--all", "--seconds", "5", "--minutes", "1"], "--minutes belongs to train NAME"),
        (["train", "vae", "--only", "judge"], "--only belongs to train --all and train --import"),
        (["train", "--watch", "{tmp}/nowhere"], "no such folder"),
    ],
)
def test_wrong_options_are_refused(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    assert main([a.format(tmp=tmp_path) for a in arguments]) == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_results_are_copied_in_archives_of_a_size(tmp_path: Path) -> None:
    out, copied = tmp_path / "out", tmp_path / "copied"
    out.mkdir()
    for name, size in {"a": 900, "b": 600, "c": 300, "d": 100}.items():
        save_file({"w": torch.zeros(size, dtype=torch.uint8)}, out / f"{name}.safetensors")
    (out / "all.json").write_text(json.dumps({"ended": [], "records": {}, "facts": {"x": 1}}))
    copy_results(out, copied, archive_mb=1.2e-3)
    found: dict[str, str] = {}
    for path in copied.glob("weights-*.tar"):
        with tarfile.open(path) as archive:
            found |= dict.fromkeys(archive.getnames(), path.name)
            assert sum(member.size for member in archive) <= 1200
    assert set(found) == {f"{name}.safetensors" for name in "abcd"}
    assert json.loads((copied / "facts.json").read_text())["x"] == 1


def test_watch_ends_with_the_training_and_shows_why_it_failed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "all.jsonl").write_text('{"lane": "all", "loss": 0.5}\n')
    (tmp_path / "all.log").write_text("Traceback\nRuntimeError: no such thing\n")
    (tmp_path / "ended.json").write_text('{"failed": ["all"]}')
    assert watch(tmp_path) == 1
    shown = capsys.readouterr().out
    assert "lane all loss 0.5" in shown
    assert "RuntimeError: no such thing" in shown


@pytest.fixture
def dry_run(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "overpaint.jobs.training.parallel", "train", "--dry-run"]
    arguments = ["--seconds", "280", "--device", "cpu", "--out", str(tmp_path / "out")]
    process = subprocess.Popen([*command, *arguments])
    yield process
    process.terminate()
    process.wait()


@pytest.mark.slow
def test_dry_run_takes_every_stage_though_its_lane_is_killed(
    dry_run: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    lane = wait_for_stage(out, "text_to_image")
    os.kill(lane, signal.SIGKILL)
    assert dry_run.wait(timeout=290) == 0
    logged = [json.loads(line) for line in (out / "all.jsonl").read_text().splitlines()]
    trained = {line["stage"] for line in logged if line.get("step")}
    assert trained == set(STAGES)
    facts = json.loads((out / "facts.json").read_text())
    checkpoints = {stage.checkpoint for stage in STAGES.values()}
    assert set(facts["checkpoints"]) == checkpoints
    assert {path.stem for path in out.glob("*.safetensors")} == checkpoints
    for path in out.glob("*.safetensors"):
        assert all(bool(value.isfinite().all()) for value in load_file(path).values())
    died = [json.loads(line) for line in (out / "launcher.jsonl").read_text().splitlines()]
    assert [line["code"] for line in died if line.get("event") == "died"] == [-signal.SIGKILL]


def wait_for_stage(out: Path, name: str) -> int:
    """Waits until a stage is begun, and returns the process id of its lane."""
    until = time.monotonic() + 120
    while time.monotonic() < until:
        with suppress(FileNotFoundError, json.JSONDecodeError):
            if name in json.loads((out / "all.tries").read_text()):
                found = subprocess.run(
                    ["pgrep", "-f", f"parallel lane all --out {out}"],
                    capture_output=True,
                    text=True,
                    check=True,
                )
                return int(found.stdout.split()[0])
        time.sleep(0.2)
    raise AssertionError(f"stage {name} was not begun")


@pytest.mark.slow
def test_short_deadline_is_kept(tmp_path: Path) -> None:
    out = tmp_path / "out"
    started = time.monotonic()
    arguments = ["--all", "--seconds", "60", "--device", "cpu", "--out", str(out)]
    main(["train", *arguments])
    assert time.monotonic() - started < 75
    assert (out / "ended.json").is_file()
    assert (out / "vae.safetensors").is_file()


def test_stages_stand_after_what_they_build_on() -> None:
    names = [stage.name for stage in stages_of("all")]
    assert names.index("vae") < names.index("text_to_image") < names.index("decoder")
    assert names.index("instruction") < names.index("inpainting")
    assert {*names} == {s.name for lane in ("latent", "perception") for s in stages_of(lane)}


def test_every_stage_has_another_name() -> None:
    stages: tuple[Stage, ...] = stages_of("all")
    assert len({stage.name for stage in stages}) == len(stages)
