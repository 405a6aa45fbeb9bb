"""One worker: an engine, its assignments, and the rows that it publishes.

Layer 4. Imports tasks, plan, text, io and the engine's jax-free half; the engine is an argument.
Free of Ray.
"""

from rgpipeline.worker.shared import WorkerPolicy
from rgpipeline.worker.worker import Worker
from rgpipeline.worker.worker_setup import EngineFactory, Opened

__all__ = ["EngineFactory", "Opened", "Worker", "WorkerPolicy"]
