"""What a job does with its rows: how a row becomes engine work, and which columns come of it.

Layer 3. Imports the engine's jax-free half, io and text; knows no plan and no worker. A new task is
a module with a `Task`, and a line in `_TASKS`.
"""

from rgpipeline.io.parts import AddedColumns
from rgpipeline.spec import Job
from rgpipeline.tasks.generate_task import GenerateTask
from rgpipeline.tasks.score_task import ScoreTask
from rgpipeline.tasks.task import Task

_TASKS: tuple[Task, ...] = (GenerateTask(), ScoreTask())
_BY_NAME = {task.name: task for task in _TASKS}


def task_of(job: Job) -> Task:
    """What a job does with its rows."""
    return _BY_NAME[job.task]


def added_columns(job: Job) -> AddedColumns:
    """The columns that a job adds to its input's."""
    return AddedColumns(tuple(task_of(job).columns(job)), job.output.prefix)
