"""What an engine is doing that may take minutes: opening weights, compiling. Free of jax."""

from collections.abc import Callable

from rgpipeline.wording import size

# jax's events, by `jax.monitoring`: the end of lowering is the beginning of compilation.
_LOWERED = "/jax/core/compile/jaxpr_to_mlir_module_duration"
_COMPILED = "/jax/core/compile/backend_compile_duration"


class Activity:
    """Follows one engine; `text` may be read by any thread."""

    def __init__(self, changed: Callable[[str], None] = lambda text: None) -> None:
        """`changed` is called with each new text, by the thread that does the work."""
        self._changed = changed
        self._opening = ""
        self._compiling = ""
        self._read = self._total = 0
        self.text = ""  # empty while the engine does its usual work

    def opening(self, weights: str) -> None:
        """The checkpoint is being looked into, or copied here."""
        self._opening = f"opening {weights}"
        self._tell()

    def reading(self, total: int) -> None:
        """Weights of `total` bytes, as they are held, are about to be read."""
        self._read, self._total = 0, total
        self.have_read(0)

    def have_read(self, more: int) -> None:
        """So many bytes more are in place."""
        self._read = min(self._read + more, self._total)
        self._opening = f"reading weights, {size(self._read)} of {size(self._total)}"
        self._tell()

    def opened(self) -> None:
        """All weights are in place."""
        self._opening = ""
        self._tell()

    def heard(self, event: str, duration_secs: float, **kwargs: str | int) -> None:
        """Hears of jax's events, of which each tells that something has ended."""
        if event == _LOWERED:
            name = str(kwargs.get("fun_name", "")).removeprefix("jit(").removesuffix(")")
            self._compiling = f"compiling {name}".rstrip()
        elif event == _COMPILED:
            self._compiling = ""
        else:
            return
        self._tell()

    def end(self) -> None:
        """Nobody wants to hear of it any more."""
        self._changed = lambda text: None

    def _tell(self) -> None:
        text = self._compiling or self._opening
        if text != self.text:
            self.text = text
            self._changed(text)
