"""What pre-training is worth: stage 2 with and without it, on several label subsets.

    python benchmarks/with_and_without.py --data celeba:FOLDER,crop=celeba --from PRETRAIN_RUN \
        --labels 275 --subsets 3 --out OUT [key=value ...]

Both arms share settings, budget and label subsets; models are selected on the validation split
and judged once on the test split. An interrupted benchmark goes on where it stopped.
"""

from pathlib import Path

import click

from sspl.data.data_settings import parse_data_spec
from sspl.evaluation.comparison import (
    PRETRAINED,
    SCRATCH,
    comparison_table,
    run_arm,
    write_comparison,
)
from sspl.io.files import write_text
from sspl.settings import build
from sspl.training.stage_settings import FinetuneSettings, preset


@click.command()
@click.argument("overrides", nargs=-1)
@click.option("--data", "spec", required=True)
@click.option("--from", "source", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--labels", type=click.IntRange(2), default=275, show_default=True)
@click.option("--subsets", type=click.IntRange(1), default=3, show_default=True)
@click.option("--preset", "preset_name", default="small", show_default=True)
@click.option("--out", type=click.Path(path_type=Path), required=True)
def main(
    overrides: tuple[str, ...],
    spec: str,
    source: Path,
    labels: int,
    subsets: int,
    preset_name: str,
    out: Path,
) -> None:
    stage2 = build(FinetuneSettings, preset(preset_name, "finetune"), overrides)
    content = stage2.model_dump(mode="json")
    data = parse_data_spec(spec)
    results = {
        PRETRAINED: run_arm(content, data, source, labels, subsets, out / "pre-trained"),
        SCRATCH: run_arm(content, data, None, labels, subsets, out / "from-scratch"),
    }
    write_comparison(out / "comparison.csv", results)
    table = comparison_table(results, labels)
    write_text(out / "comparison.txt", table + "\n")
    click.echo(table)


if __name__ == "__main__":
    main()
