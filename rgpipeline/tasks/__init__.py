"""What a job does with its rows: how a row becomes engine work, and which columns come of it.

Layer 3. Imports the engine's jax-free half, io and text; knows no plan and no worker. A new task is
a module with a `Task`, and a line in `_TASKS`.
"""

from collections.abc import Callable, Mapping

from rgpipeline.io.parts import AddedColumns
from rgpipeline.spec import Job
from rgpipeline.tasks.embed_task import EmbedTask
from rgpipeline.tasks.generate_task import GenerateTask
from rgpipeline.tasks.score_task import ScoreTask
from rgpipeline.tasks.task import Task

_TASKS: Mapping[str, Callable[[Job], Task]] = {
    "generate": lambda job: GenerateTask(),
    "score": lambda job: ScoreTask(),
    "embed": lambda job: EmbedTask(job.embed),
}


def task_of(job: Job) -> Task:
    """What a job does with its rows."""
    return _TASKS[job.task](job)


def added_columns(job: Job) -> AddedColumns:
    """The columns that a job adds to its input's."""
    return AddedColumns(tuple(task_of(job).columns(job)), job.output.prefix)
