"""``iceball doctor``: whether this machine can carry a procedure, as text or JSON."""

from __future__ import annotations

import argparse
import json

from monitor.doctor import Level, examine

_WORDS = {Level.FINE: "fine", Level.WARNING: "WARNING", Level.CANNOT_RUN: "CANNOT RUN"}


def run(args: argparse.Namespace) -> int:
    found = examine(args.workstation, args.record, args.case)
    if args.json:
        print(
            json.dumps(
                [
                    {
                        "check": f.check,
                        "level": f.level.name.lower(),
                        "text": f.text,
                        "mend": f.mend,
                    }
                    for f in found
                ]
            )
        )
    else:
        for f in found:
            print(
                f"{f.check:12} {_WORDS[f.level]:10} {f.text}"
                + (f"\n{'':24}{f.mend}" if f.mend else "")
            )
    return int(max(f.level for f in found))
