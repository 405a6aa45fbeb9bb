"""`python -m tests.runtime.head`: a private Ray cluster, until its standard input ends.

In a process of its own, because Ray forks to start its processes, and where jax or anything else
has threads a forked one may wait for ever for what one of them held.
"""

import sys

import ray


def main() -> None:
    """Prints the cluster's address once it is up."""
    ray.init(
        address="local",
        num_cpus=4,
        include_dashboard=False,
        object_store_memory=80 << 20,
        log_to_driver=False,
        logging_level="ERROR",
        _system_config={"metrics_report_interval_ms": 500},
    )
    print(ray.get_runtime_context().gcs_address, flush=True)
    sys.stdin.read()
    ray.shutdown()


if __name__ == "__main__":
    main()
