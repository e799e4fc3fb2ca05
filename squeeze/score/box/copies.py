"""Private copies of a submission: names and contents, and nothing else that could carry information.

Times, owners, extended attributes and empty folders stay behind; of the permissions only that to
execute is copied, and of a link where it leads, not the way.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection
from pathlib import Path


def copy_folder(source: Path, target: Path, left_out: Collection[str] = ()) -> None:
    """Copy all files of a folder but those `left_out`, by relative name; links stay links."""
    target.mkdir()
    for place, folders, leaves in os.walk(source):
        folder = Path(place)
        links = [name for name in folders if (folder / name).is_symlink()]
        for name in sorted([*leaves, *links]):
            path = folder / name
            relative = path.relative_to(source)
            if str(relative) in left_out:
                continue
            copy = target / relative
            copy.parent.mkdir(parents=True, exist_ok=True)
            if path.is_symlink():
                real = Path(os.path.realpath(path))
                inside = real.is_relative_to(source.resolve())
                target_path = os.path.relpath(real, path.parent.resolve())
                copy.symlink_to(target_path if inside else "nowhere")
            else:
                shutil.copyfile(path, copy)
                copy.chmod(0o755 if os.access(path, os.X_OK) else 0o644)
