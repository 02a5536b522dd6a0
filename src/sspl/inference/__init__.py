"""Predictions for pictures without labels."""
