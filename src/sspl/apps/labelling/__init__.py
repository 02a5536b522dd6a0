"""Labelling by hand: which face next, and a page to answer on."""
