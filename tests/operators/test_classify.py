"""`classify`: any image classifier over the source; real classes, tiny and random."""

import numpy as np
import pytest
import torch
from overpaint.operators.classify import Classify
from overpaint.pipeline.errors import UsageError
from overpaint.pipeline.identity import operator_fingerprint
from overpaint.pipeline.images import decode
from overpaint.pipeline.operator import Rejected
from pydantic import ValidationError
from running import failure_code, outcomes, rows_in_actor

LABELS = ("calm", "busy", "empty")


def save_classifier(folder, labels=LABELS, **fields):
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessorPil

    torch.manual_seed(8)
    size = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    size |= {"num_attention_heads": 2, "image_size": 32, "patch_size": 8, "initializer_range": 0.5}
    names = dict(enumerate(labels))
    numbers = {name: number for number, name in names.items()}
    config = ViTConfig(**size, id2label=names, label2id=numbers, **fields)
    ViTForImageClassification(config).save_pretrained(folder)
    ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    return save_classifier(tmp_path_factory.mktemp("classifier"))


def rows(noise, number=3):
    return [{"source_image": noise(seed, 40 + seed, 32)} for seed in range(number)]


def probabilities(folder, row):
    """Probabilities of a row by transformers alone."""
    from transformers import ViTForImageClassification, ViTImageProcessorPil

    model = ViTForImageClassification.from_pretrained(folder).eval()
    pixels = ViTImageProcessorPil.from_pretrained(folder)(
        images=[decode(row["source_image"]).image()], return_tensors="pt"
    )
    with torch.inference_mode():
        return model(**pixels).logits.softmax(dim=1)[0].numpy()


def test_score_is_the_probability_of_the_label(classifier, noise):
    given = rows(noise)
    scores = []
    for label in LABELS:
        operator = Classify(checkpoint=classifier, label=label, batch_size=3)
        scores.append([answer["class_score"] for answer in outcomes(operator, given)])
    expected = np.stack([probabilities(classifier, row) for row in given])
    np.testing.assert_allclose(np.transpose(scores), expected, atol=1e-5)
    names = [
        a["class_name"] for a in outcomes(Classify(checkpoint=classifier, label="calm"), given)
    ]
    assert names == [LABELS[index] for index in expected.argmax(axis=1)]


def test_source_out_of_bounds_is_rejected_with_a_reason(classifier, noise):
    given = rows(noise)
    plain = outcomes(Classify(checkpoint=classifier, label="busy", batch_size=3), given)
    scores = sorted(answer["class_score"] for answer in plain)
    bound = (scores[0] + scores[1]) / 2
    for fields, side, number in (
        ({"min_score": bound}, "below", 1),
        ({"max_score": bound}, "above", 2),
    ):
        operator = Classify(checkpoint=classifier, label="busy", batch_size=3, **fields)
        answers = outcomes(operator, given)
        rejected = [answer for answer in answers if isinstance(answer, Rejected)]
        assert len(rejected) == number
        assert {answer.code for answer in rejected} == {"class_score"}
        assert all(f"{side} " in answer.message for answer in rejected)
        kept = [answer for answer in answers if not isinstance(answer, Rejected)]
        assert kept == [answer for answer in plain if answer in kept]


def test_answer_of_a_row_is_the_same_in_every_batch_and_in_an_actor(classifier, noise):
    operator = Classify(checkpoint=classifier, label="calm", batch_size=3)
    given = rows(noise)
    together = outcomes(operator, given)
    model = operator.load()
    assert [outcomes(operator, [row], model)[0] for row in given] == together
    done = rows_in_actor(operator, given)
    assert [row["class_score"] for row in done] == [answer["class_score"] for answer in together]


def test_single_output_is_the_score_as_it_is(tmp_path, noise):
    folder = save_classifier(tmp_path, labels=("aesthetic",), problem_type="regression")
    operator = Classify(checkpoint=folder, batch_size=1)
    operator.check()
    (answer,) = outcomes(operator, rows(noise, 1))
    assert answer["class_name"] == "aesthetic"
    assert not 0 <= answer["class_score"] <= 1 or answer["class_score"] not in (0.0, 1.0)


def test_labels_that_exclude_nothing_have_probabilities_of_their_own(tmp_path, noise):
    folder = save_classifier(tmp_path, problem_type="multi_label_classification")
    given = rows(noise, 1)
    total = sum(
        outcomes(Classify(checkpoint=folder, label=label, batch_size=1), given)[0]["class_score"]
        for label in LABELS
    )
    assert abs(total - 1) > 1e-3


def test_missing_label_is_named_with_the_nearest(classifier):
    with pytest.raises(ValueError, match="did you mean 'busy'"):
        Classify(checkpoint=classifier, label="bussy").check()
    with pytest.raises(ValueError, match="label is null, and the classifier has calm, busy, empty"):
        Classify(checkpoint=classifier).check()
    with pytest.raises(UsageError, match="no such class"):
        Classify(checkpoint=classifier, label="nsfw").load()


def test_checkpoint_is_asked_for():
    with pytest.raises(ValidationError):
        Classify(label="calm")
    with pytest.raises(ValueError, match="holds no papercut checkpoint 'classify'"):
        Classify(checkpoint="papercut", label="calm").check()
    with pytest.raises(ValidationError, match="above max_score"):
        Classify(checkpoint="x/y", label="calm", min_score=0.9, max_score=0.1)


def test_fingerprint_follows_what_changes_an_answer(classifier):
    operator = Classify(checkpoint=classifier, label="calm")
    known = {operator_fingerprint(operator)}
    changes = ({"label": "busy"}, {"min_score": 0.1}, {"max_score": 0.9}, {"batch_size": 2})
    for change in changes:
        known.add(operator_fingerprint(operator.model_copy(update=change)))
    assert len(known) == 1 + len(changes)


def test_figure_that_is_no_number_fails_its_row(classifier, noise):
    operator = Classify(checkpoint=classifier, label="calm", batch_size=1)
    model = operator.load()
    with torch.no_grad():
        model.model.classifier.bias.fill_(float("nan"))
    assert failure_code(operator, rows(noise, 1)[0], model) == "nan_in_result"
