#!/usr/bin/env python3
"""Lets the actors of this container publish their rows and leave; KubeRay's preStop hook.

Kubernetes signals only the first process of a container, and Ray does not pass the SIGTERM on to
its actors. So this script does, and waits until they have published their rows and ended.
Kubernetes kills the processes that are left when the pod's grace period ends.
"""

import psutil

# Titles of Ray's own processes. A raylet dies with its agents, so they get no signal.
_NOT_OURS = ("ray::DashboardAgent", "ray::RuntimeEnvAgent", "ray::IDLE")


def actors() -> list[psutil.Process]:
    """The processes on this machine that run a Ray actor or task."""
    return [process for process in psutil.process_iter() if _holds_work(process)]


def _holds_work(process: psutil.Process) -> bool:
    try:
        title = " ".join(process.cmdline())
    except psutil.Error:  # gone since it was listed, or another user's
        return False
    return title.startswith("ray::") and not title.startswith(_NOT_OURS)


def dismiss(leaving: list[psutil.Process]) -> None:
    """Send each process a SIGTERM, and return when all are gone."""
    for process in leaving:
        process.terminate()
    psutil.wait_procs(leaving)


if __name__ == "__main__":
    dismiss(actors())
