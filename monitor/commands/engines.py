"""``iceball simulate``, ``bench`` and ``selftest``: the bioheat engines without a patient."""

from __future__ import annotations

import argparse
import json

import numpy as np

from gpu_kernels.engine import EngineUnavailable
from gpu_kernels.select import open_engine, warm_up
from monitor.config import ConfigError
from monitor.simulate import load_simulation, run_simulation


def simulate(args: argparse.Namespace) -> int:
    simulation = load_simulation(args.problem)
    engine = open_engine(args.engine)
    warm_up(engine)
    result, fields = run_simulation(simulation, engine)
    if args.out is not None:
        try:
            args.out.parent.mkdir(parents=True, exist_ok=True)
            with args.out.open("wb") as file:
                np.savez_compressed(file, allow_pickle=False, **fields)
        except OSError as error:
            raise ConfigError(f"--out {args.out}: {error}") from None
    print(json.dumps(result))
    return 0


def bench(args: argparse.Namespace) -> int:
    from gpu_kernels.bench import run_bench, scaling, table

    engines = [open_engine(name) for name in args.engine or _runnable()]
    result = run_bench(engines, _print, max(args.runs, 1))
    print(table(result))
    if args.scaling:
        result["scaling"] = scaling(engines[-1])
        print(json.dumps(result["scaling"]))
    if args.json is not None:
        args.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0


def selftest(args: argparse.Namespace) -> int:
    from gpu_kernels.bench import run_bench, table
    from gpu_kernels.selftest import MOST_ICE_OFF, MOST_RMS_DEGC, check_engine

    engine = open_engine(args.engine)
    print(f"engine {engine.name} ({engine.why})", flush=True)
    checks = check_engine(engine)
    for c in checks:
        print(
            f"t = {c.time_s:g} s: {c.rms_degc:.3f} °C rms from the golden field (at most "
            f"{MOST_RMS_DEGC:g}), ice volume off by {100 * c.ice_off:.2f} % (at most "
            f"{100 * MOST_ICE_OFF:g} %): {'fine' if c.fine else 'WRONG'}",
            flush=True,
        )
    if not all(c.fine for c in checks):
        return 1
    print(table(run_bench([engine], _print)))
    return 0


def _runnable() -> list[str]:
    """The engines that run here; what does not is said."""
    try:
        open_engine("gpu")
    except EngineUnavailable as error:
        print(error, flush=True)
        return ["reference", "cpu"]
    return ["reference", "cpu", "gpu"]


def _print(text: str) -> None:
    print(text, flush=True)
