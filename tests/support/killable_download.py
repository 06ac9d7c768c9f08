"""Runs downloads in processes that a test may kill: imports once, forks for each line of input.

A line is {"out", "files": [[name, url], ...]}; the answer is a process id, and, when it ends, its
exit status. Of a .tar.gz there is a point to go on from every few blocks.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path

from pantskit.ingest.download import inflating
from pantskit.ingest.download.declared import RemoteFile, read_download
from pantskit.ingest.download.plan import plan_download
from pantskit.ingest.download.remote import Link
from pantskit.ingest.download.run import download

inflating.SPACING_BYTES = 20_000


def run(order: dict[str, object]) -> int:
    """Download as ordered; 0 when all is done."""
    files = tuple(RemoteFile(name, url=url) for name, url in order["files"])
    pants = replace(read_download("pants"), files=files)
    plan = plan_download(pants, Path(str(order["out"])))
    outcomes = download(plan, Link(stall_s=5, tries=3, backoff_s=0.01), jobs=2)
    return 0 if all(o.status in ("done", "unchanged") for o in outcomes) else 1


def _say(number: int) -> None:
    sys.stdout.write(f"{number}\n")
    sys.stdout.flush()


def main() -> None:
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            status = 3
            try:
                status = run(json.loads(line))
            finally:
                os._exit(status)
        _say(child)
        _, status = os.waitpid(child, 0)
        _say(os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main()
