"""What is measured: a case for each row of the table that the release must meet."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import psycopg

from tests.support.server import Connection

from . import contenders as c
from .contenders import (
    Contender,
    Place,
    floor,
    naive_loop,
    one_transaction,
    ours,
    without_triggers,
)
from .data import Jobs, Messages, load_jobs, load_messages, load_signals
from .foreground import foreground, p99
from .measure import (
    Beside,
    Times,
    compare,
    nothing,
    old_snapshot,
    reference,
    series,
    set_path,
)
from .memory import watch
from .report import Line, Section
from .scale import Scale
from .stage import APP, TABLES, Build, Stage

BATCH_TIME_MS = 200
ONE = "one transaction"
OURS = "ours"
FAST = "ours, triggers disabled"
TWO = "ours, 2 workers"
BACKLOG = "backlog()"


@dataclass(frozen=True, slots=True)
class Bench:
    """Where and how much."""

    stage: Stage
    scale: Scale


Case = Callable[[Bench], Section]


# --- what is prepared ------------------------------------------------------------------------


def loads(*what: Jobs | Messages) -> Build:
    """A build that loads all of these, one after the other."""

    def build(conn: Connection) -> None:
        for rows in what:
            if isinstance(rows, Jobs):
                load_jobs(conn, rows)
            else:
                load_messages(conn, rows)

    return build


def mostly(kind: str, count: int, *, skewed: bool = False) -> Jobs:
    """Jobs of a kind, with a running one that stays after every 99."""
    return Jobs(count * 100 // 99, (*[kind] * 99, "running"), skewed=skewed)


def both_streams(count: int, *, skewed: bool = False) -> tuple[Messages, Messages]:
    """Engine messages and workers' messages, 8 to 1.3, of which a hundredth stays."""
    engine = count * 100 // 99 * 80 // 93
    return (
        Messages(engine, skewed=skewed),
        Messages(count * 100 // 99 - engine, table="worker_streams", skewed=skewed),
    )


def jobs_template(bench: Bench) -> str:
    """Expired jobs."""
    return bench.stage.template("jobs", loads(mostly("expired", bench.scale.jobs)))


def strip_template(bench: Bench) -> str:
    """Completed live jobs."""
    return bench.stage.template("strip", loads(mostly("live", bench.scale.strip)))


_KEPT_JOBS = (
    "DELETE FROM jobs_attributes USING jobs WHERE id = job_id AND expired_at IS NULL",
    "DELETE FROM jobs WHERE expired_at IS NULL",
)
_KEPT_MESSAGES = tuple(
    f"DELETE FROM {table} WHERE expired_at IS NULL OR NOT {c.DUE_MESSAGES}"
    for table in ("engine_streams", "worker_streams")
)
FLOOR_JOBS = floor("jobs_attributes", "jobs", kept=_KEPT_JOBS)
FLOOR_STREAMS = floor("engine_streams", "worker_streams", kept=_KEPT_MESSAGES)
ONE_JOBS = one_transaction(c.DELETE_JOBS)
ONE_STREAMS = one_transaction(c.DELETE_ENGINE, c.DELETE_WORKER)
ONE_STRIP = one_transaction(*c.STRIP)


# --- raw speed -------------------------------------------------------------------------------


def delete_jobs(bench: Bench) -> Section:
    """Delete expired jobs, by the cascade and with triggers disabled."""
    template = jobs_template(bench)
    contenders = [ONE_JOBS, ours(c.JOBS), ours(c.JOBS, fast=True), FLOOR_JOBS]
    contenders.append(naive_loop(c.NAIVE_JOBS))
    times = compare(bench.stage, template, contenders, bench.scale.repeats)
    section = Section()
    work = f"delete {bench.scale.jobs:,} expired jobs"
    section.ratio(work, times, (OURS, ONE), 1.0)
    by_floor = Line(work, f"{FAST} / floor", tuple(times.ratios(FAST, "floor")), 1.2)
    section.ratio(work, times, (FAST, ONE), 0.5, alternative=by_floor)
    section.ratio(work, times, (FAST, "floor"))
    section.ratio(work, times, (OURS, "naive loop"))
    section.times(work, times)
    return section


def strip_jobs(bench: Bench) -> Section:
    """Strip live jobs, with the mark's triggers and without."""
    template = strip_template(bench)
    contenders = [ONE_STRIP, ours(c.STRIPS), ours(c.STRIPS, fast=True), naive_loop(c.NAIVE_STRIP)]
    times = compare(bench.stage, template, contenders, bench.scale.repeats)
    section = Section()
    work = f"strip {bench.scale.strip:,} live jobs"
    section.ratio(work, times, (OURS, ONE), 0.9)
    section.ratio(work, times, (FAST, ONE), 0.55)
    section.ratio(work, times, (OURS, "naive loop"))
    section.times(work, times)
    return section


def delete_streams(bench: Bench) -> Section:
    """Delete processed messages of engine and workers."""
    template = bench.stage.template("streams", loads(*both_streams(bench.scale.messages)))
    contenders = [ONE_STREAMS, ours(c.STREAMS), FLOOR_STREAMS]
    times = compare(bench.stage, template, contenders, bench.scale.repeats)
    # Once: it starts again at the first page with every batch, so it takes most of a minute.
    naive = [ours(c.STREAMS), naive_loop(c.NAIVE_ENGINE, c.NAIVE_WORKER)]
    naive_times = compare(bench.stage, template, naive, 1)
    section = Section()
    work = f"delete {bench.scale.messages:,} messages"
    section.ratio(work, times, (OURS, "floor"), 1.05)
    section.ratio(work, times, (OURS, ONE), 0.8)
    section.ratio(work, naive_times, (OURS, "naive loop"))
    section.times(work, times)
    section.seconds.append((work, "naive loop", naive_times.seconds["naive loop"]))
    bench.stage.forget(template)
    return section


def two_workers(bench: Bench) -> Section:
    """Two connections share the deletion of jobs."""
    template = jobs_template(bench)
    expected = reference(bench.stage, template, c.DELETE_JOBS_PLAINLY)
    contenders = [ours(c.JOBS), ours(c.JOBS, workers=2)]
    times = compare(bench.stage, template, contenders, bench.scale.repeats, expected=expected)
    section = Section()
    work = f"delete {bench.scale.jobs:,} expired jobs with two workers"
    section.ratio(work, times, (TWO, OURS), 0.8)
    section.times(work, times)
    return section


# --- any backlog -----------------------------------------------------------------------------


def strip_many(bench: Bench) -> Section:
    """Strip more jobs than one transaction can, beside many that are not due.

    A table ten times as large does not fit the server's cache as well, and no statement makes up
    for that; so the yardstick, the same strip without any trigger or batch, is printed beside.
    """
    scale = bench.scale
    others = Jobs(scale.others, ("failed", "running"), attributes=2)
    beside = bench.stage.template("others", loads(others))
    many = bench.stage.template("strip_many", loads(Jobs(scale.strip_many, ("live",))), base=beside)
    few = bench.stage.template("strip_few", loads(Jobs(scale.strip, ("live",))), base=beside)
    templates = {"many": many, "few": strip_template(bench), "few beside": few}
    expected = {
        name: reference(bench.stage, template, c.STRIP) for name, template in templates.items()
    }
    section = Section()
    work = f"strip {scale.strip_many:,} live jobs beside {scale.others:,} failed and running"
    section.remarks.append(f"{work}, in one transaction: {_attempt(bench, many)}.")
    shares = (("few", f"those of {scale.strip:,} alone", 1.2),)
    printed = (("few beside", f"those of {scale.strip:,} beside the same", None),)
    yardstick = without_triggers("no batches, no triggers", *c.STRIP)
    for contender, bars in (
        (ours(c.STRIPS), (*shares, *printed)),
        (ours(c.STRIPS, fast=True), (*shares, *printed)),
        (yardstick, ((name, against, None) for name, against, _ in (*shares, *printed))),
    ):
        times = series(bench.stage, templates, contender, expected, scale.few)
        for name, against, bar in bars:
            ratios = times.ratios("many", name)
            per_job = tuple(ratio * scale.strip / scale.strip_many for ratio in ratios)
            figure = f"{contender.name}: seconds a job / {against}"
            section.lines.append(Line(work, figure, per_job, bar))
        for name, seconds in times.seconds.items():
            section.seconds.append((f"{work}: {name}", contender.name, seconds))
    for template in (beside, many, few):
        bench.stage.forget(template)
    return section


def _attempt(bench: Bench, template: str) -> str:
    """What becomes of the strip in one transaction."""
    with bench.stage.copy(template) as dbname, bench.stage.server.connect(dbname) as conn:
        set_path(conn)
        start = time.perf_counter()
        try:
            ONE_STRIP.work(Place(bench.stage.server, dbname, conn))
            outcome = "done"
        except psycopg.Error as error:
            outcome = f"`{error.diag.message_primary}`"
        return f"{outcome} after {time.perf_counter() - start:.1f} s"


def doubling(bench: Bench) -> Section:
    """Three doublings of the backlog, and the same while an old snapshot is held."""
    templates, deleted, stripped = {}, {}, {}
    for count in [bench.scale.doubled * 2**n for n in range(4)]:
        rows = loads(Jobs(2 * count, ("expired", "live")))
        name = f"{count:,}"
        templates[name] = template = bench.stage.template(f"doubled_{count}", rows)
        deleted[name] = reference(bench.stage, template, c.DELETE_JOBS_PLAINLY)
        stripped[name] = reference(bench.stage, template, c.STRIP)
    section = Section()
    besides: list[tuple[str, Beside]] = [("", nothing), (" beside an old snapshot", old_snapshot)]
    for how, beside in besides:
        for verb, options, expected in (
            ("delete", c.JOBS, deleted),
            ("strip", c.STRIPS, stripped),
        ):
            times = series(
                bench.stage, templates, ours(options), expected, bench.scale.few, beside=beside
            )
            _doublings(section, f"{verb} twice as many jobs{how}", times)
    for template in templates.values():
        bench.stage.forget(template)
    return section


def _doublings(section: Section, work: str, times: Times) -> None:
    sizes = list(times.seconds)
    sizes.sort(key=lambda size: int(size.replace(",", "")))
    for small, large in itertools.pairwise(sizes):
        section.ratio(work, times, (large, small), 2.2)
    section.seconds += [(work, f"{size} jobs", times.seconds[size]) for size in sizes]


# --- little or nothing to do -----------------------------------------------------------------


def nothing_due(bench: Bench) -> Section:
    """A run of every step over large tables of which nothing is due."""
    count = bench.scale.idle

    def build(conn: Connection) -> None:
        load_jobs(conn, Jobs(count, ("stripped", "running"), attributes=1))
        for table in ("engine_streams", "worker_streams"):
            load_messages(conn, Messages(count, due="false", table=table))
        load_signals(conn, count)

    idle = bench.stage.template("idle", build)
    failed = Jobs(bench.scale.failed, ("failed",), attributes=1)
    beside = bench.stage.template("idle_failed", loads(failed), base=idle)
    section = Section()
    work = f"nothing due in {count:,} rows a table"
    more = f"{work}, {bench.scale.failed:,} failed jobs beside"
    for name, template, bar in ((work, idle, 0.1), (more, beside, None)):
        times = _idle_runs(bench, template)
        section.ratio(name, times, (OURS, "count(*)"), bar)
        section.times(name, times)
        bench.stage.forget(template)
    return section


def _idle_runs(bench: Bench, template: str) -> Times:
    """A run and count(*), in turn on one copy, as neither changes a row of the app."""
    times = Times()
    with bench.stage.copy(template) as dbname:
        with bench.stage.server.connect(dbname) as conn:
            bench.stage.ready(conn)
        # Connections of their own: the first call of a session pays for its plans, here too.
        for _ in range(2 * bench.scale.repeats):
            for name, work in ((OURS, _run_all), ("count(*)", _count_all)):
                with bench.stage.server.connect(dbname) as conn:
                    start = time.perf_counter()
                    work(conn)
                    times.seconds.setdefault(name, []).append(time.perf_counter() - start)
    return times


def _run_all(conn: Connection) -> None:
    c.call(conn, c.ALL)


def _count_all(conn: Connection) -> None:
    for table in TABLES:
        c.execute(conn, f"SELECT count(*) FROM {APP}.{table}")


def backlog(bench: Bench) -> Section:
    """What is due, looked up by backlog(), beside large tables of which nothing or half is due."""
    count = bench.scale.idle
    section = Section()
    for what, kinds, due in (
        ("nothing", ("failed", "stripped"), "false"),
        ("half", ("expired", "live", "running", "stripped"), "i % 2 = 0"),
    ):
        template = bench.stage.template(f"backlog_{what}", _watched(count, kinds, due))
        work = f"{what} due of {count:,} rows a table"
        for session in ("a session that is kept", "a new session"):
            times = _looks(bench, template, kept=session != "a new session")
            bar = None if session == "a new session" else 0.05
            section.ratio(f"{work}, {session}", times, (BACKLOG, "count(*)"), bar)
            section.times(f"{work}, {session}", times)
        bench.stage.forget(template)
    return section


def _watched(count: int, kinds: tuple[str, ...], due: str) -> Build:
    """Tables of `count` rows (jobs: half as many), under a policy that takes of all of them."""

    def build(conn: Connection) -> None:
        load_jobs(conn, Jobs(count // 2, kinds, attributes=2))
        for table in ("engine_streams", "worker_streams"):
            load_messages(conn, Messages(count, due=due, table=table))
        load_signals(conn, count)
        c.execute(
            conn,
            f"SELECT hotmesh_dba.set_policy('{APP}', 'all', retention => '7 days',"
            " prune_jobs => true, prune_streams => true, strip_attributes => true,"
            " prune_signals => true)",
        )

    return build


def _looks(bench: Bench, template: str, *, kept: bool) -> Times:
    """backlog() and count(*), in turn, each in a session of its own: the same, or a new one."""
    times = Times()
    works = {BACKLOG: _look, "count(*)": _count_all}
    with bench.stage.copy(template) as dbname:
        with bench.stage.server.connect(dbname) as conn:
            bench.stage.ready(conn)
        sessions = {name: bench.stage.server.connect(dbname) for name in works}
        for name, work in works.items():
            work(sessions[name])
        for _ in range(4 * bench.scale.repeats):
            for name, work in works.items():
                if not kept:
                    sessions[name].close()
                    sessions[name] = bench.stage.server.connect(dbname)
                start = time.perf_counter()
                work(sessions[name])
                times.seconds.setdefault(name, []).append(time.perf_counter() - start)
        for conn in sessions.values():
            conn.close()
    return times


def _look(conn: Connection) -> None:
    c.execute(conn, "SELECT * FROM hotmesh_dba.backlog()")


def few_due(bench: Bench) -> Section:
    """Few messages of many are due: the oldest, or one on every page."""
    count = bench.scale.sparse
    section = Section()
    shapes = {
        "the oldest 1 %": f"i < {count // 100}",
        "one a page": f"n % {_messages_per_page(bench)} = 0",
    }
    for what, due in shapes.items():
        template = bench.stage.template(f"sparse_{len(what)}", loads(Messages(count, due=due)))
        contenders = [one_transaction(c.DELETE_ENGINE), ours(c.STREAMS)]
        times = compare(bench.stage, template, contenders, bench.scale.repeats)
        work = f"due of {count:,} messages: {what}"
        section.ratio(work, times, (OURS, ONE), 1.5)
        section.times(work, times)
        bench.stage.forget(template)
    return section


def _messages_per_page(bench: Bench) -> int:
    template = bench.stage.template("page", loads(Messages(1000, skewed=True)))
    with bench.stage.copy(template) as dbname, bench.stage.server.connect(dbname) as conn:
        row = conn.execute(
            "SELECT max(on_page) FROM (SELECT count(*) AS on_page FROM bench.engine_streams"
            " GROUP BY tableoid, split_part(ctid::text, ',', 1)) AS page"
        ).fetchone()
    assert row is not None
    bench.stage.forget(template)
    return int(row[0])


# --- neighbours ------------------------------------------------------------------------------


def longest_transaction(bench: Bench) -> Section:
    """The longest batch at the defaults, with 80 and with 800 attributes a job, all in one leaf.

    A batch ends with its leaf, so with eight of them it might never grow as long as it can.
    """
    section = Section()
    for attributes in (80, 800):
        expired = bench.scale.heavy * 800 // attributes
        rows = loads(
            Jobs(expired, ("expired",), attributes, skewed=True),
            Jobs(expired // 2, ("live",), attributes, skewed=True),
        )
        template = bench.stage.template(f"heavy_{attributes}", rows)
        for verb, options in (("delete", c.JOBS), ("strip", c.STRIPS)):
            contenders = [ours(options), ours(options, fast=True)]
            times = compare(bench.stage, template, contenders, bench.scale.few)
            for contender in contenders:
                values = times.longest_batches(contender.name)
                work = f"longest transaction, {verb}, {attributes} attributes a job"
                section.lines.append(Line(work, contender.name, values, 2 * BATCH_TIME_MS, " ms"))
        bench.stage.forget(template)
    return section


_STREAMS = [f"foreground-{n}" for n in range(4)]
_LEAD_IN_SECONDS = 1.0
_ALONE_SECONDS = 8.0


def neighbours(bench: Bench) -> Section:
    """The application's p99 beside nothing, beside one big transaction, and beside our run."""
    scale = bench.scale
    rows = loads(mostly("expired", scale.busy_jobs), *both_streams(scale.busy_messages))
    template = bench.stage.template("busy", rows)
    big = one_transaction(c.DELETE_JOBS, c.DELETE_ENGINE, c.DELETE_WORKER)
    alone = Contender("alone", lambda _: time.sleep(min(_ALONE_SECONDS, scale.busy_jobs / 2000)))
    contenders = [alone, big, ours({**c.JOBS, **{"prune_streams": True}})]
    times = Times()
    latencies: dict[str, list[list[float]]] = {contender.name: [] for contender in contenders}
    for repeat in range(scale.repeats):
        turn = repeat % len(contenders)
        for contender in [*contenders[turn:], *contenders[:turn]]:
            seconds, found = _beside_foreground(bench, template, contender)
            times.seconds.setdefault(contender.name, []).append(seconds)
            latencies[contender.name].append(found)
    section = Section()
    _latency_lines(section, latencies)
    section.times("prune beside the application", times)
    bench.stage.forget(template)
    return section


def _beside_foreground(
    bench: Bench, template: str, contender: Contender
) -> tuple[float, list[float]]:
    """The seconds of the contender, and the latencies of the application meanwhile."""
    with bench.stage.copy(template) as dbname, bench.stage.server.connect(dbname) as conn:
        set_path(conn)
        bench.stage.ready(conn)
        with foreground(bench.stage.server.conninfo(dbname), _STREAMS) as latencies:
            time.sleep(_LEAD_IN_SECONDS)
            start = time.monotonic()
            contender.work(Place(bench.stage.server, dbname, conn))
            end = time.monotonic()
        return end - start, latencies.between(start, end)


def _latency_lines(section: Section, latencies: dict[str, list[list[float]]]) -> None:
    work = "foreground p99 at 150 transactions/s"
    by_name = {name: [p99(run) for run in runs] for name, runs in latencies.items()}
    for name, values in by_name.items():
        figure = name if name == "alone" else f"beside {name}"
        section.lines.append(Line(work, figure, tuple(values), unit=" ms"))
    for other, bar in (("alone", 2.0), (ONE, 1.0)):
        pairs = zip(by_name[OURS], by_name[other], strict=True)
        values = [mine / theirs for mine, theirs in pairs]
        figure = f"beside ours / {'alone' if other == 'alone' else f'beside {other}'}"
        section.lines.append(Line(work, figure, tuple(values), bar))
    for name, runs in latencies.items():
        pooled = [seconds for run in runs for seconds in run]
        section.remarks.append(
            f"Foreground {'' if name == 'alone' else 'beside '}{name}: {len(pooled):,} "
            f"transactions, median {statistics.median(pooled) * 1000:.1f} ms, p99 over all of "
            f"them {p99(pooled):.1f} ms, longest {max(pooled) * 1000:.0f} ms."
        )


def memory(bench: Bench) -> Section:
    """The backend's own memory early and late in a run over very many jobs."""
    count = bench.scale.million
    template = bench.stage.template("million", loads(Jobs(count, ("stale",), attributes=2)))
    section = Section()
    for verb, options in (("strip", c.STRIPS), ("delete", c.JOBS)):
        work = f"{verb} {count:,} jobs of 2 attributes: the server's memory"
        with bench.stage.copy(template) as dbname, bench.stage.server.connect(dbname) as conn:
            bench.stage.ready(conn)
            start = time.perf_counter()
            with watch(Place(bench.stage.server, dbname, conn)) as watched:
                c.call(conn, options)
            section.seconds.append((work, OURS, [time.perf_counter() - start]))
        early, late = watched.around(0.1), watched.around(0.9)
        section.lines.append(Line(work, "at 90 % / at 10 %", (late / early,), 1.1))
        section.remarks.append(f"{work}: {early:.1f} MB at 10 %, {late:.1f} MB at 90 %.")
    bench.stage.forget(template)
    return section


# --- unfriendly tables -----------------------------------------------------------------------


def skewed(bench: Bench) -> Section:
    """Everything in one leaf of each table."""
    scale = bench.scale
    rows = [mostly("expired", scale.jobs // 2, skewed=True)]
    rows += [mostly("live", scale.strip // 2, skewed=True)]
    template = bench.stage.template(
        "skewed", loads(*rows, *both_streams(scale.messages // 2, skewed=True))
    )
    return _each_step(bench, template, "all in one leaf")


def unanalyzed(bench: Bench) -> Section:
    """Tables that were just restored: no statistics."""
    scale = bench.scale
    rows = [mostly("expired", scale.jobs // 2), mostly("live", scale.strip // 2)]
    template = bench.stage.template(
        "unanalyzed", loads(*rows, *both_streams(scale.messages // 2)), analyzed=False
    )
    return _each_step(bench, template, "tables never analyzed")


def _each_step(bench: Bench, template: str, where: str) -> Section:
    """Jobs, strip and messages against one transaction, at the bars of the usual tables."""
    section = Section()
    scale = bench.scale
    pairs: Sequence[tuple[str, Contender, dict[str, bool], float, float | None]] = (
        (f"delete {scale.jobs // 2:,} expired jobs", ONE_JOBS, c.JOBS, 1.0, 0.5),
        (f"strip {scale.strip // 2:,} live jobs", ONE_STRIP, c.STRIPS, 0.9, 0.55),
        (f"delete {scale.messages // 2:,} messages", ONE_STREAMS, c.STREAMS, 0.8, None),
    )
    for what, one, options, bar, fast_bar in pairs:
        contenders = [one, ours(options)]
        if fast_bar is not None:
            contenders.append(ours(options, fast=True))
        times = compare(bench.stage, template, contenders, scale.few)
        section.ratio(f"{what}, {where}", times, (OURS, ONE), bar)
        if fast_bar is not None:
            section.ratio(f"{what}, {where}", times, (FAST, ONE), fast_bar)
        section.times(f"{what}, {where}", times)
    bench.stage.forget(template)
    return section


CASES: dict[str, Case] = {
    case.__name__: case
    for case in (
        delete_jobs,
        strip_jobs,
        strip_many,
        delete_streams,
        two_workers,
        nothing_due,
        backlog,
        few_due,
        doubling,
        longest_transaction,
        neighbours,
        memory,
        skewed,
        unanalyzed,
    )
}
