"""Several edits of one source in one question: EditEval's comparative protocol."""

import json

import pytest
from hosted_model import Server, said
from overpaint.jobs import run
from overpaint.operators.judge import Judge
from overpaint.operators.measures.verdicts import WEIGHTS
from overpaint.pipeline.plan import Plan
from overpaint.pipeline.stage import Stage
from pydantic import ValidationError
from running import failure_code, outcomes

FORM = "editeval_comparative_like"
GIVEN = {"1": (4, 9, 8, 7), "2": (9, 8, 7, 6), "3": (2, 10, 9, 9)}


def answer(given, words="The second is best.\n"):
    scores = {n: dict(zip(WEIGHTS, own, strict=True)) for n, own in given.items()}
    return f"{words}{json.dumps(scores)}"


@pytest.fixture
def serve():
    servers = []

    def start(text):
        servers.append(Server(lambda number: said(text)))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def asks(server, **fields):
    return Judge(endpoint=server.url, request={"model": "m"}, form=FORM, **fields)


def edits(noise, number=3):
    images = [noise(10 + place) for place in range(number)]
    return {
        "source_image": noise(1),
        "reference_images": images,
        "instruction": "write {count} on it",
    }


def test_candidates_are_asked_about_at_once_and_scored_by_their_place(serve, noise):
    server = serve(answer(GIVEN))
    (found,) = outcomes(asks(server), [edits(noise)])
    (asked,) = server.asked
    parts = asked["messages"][0]["content"]
    assert [part["type"] for part in parts] == ["image_url"] * 4 + ["text"]
    assert "The 3 pictures after it" in parts[-1]["text"]
    assert '"write {count} on it"' in parts[-1]["text"]
    weights = WEIGHTS.values()
    expected = [sum(w * v for w, v in zip(weights, own, strict=True)) for own in GIVEN.values()]
    assert found["lmm_scores"] == pytest.approx(expected)
    assert found["lmm_accuracies"] == [4, 9, 2]
    assert found["lmm_realisms"] == [7, 6, 9]
    assert (found["lmm_best"], found["lmm_score"]) == (1, pytest.approx(max(expected)))
    assert found["lmm_status"] == "ok"


@pytest.mark.parametrize(
    "text",
    [
        answer({"1": GIVEN["1"], "2": GIVEN["2"]}),
        answer({**GIVEN, "4": (1, 1, 1, 1)}),
        answer({**GIVEN, "2": (0, 1, 1, 1)}),
        answer({**GIVEN, "2": (11, 1, 1, 1)}),
        json.dumps({"1": 4, "2": 9, "3": 2}),
        "All are lovely.",
    ],
)
def test_answer_without_every_candidate_is_no_figure(serve, noise, text):
    (found,) = outcomes(asks(serve(text)), [edits(noise)])
    assert (found["lmm_status"], found["lmm_scores"], found["lmm_score"]) == (
        "parse_error",
        None,
        None,
    )


def test_row_without_candidates_fails_with_a_code(serve, noise):
    server = serve(answer(GIVEN))
    for none in (None, []):
        row = {**edits(noise), "reference_images": none}
        assert failure_code(asks(server), row) == "references_missing"
    assert not server.asked


def test_model_here_is_shown_any_number_of_candidates(judge, noise):
    rows = [edits(noise, 2), edits(noise, 3)]
    operator = Judge(checkpoint=judge, form=FORM, max_new_tokens=4)
    model = operator.load()
    assert [operator.prepare(row, model).num_pictures for row in rows] == [(3,), (4,)]
    assert [found["lmm_status"] for found in outcomes(operator, rows, model)] == ["parse_error"] * 2
    assert operator.bucket(rows[0]) != operator.bucket(rows[1])


def test_scores_over_passes_have_no_mean():
    with pytest.raises(ValidationError, match="no figures to average"):
        Judge(form=FORM, num_passes=2, temperature=1.0, checkpoint="owner/name")


def test_table_of_sources_with_their_edits_is_judged_by_a_run(serve, noise, tmp_path):
    names = ("source.png", "a.png", "b.png", "c.png")
    for place, name in enumerate(names):
        (tmp_path / name).write_bytes(noise(place))
    row = {"source_uri": names[0], "instruction": "make it red", "references": names[1:]}
    lone = {"source_uri": names[1], "instruction": "make it red", "references": []}
    table = tmp_path / "rows.jsonl"
    table.write_text(f"{json.dumps(row)}\n{json.dumps(lone)}\n")
    server = serve(answer(GIVEN))
    plan = Plan(name="compare", stages=(Stage(operator=asks(server)),))
    result = run(plan, input=str(table), output=str(tmp_path / "run"), ray=False)
    compared, failed = sorted(result.rows(), key=lambda found: found["status"])
    assert (compared["lmm_best"], compared["status"]) == (1, "accepted")
    assert failed["error_code"] == "references_missing"
    assert len(server.asked) == 1
