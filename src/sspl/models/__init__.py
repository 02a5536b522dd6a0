"""Networks: the backbone and the architectures built on it."""
