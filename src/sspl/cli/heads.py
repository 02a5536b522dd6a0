"""`sspl heads`."""

from pathlib import Path

import click

from sspl.cli.options import DataCommand, json_option, say
from sspl.cli.values import Finite, device_value, folder_in


@click.command(cls=DataCommand)
@click.argument("run", type=folder_in)
@click.option(
    "--data",
    "spec",
    help="FORMAT:PATH of faces with labels; default: faces that are drawn for it.",
)
@click.option(
    "--strength",
    type=Finite(0, 1e6, min_open=True),
    help="Weight of half the squared norm of the heads; default: as in the package's own weights.",
)
@click.option("--device", type=device_value, default="auto", show_default=True)
@json_option
def heads(run: Path, spec: str | None, strength: float | None, device: str, as_json: bool) -> None:
    """Give RUN of stage 1 heads for the attributes of other faces, drawn ones above all.

    Stage 2 starts from the heads whose names it finds among its own attributes. Without --data
    3,000 faces are drawn as by 'sspl data synthetic --style photo', whose attributes are known.
    All splits of --data are learnt from.
    """
    from sspl.data.data_settings import parse_data_spec
    from sspl.device import pick_device
    from sspl.io.progress import counted
    from sspl.training.ready_heads import DRAWN, add_drawn_heads, add_ready_heads, spread

    how = {} if strength is None else {"strength": strength}
    if spec is None:
        seen, ready = DRAWN, add_drawn_heads(run, pick_device(device), **how)
    else:
        data = parse_data_spec(spec)
        faces = data.open()
        some = spread(faces)
        seen, box = len(some), data.box_of(faces)
        ready = add_ready_heads(run, some, box, pick_device(device), **how)
    learnt = counted(len(ready.names), "head")
    text = f"{run} has {learnt} from {counted(seen, 'face')}: {', '.join(ready.names)}."
    say(text, {"attributes": list(ready.names), "faces": seen}, as_json)
