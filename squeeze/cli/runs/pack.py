"""Runs `squeeze pack`: packs, writes, and prints the plan and the ledger of what was written."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from squeeze.calib.taps.coverage import Coverage
from squeeze.cli.bars import Bars
from squeeze.cli.terminal.printing import print_json, print_line, print_notes
from squeeze.errors import SqueezeError
from squeeze.files import (
    cache_beside,
    check_output_folder,
    check_outputs,
    check_outside,
    output_beside,
    sha256,
)
from squeeze.ledger.asked import Asked, write_asked
from squeeze.ledger.attribute import attribute_paths
from squeeze.ledger.gate import check_limit
from squeeze.packing.calibrate import Calibration
from squeeze.packing.pack import pack_model
from squeeze.packing.packed import Correction, Packed
from squeeze.packing.plan import Plan
from squeeze.packing.presets import ALONE, RECORDS, TARGETS
from squeeze.packing.request import PackRequest
from squeeze.ranks.launched import launched
from squeeze.score.padding import TextBytes
from squeeze.subject.source import ModelSource
from squeeze.subject.workpiece import Workpiece
from squeeze.views.frontier import as_json, check_drawable, draw, frontier, lines
from squeeze.views.text import print_ledger

DEFAULT = "best"  # preset of a model that the limit binds, where none is asked for


@dataclass(frozen=True)
class PackOptions:
    """Options of `squeeze pack`, each under its name."""

    model: str
    out: Path | None
    limit: int
    code: tuple[str, ...]
    preset: str | None
    calibration: str
    data: tuple[Path, ...]
    tokens: int | None
    seed: int
    precision: str
    fresh: bool
    tune: int | timedelta | None
    tokenizer: str | None
    frontier: Path | None
    quant: Mapping[str, str]
    small: int
    small_floats: str
    lossless: bool
    squeezed: bool
    codecs: str
    script: str | None
    shim: bool
    architecture: Mapping[str, Any]
    verbose: bool
    as_json: bool

    @property
    def target(self) -> Path:
        """Path of the artifact."""
        return self.out or output_beside(self.model, ".sqz")

    @property
    def _alone(self) -> str:
        """Preset that needs no model."""
        if self.squeezed:
            return "squeezed"
        return "lossless" if self.lossless else "round"

    @property
    def open_to_calibrate(self) -> bool:
        """True where no way to pack was asked for and no other process waits for this one."""
        return launched()[1] == 1 and not (
            self.preset or self.quant or self.lossless or self.squeezed
        )

    def request(self) -> PackRequest:
        """Return the request to pack."""
        calibration = None
        if self.preset:
            calibration = Calibration(
                self.calibration,
                self.tokens or 0,
                seed=self.seed,
                data=tuple(map(str, self.data)),
                precision=self.precision,
            )
        return PackRequest(
            limit=self.limit,
            preset=self.preset or self._alone,
            code=self.code,
            calibration=calibration,
            quant=self.quant,
            small=self.small,
            small_floats=self.small_floats,
            codecs=tuple(self.codecs.split(",")) if self.codecs else (),
            bytes_of=TextBytes(self.tokenizer) if self.tokenizer else None,
            cache=cache_beside(self.target),
            fresh=self.fresh,
            tune=self.tune,
        )


def run_pack(options: PackOptions) -> None:
    """Write the artifact and print what it is. Raises OverBudget when it does not fit with its code."""
    try:
        _pack(options)
    except KeyboardInterrupt:
        cache = cache_beside(options.target)
        if not cache.is_dir():
            raise
        raise SqueezeError(
            f"interrupted; {cache} keeps what was finished",
            fix="The same command goes on from there.",
        ) from None


def _pack(options: PackOptions) -> None:
    first = launched()[0] == 0
    if not first and not options.preset:
        return  # there is no work to share: the first rank does it
    settings = options.architecture.get("settings")
    check_outputs(
        [options.target, *([options.frontier] if options.frontier else [])],
        [options.model, options.tokenizer, settings, *options.code, *options.data],
    )
    if options.frontier:
        check_drawable(options.frontier)
    # it would count as code of the next pack, and its cache with it
    check_outside(options.target, options.code)
    clock = time.perf_counter()
    request = options.request()
    if request.calibration is not None:
        check_output_folder(request.cache)
    source = ModelSource(options.model, options.script, options.shim, options.architecture)
    piece = source.open(alone=not options.preset, unstated=options.squeezed)
    room = request.room if request.preset in (*TARGETS, *ALONE) else 0
    with Bars(quiet=options.as_json or not first, limit=room) as bars:
        packed = pack_model(piece, request, bars)
    if not first:
        return
    if options.open_to_calibrate and len(packed.data) > request.room and not packed.exact:
        options, packed = _calibrated(options, piece, packed)
        request = options.request()
    if options.frontier and packed.plan is None:
        note = f"{options.frontier} is not drawn: everything fits without loss, and no cost is foreseen"
        packed = replace(packed, notes=(*packed.notes, note))
    packed.save(options.target)
    tokenizer = os.path.abspath(options.tokenizer) if options.tokenizer else None
    write_asked(options.target, Asked(sha256(packed.data), options.limit, tokenizer))
    ledger = attribute_paths([options.target, *options.code])
    points = frontier(packed.plan) if options.frontier and packed.plan else ()
    if options.frontier and packed.plan:
        draw(points, packed.plan, options.frontier)
    if options.as_json:
        print_json(
            {
                "artifact": str(options.target),
                "source": source_of(options.model, piece),
                **facts_of(packed, request.preset),
                **({"frontier": as_json(points)} if points else {}),
                "notes": list(packed.notes),
                "seconds": round(time.perf_counter() - clock, 3),
                "ledger": ledger.as_json(options.limit),
            }
        )
    else:
        print_notes(packed.notes)
        print_packed(packed, request.preset, options.verbose)
        for line in lines(points, packed.plan) if packed.plan and points else ():
            print_line(line)
        print_ledger(ledger, options.limit)
        print_line(f"{options.target}: {piece.size:,} → {len(packed.data):,} bytes")
    check_limit(ledger.total, options.limit)


def _calibrated(
    options: PackOptions, piece: Workpiece, rounded: Packed
) -> tuple[PackOptions, Packed]:
    """Return a model that the limit has no room for once rounded, packed to the limit instead.

    Weights that nothing runs are not calibrated: each matrix is as if its use were like any other's.
    The rounded one again where that cannot be, with a note that says why.
    """
    alone = piece.build is None
    calibrated = replace(options, squeezed=True) if alone else replace(options, preset=DEFAULT)
    way = "--squeezed" if alone else f"--preset {DEFAULT}"
    request = calibrated.request()
    try:
        if request.calibration is not None:
            check_output_folder(request.cache)
        with Bars(quiet=options.as_json, limit=request.room) as bars:
            packed = pack_model(piece, request, bars)
    except SqueezeError as error:
        note = f"rounded, for {way} cannot: {error}"
        return options, replace(rounded, notes=(*rounded.notes, note))
    note = (
        f"{len(rounded.data):,} bytes when rounded, which is over the limit: packed to it with {way}"
        + (", as no model says what these weights are for" if alone else "")
    )
    return calibrated, replace(packed, notes=(*packed.notes, note))


def source_of(path: str, piece: Workpiece) -> dict[str, Any]:
    """Return the facts about the checkpoint that was packed."""
    return {
        "path": path,
        "format": piece.format,
        "sha256": piece.sha256,
        "bytes": piece.size,
    }


def facts_of(packed: Packed, preset: str) -> dict[str, Any]:
    """Return the facts that depend on the kind of preset, under its key."""
    if preset in TARGETS:
        if packed.plan is None:
            return {"fit": {"lossless": packed.exact}}
        return {"fit": {"lossless": packed.exact, **packed.plan.as_json()}}
    if preset in RECORDS:
        left_out = packed.correction
        return {"record": {} if left_out is None else {"low_rank_left_out": price_of(left_out)}}
    return {}


def price_of(left_out: Correction) -> dict[str, Any]:
    """Return the price of corrections that were left out."""
    return {
        "tensors": list(left_out.tensors),
        "bytes": left_out.bytes,
        "nats_per_token_saved": left_out.saved,
    }


def print_packed(packed: Packed, preset: str, verbose: bool) -> None:
    """Print the cost, and with `verbose` every tensor; for a record what is left out."""
    if packed.plan is not None:
        if verbose:
            print_plan(packed.plan)
        print_cost(packed.plan)
        for line in Coverage.from_json(packed.plan.coverage.get("rows", ())).lines():
            print_line(line)
    elif preset in TARGETS:
        print_line("everything fits without loss")
    elif packed.correction is not None and packed.correction.tensors:
        left_out = packed.correction
        print_line(
            f"left out: low-rank correction of {', '.join(left_out.tensors)} "
            f"({left_out.bytes:,} bytes, {left_out.saved:.6f} nats/token less)"
        )


def print_plan(plan: Plan) -> None:
    """Print a row for each quantized matrix, and the sums."""
    print_line(
        f"{'tensor':<34}{'weights':>11}{'bits/weight':>13}{'bytes':>12}{'Δ ' + plan.unit:>15}"
    )
    small = [t for t in plan.tensors if t.scale is None]
    for tensor in plan.tensors:
        if tensor.scale is not None:
            _print_row(tensor.name, tensor.weights, tensor.bytes, plan.in_bits(tensor.loss))
    _print_row("small tensors", sum(t.weights for t in small), sum(t.bytes for t in small), 0.0)
    weights, size = sum(t.weights for t in plan.tensors), sum(t.bytes for t in plan.tensors)
    _print_row("all", weights, size, plan.in_bits(plan.expected))


def print_cost(plan: Plan) -> None:
    """Print the cost of a plan, foreseen and measured."""
    print_line(
        f"cost: predicted {plan.in_bits(plan.expected):.6f}, measured {plan.measure}, "
        f"{plan.cost.verdict}; "
        f"{plan.unused:,} bytes unused; {plan.trials} trial{'' if plan.trials == 1 else 's'}"
    )


def _print_row(name: str, weights: int, size: int, cost: float) -> None:
    bits = 8 * size / max(weights, 1)
    print_line(f"{name:<34}{weights:>11,}{bits:>13.3f}{size:>12,}{cost:>15.6f}")
