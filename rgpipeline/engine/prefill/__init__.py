"""Reading prompts and texts: which comes next, in what calls, and what they share. Free of jax."""
