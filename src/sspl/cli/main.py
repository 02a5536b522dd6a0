"""The `sspl` command: a table of commands, and what an error looks like."""

import sys
from typing import Final

import click

from sspl import __version__
from sspl.cli.benchmark import benchmark
from sspl.cli.check import check
from sspl.cli.compare import compare
from sspl.cli.data import data
from sspl.cli.demo import demo
from sspl.cli.export import export
from sspl.cli.faces import faces
from sspl.cli.judge import evaluate, predict
from sspl.cli.label import suggest
from sspl.cli.model import model
from sspl.cli.parser import parser
from sspl.cli.serve import serve
from sspl.cli.train import finetune, pretrain
from sspl.errors import ReportedElsewhereError, SsplError

EXIT_BAD_INPUT: Final = 2
EXIT_INTERRUPTED: Final = 130


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="sspl")
def cli() -> None:
    """Facial attribute recognition from few labels (SSPL, CVPR 2021)."""


data.add_command(check)
for command in (
    demo, data, faces, parser,
    pretrain, finetune,
    evaluate, compare, benchmark,
    suggest,
    predict, model, export, serve,
):  # fmt: skip
    cli.add_command(command)


def main() -> None:
    """Run the command line; bad input prints one sentence and exits with code 2."""
    try:
        cli.main(standalone_mode=False)
    except click.exceptions.Exit as exit_request:
        sys.exit(exit_request.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(EXIT_BAD_INPUT)
    except ReportedElsewhereError:
        sys.exit(EXIT_BAD_INPUT)
    except SsplError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(EXIT_BAD_INPUT)
    except (KeyboardInterrupt, click.exceptions.Abort):
        click.echo("Interrupted; what was finished is kept.", err=True)
        sys.exit(EXIT_INTERRUPTED)
