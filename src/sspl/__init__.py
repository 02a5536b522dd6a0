"""Spatial-Semantic Patch Learning: facial attribute recognition from few labels.

Importing the package imports nothing heavy; torch is loaded by the modules that need it.
"""

__version__ = "0.1.0"
