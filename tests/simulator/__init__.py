"""Broken nights, simulated: the real driver and the real log, in virtual time, from a seed.

Real: `dispatch`, `runtime.crew`, `io.log`, `io.committed_rows`, `storage.store.RetryingStore`,
`storage.retries`.
Simulated: Ray, hosts, the network, workers, and a store that fails before or after the effect.
"""
