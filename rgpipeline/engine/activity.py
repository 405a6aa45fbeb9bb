"""Operations of an engine that may take minutes: reading weights, compiling. Free of jax."""

from collections.abc import Callable

from rgpipeline.wording import size

# Events of `jax.monitoring`, each at the end of something: compilation follows lowering.
_LOWERED = "/jax/core/compile/jaxpr_to_mlir_module_duration"
_COMPILED = "/jax/core/compile/backend_compile_duration"


class Activity:
    """What one engine is doing. Any thread may read `text`."""

    def __init__(self, changed: Callable[[str], None] = lambda text: None) -> None:
        """`changed` is called with each new text, in the thread that does the work."""
        self._changed = changed
        self._opening = ""
        self._compiling = ""
        self._read = self._total = 0
        self.text = ""  # empty while the engine prefills and decodes

    def opening(self, weights: str) -> None:
        """The checkpoint is being inspected, or copied to this machine."""
        self._opening = f"opening {weights}"
        self._update()

    def reading(self, total: int) -> None:
        """Weights that take `total` bytes on the device are about to be read."""
        self._read, self._total = 0, total
        self.add_read(0)

    def add_read(self, more: int) -> None:
        """`more` bytes have been read."""
        self._read = min(self._read + more, self._total)
        self._opening = f"reading weights, {size(self._read)} of {size(self._total)}"
        self._update()

    def opened(self) -> None:
        """All weights are on the device."""
        self._opening = ""
        self._update()

    def record_jax_event(self, event: str, duration_secs: float, **kwargs: str | int) -> None:
        """Takes an event of `jax.monitoring`."""
        if event == _LOWERED:
            name = str(kwargs.get("fun_name", "")).removeprefix("jit(").removesuffix(")")
            self._compiling = f"compiling {name}".rstrip()
        elif event == _COMPILED:
            self._compiling = ""
        else:
            return
        self._update()

    def end(self) -> None:
        """From now on, `changed` is not called."""
        self._changed = lambda text: None

    def _update(self) -> None:
        text = self._compiling or self._opening
        if text != self.text:
            self.text = text
            self._changed(text)
