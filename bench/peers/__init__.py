"""One module for each peer, each run in a process of its own (see `exchange`)."""
