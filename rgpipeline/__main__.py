"""`python -m rgpipeline`: the command, where it is not on the path."""

import sys

from rgpipeline.errors import missing_package


def start() -> None:
    """Runs the program, or says in one message why it can't start in this Python."""
    if sys.version_info < (3, 11):  # noqa: UP036 - a cluster may have an older one
        sys.exit(f"error: {sys.executable} is Python {sys.version.split()[0]}; 3.11 is needed")
    try:
        from rgpipeline.cli import main
    except ModuleNotFoundError as error:
        lacking = missing_package(error)
        if lacking is None:
            raise
        print(f"error: {lacking}", file=sys.stderr)
        sys.exit(2)
    main()


if __name__ == "__main__":
    start()
