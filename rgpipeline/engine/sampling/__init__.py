"""From the last block's output to one token for every slot, on the device."""

import rgpipeline.engine.slot_state  # noqa: F401  (it makes SlotFields a pytree)
