"""Student's t distribution, and the spreads and tests that rest on it. No torch here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from squeeze.errors import BadData

MARGIN_NATS = 0.005  # nats per token by which a record must be better
P_VALUE = 0.01  # below which the challenge takes a difference for real
SAME_TEXT = (
    1e-3  # relative; scores of one tokenizer imply the same bytes a token, to the digits of logs
)
LEAST_P, MOST_P = 1e-99, 0.99  # printed as they are


@dataclass(frozen=True)
class Spread:
    """Mean, sample standard deviation and 95 % interval of the mean of n values; None for n = 1."""

    n: int
    mean: float
    sd: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Welch:
    """One-sided test that a mean lies lower by more than a margin.

    t: statistic
    df: degrees of freedom
    p: chance of such a t if the mean does not lie lower
    """

    t: float
    df: float
    p: float


def margin_in(metric: str, bytes_per_token: float) -> float:
    """Return the challenge's margin as a metric has it: nats per token, or bits per byte for "bpb".

    bytes_per_token: of the older run
    """
    return MARGIN_NATS / (math.log(2.0) * bytes_per_token) if metric == "bpb" else MARGIN_NATS


def spread(values: Sequence[float]) -> Spread:
    """Return mean, standard deviation and 95 % interval of values."""
    n, mean = len(values), math.fsum(values) / len(values)
    if n == 1:
        return Spread(1, mean, None, None, None)
    sd = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))
    half = t_quantile(0.975, n - 1) * sd / math.sqrt(n)
    return Spread(n, mean, sd, mean - half, mean + half)


def welch(new: Sequence[float], old: Sequence[float], margin: float = 0.0) -> Welch:
    """Test that mean(old) - mean(new) > margin.

    Raises BadData for fewer than two values a side, and where none differs from the others of its side.
    """
    if min(len(new), len(old)) < 2:
        raise BadData(
            "a test needs spread",
            expected="2 seeds of each run",
            found=f"{len(new)} and {len(old)}",
            fix="Write --against before each file of the older run.",
        )
    sides = [spread(new), spread(old)]
    parts = [(side.sd or 0.0) ** 2 / side.n for side in sides]
    gain = sides[1].mean - sides[0].mean - margin
    if not sum(parts):
        raise BadData(
            "a test needs spread",
            expected="seeds whose scores differ",
            found=f"{new[0]} and {old[0]} in all of them",
        )
    t = gain / math.sqrt(sum(parts))
    df = sum(parts) ** 2 / sum(
        part**2 / (side.n - 1) for part, side in zip(parts, sides, strict=True)
    )
    return Welch(t, df, t_tail(t, df))


def t_tail(t: float, df: float) -> float:
    """Return P(T > t) of Student's t with df > 0 degrees of freedom, to ten digits in both tails.

    >>> round(t_tail(1.812461123, 10), 9)  # the 95 % point of the tables
    0.05
    >>> f"{t_tail(20, 1000):.6g}"
    '2.03114e-75'
    """
    ratio = abs(t) / math.sqrt(df)
    outside, inside = 1.0, 0.0  # df / (df + t²), and what is missing to 1
    if ratio > 1e-150:  # below that, t² is none of its parts
        outside = 1.0 / (1.0 + ratio * ratio)
        inside = 1.0 / (1.0 + 1.0 / ratio / ratio)
    tail = 0.5 * incomplete_beta(0.5 * df, 0.5, outside, inside)
    return tail if t > 0 else 1.0 - tail


def p_text(p: float) -> str:
    """Return a p-value for people, never rounded across the challenge's.

    >>> p_text(0.0312), p_text(0.00999), p_text(0.0), p_text(1.0)
    ('p = 0.031', 'p = 0.00999', 'p < 1e-99', 'p > 0.99')
    """
    if not LEAST_P <= p <= MOST_P:
        return f"p < {LEAST_P:g}" if p < LEAST_P else f"p > {MOST_P}"
    texts = (f"{p:.{digits}g}" for digits in range(2, 17))
    one_sided = (text for text in texts if (float(text) < P_VALUE) == (p < P_VALUE))
    return f"p = {next(one_sided, repr(p))}"


def t_quantile(p: float, df: float) -> float:
    """Return the t with P(T ≤ t) = p, for p in [0.5, 1), by bisection."""
    low, high = 0.0, 1.0
    while 1.0 - t_tail(high, df) < p:
        low, high = high, 2.0 * high
    for _ in range(200):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if 1.0 - t_tail(middle, df) < p else (low, middle)
    return high


def incomplete_beta(a: float, b: float, x: float, rest: float | None = None) -> float:
    """Return the regularised incomplete beta function I_x(a, b), a, b > 0, x in [0, 1].

    rest: 1 - x, where it is known to more digits than that difference has

    Continued fraction 8.17.22 of the NIST Digital Library of Mathematical Functions, by the modified
    Lentz method; where it converges slowly, through I_x(a, b) = 1 - I_{1-x}(b, a).
    """
    rest = 1.0 - x if rest is None else rest
    if x <= 0.0 or rest <= 0.0:
        return float(rest <= 0.0)
    if x > (a + 1.0) / (a + b + 2.0):
        return 1.0 - incomplete_beta(b, a, rest, x)
    log_front = a * _log(x, rest) + b * _log(rest, x)
    log_front += math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    tiny, fraction, c, d = 1e-300, 1.0, 1.0, 0.0
    for step in range(2000):
        m = step // 2
        if step == 0:
            term = 1.0
        elif step % 2:
            term = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        else:
            term = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        d = 1.0 + term * d
        d = 1.0 / (d if abs(d) > tiny else tiny)
        c = 1.0 + term / c
        c = c if abs(c) > tiny else tiny
        fraction *= c * d
        if step and abs(1.0 - c * d) < 1e-16:
            break
    return math.exp(log_front) / a * (fraction - 1.0)


def _log(x: float, rest: float) -> float:
    """Return ln x of an x in (0, 1); rest: 1 - x, which has more digits where x is near 1."""
    return math.log(x) if x < 0.5 else math.log1p(-rest)
