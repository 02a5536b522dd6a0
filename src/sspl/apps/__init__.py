"""Pages in a browser: labelling faces, and serving a model."""
