"""Ray Data: a step of a pipeline that has a model, as `ray.data.llm.build_processor` makes them."""

from collections.abc import Callable, Mapping
from typing import Any

import pyarrow as pa
import ray
import ray.data

from rgpipeline.errors import UserError
from rgpipeline.integrations.ray_data_actor import ModelActor, ProcessorJob
from rgpipeline.jobfile import parse_job
from rgpipeline.runtime.cluster import Cluster, read_cluster
from rgpipeline.runtime.placement import (
    Placement,
    WorkerDemand,
    check_mesh,
    choose,
    with_counted_mesh,
)
from rgpipeline.runtime.ray_workers import with_absolute_paths
from rgpipeline.spec import Job, WorkersSpec
from rgpipeline.storage.reachable import check_reachable
from rgpipeline.worker.table_rows import check_columns, plan_without_files

Row = dict[str, Any]
RowFunction = Callable[[Row], Row]

_IN_PYTHON = "ProcessorConfig"
# What a job file has, and a pipeline has other means for.
_FOREIGN = ("name", "faults")
_FOREIGN_KEYS = {
    "input": ("path", "format", "limit"),
    "output": ("path", "segment_tokens", "states"),
}


class ProcessorConfig:
    """The model of a processor, what it does with each row, and on how many actors.

    Args:
      batch_size: rows that an actor takes and returns together.
      concurrency: actors, or the least and the most of them: `(1, 8)`. Default: `workers.count`,
        which by default is as many as the cluster has room for.
      max_concurrent_batches: that an actor works on at once. The slots stay full while these
        have more rows than there are slots.
      sections: the sections of a job file, with the same keys: `task`, `model`, `sampling`,
        `embed`, `engine`, `workers`, `storage_options`, and `input` and `output` without what
        says where rows come from and go.

    Raises:
      JobError: with every fault in the sections, in the words of `rgpipeline validate`.
    """

    def __init__(
        self,
        *,
        batch_size: int = 64,
        concurrency: int | tuple[int, int] | None = None,
        max_concurrent_batches: int = 8,
        **sections: Any,
    ) -> None:
        self.job = _job(sections)
        self.batch_size = _count("batch_size", batch_size)
        self.max_concurrent_batches = _count("max_concurrent_batches", max_concurrent_batches)
        self.concurrency = _bounds(concurrency)
        if concurrency is not None and self.job.workers.count != "auto":
            raise UserError("concurrency and workers.count say the same; leave one of them out")


def build_processor(
    config: ProcessorConfig,
    preprocess: RowFunction | None = None,
    postprocess: RowFunction | None = None,
    preprocess_map_kwargs: Mapping[str, Any] | None = None,
    postprocess_map_kwargs: Mapping[str, Any] | None = None,
) -> Callable[[ray.data.Dataset], ray.data.Dataset]:
    """A function from a dataset to a dataset in which the task's columns are added to each row.

    Nothing runs before the new dataset is used. A row that fails has its `error`; it is not given
    to `postprocess`, and stops nothing.

    Args:
      config: the model, and how it is used.
      preprocess: the columns to add to a row, or to change in it.
      postprocess: the row to return; default: the row as it is. An `error` of null is added.
      preprocess_map_kwargs, postprocess_map_kwargs: more arguments of `Dataset.map`.

    The function raises UserError when the cluster has no room for an actor, a model's address
    doesn't answer, or the dataset is known to lack a column. What else is wrong with the model or
    the columns raises when the dataset is used.
    """

    def process(dataset: ray.data.Dataset) -> ray.data.Dataset:
        if preprocess is not None:
            added = preprocess
            dataset = dataset.map(
                lambda row: {**row, **added(row)}, **dict(preprocess_map_kwargs or {})
            )
        dataset = _with_model(dataset, config)
        if postprocess is not None:
            finish = _after(postprocess, f"{config.job.output.prefix}error")
            dataset = dataset.map(finish, **dict(postprocess_map_kwargs or {}))
        return dataset

    return process


def _with_model(dataset: ray.data.Dataset, config: ProcessorConfig) -> ray.data.Dataset:
    """The dataset with the task's columns, from actors that are placed as a job's workers."""
    schema = dataset.schema(fetch_if_missing=False)
    if schema is not None and isinstance(schema.base_schema, pa.Schema):
        check_columns(config.job, schema.base_schema)
    job = with_absolute_paths(config.job)
    check_reachable((url for _, url in job.model.urls()), job.storage_options)
    if not ray.is_initialized():
        ray.init()
    cluster = read_cluster()
    workers = _workers(config)
    placement = choose(workers, cluster)
    check_mesh(workers, placement)
    job = with_counted_mesh(job, placement)
    return dataset.map_batches(
        ModelActor,
        batch_size=config.batch_size,
        batch_format="pyarrow",
        zero_copy_batch=True,
        compute=ray.data.ActorPoolStrategy(
            **_pool(config, placement, cluster),
            max_concurrent_calls_per_actor=config.max_concurrent_batches,
        ),
        fn_constructor_kwargs={"given": ProcessorJob(job, plan_without_files(job), placement)},
        **_resources(placement),
    )


def _workers(config: ProcessorConfig) -> WorkersSpec:
    """The job's, with the most actors as their count: these divide the cores among them."""
    if config.concurrency is None:
        return config.job.workers
    return config.job.workers.model_copy(update={"count": config.concurrency[1]})


def _pool(config: ProcessorConfig, placement: Placement, cluster: Cluster) -> dict[str, Any]:
    if config.concurrency is None:
        return {"size": max(1, WorkerDemand(config.job.workers, placement).wanted(cluster))}
    least, most = config.concurrency
    return {"size": most} if least == most else {"min_size": least, "max_size": most}


def _resources(placement: Placement) -> dict[str, Any]:
    """What an actor takes of the cluster. On CPUs it computes on one core more than it takes:
    else the tasks that read, preprocess and write would wait for a core forever.
    """
    options = placement.options()
    if placement.kind == "cpu":
        options["num_cpus"] = placement.units - 1
    return options


def _after(postprocess: RowFunction, error: str) -> RowFunction:
    def finish(row: Row) -> Row:
        if row[error] is not None:
            return row
        return {**postprocess(row), error: None}

    return finish


def _job(sections: Mapping[str, Any]) -> Job:
    """The job of these sections. Raises JobError."""
    mapping = dict(sections)
    foreign = [name for name in _FOREIGN if name in mapping]
    for name, keys in _FOREIGN_KEYS.items():
        section = mapping.get(name) or {}
        if isinstance(section, Mapping):
            foreign += [f"{name}.{key}" for key in keys if key in section]
            mapping[name] = {**section, "path": "dataset"}
    if foreign:
        raise UserError(
            f"{_IN_PYTHON}: {foreign[0]} is for job files; here Ray Data reads, writes and repeats"
        )
    return parse_job(mapping, _IN_PYTHON)


def _count(name: str, value: object) -> int:
    if type(value) is not int or value < 1:
        raise UserError(f"{_IN_PYTHON}: {name}: a whole number from 1 is needed, found {value!r}")
    return value


def _bounds(concurrency: object) -> tuple[int, int] | None:
    if concurrency is None:
        return None
    if not isinstance(concurrency, tuple):
        return (_count("concurrency", concurrency),) * 2
    if len(concurrency) != 2 or concurrency[0] > concurrency[1]:
        raise UserError(
            f"{_IN_PYTHON}: concurrency: (least, most) is needed, found {concurrency!r}"
        )
    least, most = (_count("concurrency", one) for one in concurrency)
    return least, most
