"""From photographs to a model, with one command."""
