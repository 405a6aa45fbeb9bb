"""The physical limit with matrices on the left: the same products, the other way round."""

from bench.peers.matmuls import features_first, serve_matmuls

if __name__ == "__main__":
    serve_matmuls(features_first)
