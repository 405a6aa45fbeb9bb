"""The one place where an operation's implementation is chosen, by platform, shape and setting.

    operation                        CPU                       TPU kernel          GPU kernel
    primitives
      linear, int8 weights           at least 2 or 4 rows      quantize_rows
      linear, gated_mlp, logits      transposed (few rows)
      linear_pair, int8 weights                                two products
      block_diagonal                 in halves (few rows)
      einsum                         in float32 if it must be
    row_writes
      set_row, set_rows, …           by a select (bfloat16)
    temporal
      recurrent_prefill                                        recurrence_scan     scan_on_gpu
      recurrent_decode                                         recurrence
      attention_prefill                                        prefill_attention
      attention_decode               attend_token_on_cpu       decode_attention

An empty cell is the plain implementation: `jax.lax` operations, or the mathematics in
`model.layers`. The engine's sampler chooses one more, `kernels.head`.

A choice between platforms is a `lax.platform_dependent`, because a program may be lowered for a
platform of which this machine has no device. Its branches are functions of a module, so that jax
traces each once for all layers.
"""
