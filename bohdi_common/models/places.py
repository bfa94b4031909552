"""Where models stand: the folders that a configuration names, those that are shipped, and versions of the target."""

from __future__ import annotations

from collections.abc import Callable
from importlib import resources
from pathlib import Path

from bohdi_common.models.port import ModelRef
from bohdi_common.models.versions import VersionStore

SHIPPED = "microworld:"
_SHIPPED_IN = "bohdi.microworld"  # a package of data alone, as seen from here


def place(name: str, beside: Path = Path()) -> Path:
    """The file or folder that a configuration names: `microworld:NAME` is one of those shipped, `microworld:heldout`
    the questions held out from them."""
    if not name.startswith(SHIPPED):
        return (beside / name).resolve()
    shipped = Path(str(resources.files(_SHIPPED_IN))) / "weights"
    return shipped / ("heldout.jsonl" if name == f"{SHIPPED}heldout" else name.removeprefix(SHIPPED))


def model_folder(versions: Path, model: ModelRef) -> Path:
    """The folder of a source, or of one version of the target, promoted ones being in `versions`."""
    return versions / model.version if model.is_version else place(model.path)


class RunStores:
    """The versions of every run under one folder that all services share: FOLDER/RUN/versions."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def of(self, run_id: str) -> VersionStore:
        """The run's versions. Raises ValueError for an id that cannot be a folder's name."""
        return VersionStore(self.versions(run_id))

    def versions(self, run_id: str) -> Path:
        """Where the run's versions stand, or would."""
        if not run_id or run_id != Path(run_id).name or run_id.startswith("."):
            raise ValueError(f"not a run's id: {run_id!r}")
        return self._folder / run_id / "versions"

    def folder_of(self, model: ModelRef) -> Path:
        """The folder of a model of any run."""
        return model_folder(self.versions(model.run_id) if model.version else Path(), model)


FolderOf = Callable[[ModelRef], Path]
