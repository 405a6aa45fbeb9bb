"""From the last block's output to one token for every slot, on the device."""
