"""Operations with several implementations: XLA's, a CPU's, a Pallas kernel. Each is chosen here."""
