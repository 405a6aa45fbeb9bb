"""Failures of every kind, simulated: the real driver and the real log, in virtual time.

Real: `dispatch`, `runtime.worker_pool`, `io.log`, `io.committed_rows`, `RetryingStore`, `Retry`.
Simulated: Ray, hosts, the network, workers, and a store that fails before or after the effect.
"""
