"""``iceball certificates``: a pair of certificates to try TLS with, and how. Days.

Invariant: the lines that are printed work as they stand, in a shell and in a case.
"""

from __future__ import annotations

import argparse
import shlex

from monitor.certificates import make_certificates

_PORT, _TITLE = 11112, "ICEBALL"


def run(args: argparse.Namespace) -> int:
    folder = args.folder.resolve()
    for path in make_certificates(folder, args.host, args.days):
        print(path)
    own = shlex.join([f"{folder}/scanner.key", f"{folder}/scanner.pem"])
    ca, host = shlex.quote(f"{folder}/ca.pem"), args.host[0]
    tls = f"+tls {own} +cf {ca} -aec {_TITLE} {host} {_PORT}"
    trio = shlex.join([f"{folder}/{n}" for n in ("scanner.pem", "scanner.key", "ca.pem")])
    print(
        f"""
For tests only: valid for {args.days:g} days, and the authority's key is gone. In the case:

[listener.tls]
certificate = "{folder}/listener.pem"
key = "{folder}/listener.key"
ca = "{folder}/ca.pem"

Then, with the tools of DCMTK:

echoscu -aet SCANNER {tls}
TCP_NODELAY=1 storescu -aet SCANNER {tls} SLICE.dcm ...

or with the simulator:

scanner-sim push SCENARIO --to {_TITLE}@{host}:{_PORT} --tls {trio}"""
    )
    return 0
