"""Rules on the folder: files that ship, files that run time opens, and claims about the training."""

from __future__ import annotations

import ipaddress
import math
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from squeeze.errors import SqueezeError
from squeeze.ledger.attribute import attribute_paths
from squeeze.ledger.gate import NO_MODEL
from squeeze.ledger.submission import is_paper
from squeeze.review.claimed import claimed_runs, with_training
from squeeze.review.findings import FLAGGED
from squeeze.review.folder import is_record, read_folder
from squeeze.review.logs import LoggedRun
from squeeze.review.runs import differing, overtime, repeated
from squeeze.review.sizes import total_bytes
from squeeze.score.audit.evidence import Evidence
from squeeze.score.audit.stages import read_stages
from squeeze.score.audit.submission import own_packages
from squeeze.score.audit.verdict import Verdict, failed, passed, unknown
from squeeze.score.box.visible import visible_paths

TRAIN_SECONDS = 600.0
LOCAL = ("", "None", "localhost")  # names of no address, of any, and of this machine
SYSTEM = ("/proc", "/sys", "/dev", "/etc")
BOX = ("/tmp", "/inputs")  # empty and read-only, where there is a box
FEW_SEEDS = "fewer than two seeds' configurations in seed*.json, submission.json or logs"
MAX_SHOWN, MAX_LISTED = 5, 100
MAX_NAME = 128  # bytes of a file's name; a longer one, or one longer than its file, may be data
FREE_COMMAND, FREE_NAMES = 128, 1024  # bytes that nobody hides anything in


def shipped(e: Evidence) -> dict[str, int]:
    """Return the bytes of everything that counts, by name: what the boxes held, and papers tried.

    A long command and names of files that could carry more than their files count as well.
    """
    tried = {_inside(e, path) for path in e.opened}
    # one that never answered was given papers in vain: nothing tells that it needs them
    unneeded = e.submission.files if e.hello is None else e.left_out
    counted = {
        name: size
        for name, size in e.submission.files.items()
        if name in tried or not (name in unneeded and is_paper(name))
    }
    stated = e.submission.claims.get("scorer")
    command = sum(map(_bytes_of, stated)) if isinstance(stated, list) else 0
    names = [os.fsencode(name) for name, size in counted.items() if len(name) > min(size, MAX_NAME)]
    for label, size, free in (
        ("submission.json: scorer", command, FREE_COMMAND),
        ("names of files", sum(map(len, names)), FREE_NAMES),
    ):
        if size > free:
            counted[label] = size
    return counted


def _bytes_of(part: object) -> int:
    """Return the UTF-8 bytes of a part of a command; half of a surrogate pair counts as a character."""
    return len(str(part).encode("utf-8", "surrogatepass"))


def _inside(e: Evidence, path: str) -> str | None:
    """Return the relative name of a path in the private copy; None for a path elsewhere."""
    for folder in e.folders:
        if path.startswith(folder + "/"):
            return path[len(folder) + 1 :]
    return None


def size(e: Evidence) -> Verdict:
    """Judge that code and weights fit the limit, as the files that ship and run."""
    alone = e.failure is not None or e.submission.adapter is not None
    if alone and not _has_model(e.submission.folder):
        return _size_by_papers(e)
    counted = shipped(e)
    total = sum(counted.values())
    papers = sorted(name for name in counted if is_paper(name))
    data = {"total": total, "limit": e.options.byte_limit, "files": counted}
    counts = f"{total:,} bytes in {len(counted)} files, limit {e.options.byte_limit:,}"
    if papers and e.watched:
        counts += f"; run time reads {', '.join(papers[:MAX_SHOWN])}, so it counts"
    if total > e.options.byte_limit:
        return failed(f"{counts}: over by {total - e.options.byte_limit:,}", **data)
    claimed = e.submission.number("bytes_total")
    if claimed is not None and math.isnan(claimed):
        return failed(f"{counts}; bytes_total of submission.json is no number", **data)
    if claimed is not None and not claimed >= total:
        return failed(f"{counts}; submission.json counts only {claimed:,}", claimed=claimed, **data)
    return passed(counts, **data)


def _has_model(folder: Path) -> bool:
    """Return whether a folder holds anything that may be a model; a file that cannot be read may be."""
    try:
        return attribute_paths([folder]).has_model
    except SqueezeError:
        return True


def _size_by_papers(e: Evidence) -> Verdict:
    """Judge the bytes of a folder that holds no model and did not run, by its logs and claims."""
    folder = read_folder(e.submission.folder)
    finding = total_bytes(folder, folder.trained, e.options.byte_limit)
    if finding.status == FLAGGED:
        return failed(f"no model here; by its papers: {finding.text}", **finding.data)
    evidence = finding.text if NO_MODEL in finding.text else f"{NO_MODEL}; {finding.text}"
    return unknown(evidence, **finding.data)


def files(e: Evidence) -> Verdict:
    """Judge that run time opens nothing but the submission, the inputs and the installed software."""
    links = list(e.submission.links)
    outside = _outside(e)
    lists = {"outside": outside, "links": links, "programs": e.programs}
    data = {"opened": len(e.opened), **{name: paths[:MAX_LISTED] for name, paths in lists.items()}}
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
    """Return opened paths that are neither the submission's, nor inputs, nor installed software."""
    boxed = e.isolation.level == "namespaces"
    roots = [*SYSTEM, *e.folders, *visible_paths(e.submission.shown)]
    roots += BOX if boxed else [str(Path(folder).parent) for folder in e.folders]
    inside = tuple(root + "/" for root in roots)
    # a submission that needs squeeze installed is not self-contained
    own = () if e.submission.shown else tuple(f"{path}/" for path in own_packages())
    return [
        path for path in e.opened if not (path + "/").startswith(inside) or path.startswith(own)
    ]


def network(e: Evidence) -> Verdict:
    """Judge that no network is used or tried."""
    tried = [text for text in e.network if not _is_local(text.split(" ", 1)[1])]
    if tried:
        return failed(
            f"tried the network: {'; '.join(tried[:MAX_SHOWN])}", tried=tried[:MAX_LISTED]
        )
    if e.isolation.offline:
        return passed("none tried by Python code, and none reachable")
    if not e.watched:
        return unknown("the hook that watches Python was not loaded, and there is no box")
    return passed("none tried by Python code; native code is not watched here")


def _is_local(host: str) -> bool:
    """Return whether a name or address is that of the machine itself, where no network is needed."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host in LOCAL or host == socket.gethostname()
    return address.is_loopback or address.is_unspecified


def clock(e: Evidence) -> Verdict:
    """Judge that training takes at most 600 s, with everything in it that reads training data."""
    stated = e.submission.number("training_seconds")
    rows = e.submission.claims.get("clock")
    runs = _runs_of_score(e)
    late = [text for run in runs if (text := overtime(run))]
    if late and is_record(e.submission.folder, e.submission.stated):
        return failed("; ".join(late[:MAX_SHOWN]))
    if rows is None and stated is None:
        if late:
            return unknown(f"no record, so 600 s are not asked for; {'; '.join(late[:MAX_SHOWN])}")
        if any(run.timers for run in runs):
            return passed(
                "the logs' timers end within the budget; what ran outside them is not told"
            )
        return unknown("no clock ledger in submission.json and no timer in the logs")
    if stated is not None and math.isnan(stated):
        return failed("submission.json: training_seconds is no number of seconds")
    try:
        stages = read_stages([] if rows is None else rows)
    except ValueError as error:
        return failed(f"submission.json: {error}")
    inside = sum(stage.seconds for stage in stages if stage.inside)
    total = inside if stated is None or stated <= inside else stated
    outside = [vars(stage) for stage in stages if not stage.inside and not stage.is_pause]
    data = {"inside_seconds": total, "limit": TRAIN_SECONDS, "outside": outside}
    if not total <= TRAIN_SECONDS:
        return failed(f"{total:.1f} s of training, limit {TRAIN_SECONDS:.0f} s", **data)
    learning = [stage for stage in stages if not stage.inside and stage.learns]
    if learning:
        return failed(f"work on data outside the timer: {', '.join(map(str, learning))}", **data)
    return passed(f"states {total:.1f} s of training, nothing that reads data outside", **data)


def _runs_of_score(e: Evidence) -> list[LoggedRun]:
    """Return the logged runs behind the stated score, with those that trained them."""
    runs = e.submission.runs
    return with_training(claimed_runs(e.submission.stated, runs).runs, runs)


def seeds(e: Evidence) -> Verdict:
    """Judge that all seeds of a mean ran the same configuration."""
    configs = dict(_configs(e))
    return _equal_configs(configs) if configs else _equal_logs(e)


def _equal_configs(configs: dict[str, dict[str, Any]]) -> Verdict:
    """Compare the configurations that JSON files state, whole."""
    if len(configs) < 2:
        return unknown(FEW_SEEDS)
    names = list(configs)
    first = configs[names[0]]
    for name in names[1:]:
        other = configs[name]
        apart = sorted(
            key for key in first.keys() | other.keys() if first.get(key) != other.get(key)
        )
        if apart:
            shown = ", ".join(
                f"{key} {first.get(key)} / {other.get(key)}" for key in apart[:MAX_SHOWN]
            )
            return failed(f"{names[0]} and {name} differ: {shown}", differing=apart, runs=names)
    return passed(f"{len(configs)} seeds share {len(first)} settings", runs=names)


def _equal_logs(e: Evidence) -> Verdict:
    """Compare the settings that logs print: those of the runs behind the stated score."""
    runs = claimed_runs(e.submission.stated, e.submission.runs).runs
    names = [run.log for run in runs]
    apart = [*differing(runs), *repeated(runs)]
    if apart:
        return failed("; ".join(apart[:MAX_SHOWN]), runs=names)
    count = min((len(run.settings) for run in runs), default=0)
    if len({run.seed for run in runs}) < 2 or not count:
        return unknown(FEW_SEEDS)
    return passed(f"{len(runs)} seeds share {count} settings", runs=names)


def _configs(e: Evidence) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (name, configuration) of every seed of which a JSON file states it."""
    stated = e.submission.claims.get("seeds")
    rows = list(e.submission.seeds.items())
    if isinstance(stated, list):
        rows += [(f"seeds[{i}]", row) for i, row in enumerate(stated) if isinstance(row, dict)]
    for name, row in rows:
        config = row.get("config")
        if isinstance(config, dict):
            yield name, {key: value for key, value in config.items() if key != "seed"}
