"""Figures of merit: pure functions and small accumulators."""
