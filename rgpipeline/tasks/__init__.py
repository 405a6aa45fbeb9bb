"""What a job does with its rows: how a row becomes engine work, and which columns come of it.

Layer 3. Imports the engine's jax-free half, io and text; knows no plan and no worker. A new task is
a module with a `Task`, and a line in `_TASKS`.
"""

from collections.abc import Callable, Mapping

from rgpipeline.io.parts import AddedColumns
from rgpipeline.spec import Job
from rgpipeline.tasks.choice_task import ChoiceTask
from rgpipeline.tasks.embed_task import EmbedTask
from rgpipeline.tasks.generate_task import GenerateTask
from rgpipeline.tasks.score_task import ScoreTask
from rgpipeline.tasks.task import Task

_TASKS: Mapping[str, Callable[[Job, bool], Task]] = {
    "generate": lambda job, choices: GenerateTask(),
    "score": lambda job, choices: ChoiceTask() if choices else ScoreTask(),
    "embed": lambda job, choices: EmbedTask(job.embed),
}


def task_of(job: Job, choices: bool = False) -> Task:
    """What a job does with its rows.

    `choices`: its completion column holds lists of texts, see `Plan.choices`. What doesn't depend
    on it (`uses_slots`, `done`, `sections`, `writes_texts`) may be asked without a plan.
    """
    return _TASKS[job.task](job, choices)


def added_columns(job: Job, choices: bool = False) -> AddedColumns:
    """The columns that a job adds to its input's; `choices`: see `task_of`."""
    return AddedColumns(tuple(task_of(job, choices).columns(job)), job.output.prefix)
