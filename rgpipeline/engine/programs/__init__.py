"""The programs that a worker's device runs, on one chip or several, and how to look at them."""
