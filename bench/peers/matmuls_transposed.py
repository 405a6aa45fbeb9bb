"""The physical limit with `W @ x.T`: the same products, transposed."""

from bench.peers.matmuls import features_first, serve_matmuls

if __name__ == "__main__":
    serve_matmuls(features_first)
