"""Reading and writing: files, weights, checkpoints, run folders, TensorBoard."""
