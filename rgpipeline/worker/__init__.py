"""One worker: an engine, the shards it holds, and the rows it publishes.

Layer 3. Imports plan, text, io and the engine's jax-free half; the engine itself is handed in.
Free of Ray.
"""

from rgpipeline.worker.opening import EngineFactory, Opened
from rgpipeline.worker.policy import WorkerPolicy
from rgpipeline.worker.worker import Worker

__all__ = ["EngineFactory", "Opened", "Worker", "WorkerPolicy"]
