"""Rules on the folder: what ships, what run time touches, and what it claims of its training."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from squeeze.ledger.submission import is_paper
from squeeze.score.audit.evidence import Evidence
from squeeze.score.audit.sandbox import visible_paths
from squeeze.score.audit.submission import own_packages
from squeeze.score.audit.verdict import Verdict, failed, passed, unknown

TRAIN_SECONDS = 600.0
LOCAL = ("127.", "localhost", "::1", "0.0.0.0", "None")
SYSTEM = ("/proc", "/sys", "/dev", "/etc")
BOX = ("/tmp", "/inputs")  # empty and read-only, where there is a box
MAX_SHOWN, MAX_LISTED = 5, 100

# names of settings in the challenge's logs ("matrix_lr:0.04", "num_layers: 11"), not of measurements
SETTING = re.compile(
    r"\b(\w*(?:_lr|lr_\w+|_wd|decay|layers|model_dim|heads|mlp_mult|seq_len|batch_tokens|momentum|"
    r"warmdown\w*|warmup_steps|wallclock_seconds|_bits|clip\w*|_rank|stride|iterations)) ?[:=] ?"
    r"([\w.+-]+)"
)
TIME = re.compile(r"train_time:(\d+(?:\.\d+)?)ms(?:.*?step_avg:(\d+(?:\.\d+)?)ms)?")


def shipped(e: Evidence) -> dict[str, int]:
    """Bytes of the files that count: all but papers, and of papers those that run time opened."""
    opened = {_inside(e, path) for path in e.opened}
    return {
        name: size
        for name, size in e.submission.files.items()
        if name in opened or not is_paper(name) or not e.watched
    }


def _inside(e: Evidence, path: str) -> str | None:
    """Relative name of a path in the private copy."""
    for folder in e.folders:
        if path.startswith(folder + "/"):
            return path[len(folder) + 1 :]
    return None


def size(e: Evidence) -> Verdict:
    """Code and weights fit the limit, as the files that ship and run."""
    counted = shipped(e)
    total = sum(counted.values())
    papers = sorted(name for name in counted if is_paper(name))
    data = {"total": total, "limit": e.options.byte_limit, "files": counted}
    said = f"{total:,} bytes in {len(counted)} files, limit {e.options.byte_limit:,}"
    if papers and e.watched:
        said += f"; run time reads {', '.join(papers[:MAX_SHOWN])}, so it counts"
    if total > e.options.byte_limit:
        return failed(f"{said}: over by {total - e.options.byte_limit:,}", **data)
    claimed = e.submission.claims.get("bytes_total")
    if isinstance(claimed, int) and claimed < total:
        return failed(f"{said}; submission.json counts only {claimed:,}", claimed=claimed, **data)
    return passed(said, **data)


def files(e: Evidence) -> Verdict:
    """Run time opens nothing but the submission, the inputs and the installed software."""
    links = list(e.submission.links)
    outside = _outside(e)
    lists = {"outside": outside, "links": links, "programs": e.programs}
    data = {"opened": len(e.opened), **{name: found[:MAX_LISTED] for name, found in lists.items()}}
    if links:
        return failed(f"links lead out of the folder: {', '.join(links[:MAX_SHOWN])}", **data)
    if outside:
        return failed(
            f"opened {len(outside)} files outside the folder: {', '.join(outside[:MAX_SHOWN])}",
            **data,
        )
    if e.isolation.level == "namespaces":
        hook = "" if e.watched else "; the hook that watches Python was not loaded"
        return passed(
            f"{len(e.opened)} files opened, none outside; no others existed in the box{hook}",
            **data,
        )
    if not e.watched:
        return unknown("the hook that watches Python was not loaded, and there is no box", **data)
    return passed(f"{len(e.opened)} files opened by Python code, none outside", **data)


def _outside(e: Evidence) -> list[str]:
    """Opened paths that are neither the submission's, nor inputs, nor installed software."""
    boxed = e.isolation.level == "namespaces"
    roots = [*SYSTEM, *e.folders, *visible_paths(e.submission.trusted)]
    roots += BOX if boxed else [str(Path(folder).parent) for folder in e.folders]
    inside = tuple(root + "/" for root in roots)
    # a submission that needs squeeze installed is not self-contained
    own = () if e.submission.trusted else tuple(f"{path}/" for path in own_packages())
    return [
        path for path in e.opened if not (path + "/").startswith(inside) or path.startswith(own)
    ]


def network(e: Evidence) -> Verdict:
    """No network is used or tried."""
    tried = [text for text in e.network if not text.split(" ", 1)[1].startswith(LOCAL)]
    if tried:
        return failed(
            f"tried the network: {'; '.join(tried[:MAX_SHOWN])}", tried=tried[:MAX_LISTED]
        )
    if e.isolation.offline:
        return passed("none tried by Python code, and none reachable")
    if not e.watched:
        return unknown("the hook that watches Python was not loaded, and there is no box")
    return passed("none tried by Python code; native code is not watched here")


def clock(e: Evidence) -> Verdict:
    """At most 600 s of training, with everything in it that reads training data."""
    rows = e.submission.claims.get("clock")
    stated = e.submission.claims.get("training_seconds")
    late = list(_late_logs(e))
    if late:
        return failed("; ".join(late))
    if rows is None and not isinstance(stated, (int, float)):
        if any(TIME.search(text) for text in e.submission.logs.values()):
            return passed(
                "the logs' timers end within the budget; what ran outside them is not told"
            )
        return unknown("no clock ledger in submission.json and no timer in the logs")
    try:
        total, outside = _ledger(rows or [])
    except (TypeError, KeyError, AttributeError):
        return failed("submission.json: clock is not a list of {stage, seconds, inside, reads}")
    if isinstance(stated, (int, float)) and stated > total:
        total = float(stated)
    data = {"inside_seconds": total, "limit": TRAIN_SECONDS, "outside": outside}
    if total > TRAIN_SECONDS:
        return failed(f"{total:.1f} s of training, limit {TRAIN_SECONDS:.0f} s", **data)
    learning = [row for row in outside if row.get("reads", "nothing") != "nothing"]
    learning += [row for row in outside if row.get("updates") and row not in learning]
    if learning:
        names = ", ".join(
            f"{row['stage']} ({row['seconds']:g} s, reads {row.get('reads')})" for row in learning
        )
        return failed(f"work on data outside the timer: {names}", **data)
    return passed(f"states {total:.1f} s of training, nothing that reads data outside", **data)


def _ledger(rows: list[dict[str, Any]]) -> tuple[float, list[dict[str, Any]]]:
    inside = sum(float(row["seconds"]) for row in rows if row["inside"])
    for row in rows:
        str(row["stage"]), row.get("reads")
    # validation is paused by the official timer; it must not feed back, which no clock can show
    quiet = {"validation", "evaluation"}
    return inside, [row for row in rows if not row["inside"] and row["stage"] not in quiet]


def _late_logs(e: Evidence) -> Iterator[str]:
    for name, text in e.submission.logs.items():
        found = [(float(ms), float(step or 0)) for ms, step in TIME.findall(text)]
        if found:
            longest, step = max(found)
            # the official loop looks at the clock after a step: the last one may end past the cap
            if longest - step > 1000 * TRAIN_SECONDS:
                yield f"{name}: train_time {longest / 1000:.1f} s, limit {TRAIN_SECONDS:.0f} s"


def seeds(e: Evidence) -> Verdict:
    """All seeds of a mean ran the same configuration."""
    configs = dict(_configs(e))
    if len(configs) < 2:
        return unknown(
            "fewer than two seeds' configurations in seed*.json, submission.json or logs"
        )
    names = list(configs)
    first = configs[names[0]]
    for name in names[1:]:
        other = configs[name]
        # a log tells some settings only; one that is in both has to agree
        keys = first.keys() & other.keys() if name.endswith(".log") else first.keys() | other.keys()
        apart = sorted(key for key in keys if first.get(key) != other.get(key))
        if apart:
            shown = ", ".join(
                f"{key} {first.get(key)} / {other.get(key)}" for key in apart[:MAX_SHOWN]
            )
            return failed(f"{names[0]} and {name} differ: {shown}", differing=apart, runs=names)
    return passed(f"{len(configs)} seeds share {len(first)} settings", runs=names)


def _configs(e: Evidence) -> Iterator[tuple[str, dict[str, Any]]]:
    stated = e.submission.claims.get("seeds")
    runs = list(e.submission.seeds.items())
    if isinstance(stated, list):
        runs += [(f"seeds[{i}]", run) for i, run in enumerate(stated)]
    for name, run in runs:
        config = run.get("config") if isinstance(run, dict) else None
        if isinstance(config, dict):
            yield name, {key: value for key, value in config.items() if key != "seed"}
    if not runs:
        for name, text in e.submission.logs.items():
            settings = dict(SETTING.findall(text))
            if settings:
                yield name, settings
