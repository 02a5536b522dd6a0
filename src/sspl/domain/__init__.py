"""The ground: semantic classes, attributes and face regions. Imports nothing above it."""
