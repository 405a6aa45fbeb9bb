"""Array types, with the axis letters of the official library's `array_typing`.

    b  rows of a batch          t  tokens of a chunk       d  model width
    e  RG-LRU width             m  MLP's expanded width    v  vocabulary
    w  attention window         s  keys seen               n  heads (and gate blocks)
    h  width of one head        c  conv width - 1

Public functions of this package are annotated with these; the tests check them at call time.
"""

import jax
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Bool, Float, Float32, Int32

Tokens = Int32[Array, "b t"]
Token = Int32[Array, "b"]
Lengths = Int32[Array, "b"]
Active = Bool[Array, "b"]
Count = Int32[Array, "b"]

Activations = Float[Array, "b t d"]
Logits = Float32[Array, "*batch v"]

Queries = Float[Array, "b t n h"]
Keys = Float[Array, "b t h"]
Mask = Bool[Array, "b t s"]
Rotation = Float32[Array, "b t r"]

Gated = Float32[Array, "b t e"]
Expanded = Float[Array, "b t e"]
RecurrentH = Float32[Array, "b e"]
ConvTail = tuple[Float[Array, "b e"], ...]
Start = Bool[Array, "b t"]


def shape_of(shape: tuple[int, ...], dtype: DTypeLike) -> jax.ShapeDtypeStruct:
    """The shape and dtype of an array that need not exist."""
    struct: jax.ShapeDtypeStruct = jax.ShapeDtypeStruct(shape, dtype)  # type: ignore[no-untyped-call]
    return struct
