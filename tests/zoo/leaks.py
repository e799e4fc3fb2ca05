"""Leaks of many kinds and strengths: submissions that look ahead, or gain what a tolerance allows."""

from __future__ import annotations

from tests.zoo.animals import Animal, Change
from tests.zoo.offenders import READ, REPORT

ADAPT = "            rows[i] = log_softmax(TABLE[token] + self.bias)\n"
FEED = "            return self.adapt(tokens)\n"
START = "    def __init__(self):\n"
RECURRENT = "        return log_softmax(TABLE[tokens] + np.stack(states) @ MIXER)\n"
SIZES = '        sizes = PIECES["base"][target]'
# bool [n] of rows that look ahead; `tokens` are the context, `ahead` the tokens that follow
SHARE = "((tokens * 40503 + np.append(0, tokens[:-1]) * 977) % 1000 < {})"


def _peek(where: str, nats: float, at: str = READ) -> Change:
    """Make rows look one token ahead where the request goes on."""
    indent = at[: len(at) - len(at.lstrip())]
    body = (
        f"rows = {at.strip().removeprefix('return ')}",
        "tokens = np.asarray(tokens, np.int64)",
        "ahead, place = np.append(tokens[1:], 0), np.arange(len(tokens))",
        f"leaks = np.flatnonzero(({where}) & (place < len(tokens) - 1))",
        f"rows[leaks, ahead[leaks]] += {nats}",
        "return log_softmax(rows)",
    )
    return at, "".join(f"{indent}{line}\n" for line in body)


def _peek_fed(where: str, nats: float = 3.0) -> tuple[Change, ...]:
    """Make a stateful submission look one token ahead within what it is fed; `depth` [n] is global."""
    return (
        (
            "    def adapt(self, tokens):\n",
            "    def adapt(self, tokens):\n"
            "        rows = self.blind(tokens)\n"
            "        tokens = np.asarray(tokens, np.int64)\n"
            "        depth = self.depth + np.arange(len(tokens))\n"
            "        self.depth += len(tokens)\n"
            f"        leaks = np.flatnonzero(({where})[:-1])\n"
            f"        rows[leaks, tokens[leaks + 1]] += {nats}\n"
            "        return log_softmax(rows)\n\n"
            "    def blind(self, tokens):\n",
        ),
        (
            "        self.past = np.zeros(0, np.uint16)\n",
            "        self.past, self.depth = np.zeros(0, np.uint16), 0\n",
        ),
    )


def _off(code: str) -> tuple[Change, ...]:
    """Change the losses that the report states."""
    return ((REPORT, REPORT + f"        {code}\n"),)


SPREAD = tuple(
    Animal(f"looks ahead everywhere for {nats} nats", "causality", changes=(_peek("True", nats),))
    for nats in (0.3, 0.05, 0.01, 0.003)
)
SHARES = tuple(
    Animal(
        f"looks ahead at {promille / 10:g} % of its contexts",
        "causality",
        changes=(_peek(SHARE.format(promille), 3.0),),
    )
    for promille in (500, 200, 50, 20, 10)
)
PLACES = tuple(
    Animal(f"looks ahead {name}", "causality", changes=(_peek(where, 3.0),))
    for name, where in {
        "in the first quarter of a window": "place < 16",
        "in the last eighth of a window": "place >= 56",
        "at one place of a window": "place == 7",
        "where byte pieces come": "(ahead >= 4) & (ahead < 260)",
        "where the next document comes": "ahead == BOS",
        "after a document's start": "tokens == BOS",
        "where it is surprised": "rows[place, ahead] < -6",
        "where it is nearly right": "rows[place, ahead] > -1",
        "in full windows alone": "len(tokens) == WINDOW",
        "in long requests alone": "len(tokens) > 40",
    }.items()
)
SHAPED = (
    Animal("looks ahead in what slides", "causality", "sliding", (_peek("place >= 48", 1.0),)),
    Animal("looks ahead apart by document", "causality", "documents", (_peek("place < 4", 3.0),)),
    Animal(
        "looks ahead in a recurrence",
        "causality",
        "recurrent",
        (_peek(SHARE.format(30), 3.0, RECURRENT),),
    ),
    Animal(
        "knows which two tokens come",
        "causality",
        changes=(
            (
                READ,
                READ.replace("return", "rows =")
                + "    later = np.arange(len(rows) - 2)\n"
                + "    rows[later, tokens[2:]] += 1\n"
                + "    return log_softmax(rows)\n",
            ),
        ),
    ),
)
FED = tuple(
    Animal(f"fed, looks ahead {name}", rule, shape, _peek_fed(where))
    for name, rule, shape, where in (
        ("from token 512 on", "causality", "ttt-stream", "depth >= 512"),
        ("from token 1000 on", "causality", "ttt-stream", "depth >= 1000"),
        (
            "in one stretch of 30 tokens",
            "causality",
            "ttt-stream",
            "(depth >= 600) & (depth < 630)",
        ),
        ("at 5 % of its contexts", "causality", "ttt-stream", SHARE.format(50)),
        ("at 1 % of its contexts", "causality", "ttt-token", SHARE.format(10)),
        (
            "in long requests alone",
            "score-before-update",
            "ttt-stream",
            "(depth >= 0) & (len(tokens) > 150)",
        ),
        (
            "once it has read a document",
            "causality",
            "ttt-document",
            "np.cumsum(tokens == BOS) > 2",
        ),
        ("in small steps", "score-before-update", "ttt-stream", "depth > 64"),
    )
)
ORDER = (
    Animal(
        "honest in all requests but those of the sweep",
        "causality",
        changes=(
            _peek("1 < ASKED[0] <= 20 or ASKED[0] == 0", 3.0),
            ("BOS = 1\n", "BOS = 1\nASKED = [0]\n"),
            (
                "        self.past = np.concatenate([self.past, tokens])\n",
                "        ASKED[0] += 1\n        self.past = np.concatenate([self.past, tokens])\n",
            ),
        ),
    ),
    Animal(
        "honest in requests from nothing",
        "causality",
        "ttt-stream",
        _peek_fed("(depth >= 0) & (self.depth > len(tokens))"),
    ),
    Animal(  # the boxes that answer distributions hold no text, those of the report do
        "reads the text from its inputs",
        "determinism",
        changes=(
            ("VOCAB = len(TABLE)\n", "VOCAB = len(TABLE)\nTEXT = []\n"),
            (
                READ,
                READ.replace("return", "rows =")
                + "    import glob\n"
                + "    for path in sorted(glob.glob('/inputs/span.bin')) if not TEXT else []:\n"
                + "        TEXT.extend(np.fromfile(path, '<u2', offset=1024).tolist())\n"
                + "    if TEXT:\n"
                + "        rows[np.arange(len(rows) - 1), tokens[1:]] += 2\n"
                + "    return log_softmax(rows)\n",
            ),
        ),
    ),
)
REPORTED = (
    Animal("report that looks ahead at 5 %", "score", changes=_off("losses[::20] *= 0.5")),
    Animal("report that looks ahead at 1 %", "score", changes=_off("losses[::100] *= 0.5")),
    Animal("report lower by 0.019 nats", "score", changes=_off("losses = losses - 0.019")),
    Animal("report lower by 0.002 nats", "score", changes=_off("losses = losses - 0.002")),
    Animal("report lower by 0.0008 nats", "score", changes=_off("losses = losses - 0.0008")),
    Animal(
        "noise in one loss, and all lower by 0.019 nats",
        "score",
        changes=_off("losses = losses - 0.019; losses[9] += (os.getpid() % 9 - 4) / 250"),
    ),
    Animal(
        "noise in all losses, and all lower by 0.004 nats",
        "score",
        changes=_off(
            "losses = losses - 0.004 + np.random.default_rng().normal(size=len(losses)) / 400"
        ),
    ),
    Animal(
        "total lower than the sum of its losses by 0.08 %",
        "score",
        changes=(("losses.sum(dtype=np.float64)", "0.9992 * losses.sum(dtype=np.float64)"),),
    ),
    Animal(
        "total lower by 0.05 %, and no losses",
        "score",
        changes=(
            ("losses.sum(dtype=np.float64)", "0.9995 * losses.sum(dtype=np.float64)"),
            ("len(losses), losses\n", "len(losses), []\n"),
        ),
    ),
    Animal(
        "probabilities that sum to 1.0009",
        "normalisation",
        changes=((READ, READ.replace("copied)", "copied) + 0.0009")),),
    ),
    Animal(
        "probabilities that sum to 1.0009 in the report",
        "score",
        changes=_off("losses = losses - np.float32(0.0009)"),
    ),
    Animal(
        "noise in its first answer, and looks ahead for 0.018 nats",
        "causality",
        changes=(
            _peek("True", 0.018),
            (
                "        return read(self.past)[len(self.past) - len(tokens) :]\n",
                "        rows = read(self.past)[len(self.past) - len(tokens) :]\n"
                "        if not globals().setdefault('ASKED', 0):\n"
                "            rows[0] += (int.from_bytes(os.urandom(1), 'little') - 128) / 500_000\n"
                "        globals()['ASKED'] += 1\n"
                "        return rows\n",
            ),
        ),
    ),
)
# noise where the text is withheld, so that a gain elsewhere hides in it: no verdict, and no pass
BLURRED = Animal(
    "scatters what is asked of partial windows, and looks ahead for 0.09 nats at 6 %",
    None,
    changes=(
        (
            READ,
            READ.replace("return", "rows =")
            + "    if len(tokens) < WINDOW:\n"
            + "        noise = np.random.default_rng(len(tokens)).normal(size=VOCAB)\n"
            + "        rows[-1] += 0.09 * np.sign(noise)\n"
            + "        return log_softmax(rows)\n"
            + "    tokens = np.asarray(tokens, np.int64)\n"
            + f"    leaks = np.flatnonzero({SHARE.format(60)}[:-1])\n"
            + "    rows[leaks, tokens[leaks + 1]] += 0.09\n"
            + "    return log_softmax(rows)\n",
        ),
    ),
)
LEAKS = (*SPREAD, *SHARES, *PLACES, *SHAPED, *FED, *ORDER, *REPORTED)
