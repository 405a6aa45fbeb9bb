"""A display in a notebook's cell that is drawn anew, with nothing installed but the notebook."""

import io
from typing import Any

from rich.console import Console, RenderableType


class NotebookDisplay:
    """Shows the latest of what it is given, as plain text, in the cell that runs."""

    def __init__(self, width: int) -> None:
        """`width` in characters."""
        self._width = width
        self._handle: Any = None

    def start(self) -> None:
        """Takes a place in the cell."""
        from IPython.display import display

        self._handle = display(_bundle(""), raw=True, display_id=True)

    def update(self, shown: RenderableType, *, refresh: bool) -> None:
        """Puts `shown` in the place of what was there."""
        file = io.StringIO()
        Console(file=file, width=self._width, force_jupyter=False).print(shown)
        self._handle.update(_bundle(file.getvalue()), raw=True)

    def stop(self) -> None:
        """Leaves the last state where it stands."""


def _bundle(text: str) -> dict[str, str]:
    return {"text/plain": text}
