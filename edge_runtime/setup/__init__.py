"""`transom setup`: from a machine and a camera to a configuration that works."""
