"""What the Python that runs us lacks. Layer 0; imports nothing that may be missing."""

import sys


def missing_package(error: ModuleNotFoundError) -> str | None:
    """The message for a package that isn't installed; None when the module would be our own."""
    name = (error.name or "").partition(".")[0]
    if not name or name == "rgpipeline":
        return None
    return (
        f"{sys.executable} lacks the package {name!r}, which rgpipeline needs; install rgpipeline "
        f"with its dependencies there ({sys.executable} -m pip install rgpipeline), or use the "
        f"Python of an environment that has them"
    )
