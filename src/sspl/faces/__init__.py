"""Faces in photographs: detection, alignment to CelebA's frame, and the run over a folder."""
