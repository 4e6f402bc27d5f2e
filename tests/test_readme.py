"""What the README says of the product is what the product says of itself."""

import importlib
import re
import tomllib
from pathlib import Path

import numpy as np
import pytest
from overpaint.operators.finders import FINDERS
from overpaint.operators.fits import FITS
from overpaint.operators.instructors import INSTRUCTORS
from overpaint.operators.inversions import INVERSIONS
from overpaint.operators.methods import METHODS
from overpaint.operators.proposers import PROPOSERS
from overpaint.pipeline import Picture, encode
from overpaint.pipeline.recipes.recipe import plan_from_tables
from running import outcomes

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def table(*catalogues):
    """Every variant of some catalogues as rows of the README's table."""
    rows = [
        "| name | kind | what it does | needs | evaluations | arXiv |",
        "|---|---|---|---|---|---|",
    ]
    for catalogue in catalogues:
        for name in catalogue.names():
            kind = catalogue.find(name)
            facts = kind.facts()
            cells = [facts.get(label) or "" for label in ("needs", "evaluations", "papers")]
            rows.append(f"| {' | '.join([f'`{name}`', catalogue.word, kind.summary(), *cells])} |")
    return "\n".join(rows)


def test_methods_in_the_readme_are_those_that_there_are():
    wanted = table(METHODS, INVERSIONS, FITS, FINDERS, INSTRUCTORS, PROPOSERS)
    assert wanted in README, f"write this into the README:\n\n{wanted}"


def blocks(start):
    """The indented blocks of the README that start with a text."""
    paragraphs = re.findall(r"(?:^(?: {4}.*)?\n)+", README, re.MULTILINE)
    texts = ["\n".join(line[4:] for line in block.splitlines()) for block in paragraphs]
    return [text.strip() for text in texts if text.strip().startswith(start)]


@pytest.mark.parametrize("block", blocks("name = "))
def test_recipes_in_the_readme_are_plans(block):
    assert plan_from_tables(tomllib.loads(block), "README.md").stages


def test_operator_in_the_readme_runs(tmp_path, monkeypatch):
    (block,) = blocks("# my_package/brightness.py")
    (tmp_path / "brightness.py").write_text(block)
    monkeypatch.syspath_prepend(tmp_path)
    operator = importlib.import_module("brightness").Brightness()
    white = encode(Picture(np.full((2, 2, 3), 255, np.uint8)))
    black = encode(Picture(np.zeros((2, 2, 3), np.uint8)))
    bright, dark = operator.run([{"edited_image": white}, {"edited_image": black}], None)
    assert bright == {"brightness": 1.0}
    assert dark.code == "too_dark"


def test_measure_in_the_readme_runs(tmp_path, monkeypatch):
    (block,) = blocks("# my_package/redness.py")
    (tmp_path / "redness.py").write_text(block)
    monkeypatch.syspath_prepend(tmp_path)
    operator = importlib.import_module("redness").Redness()
    red = encode(Picture(np.full((2, 2, 3), (255, 0, 0), np.uint8)))
    row = {"source_image": red, "edited_image": red, "mask_image": None}
    (answer,) = outcomes(operator, [{**row, "editable_mask_image": None}])
    assert answer == {"redness": 1.0}


DOCUMENTS = ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")


@pytest.mark.parametrize("name", DOCUMENTS)
def test_files_that_a_document_names_are_there(name):
    text = (ROOT / name).read_text()
    tops = "pipeline|operators|cluster|jobs|tests"
    named = set(re.findall(rf"(?<![\w/.])(?:{tops})/[\w/]+\.(?:py|json|png|toml)", text))
    assert not {path for path in named if not (ROOT / path).is_file()}
