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
from .campaign import Campaign, Score
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
    parser.add_argument("--replay", help="one round of the seed, such as 12:kill")
    parser.add_argument("--bug", choices=BUGS, help="a build with a bug, which must be found")
    return parser.parse_args()


def kinds_of(given: argparse.Namespace) -> list[str]:
    """The faults that were asked for; ends with a word where one of them is not known."""
    kinds = given.faults.split(",") if given.faults else list(KINDS)
    asked = {*kinds, given.replay.partition(":")[2]} if given.replay else set(kinds)
    if unknown := sorted(asked - set(KINDS)):
        sys.exit(f"no such faults: {', '.join(unknown)}; there are {', '.join(KINDS)}")
    return kinds


def fight(campaign: Campaign, given: argparse.Namespace) -> Score:
    """All of it, the short form, or one round."""
    if given.replay:
        number, _, kind = given.replay.partition(":")
        return campaign.replay(int(number), kind)
    return campaign.fight(0, 1) if given.short else campaign.fight(given.seconds, given.hits)


def main() -> int:
    given = arguments()
    kinds = kinds_of(given)
    forget_callers_variables()
    # So that the server is stopped and the disk unmounted, however it ends.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    seed = given.seed if given.seed is not None else random.SystemRandom().randrange(2**31)
    print(f"seed {seed}", flush=True)
    began = time.monotonic()
    with PrivateServer(os.environ.get("HOTMESH_DBA_PG_CONFIG")) as server:
        if given.bug:
            plant(server, given.bug)
        with small_disk(server) as disk:
            campaign = Campaign(World(server, disk), seed, kinds, short=given.short)
            score = fight(campaign, given)
    print(table(score, seed, time.monotonic() - began))
    return 1 if score.violations else 0


if __name__ == "__main__":
    sys.exit(main())
