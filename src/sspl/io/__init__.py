"""Reading and writing: files, YAML, weights, checkpoints, run folders, TensorBoard."""
