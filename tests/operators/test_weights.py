import json
from pathlib import Path

import pytest
from overpaint.operators.models.weights import Checkpoint


def folder(path: Path, weights: bytes = b"weights") -> Path:
    path.mkdir(parents=True)
    (path / "config.json").write_text(json.dumps({"width": 1}))
    (path / "model.safetensors").write_bytes(weights)
    return path


def named(checkpoint: object, part: str = "clip", revision: str | None = None) -> Checkpoint:
    return Checkpoint(name=str(checkpoint), part=part, revision=revision)


def message(checkpoint: object, part: str = "clip") -> str:
    with pytest.raises(ValueError, match="checkpoint") as raised:
        named(checkpoint, part).check()
    return str(raised.value)


def test_check_accepts_a_folder_and_a_pinned_hub_id(tmp_path):
    named(folder(tmp_path / "clip")).check()
    named("openai/clip-vit-large-patch14", revision="32bd64288804d66e").check()


def test_check_near_miss_of_papercut_is_suggested():
    assert "did you mean 'papercut'?" in message("papercutt")


def test_check_missing_folder_suggests_its_neighbour(tmp_path):
    folder(tmp_path / "sd15-local")
    assert f"did you mean {str(tmp_path / 'sd15-local')!r}?" in message(tmp_path / "sd15-locla")


def test_check_relative_folder_with_a_typing_error_is_not_taken_for_a_hub_id(tmp_path, monkeypatch):
    folder(tmp_path / "models" / "sd15-local")
    monkeypatch.chdir(tmp_path)
    assert "did you mean 'models/sd15-local'?" in message("models/sd15-lokal")
    named("models/sd15-local").check()


def test_check_word_without_owner_is_refused():
    assert "owner/name" in message("clip")


def test_check_pickled_weights_are_refused(tmp_path):
    path = folder(tmp_path / "clip")
    (path / "model.safetensors").rename(path / "pytorch_model.bin")
    assert "safetensors" in message(path)


def test_check_folder_without_a_configuration_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    assert "config.json" in message(tmp_path / "empty")


def test_check_unknown_papercut_part_is_refused():
    assert "'telepathy'" in message("papercut", "telepathy")


def test_identity_is_of_the_content_and_not_of_the_place(tmp_path):
    one, two = folder(tmp_path / "one"), folder(tmp_path / "two")
    (two / "README.md").write_text("a model card")
    first = named(one).identity()
    assert first == named(two).identity()
    assert len(first) == 16


def test_identity_changes_with_a_weight_a_name_and_a_configuration(tmp_path):
    path = folder(tmp_path / "clip")
    seen = {named(path).identity()}
    (path / "model.safetensors").write_bytes(b"other weights")
    seen.add(named(path).identity())
    (path / "model.safetensors").rename(path / "other.safetensors")
    seen.add(named(path).identity())
    (path / "config.json").write_text("{}")
    seen.add(named(path).identity())
    assert len(seen) == 4


def test_identity_of_a_hub_id_is_its_revision():
    assert named("owner/name", revision="abc").identity() == "abc"
    assert named("owner/name").identity() == "main"


def test_papercut_is_inside_the_installed_package():
    path = Path(named("papercut").path)
    assert path.parts[-3:] == ("models", "papercut", "clip")


def test_options_pin_the_revision_and_refuse_foreign_code(tmp_path):
    options = named("owner/name", revision="abc").weight_options()
    assert options == {"trust_remote_code": False, "revision": "abc", "use_safetensors": True}
    local = named(folder(tmp_path / "clip")).weight_options()
    assert local["local_files_only"] is True
