#!/usr/bin/env python3
"""Lets the actors of this container finish what they hold and leave; KubeRay's preStop hook.

Kubernetes signals a container's first process only, and Ray's does not pass a SIGTERM on to its
actors. So we do, and wait until they have published their rows and gone. Kubernetes kills
whoever is still there when the pod's grace period ends.
"""

import psutil

# Titles that Ray gives to processes which hold no work of ours; a raylet dies with its agents.
_NOT_OURS = ("ray::DashboardAgent", "ray::RuntimeEnvAgent", "ray::IDLE")


def actors() -> list[psutil.Process]:
    """The processes in which a Ray actor or task lives, on this machine."""
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
