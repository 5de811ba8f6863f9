"""What can be reported on, and where it lies: a run, a scaling study, or a folder of both."""

from pathlib import Path

from lbsgd.errors import UsageError
from lbsgd.measuring.study import FILE as STUDY_FILE
from lbsgd.measuring.study import Study, read_study
from lbsgd.record.run_record import read_metrics, read_run
from lbsgd.record.runs_folder import RUN_FILE, find_recorded, recorded
from lbsgd.report.folder import Folder
from lbsgd.report.run import RecordedRun

RECORDS = (RUN_FILE, STUDY_FILE)


def find_subject(name: str | None, runs: Path) -> Path:
    """The folder that `name` means: below `runs`, anywhere else, or "latest"; without a name `runs` itself.

    Raises UsageError when there is none.
    """
    if name is None:
        if not runs.is_dir():
            raise UsageError(f"no folder {runs}; `lbsgd train` makes it, --runs names another")
        return runs
    for folder in (runs / name, Path(name)):
        if folder.is_dir():
            return folder
    return find_recorded(name, runs, *RECORDS, what="run, study or folder")


def read_subject(folder: Path) -> RecordedRun | Study | Folder:
    """A run, a study, or all that lies in a folder.

    Raises UsageError when a record cannot be read; in a folder of many it is left out, and said.
    """
    if (folder / "run.json").exists():
        return RecordedRun(read_run(folder), read_metrics(folder))
    if (folder / STUDY_FILE).exists():
        return read_study(folder)
    return _read_folder(folder)


def _read_folder(folder: Path) -> Folder:
    runs, studies, unreadable = [], [], []
    for path in recorded(folder, *RECORDS):
        try:
            if (path / "run.json").exists():
                runs.append((path, read_run(path)))
            else:
                studies.append(read_study(path).content)
        except UsageError as error:
            unreadable.append(str(error))
    return Folder(folder, runs, studies, unreadable)
