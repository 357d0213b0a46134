"""A run becomes a signed bundle: graph, quantisation, the gate between them, and figures."""
