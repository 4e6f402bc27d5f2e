"""`bench editeval`: editors on the survey's benchmark, in its layout, each a run, in tables."""

import json
import shutil

import pytest
from overpaint.jobs.bench.editeval.drawn import write_drawn
from overpaint.jobs.bench.editeval.editeval import Request, measure_editeval
from overpaint.jobs.bench.editeval.plans import Editors, plans_of
from overpaint.jobs.bench.editeval.tables import across, figures_of
from overpaint.jobs.cli import main
from overpaint.jobs.imports.benchmarks.editeval import TASKS, EditEval
from overpaint.jobs.runs.execute import SilentDisplay
from overpaint.pipeline.edit_types import EDIT_TYPES
from overpaint.pipeline.errors import UsageError
from overpaint.pipeline.policy import Policy

EDITING = """
[[stage]]
operator = "edit"
method = "sdedit"
checkpoint = "papercut"
num_inference_steps = 2
strength = 0.5
batch_size = 4
"""


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "quick.toml"
    path.write_text(EDITING)
    return str(path)


def measured(folder, output, editors, **fields):
    request = Request(folder=str(folder), editors=editors, output=output, **fields)
    return list(measure_editeval(request, None, lambda name: SilentDisplay()))


def test_drawn_pictures_are_of_all_twelve_types_in_the_published_layout(tmp_path):
    write_drawn(tmp_path, images=2)
    rows = list(EditEval().rows(tmp_path))
    assert [row.values["task"] for row in rows] == [task for task in TASKS for _ in range(2)]
    assert {row.values["edit_type"] for row in rows} == set(EDIT_TYPES)
    assert len({row.image.read_bytes() for row in rows}) == 24
    write_drawn(tmp_path / "more", images=3)
    more = {row.values["benchmark_key"]: row for row in EditEval().rows(tmp_path / "more")}
    for row in rows:
        other = more[row.values["benchmark_key"]]
        assert (other.values, other.image.read_bytes()) == (row.values, row.image.read_bytes())


def test_figures_count_what_has_no_score_and_never_average_it():
    def row(task, score, status="accepted", clip=0.5):
        factors = ("accuracy", "preservation", "quality", "realism", "score")
        return {
            "in_task": task,
            "status": status,
            **{f"lmm_{name}": score for name in factors},
            "clip_sim_target": clip,
        }

    rows = [row("b", 8.0), row("a", 5.0), row("b", None), row("b", 4.0)]
    rows += [row("b", None, "failed", None), row("c", None)]
    b, a, c = figures_of("m", rows, ["b", "a", "c"])
    assert (b["task"], b["images"], b["unscored"], b["failed"]) == ("b", 4, 2, 1)
    assert (b["lmm_score"], b["lmm_quality"]) == (6.0, 6.0)
    assert b["lmm_std"] == pytest.approx(8**0.5)
    assert (a["lmm_score"], a["lmm_std"], a["unscored"]) == (5.0, None, 0)
    assert (c["lmm_score"], c["images"], c["unscored"], c["failed"]) == (None, 1, 1, 0)
    other = figures_of("n", [row("a", 7.0)], ["b", "a", "c"])
    assert across([b, a, c, *other], "lmm_score") == [
        {"task": "b", "images": 4, "m": 6.0, "n": None},
        {"task": "a", "images": 1, "m": 5.0, "n": 7.0},
        {"task": "c", "images": 1, "m": None, "n": None},
    ]


def test_plans_end_with_one_clip_and_one_judge():
    plans = plans_of(Editors(methods=["sdedit", "ddim"], recipes=["instruct-demo"]))
    assert list(plans) == ["sdedit", "ddim", "instruct-demo"]
    for plan in plans.values():
        kinds = [stage.operator.kind for stage in plan.stages]
        assert kinds.count("judge") == 1
        assert kinds.count("score") == 1, "the truth of drawn edits is not EditEval's"
        assert plan.policy == Policy()
    judges = [plan.stages[-1].operator for plan in plans.values()]
    assert [judge.checkpoint for judge in judges] == ["papercut"] * 3


def test_recipes_own_judge_is_kept_and_another_is_taken_for_all(tmp_path):
    own = EDITING + '[[stage]]\noperator = "judge"\ncheckpoint = "a/judge"\nimage_px = 256\n'
    path = tmp_path / "own.toml"
    path.write_text(own)
    (plan,) = plans_of(Editors(recipes=[str(path)])).values()
    assert plan.stages[-1].operator.image_px == 256
    with pytest.raises(UsageError, match="'sdedit' and 'own' are judged by different judges"):
        plans_of(Editors(methods=["sdedit"], recipes=[str(path)]))
    both = plans_of(Editors(methods=["sdedit"], recipes=[str(path)], judge="b/judge", clip="c/d"))
    judges = [p.stages[-1].operator for p in both.values()]
    assert [judge.checkpoint for judge in judges] == ["b/judge", "b/judge"]
    assert [p.stages[-2].operator.checkpoint for p in both.values()] == ["c/d", "c/d"]


def test_checkpoint_is_the_editors_alone_and_settings_are_every_recipes(recipe):
    editors = Editors(recipes=[recipe], checkpoint="my/editor", settings=["judge.max_new_tokens=9"])
    (plan,) = plans_of(editors).values()
    names = {s.name: getattr(s.operator, "checkpoint", None) for s in plan.stages}
    assert (names["edit"], names["judge"], names["score"]) == ("my/editor", "papercut", "papercut")
    assert plan.stages[-1].operator.max_new_tokens == 9


@pytest.mark.parametrize(
    ("editors", "words"),
    [
        ({"methods": ["sdedti"]}, "did you mean 'sdedit'"),
        ({"recipes": ["instruct-dmo"]}, "did you mean 'instruct-demo'"),
        ({"methods": ["blended_latent_diffusion"]}, "needs a mask, and EditEval has none"),
        ({"methods": ["dragon_diffusion"]}, "needs a mask and points, and EditEval has none"),
        ({"methods": ["ledits"]}, "needs edit_concepts, and EditEval has none"),
        ({"methods": ["sdedit", "sdedit"]}, "two editors are named 'sdedit'"),
        ({}, "name at least one editor"),
    ],
)
def test_editors_that_cannot_be_compared_are_refused(editors, words):
    with pytest.raises(UsageError, match=words):
        plans_of(Editors(**editors))


def test_folder_that_is_not_there_is_refused(tmp_path, recipe):
    with pytest.raises(UsageError, match="'papercut' draws one"):
        measured("nowhere", tmp_path / "out", Editors(recipes=[recipe]))


def test_benchmark_runs_goes_on_and_judges_again_without_editing(tmp_path, recipe):
    write_drawn(tmp_path / "drawn", images=1)
    for task in list(TASKS)[3:]:
        shutil.rmtree(tmp_path / "drawn" / task)
    kept = tmp_path / "some"
    _write_some(tmp_path / "drawn", kept, list(TASKS)[:3])
    out = tmp_path / "out"
    (figures,) = measured(kept, out, Editors(recipes=[recipe]))
    assert [(row["task"], row["images"]) for row in figures] == [
        (task, 1) for task in list(TASKS)[:3]
    ]
    for row in figures:
        assert row["unscored"] == 0
        assert 0 <= row["lmm_score"] <= 10
        parts = (0.4, "accuracy"), (0.3, "preservation"), (0.2, "quality"), (0.1, "realism")
        assert row["lmm_score"] == pytest.approx(sum(w * row[f"lmm_{name}"] for w, name in parts))
        assert -1 <= row["clip_sim_target"] <= 1
    images = {p: p.stat().st_mtime_ns for p in (out / "runs" / "quick" / "images").rglob("*.png")}
    assert len(images) == 3
    assert measured(kept, out, Editors(recipes=[recipe])) == [figures]
    # A judge that is cut short says nothing: its rows are counted, and the edits stand.
    silent = Editors(recipes=[recipe], settings=["judge.max_new_tokens=1"])
    (unread,) = measured(kept, out, silent)
    assert [row["unscored"] for row in unread] == [1, 1, 1]
    assert {row["lmm_score"] for row in unread} == {None}
    assert [row["clip_sim_target"] for row in unread] == [r["clip_sim_target"] for r in figures]
    again = {p: p.stat().st_mtime_ns for p in (out / "runs" / "quick" / "images").rglob("*.png")}
    assert again == images


def _write_some(drawn, out, tasks):
    """Writes a part of a drawn benchmark as lines of prompts."""
    write_drawn(drawn, images=1)
    (out / "images").mkdir(parents=True)
    lines = []
    for row in EditEval().rows(drawn):
        if (task := row.values["task"]) in tasks:
            shutil.copy(row.image, out / "images" / f"{task}_1.png")
            texts = {name: row.values[name] for name in EditEval.columns[:3]}
            lines.append(json.dumps({"file_name": f"{task}_1.png", "edit_type": task, **texts}))
    (out / "prompts.jsonl").write_text("\n".join(lines))


def test_command_prints_a_table_of_tasks_and_editors(tmp_path, recipe, capfd):
    drawn, part, file = tmp_path / "drawn", tmp_path / "part", tmp_path / "figures.json"
    _write_some(drawn, part, ["style_change"])
    arguments = [
        "bench",
        "editeval",
        str(part),
        "--recipe",
        recipe,
        "--output",
        str(tmp_path / "o"),
    ]
    assert main([*arguments, "--no-ray", "--json", str(file)]) == 0
    out = capfd.readouterr().out
    (row,) = json.loads(file.read_text())["rows"]
    assert (row["task"], row["method"], row["images"]) == ("style_change", "quick", 1)
    lines = [line.split() for line in out.splitlines()]
    place = lines.index(["LMM", "Score"])
    assert lines[place + 1] == ["task", "images", "quick"]
    assert lines[place + 2] == ["style_change", "1", f"{row['lmm_score']:.3f}"]


@pytest.mark.slow
def test_papercut_stands_in_for_all_twelve_types(tmp_path):
    editors = Editors(methods=["instruct_pix2pix"])
    (figures,) = measured("papercut", tmp_path, editors, images=2)
    assert [row["task"] for row in figures] == list(TASKS)
    assert all(row["images"] == 2 for row in figures)
    scores = [row["lmm_score"] for row in figures if row["lmm_score"] is not None]
    assert sum(scores) / len(scores) > 6, "papercut's judge likes what papercut's editor does"
