"""`sspl heads`."""

from pathlib import Path

import click

from sspl.cli.options import DataCommand, json_option, say
from sspl.cli.values import Finite, device_value, folder_in


@click.command(cls=DataCommand)
@click.argument("run", type=folder_in)
@click.option("--data", "spec", required=True, help="FORMAT:PATH of faces with labels.")
@click.option(
    "--strength",
    type=Finite(0, 1e6, min_open=True),
    help="Weight of half the squared norm of the heads; default: as in the package's own weights.",
)
@click.option("--device", type=device_value, default="auto", show_default=True)
@json_option
def heads(run: Path, spec: str, strength: float | None, device: str, as_json: bool) -> None:
    """Give RUN of stage 1 heads for the attributes of other faces, drawn ones above all.

    Stage 2 starts from the heads whose names it finds among its own attributes. The faces of
    'sspl data synthetic --style photo' have labels for nothing. All splits are learnt from.
    """
    from sspl.data.data_settings import parse_data_spec
    from sspl.device import pick_device
    from sspl.io.progress import counted
    from sspl.training.ready_heads import add_ready_heads, spread

    data = parse_data_spec(spec)
    faces = data.open()
    some = spread(faces)
    how = {} if strength is None else {"strength": strength}
    ready = add_ready_heads(run, some, data.box_of(faces), pick_device(device), **how)
    learnt, seen = counted(len(ready.names), "head"), counted(len(some), "face")
    text = f"{run} has {learnt} from {seen}: {', '.join(ready.names)}."
    say(text, {"attributes": list(ready.names), "faces": len(some)}, as_json)
