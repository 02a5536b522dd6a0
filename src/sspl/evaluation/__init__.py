"""Figures of merit of a fine-tuned run on a labelled split."""
