"""`python -m bench`: run the cases on a server of our own, and write the report."""

from __future__ import annotations

import argparse
import dataclasses
import os
import signal
import sys
import time
from pathlib import Path

from tests.support.server import PrivateServer

from .cases import CASES, Bench
from .machine import look
from .report import Section, text
from .scale import FULL, QUICK
from .stage import SETTINGS, Stage


def main() -> int:
    """Measure; the exit code is 0 whatever the ratios are, as the machine may be busy."""
    # The server must go, however this ends.
    signal.signal(signal.SIGTERM, lambda signum, _: sys.exit(128 + signum))
    arguments = _parse()
    scale = QUICK if arguments.quick else FULL
    if arguments.repeat is not None:
        scale = dataclasses.replace(scale, repeats=arguments.repeat, few=arguments.repeat)
    start = time.monotonic()
    with PrivateServer(
        os.environ.get("HOTMESH_DBA_PG_CONFIG"), settings=SETTINGS, fsync=True
    ) as server:
        machine = look(server)
        bench = Bench(Stage(server, _say), scale)
        sections = [_run(bench, name) for name in arguments.only or CASES]
        sections.append(_overall(bench))
        minutes = (time.monotonic() - start) / 60
        report = text(sections, machine, minutes=minutes, scale=scale.name)
    print(report)
    if arguments.write is not None:
        arguments.write.write_text(report)
    return 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="less data and fewer repeats")
    parser.add_argument(
        "--only", action="append", choices=list(CASES), help="only this case; may be repeated"
    )
    parser.add_argument("--repeat", type=int, metavar="N", help="repeats of each contender")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the report there too")
    return parser.parse_args()


def _run(bench: Bench, name: str) -> Section:
    _say(f"{name} …")
    start = time.monotonic()
    section = CASES[name](bench)
    for line in section.lines:
        _say("  " + " · ".join(line.cells()))
    _say(f"  {time.monotonic() - start:.0f} s")
    return section


def _overall(bench: Bench) -> Section:
    longest = bench.stage.longest_batches
    if not longest:
        return Section()
    worst, where = max(longest)
    return Section(
        remarks=[
            f"The longest transaction of all {len(longest)} runs of ours that were compared took "
            f"{worst:.0f} ms ({where})."
        ]
    )


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
