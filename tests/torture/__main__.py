"""`make torture`: random faults under a busy app, by a seed; exits 1 where there is a violation."""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import time

from tests.support.server import PrivateServer, forget_callers_variables

from .bugs import BUGS, plant
from .campaign import Campaign
from .faults import KINDS
from .report import table
from .world import World, small_disk


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600, help="how long (%(default)s)")
    parser.add_argument("--seed", type=int, help="whose faults; a random one by default")
    parser.add_argument("--faults", help=f"some of {','.join(KINDS)}, by comma")
    parser.add_argument("--hits", type=int, default=20, help="of each kind at least (%(default)s)")
    parser.add_argument("--short", action="store_true", help="a round of each kind")
    parser.add_argument("--after", type=int, default=0, help="the number of a round to go on from")
    parser.add_argument("--bug", choices=BUGS, help="a build with a bug, which must be found")
    return parser.parse_args()


def main() -> int:
    given = arguments()
    forget_callers_variables()
    # So that the server is stopped and the disk unmounted, however it ends.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    seed = given.seed if given.seed is not None else random.SystemRandom().randrange(2**31)
    kinds = given.faults.split(",") if given.faults else list(KINDS)
    unknown = sorted(set(kinds) - set(KINDS))
    if unknown:
        sys.exit(f"no such faults: {', '.join(unknown)}; there are {', '.join(KINDS)}")
    seconds, hits = (0, 1) if given.short else (given.seconds, given.hits)
    print(f"seed {seed}", flush=True)
    began = time.monotonic()
    with PrivateServer(os.environ.get("HOTMESH_DBA_PG_CONFIG")) as server:
        if given.bug:
            plant(server, given.bug)
        with small_disk(server) as disk:
            campaign = Campaign(
                World(server, disk), seed, kinds, short=given.short, after=given.after
            )
            score = campaign.fight(seconds, hits)
    print(table(score, seed, time.monotonic() - began))
    return 1 if score.violations else 0


if __name__ == "__main__":
    sys.exit(main())
