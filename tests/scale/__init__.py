"""Jobs of very many rows and files; the engine answers at once: `python -m tests.scale`."""
