"""The `sspl` command: a table of commands, and what an error looks like."""

import os
import signal
import sys
import time
from typing import Final, NoReturn

import click

from sspl import __version__
from sspl.cli.benchmark import benchmark
from sspl.cli.check import check
from sspl.cli.compare import compare
from sspl.cli.data import data
from sspl.cli.demo import demo
from sspl.cli.explain import explain
from sspl.cli.export import export
from sspl.cli.faces import faces
from sspl.cli.heads import heads
from sspl.cli.judge import evaluate, predict
from sspl.cli.label import label, suggest
from sspl.cli.learn import learn
from sspl.cli.model import model
from sspl.cli.options import complete, lets_models_run_code
from sspl.cli.parser import parser
from sspl.cli.probe import probe
from sspl.cli.report import report
from sspl.cli.results import results
from sspl.cli.serve import serve
from sspl.cli.settings import settings
from sspl.cli.tensorboard import tensorboard
from sspl.cli.train import finetune, pretrain
from sspl.errors import ReportedElsewhereError, SsplError

EXIT_BAD_INPUT: Final = 2
EXIT_INTERRUPTED: Final = 130
EXIT_TERMINATED: Final = 143
REPORT_TAKES: Final = 0.5

INTERRUPTED: Final = (
    "Interrupted; what was finished is kept. Repeat the command to go on, "
    "with --resume where it has that option."
)
NO_MEMORY: Final = (
    "there is not enough memory for this; use a smaller batch (optim.batch_size or --batch-size), "
    "fewer workers, or keep fewer faces in memory (runtime.cache_gb)."
)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="sspl")
def cli() -> None:
    """Facial attribute recognition from few labels (SSPL, CVPR 2021)."""


data.add_command(check)
for command in (
    learn,
    demo,
    data,
    faces,
    parser,
    pretrain,
    heads,
    finetune,
    probe,
    evaluate,
    compare,
    report,
    benchmark,
    results,
    settings,
    suggest,
    label,
    predict,
    explain,
    model,
    export,
    serve,
    tensorboard,
):
    cli.add_command(command)
for command in (
    *(learn, probe, evaluate, report, benchmark, suggest, label, predict, explain, export, serve),
    *(parser.commands[name] for name in ("run", "test")),
    *model.commands.values(),
):
    lets_models_run_code(command)
complete(cli)


def main() -> None:
    """Run the command line; bad input prints one sentence and exits with code 2.

    A request to end (SIGTERM) is taken like Ctrl-C: what is finished is kept.
    """
    ended: list[int] = []

    def end(number: int, _: object) -> None:
        ended.append(number)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, end)
    try:
        _run()
    except (KeyboardInterrupt, click.exceptions.Abort):
        # A second request must not cut the sentence short.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if os.environ.get("RANK", "0") == "0":  # of several processes the first one speaks
            click.echo(INTERRUPTED, err=True)
        sys.exit(EXIT_TERMINATED if ended else EXIT_INTERRUPTED)
    finally:
        signal.signal(signal.SIGTERM, before)


def _run() -> None:
    try:
        cli.main(prog_name="sspl", standalone_mode=False)
    except click.exceptions.Exit as exit_request:
        sys.exit(exit_request.exit_code)
    except click.exceptions.Abort:
        raise
    except click.ClickException as error:
        error.show()
        sys.exit(EXIT_BAD_INPUT)
    except ReportedElsewhereError:
        # torchrun ends the others as one has left; the one that reports needs a moment.
        time.sleep(REPORT_TAKES)
        sys.exit(EXIT_BAD_INPUT)
    except SsplError as error:
        _refuse(str(error))
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        _refuse(f"{where}{error.strerror or error}.")
    except (MemoryError, RuntimeError) as error:
        if not _is_want_of_memory(error):
            raise
        _refuse(NO_MEMORY)


def _refuse(sentence: str) -> NoReturn:
    # File names and settings that a sentence quotes may hold line ends of their own, and worse.
    words = " ".join(sentence.split())
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in words)
    click.echo(f"Error: {shown}", err=True)
    sys.exit(EXIT_BAD_INPUT)


def _is_want_of_memory(error: Exception) -> bool:
    """Tell whether memory ran out; torch says so in a RuntimeError, on a GPU of a class of its own.

    Its class is known by name, since torch is not imported here.
    """
    named = type(error).__name__ == "OutOfMemoryError"
    return isinstance(error, MemoryError) or named or "can't allocate memory" in str(error)
