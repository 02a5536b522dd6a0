"""Faces on disk and in memory: records, adapters, subsets, transforms, synthetic faces."""
