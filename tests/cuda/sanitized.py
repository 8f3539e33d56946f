"""Runs a function in a Python process with AddressSanitizer and UBSan loaded from the start.

In that process ``shim.build(..., sanitize=True)`` works: each array argument is copied into its own
malloc block of exact size, so that an access one byte past it ends the process with a report.
``fake_cupy`` builds its modules sanitized there by itself.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
REPORT_EXIT_CODE = 99
_RUNNER = """
import importlib, json, sys
module, function, args = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
getattr(importlib.import_module(module), function)(*args)
"""


def runtime_libraries() -> list[str]:
    """Paths of gcc's AddressSanitizer and UBSan libraries; empty where gcc has none."""
    paths = []
    for name in ("libasan.so", "libubsan.so"):
        asked = subprocess.run(
            ["gcc", f"-print-file-name={name}"], capture_output=True, text=True, check=True
        )
        path = Path(asked.stdout.strip())
        if not path.is_absolute():  # gcc repeats the bare name where it finds no file
            return []
        paths.append(str(path.resolve()))
    return paths


def run(
    module: str,
    function: str,
    args: Sequence[Any] = (),
    *,
    timeout_s: float = 120.0,
    environment: Mapping[str, str] | None = None,
) -> tuple[int, str]:
    """Import ``module`` in a sanitized process and call ``function(*args)``; ``args`` as JSON.

    Returns the exit code (0 clean, ``REPORT_EXIT_CODE`` a sanitizer's report, 1 a Python
    exception) and standard error. Raises subprocess.TimeoutExpired.
    """
    libraries = runtime_libraries()
    if not libraries:
        raise FileNotFoundError("gcc has no libasan.so and libubsan.so here")
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    variables = {
        **os.environ,
        "PYTHONPATH": path,
        "LD_PRELOAD": " ".join(libraries),
        "ASAN_OPTIONS": f"detect_leaks=0:exitcode={REPORT_EXIT_CODE}",
        "UBSAN_OPTIONS": f"print_stacktrace=1:exitcode={REPORT_EXIT_CODE}",
        **(environment or {}),
    }
    command = [sys.executable, "-c", _RUNNER, module, function, json.dumps(list(args))]
    done = subprocess.run(
        command, env=variables, cwd=ROOT, capture_output=True, text=True, timeout=timeout_s
    )
    return done.returncode, done.stderr
