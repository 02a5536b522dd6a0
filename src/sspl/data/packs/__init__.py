"""Packs: faces in tar shards of the WebDataset layout, with an index."""
