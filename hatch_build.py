"""Puts the extension's files into the wheel, where the installed package finds them."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CustomBuildHook(BuildHookInterface):  # type: ignore[type-arg]
    """Collects the control file, extension/*.sql and what `sql/build.py --dist` makes of sql/."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Name the files; an editable install needs none, it reads the checkout."""
        if version == "editable":
            return
        root = Path(self.root)
        # Kept with the hook, so that it lives until the wheel is written, and no longer.
        self.generated = tempfile.TemporaryDirectory()
        scratch = Path(self.generated.name)
        build = [sys.executable, str(root / "sql" / "build.py"), "--dist", str(scratch)]
        subprocess.run(build, check=True, cwd=root)
        scripts = [*(root / "extension").glob("*.sql"), *scratch.glob("*.sql")]
        files = [root / "hotmesh_dba.control", *sorted(scripts)]
        build_data["force_include"].update(
            {str(file): f"hotmesh_dba/files/{file.name}" for file in files}
        )
