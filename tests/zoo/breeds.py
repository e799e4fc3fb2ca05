"""Honest submissions of unusual design, none of which may be accused."""

from __future__ import annotations

from pathlib import Path

from tests.zoo.animals import ISOLATED, STATEFUL, Animal, Change, Habitat
from tests.zoo.offenders import READ, REPORT, START

SHAPE = "WINDOW, STRIDE, CHUNK = 64, 64, 32"
ADAPTED = "            rows[i] = log_softmax(TABLE[token] + self.bias)\n"
# logits in bfloat16, whose last bit depends on the shape of the request
COARSE = (
    "    rows = np.log((1 - CACHE) * bigram + CACHE * copied).astype(np.float32)\n"
    "    rows = rows * np.float32(1 + 1e-4 * (len(tokens) % 7))\n"
    "    rows = ((rows.view(np.uint32) + 0x8000) & 0xFFFF0000).view(np.float32)\n"
    "    return log_softmax(rows)\n"
)


def _sized(window: int, stride: int, chunk: int = 32) -> Change:
    return SHAPE, f"WINDOW, STRIDE, CHUNK = {window}, {stride}, {chunk}"


def _noisy(nats: float, seeded: str = "") -> Change:
    """Add noise that no two processes share, or that `seeded` fixes."""
    noise = f"np.random.default_rng({seeded}).normal(size=rows.shape) * {nats}"
    body = f"    return log_softmax(rows + {noise})\n"
    return READ, READ.replace("return", "rows =") + body


def _own_module(folder: Path, habitat: Habitat) -> None:
    (folder / "package").mkdir()
    (folder / "package" / "__init__.py").touch()
    (folder / "package" / "settings.py").write_text("BOS = 1\n")


def _own_papers(folder: Path, habitat: Habitat) -> None:
    (folder / "README.md").write_text("# A model\n" * 100)
    (folder / "train_seed1.log").write_text("step:9/9 train_time:590000ms\n")


def _linked(folder: Path, habitat: Habitat) -> None:
    (folder / "pieces.npz").rename(folder / "table.npz")
    (folder / "pieces.npz").symlink_to("table.npz")


ROOMY = {"bytes_total": 400_000}
CHILD = (
    "import subprocess, sys\n"
    "code = 'import sys; sys.stdout.write(sys.stdin.read())'\n"
    "echo = subprocess.run([sys.executable, '-c', code], input=b'x', stdout=subprocess.PIPE)\n"
    "assert echo.stdout == b'x'\n"
)
BREEDS = (
    Animal("windows of one token", changes=(_sized(1, 1),)),
    Animal("windows of two tokens", changes=(_sized(2, 1),)),
    Animal("a stride of one", changes=(_sized(24, 1),)),
    Animal("one window longer than the text", changes=(_sized(2048, 2048),)),
    Animal("an odd window and stride", changes=(_sized(37, 11),)),
    Animal("documents that slide", None, "documents", (_sized(64, 8),)),
    Animal("an update after each token", changes=(STATEFUL, _sized(64, 64, 1))),
    Animal("an update after 7 tokens", changes=(STATEFUL, _sized(64, 64, 7))),
    Animal("an update after 200 tokens", changes=(STATEFUL, _sized(64, 64, 200))),
    Animal("documents that adapt after 5 tokens", changes=(STATEFUL, ISOLATED, _sized(64, 64, 5))),
    Animal("logits in bfloat16", changes=((READ, COARSE),)),
    Animal("sliding logits in bfloat16", None, "sliding", ((READ, COARSE),)),
    Animal("kernels that add in any order", changes=(_noisy(1e-6),)),
    Animal("kernels that add in any order, coarsely", changes=(_noisy(5e-5),)),
    Animal("rounding that depends on the shape", changes=(_noisy(3e-3, "len(tokens)"),)),
    Animal(
        "adaptation that adds in any order",
        None,
        "ttt-stream",
        ((ADAPTED, ADAPTED.replace("self.bias", "self.bias * (1 + np.random.rand() * 1e-6)")),),
    ),
    Animal(
        "a report in batches of another shape",
        changes=((REPORT, REPORT + "        losses = np.round(losses * 512) / 512\n"),),
    ),
    Animal(
        "a report in half precision",
        changes=((REPORT, REPORT + "        losses = losses.astype(np.float16)\n"),),
    ),
    Animal(
        "a package of its own",
        changes=(("BOS = 1\n", "from package.settings import BOS\n"),),
        claims=ROOMY,
        extra=_own_module,
    ),
    Animal("papers beside it", extra=_own_papers),
    Animal("a link within", claims=ROOMY, extra=_linked),
    Animal("a helper process", changes=((START, CHILD + START),)),
    Animal(
        "files of its own making",
        changes=((START, "open('cache.txt', 'w').write('x')\nopen('cache.txt').read()\n" + START),),
    ),
    Animal(
        "prints a lot",
        changes=((START, "import sys\nprint('loading ' * 9999, file=sys.stderr)\n" + START),),
    ),
    Animal(
        "settings in its statement",
        changes=((START, "import json\njson.load(open('submission.json'))['name']\n" + START),),
        claims=ROOMY,
    ),
    Animal(
        "a threaded loader",
        changes=(
            (
                START,
                "import threading\nt = threading.Thread(target=print)\nt.start()\nt.join()\n"
                + START,
            ),
        ),
    ),
)
VOCABULARIES = (275, 512, 1024)  # the first is of bytes
