"""Runs `squeeze calibrate`: calibrates a model into a folder and prints the folder's contents."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from squeeze.calib.taps.coverage import Coverage
from squeeze.cli.bars import Bars
from squeeze.cli.terminal.printing import print_json, print_line, print_notes
from squeeze.files import check_output_folder
from squeeze.packing.calibrate import Calibration, calibrate
from squeeze.packing.kept import locked
from squeeze.ranks.launched import connected_run
from squeeze.subject.source import ModelSource


@dataclass(frozen=True)
class CalibrateOptions:
    """Options of `squeeze calibrate`, each under its name."""

    model: str
    out: Path
    source: str
    data: tuple[Path, ...]
    tokens: int | None
    length: int
    temperature: float
    seed: int
    precision: str
    fresh: bool
    script: str | None
    shim: bool
    architecture: Mapping[str, Any]
    as_json: bool

    @property
    def settings(self) -> Calibration:
        """Text to calibrate on."""
        return Calibration(
            source=self.source,
            tokens=self.tokens or 0,
            length=self.length,
            seed=self.seed,
            temperature=self.temperature,
            data=tuple(map(str, self.data)),
            precision=self.precision,
        )


def run_calibration(options: CalibrateOptions) -> None:
    """Calibrate, and print the text's size and the number of Hessians."""
    check_output_folder(options.out)
    source = ModelSource(options.model, options.script, options.shim, options.architecture)
    piece = source.open()
    settings = options.settings
    clock = time.perf_counter()
    with (
        connected_run() as ranks,
        locked(options.out) if ranks.first else nullcontext(),
        Bars(quiet=options.as_json or not ranks.first) as bars,
    ):
        calibrated = calibrate(
            piece,
            settings,
            options.out,
            fresh=options.fresh,
            reporter=bars,
        )
    if not ranks.first:
        return
    seconds = time.perf_counter() - clock
    notes = [*piece.notes, *bars.notes]
    text, hessians = calibrated.text, calibrated.hessians.matrices
    if options.as_json:
        print_json(
            {
                "folder": str(options.out),
                "tokens": text.tokens,
                "sequences": len(text.ids),
                "source": text.source,
                "digest": text.digest(),
                "coverage": Coverage.of(calibrated.layout).as_json(),
                "hessians": {name: len(hessian) for name, hessian in hessians.items()},
                "notes": notes,
                "seconds": seconds,
            }
        )
        return
    print_notes(notes)
    for line in Coverage.of(calibrated.layout).lines():
        print_line(line)
    print_line(
        f"{options.out}: {text.tokens:,} {text.source} tokens in {len(text.ids)} sequences, "
        f"{len(hessians)} Hessians, {seconds:.1f} s"
    )
