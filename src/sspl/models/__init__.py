"""Networks: the trunk and the architectures built on it."""
