"""`python -m tests.runtime.slice`: hosts of a v6e-16 slice, in name; four chips each.

Real raylets on this machine, in a process of their own for the reason that tests.runtime.head
tells. Prints the cluster's address, and for each line of input adds a host and prints a JSON
object: the host's id, and the number of its raylet's process. Ends with its input.
"""

import json
import sys

from ray.cluster_utils import Cluster

from tests.runtime.conftest import ROOT

# A host that is gone refuses at once; one that is only busy has Ray's usual time for its answer.
FAST_HEALTH_CHECKS = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500}


def main() -> None:
    settings = {"num_cpus": 0, "_system_config": FAST_HEALTH_CHECKS}
    cluster = Cluster(initialize_head=True, head_node_args=settings)
    print(cluster.address, flush=True)
    for _ in sys.stdin:
        host = cluster.add_node(
            num_cpus=1,
            resources={"TPU": 4, "accelerator_type:TPU-V6E": 1},
            labels={"ray.io/tpu-topology": "4x4", "ray.io/tpu-pod-type": "v6e-16"},
            env_vars={"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"},
            object_store_memory=80 << 20,
        )
        raylet = host.all_processes["raylet"][0].process.pid
        print(json.dumps({"id": host.node_id, "raylet": raylet}), flush=True)
    cluster.shutdown()


if __name__ == "__main__":
    main()
