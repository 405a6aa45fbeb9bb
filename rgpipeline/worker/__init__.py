"""One worker: an engine, the shards it holds, and the rows it publishes.

Layer 4. Imports plan, text, io and the engine's jax-free half; the engine itself is handed in.
Free of Ray.
"""

from rgpipeline.worker.shared import WorkerPolicy
from rgpipeline.worker.worker import Worker
from rgpipeline.worker.worker_setup import EngineFactory, Opened

__all__ = ["EngineFactory", "Opened", "Worker", "WorkerPolicy"]
