"""The plan of the house: which room may import which, and how large a room or a file may grow.

Imports are read from the syntax tree, so indented ones and those under `TYPE_CHECKING` count too.
Excepted are the two lazy registries, which name modules in strings and load one only when asked:
`codecs/__init__.py` (a codec by its name) and `squeeze/cli/__init__.py` (a command by its name).
"""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# A folder of the product and the name it is imported by.
PACKAGES = {
    "squeeze": "squeeze",
    "codecs": "squeeze.codecs",
    "calib": "squeeze.calib",
    "train": "squeeze.train",
}
LEAVES = ("errors", "files", "reporter")  # any room may import these
FACE, FACE_LEAF = "squeeze", "__version__"  # of the package itself, they may import its version

# A room (a module or a package, without the leading `squeeze.`) and the rooms it may import besides
# the leaves. A module belongs to the longest name that fits. A row may name only rooms of earlier
# rows, the ground floor being the first: so there are no circles, and nothing runs back up.
ROOMS = {
    "errors": "",
    "files": "",
    "reporter": "",
    "rows": "",
    # The processes of one run.
    "ranks": "",
    # Arrays and bytes: integers only, never torch.
    "codecs.jit": "",
    "codecs.coder": "codecs.jit",
    "codecs.trellis": "codecs.jit",
    "codecs": "codecs.jit codecs.coder",
    "codecs.context": "codecs.jit codecs.coder codecs.trellis codecs",
    "tensors": "codecs.trellis",
    # Where to spend the bits of any torch module.
    "calib.parallel": "",
    "calib.text": "ranks calib.parallel",
    "calib.taps": "tensors",
    "calib.statistics": "tensors ranks calib.parallel calib.text calib.taps",
    "calib.allocation": "tensors calib.parallel calib.statistics",
    "calib.quantizers": (
        "codecs.jit codecs.trellis tensors calib.parallel calib.statistics calib.allocation"
    ),
    "calib.tuning": "calib.parallel calib.text calib.statistics",
    # The model of this repository and its training; nothing else of ours.
    "train.fields": "",
    "train.model": "train.fields",
    "train.optim": "train.fields ranks train.model",
    "train.data": "ranks",
    "train.metadata": "",
    "train.checkpoint": "train.metadata train.model train.optim",
    "train.idle": "train.model train.optim",
    "train.presets": "train.fields train.idle train.model train.optim",
    "train.run": "train.fields ranks train.model train.optim train.data train.presets",
    # One file of code that is small and runs.
    "bundle.load": "",
    "bundle.analysis": "bundle.load",
    "bundle.passes": "bundle.load bundle.analysis",
    "bundle.emit": "codecs.jit bundle.load bundle.analysis",
    "bundle.cost": "rows",
    # Files: ours, and those of others.
    "artifact": (
        "codecs.coder codecs codecs.context tensors train.metadata train.model train.checkpoint"
    ),
    # Code that scripts of others carry along.
    "ship": (
        "codecs.trellis codecs codecs.context tensors calib.statistics calib.allocation"
        " calib.quantizers artifact"
    ),
    "outside": "rows tensors bundle.emit bundle.cost artifact",
    "bundle": "bundle.load bundle.analysis bundle.passes bundle.emit bundle.cost outside",
    "checkpoint": (
        "tensors train.fields train.metadata train.model train.optim train.checkpoint artifact"
        " outside"
    ),
    # Whatever is packed or scored: the one room that runs code of others.
    "subject": "tensors calib.parallel calib.taps calib.statistics train.model artifact checkpoint",
    "score.report": "",
    # What a file's bytes are spent on, and what fits a limit.
    "ledger": "rows codecs tensors artifact outside",
    "packing": (
        "codecs tensors ranks calib.parallel calib.text calib.taps calib.statistics"
        " calib.allocation calib.quantizers calib.tuning train.model train.data artifact checkpoint"
        " ledger subject"
    ),
    # A submission by its papers: logs, claims, card and script. Nothing of it is run.
    "score.seeds.student": "",
    "review": "outside ledger score.seeds.student",
    "views": (
        "rows codecs tensors calib.allocation bundle.emit bundle.cost artifact outside ledger"
        " packing score.report"
    ),
    # Bits per byte, and evidence for them.
    "score": "ranks train.model score.report score.seeds.student review",
    "score.adapt": "ranks train.fields train.model score",
    "score.modes": "train.fields train.model score score.adapt",
    "score.identity": "train.data",
    "score.evaluate": (
        "ranks train.model train.data checkpoint subject score.report score.identity score"
        " score.modes"
    ),
    "score.live": "train.data checkpoint subject score.report score.modes score.evaluate",
    "score.proof": (
        "codecs.coder codecs train.model train.data subject score score.adapt score.modes"
        " score.evaluate"
    ),
    "score.serving": (
        "train.fields train.model train.data subject score score.adapt score.modes score.evaluate"
    ),
    "score.box": "",
    "score.audit": (
        "train.data artifact ledger review score.identity score score.serving score.box"
    ),
    "data": "train.data score",
    # The submission: `submit.entry` is the script that ships, so it names what it runs.
    "submit": (
        "codecs codecs.context tensors calib.text calib.statistics ranks train.model"
        " train.optim train.data train.metadata train.checkpoint train.run bundle.load bundle"
        " artifact outside checkpoint ledger packing views score.report score.seeds.student score"
        " score.adapt score.modes score.identity score.evaluate score.serving score.box score.audit"
    ),
    "demo": (
        "train.model train.optim train.data train.checkpoint train.run artifact checkpoint packing"
    ),
    "cli": (
        "codecs tensors ranks calib.taps train.fields train.model train.optim train.data"
        " train.metadata train.checkpoint train.presets train.run bundle.emit bundle artifact"
        " outside checkpoint subject ledger packing review views score.report score.seeds.student"
        " score.identity score score.modes score.evaluate score.proof score.box score.audit data"
        " submit demo"
    ),
    "__main__": "cli",
}
# What no row names stands on the roof and may import any room: the public API in the package's
# face, and the faces of `calib` and `train`, which hold a docstring.
ROOF = FACE

MOST_AT_THE_ROOT, MOST_IN_A_FOLDER, MOST_LINES = 8, 20, 300
DATA_TABLES: tuple[str, ...] = ()  # files of numbers only, which may be longer


def product_files(suffix: str = "") -> list[Path]:
    """Return the files of the product's four folders, caches left out."""
    return sorted(
        path
        for folder in PACKAGES
        for path in (ROOT / folder).rglob(f"*{suffix}")
        if path.is_file() and "__pycache__" not in path.parts
    )


def module_name(path: Path) -> str:
    """Return the dotted name that imports `path`, a Python file of the product."""
    folder, *parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join([PACKAGES[folder], *(part for part in parts if part != "__init__")])


MODULES = {module_name(path): path for path in product_files(".py")}


def imports_of(source: str) -> list[str]:
    """Return every name that `source` imports, as `module` or `module.name`."""
    names = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"line {node.lineno}: imports are written in full here"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


def room_of(name: str) -> str:
    """Return the room that holds `name`, a module of ours or a name inside one."""
    while name not in MODULES:
        name = name.rpartition(".")[0]
    inside = name.removeprefix("squeeze.") + "."
    rooms = [room for room in ROOMS if inside.startswith(room + ".")]
    return max(rooms, key=len, default=ROOF)


def rooms_imported_by(path: Path) -> dict[str, str]:
    """Return the rooms `path` imports, each with the first name taken from it."""
    rooms: dict[str, str] = {}
    for name in imports_of(path.read_text(encoding="utf-8")):
        if name.split(".")[0] == "squeeze" and name != f"{FACE}.{FACE_LEAF}":
            rooms.setdefault(room_of(name), name)
    return rooms


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_what_the_table_says(room: str) -> None:
    allowed = {room, *LEAVES, *ROOMS[room].split()}
    for name, path in MODULES.items():
        if room_of(name) == room:
            for other, imported in rooms_imported_by(path).items():
                assert other in allowed, f"{path.relative_to(ROOT)} imports {imported}"


def test_rooms_name_only_rooms_below_them() -> None:
    below = set(LEAVES)
    for room, imported in ROOMS.items():
        assert set(imported.split()) <= below, f"{room} runs back up"
        below.add(room)


def test_leaves_import_no_room() -> None:
    for leaf in LEAVES:
        imported = rooms_imported_by(MODULES[f"squeeze.{leaf}"])
        assert set(imported) <= set(LEAVES), leaf


def test_every_module_has_a_room_and_every_room_a_module() -> None:
    assert {room_of(name) for name in MODULES} == {*ROOMS, ROOF}
    on_the_roof = {name for name in MODULES if room_of(name) == ROOF}
    assert on_the_roof == {FACE, "squeeze.calib", "squeeze.train"}


def test_every_package_is_installed() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    packages = {module_name(path) for path in product_files() if path.name == "__init__.py"}
    assert set(settings["tool"]["setuptools"]["packages"]) == packages


def test_indented_and_type_checking_imports_count() -> None:
    source = """
if TYPE_CHECKING:
    from squeeze.views import tree, page as sheet
def late():
    import squeeze.submit.card
    from squeeze import __version__
"""
    assert imports_of(source) == [
        "squeeze.views.tree",
        "squeeze.views.page",
        "squeeze.submit.card",
        "squeeze.__version__",
    ]
    assert room_of("squeeze.codecs.context.codec.Context") == "codecs.context"
    assert room_of("squeeze.codecs.base") == room_of("squeeze.codecs.get") == "codecs"
    assert room_of("squeeze.pack") == ROOF


def test_codecs_never_import_torch() -> None:
    for name, path in MODULES.items():
        if name.startswith("squeeze.codecs"):
            imported = {module.split(".")[0] for module in imports_of(path.read_text("utf-8"))}
            assert "torch" not in imported, path.relative_to(ROOT)


@pytest.mark.parametrize(
    ("statement", "heavy"),
    [
        ("import squeeze", {"torch", "numba", "numpy"}),
        ("import squeeze.codecs.general", {"torch", "numba"}),
        ("import squeeze.codecs.context.codec, squeeze.codecs.trellis.quantize", {"torch"}),
    ],
)
def test_importing_loads_nothing_heavy(statement: str, heavy: set[str]) -> None:
    program = f"import sys; {statement}; print(*{{name.split('.')[0] for name in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert not heavy & set(done.stdout.split())


def test_the_root_of_squeeze_holds_few_files() -> None:
    at_root = [path.name for path in product_files() if path.parent == ROOT / "squeeze"]
    assert len(at_root) <= MOST_AT_THE_ROOT, at_root


def test_no_folder_holds_more_files_than_a_reader_can_search() -> None:
    files = product_files()
    for folder in {path.parent for path in files}:
        names = [path.name for path in files if path.parent == folder]
        assert len(names) <= MOST_IN_A_FOLDER, folder.relative_to(ROOT)


def test_no_file_is_longer_than_a_reader_can_hold() -> None:
    lengths = {
        path.relative_to(ROOT).as_posix(): len(path.read_text(encoding="utf-8").splitlines())
        for path in product_files()
    }
    long = {name for name, lines in lengths.items() if lines > MOST_LINES}
    assert long == set(DATA_TABLES)
