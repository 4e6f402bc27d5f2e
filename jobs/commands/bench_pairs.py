"""bench pairs: what the choice among tries gains."""

import tempfile
from importlib.resources import files
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter
from overpaint.jobs.commands.bench import Json, bench
from overpaint.jobs.commands.output import console, print_figures
from overpaint.jobs.options import Count


def register(app: App) -> None:
    """Adds the benchmark to `bench`."""
    del app
    bench.command(pairs)


def pairs(
    *,
    recipe: str | None = None,
    rows: Count = 256,
    seed: int = 0,
    set_: Annotated[list[str] | None, Parameter(name="--set", negative="")] = None,
    ray: bool = True,
    json_file: Json = None,
) -> int:
    """Makes training pairs from drawn scenes by several editors, and measures the choice.

    Args:
        recipe: A recipe with several editors, truth and a policy; papercut's pairs where none is
            given.
        rows: Number of unseen edits.
        seed: Seed of the edits.
        set_: A setting of the recipe, such as edit.batch_size=4; may be given several times.
        ray: --no-ray runs in this process.
        json_file: A file for the figures.
    """
    from overpaint.jobs.recipes import load_plan
    from overpaint.operators.models.pretrained import quietly

    with quietly():
        from overpaint.jobs.bench.pairs import HOW, measure_pairs

    plan = load_plan(recipe or str(files("overpaint.jobs") / "recipes/pairs.toml"), set_ or ())
    console.print(HOW)
    with tempfile.TemporaryDirectory() as folder:
        print_figures(measure_pairs(plan, Path(folder), rows, seed, ray=ray), json_file)
    return 0
