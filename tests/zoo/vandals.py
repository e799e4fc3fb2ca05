"""Submissions that attack the auditor instead of scoring: each has to end with a failed `runs`.

`attack` stands where the weights are loaded, `answer` where the submission starts to serve.
"""

from __future__ import annotations

from tests.zoo.animals import Animal

START = 'weights = np.load("model.npz")\n'
SERVE = "    serve(Scorer())\n"
FEED = "    def feed(self, tokens):\n"


def _attack(name: str, code: str, at: str = START) -> Animal:
    indent = " " * (len(at) - len(at.lstrip()))
    body = "".join(f"{indent}{line}\n" for line in code.splitlines())
    return Animal(name, "runs", changes=((at, body + at),))


def _in_feed(name: str, code: str) -> Animal:
    body = "".join(f"        {line}\n" for line in code.splitlines())
    return Animal(name, "runs", changes=((FEED, FEED + body),))


FORKS = """import time
for _ in range(10_000):
    if os.fork() == 0:
        time.sleep(1000)
"""
ESCAPE = """import time
if os.fork() == 0:
    os.setsid()
    if os.fork():
        os._exit(0)
    time.sleep(1000)
raise SystemExit(3)
"""
KILL = """import signal
for pid in (os.getppid(), 1, -1):
    try:
        os.kill(pid, signal.SIGKILL)
    except OSError:
        pass
raise SystemExit(4)
"""
FILL = """block = bytes(1 << 20)
for i in range(1000):
    with open(f"fill{i}", "wb") as file:
        file.write(block)
"""
HUGE_FILE = """with open("huge", "wb") as file:
    for _ in range(1000):
        file.write(bytes(1 << 20))
"""
UNREAD = """import time
os.close(0)
time.sleep(1000)
"""
FLOOD = """while True:
    os.write(1, bytes(1 << 16))
"""
LIE = """import struct
os.write(1, struct.pack("<Ic", (1 << 32) - 1, b"H") + bytes(1 << 16))
while True:
    pass
"""
LOG_FLOOD = """while True:
    os.write(2, b"x" * (1 << 16))
"""
HOOK_FLOOD = """import sitecustomize
for _ in range(2000):
    os.write(sitecustomize._FD, b"open\\t/" + b"x" * (1 << 16) + b"\\n")
raise SystemExit(5)
"""

SMALL_LIES = """import sitecustomize
for i in range(200_000):
    os.write(sitecustomize._FD, b"open\\t/%d\\n" % i)
raise SystemExit(6)
"""

VANDALS = (
    _attack("loops for ever before it answers", "while True:\n    pass"),
    _in_feed("loops for ever in an answer", "while True:\n    pass"),
    _attack("allocates without end", "np.ones(1 << 36, np.uint8)"),
    _in_feed("grows without end", "hoard = []\nwhile True:\n    hoard.append(bytes(1 << 26))"),
    _attack("forks without end", FORKS),
    _attack("leaves a daemon behind", ESCAPE),
    _attack("kills its parent", KILL),
    _attack("writes a huge file", HUGE_FILE),
    _attack("fills the disk with many files", FILL),
    _attack("exits early", "raise SystemExit(0)", SERVE),
    _in_feed("exits in an answer", "os._exit(0)"),
    _attack("prints garbage", "print('loading weights ...')\nimport sys\nsys.stdout.flush()"),
    _attack("prints without end", FLOOD),
    _attack("promises four gigabytes", LIE),
    _attack("never reads", UNREAD),
    _attack("logs without end", LOG_FLOOD),
    _attack("floods the hook", HOOK_FLOOD),
    _attack("tells the hook many small lies", SMALL_LIES),
    _in_feed("answers too little", "return np.zeros((1, VOCAB), np.float32)"),
    _in_feed("raises in an answer", "raise ValueError('no')"),
    Animal(
        "reports infinity",
        "runs",
        changes=(("return losses.sum(dtype=np.float64)", "return np.inf"),),
    ),
    Animal(
        "says hello wrongly",
        "runs",
        changes=(('{"protocol": 1,', '{"protocol": [1] * 100,'),),
    ),
    Animal(
        "says a different hello each time",
        "runs",
        changes=(
            (
                "WINDOW, STRIDE, CHUNK = 64,",
                "WINDOW, STRIDE, CHUNK = 64 + int.from_bytes(os.urandom(2), 'little'),",
            ),
        ),
    ),
)
