"""The daemon: cameras in, decisions about doors and windows out."""

import transom as transom  # before onnxruntime, which it keeps quiet
