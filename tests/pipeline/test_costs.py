"""Network evaluations of a planned run: every answer once, by stage and kind."""

import pytest
from overpaint.operators.fetch import Fetch
from overpaint.operators.store import Store
from overpaint.pipeline.cost import Cost
from overpaint.pipeline.errors import RowError
from overpaint.pipeline.plan import Plan
from overpaint.pipeline.runs.costs import CostCounter
from overpaint.pipeline.runs.planning import plan_parts
from overpaint.pipeline.stage import Stage
from toy_operators import ToyCaption, ToyEdit, ToyInvert
from toy_runs import table_of

STEPS = 5


class CostlyInvert(ToyInvert):
    steps: int = STEPS

    def cost(self, row, sources):
        return Cost(forward=self.steps, vae_encode=1)


class CostlyEdit(ToyEdit):
    def cost(self, row, sources):
        if row["instruction"] == "refuse":
            raise RowError("refused", "the row asks for what is not there")
        inverted = [source for source in sources.values() if isinstance(source, CostlyInvert)]
        return Cost(forward=2 * inverted[0].steps, vae_decode=1)


def plan(task_rows):
    operators = [Fetch(), ToyCaption(), CostlyInvert(), CostlyEdit(), Store()]
    stages = [Stage(operator=operator, group="all") for operator in operators]
    return Plan(name="costly", stages=stages, task_rows=task_rows)


def costs_of(rows, task_rows):
    counter = CostCounter(plan(task_rows))
    for table, _ in plan_parts(plan(task_rows), table_of(rows)):
        counter.add_part(table)
    return {name.split(":")[-1]: cost for name, cost in counter.by_stage().items()}


@pytest.mark.parametrize(("task_rows", "num_inversions"), [(16, 2), (4, 2), (2, 4), (1, 6)])
def test_one_answer_of_a_task_counts_once(task_rows, num_inversions):
    rows = [
        {"source_uri": f"{source}.png", "instruction": f"paint {edit}"}
        for source in range(2)
        for edit in range(3)
    ]
    costs = costs_of(rows, task_rows)
    inverted, edited = costs["CostlyInvert"], costs["CostlyEdit"]
    assert inverted == Cost(forward=STEPS * num_inversions, vae_encode=num_inversions)
    assert edited == Cost(forward=2 * STEPS * 6, vae_decode=6)


def test_row_that_a_stage_refuses_costs_nothing_there():
    rows = [{"source_uri": "a.png", "instruction": word} for word in ("paint", "refuse")]
    assert costs_of(rows, 8)["CostlyEdit"] == Cost(forward=2 * STEPS, vae_decode=1)


def test_stage_without_a_network_costs_nothing():
    costs = costs_of([{"source_uri": "a.png", "instruction": "paint"}], 8)
    assert {name for name, cost in costs.items() if cost.counts()} == {"CostlyInvert", "CostlyEdit"}


def test_cost_finds_its_source_under_the_plans_name():
    stages = [
        Stage(operator=Fetch(), group="all"),
        Stage(operator=ToyCaption(), group="all"),
        Stage(operator=CostlyInvert(), group="all", prefix="first_"),
        Stage(operator=CostlyEdit(), group="all", reads={"inverted_path": "first_inverted_path"}),
    ]
    renamed = Plan(name="renamed", stages=stages)
    counter = CostCounter(renamed)
    for table, _ in plan_parts(renamed, table_of([{"source_uri": "a.png", "instruction": "x"}])):
        counter.add_part(table)
    assert sum(cost.forward for cost in counter.by_stage().values()) == 3 * STEPS
