"""The commands: `rgpipeline run job.yaml` and the rest.

Layer 6. Each command is a module with one function; what it needs is imported when it is called,
so that `rgpipeline --help` starts at once.
"""

from rgpipeline.cli.app import main

__all__ = ["main"]
