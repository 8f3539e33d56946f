"""``iceball``: the command line.

Invariant: an error that a user can mend is one message naming what and where, and exit status 2.
"""

from __future__ import annotations

import os
import sys

from monitor.arguments import parser

# As a shell has it for a program that SIGPIPE ended.
_READER_GONE = 141


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    args.typed = sys.argv[1:] if argv is None else argv
    os.umask(0o027)  # what is written is patient data, nearly all of it
    try:
        return int(args.run(args))
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read us has had enough (`| head`); what is still to be flushed has nowhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _READER_GONE
    except Exception as error:
        if not isinstance(error, _mendable()):
            raise
        print(f"iceball: {error}", file=sys.stderr)
        return 2


def _mendable() -> tuple[type[Exception], ...]:
    """Imported when there is an error: each costs its module's imports, at every start."""
    from gpu_kernels.engine import EngineUnavailable
    from monitor.benchmark.truth import BenchmarkError
    from monitor.certificates import CertificatesError
    from monitor.config import ConfigError
    from monitor.demo import DemoError
    from monitor.intake.folder import FolderError
    from monitor.intake.ports import ListenError
    from monitor.intake.structures import StructureError
    from monitor.metrics import MetricsError
    from monitor.record.journal import RecordError
    from monitor.record.masks import MaskError
    from monitor.segment import SegmentError
    from monitor.streaming.server import StreamError

    return (
        ConfigError,
        StructureError,
        FolderError,
        ListenError,
        RecordError,
        MaskError,
        SegmentError,
        BenchmarkError,
        EngineUnavailable,
        DemoError,
        CertificatesError,
        StreamError,
        MetricsError,
    )


if __name__ == "__main__":
    sys.exit(main())
