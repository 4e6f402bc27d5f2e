"""A draft and its refinement compared in one run, and the comparison calibrated."""

import base64
import io
import json

import numpy as np
import pytest
from moody_endpoint import MoodyServer, says
from overpaint.jobs.cli import main
from overpaint.pipeline.runs.folder import RunFolder
from overpaint.pipeline.storage.store import Storage
from PIL import Image
from toy_runs import write_sources

NUM_ROWS = 6
RECIPE = """
[[stage]]
operator = "negative"
name = "draft"
prefix = "draft_"
[[stage]]
operator = "negative"
name = "refine"
reads = {{ source_image = "draft_edited_image" }}
[[stage]]
operator = "judge"
form = "pair"
reads = {{ other_image = "draft_edited_image" }}
endpoint = "{url}"
request = {{ model = "m" }}
batch_size = 6
"""


@pytest.fixture
def place(tmp_path):
    names = write_sources(tmp_path / "input", NUM_ROWS)
    lines = [json.dumps({"source_uri": name, "instruction": "make it brighter"}) for name in names]
    (tmp_path / "input" / "rows.jsonl").write_text("\n".join(lines))
    return tmp_path


def _mean(part):
    data = base64.b64decode(part["image_url"]["url"].split(",", 1)[1])
    return np.asarray(Image.open(io.BytesIO(data)).convert("L"), float).mean()


def _is_bright(path):
    return np.asarray(Image.open(path).convert("L"), float).mean() > 127.5


def _brighter(_, asked):
    """A judge that looks: the brighter picture is the better."""
    _, first, second = (_mean(part) for part in asked["messages"][0]["content"][:3])
    return says(json.dumps({"better": "A" if first > second else "B"}))


def _first(_, asked):
    """A judge that likes what comes first."""
    return says('{"better": "A"}')


@pytest.mark.parametrize(("act", "agree"), [(_brighter, 1.0), (_first, 0.0)])
def test_draft_and_refinement_are_compared_in_both_orders(place, capsys, act, agree):
    server = MoodyServer(act)
    try:
        (place / "recipe.toml").write_text(RECIPE.format(url=server.url))
        given = ["--input", str(place / "input" / "rows.jsonl"), "--output", str(place / "run")]
        assert main(["run", str(place / "recipe.toml"), *given, "--no-ray"]) == 0
    finally:
        server.close()
    assert len(server.asked) == 2 * NUM_ROWS
    rows = list(RunFolder(Storage(str(place / "run"))).rows())
    assert {row["lmm_orders_agree"] for row in rows} == {bool(agree)}
    # The refinement is the negative of the negative, so it is as bright as its source.
    bright = [_is_bright(place / "input" / row["source_uri"]) for row in rows]
    wanted = ["edited" if each else "other" for each in bright] if agree else ["tie"] * NUM_ROWS
    assert [row["lmm_preference"] for row in rows] == wanted
    labels = [json.dumps({"key": row["key"], "label": n % 2}) for n, row in enumerate(rows)]
    (place / "labels.jsonl").write_text("\n".join(labels))
    options = ["--labels", str(place / "labels.jsonl"), "--json", str(place / "f.json")]
    assert main(["judge", "calibrate", str(place / "run"), *options]) == 0
    assert json.loads((place / "f.json").read_text())["orders_agree"] == agree
    assert f"both orders agree for {agree:.1%} of the pairs" in capsys.readouterr().out
