"""A run becomes a signed bundle: graph, quantisation, the gate between them, and figures."""

import transom as transom  # before onnxruntime, which it keeps quiet
