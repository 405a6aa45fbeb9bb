"""Broken nights, simulated: the real driver and the real log, in virtual time, from a seed.

Real: `dispatch`, `runtime.pool`, `io.log`, `io.cover`, `io.store.RetryingStore`, `io.retry`.
Simulated: Ray, hosts, the network, workers, and a store that fails before or after the effect.
"""
