"""`sspl data`: make and inspect face data."""

import click


@click.group()
def data() -> None:
    """Make and inspect face data."""
