"""Types of arguments and options: what an odd value is refused for before any work."""

import math
import re
from functools import partial
from pathlib import Path
from typing import Any, Final

import click

from sspl.errors import SsplError
from sspl.io.files import require_file_place
from sspl.io.user_code import forget, trust
from sspl.weights import BUILT_IN

LARGEST: Final = 2**31 - 1
"""Largest number of anything that is counted."""

_DEVICE: Final = re.compile(r"auto|(cpu|cuda|mps|xpu|hpu|mtia|npu)(:[0-9]{1,3})?")

LARGEST_SEED: Final = 2**63 - 1


def at_least(least: int) -> click.IntRange:
    """Return the type of a whole number from `least` to the largest there is."""
    return click.IntRange(least, LARGEST)


seed_value = click.IntRange(0, LARGEST_SEED)


class Finite(click.FloatRange):
    """A number in a range, which "not a number" and infinity are not."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the number; refuse one that is none."""
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number.", param, ctx)
        return number


class Text(click.ParamType):  # type: ignore[type-arg]
    """Words that are there: not empty, and text that can be written down."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the words."""
        fault = fault_of(str(value))
        if fault:
            self.fail(fault, param, ctx)
        return str(value)


def fault_of(text: str, utf8: bool = True) -> str | None:
    """Return what is wrong with words from the command line, None where nothing is."""
    if not text.strip():
        # As a path it would mean the folder that one is in.
        return "it is empty; give a value, or leave the option out."
    if "\0" in text:
        return f"{text!r} has a NUL in it."
    try:
        text.encode(errors="strict" if utf8 else "surrogateescape")
    except UnicodeEncodeError:
        return f"{text!r} is not UTF-8; rename it."
    return None


class Given(Text):
    """Words that may be the name of a file in any encoding: whoever opens it says what is wrong."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the words."""
        fault = fault_of(str(value), utf8=False)
        if fault:
            self.fail(fault, param, ctx)
        return str(value)


class Name(click.Path):
    """A path that is there to be named, as `Text` is."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path."""
        fault = fault_of(str(value))
        if fault:
            self.fail(fault, param, ctx)
        return super().convert(value, param, ctx)


class StartType(Name):
    """A run or model that is there, or the word for the weights in the package."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path; the word as it is."""
        return Path(value) if str(value) == BUILT_IN else super().convert(value, param, ctx)


class FileOut(Name):
    """A file to write: one that is there is replaced, and nothing else is.

    With `endings` its name must have one of them.
    """

    def __init__(self, *endings: str) -> None:
        super().__init__(path_type=Path)
        self.endings = endings

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path; refuse a folder, a device, a pipe and a socket."""
        path = super().convert(value, param, ctx)
        try:
            require_file_place(path)
        except SsplError as error:
            self.fail(str(error), param, ctx)
        if self.endings and path.suffix not in self.endings:
            ends = ", ".join(self.endings)
            self.fail(f"{path}: give the file a name that ends in {ends}.", param, ctx)
        return path


class FolderOut(Name):
    """A folder to write into, there or not."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path; refuse what is there and no folder."""
        path = super().convert(value, param, ctx)
        if path.exists() and not path.is_dir():
            self.fail(f"{str(path)!r} is there already and no folder.", param, ctx)
        return path


class Host(click.ParamType):  # type: ignore[type-arg]
    """An address to listen on; an empty one would mean every network."""

    name = "host"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the address; refuse one that no computer can have."""
        text = str(value)
        plain = text.isascii() and text.isprintable() and not any(map(str.isspace, text))
        if not text or not plain or len(text) > 253 or "/" in text:
            self.fail(
                f"{text!r} is no address; give a name or number of this machine such as 127.0.0.1.",
                param,
                ctx,
            )
        return text


class OwnCode(Text):
    """FILE.py:CLASS, which models may run until the command ends."""

    name = "FILE.py:CLASS"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return what pins it; refuse what is no Python file."""
        try:
            pinned = trust(super().convert(value, param, ctx))
        except SsplError as error:
            self.fail(str(error), param, ctx)
        if ctx is not None:
            ctx.call_on_close(partial(forget, pinned))
        return pinned


text_value = Text()
own_code = OwnCode()
given_value = Given()


class Device(Text):
    """Where a network runs, in words that torch has for it."""

    name = "device"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the words; whether it is there is seen when it is used."""
        text = super().convert(value, param, ctx)
        if not _DEVICE.fullmatch(text):
            self.fail(f"{text!r} is none; use auto, cpu, cuda, cuda:1 or the like.", param, ctx)
        return text


class Devices(Device):
    """Several devices, with commas between them; one may be named more than once."""

    name = "devices"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the words for each."""
        if isinstance(value, tuple):
            return value
        return tuple(super(Devices, self).convert(v, param, ctx) for v in str(value).split(","))


class Option(Text):
    """KEY=VALUE."""

    name = "KEY=VALUE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return both."""
        if isinstance(value, tuple):
            return value
        key, equals, text = super().convert(value, param, ctx).partition("=")
        if not (key and equals and text):
            self.fail(f"{value!r} is not KEY=VALUE.", param, ctx)
        return key, text


option_value = Option()
device_value = Device()
devices_value = Devices()
path_in = Name(path_type=Path)
folder_in = Name(exists=True, path_type=Path)
start_in = StartType(exists=True, path_type=Path)
folder_out = FolderOut(path_type=Path)
file_out = FileOut()
host_value = Host()
port_value = click.IntRange(0, 65535)
file_in = Name(exists=True, dir_okay=False, path_type=Path)
only_folder_in = Name(exists=True, file_okay=False, path_type=Path)
