"""A study as an array job of a cluster: tasks that share its folder, as processes by hand do."""

from collections.abc import Mapping
from typing import Final

from sspl.errors import SettingsError, SsplError, first_line
from sspl.study.cells import Cell
from sspl.study.runner import Study

JOBS_FOLDER: Final = "jobs"


def submit(study: Study, cells: list[Cell], tasks: int, options: Mapping[str, str]) -> str:
    """Hand in an array job of `tasks` tasks, each of which runs the study; return its number.

    `options` are submitit's, such as `timeout_min`, `gpus_per_node`, `cpus_per_task` and
    `slurm_partition`; `cluster=local` starts processes here. Their logs go to `jobs` in the study's
    folder. Raises `SsplError` without submitit, and where the study or an option is wrong.
    """
    try:
        import submitit
    except ImportError:
        raise SsplError(
            "--tasks needs submitit, which is not installed; "
            "run in the clone of sspl: pip install '.[cluster]'."
        ) from None
    study.check(cells)
    given: dict[str, int | str] = {k: int(v) if v.isdigit() else v for k, v in options.items()}
    cluster = given.pop("cluster", None)
    try:
        executor = submitit.AutoExecutor(study.out / JOBS_FOLDER, cluster=cluster)
        executor.update_parameters(name=f"sspl-{study.settings.name}", **given)
        with executor.batch():
            jobs = [executor.submit(study.run, cells) for _ in range(tasks)]
    except (RuntimeError, ValueError, NameError, TypeError) as error:
        raise SettingsError(f"--slurm: submitit says: {first_line(error)}") from None
    return str(jobs[0].job_id).partition("_")[0]
