"""Every way to prune, as data: how the app came to be, and who calls what.

A new way is one more line in PATHS.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import datetime, timedelta
from typing import Any

from psycopg import sql

from hotmesh_dba import DBA, AsyncDBA
from hotmesh_dba.models import Counts as PythonCounts
from hotmesh_dba.options import OPTIONS
from tests.oracle.session import AsyncSession, Row, Session, SyncSession
from tests.support.model import Counts, MessageTable, Options, Triggers, Window
from tests.support.random_app import ENGINE_AND_WORKER, ONE_TABLE

SCHEMA = "My App"
# The step of each name, and where its rows are counted.
COUNTED = {
    "jobs": "deleted_jobs",
    "transient": "deleted_transient",
    "engine_streams": "deleted_engine_streams",
    "worker_streams": "deleted_worker_streams",
    "strip": "marked_pruned",
    "signals": "deleted_signals",
}
CASTS = {name.name: name.type for name in OPTIONS.values()}


@dataclass(frozen=True, slots=True)
class Result:
    """What a call said; a face that does not tell has None.

    Attributes:
        counts: the eight columns.
        remaining: jobs still due for a strip.
        now: the time of the call's own transaction, where it is not the test's.
    """

    counts: Counts
    remaining: int | None = None
    now: datetime | None = None


Face = Callable[[Session, Options], Result]
Look = Callable[[Session, Options], Counts]


# --- faces -----------------------------------------------------------------------------------


def function(session: Session, options: Options) -> Result:
    """hotmesh_dba.prune, by name."""
    row = _call(session, sql.SQL("now(), p.*"), sql.SQL("hotmesh_dba.prune"), options)
    return Result(Counts(*row[1:9]), row[9], row[0])


def wrapper(session: Session, options: Options) -> Result:
    """The app's own prune, by position, its parameters bound by the server."""
    arguments = options.arguments()
    statement = sql.SQL("SELECT now(), p.* FROM {}.prune({}) p").format(
        sql.Identifier(SCHEMA),
        sql.SQL(", ").join(map(_cast, arguments)),
    )
    [row] = session.execute(statement, list(arguments.values()))
    return Result(Counts(*row[1:]), now=row[0])


def client(session: Session, options: Options) -> Result:
    """DBA.prune, in the transaction of its connection."""
    assert isinstance(session, SyncSession)
    result = DBA(session.conn).prune(SCHEMA, **keywords(options))
    return Result(as_counts(result), result.remaining)


def async_client(session: Session, options: Options) -> Result:
    """AsyncDBA.prune, likewise."""
    assert isinstance(session, AsyncSession)
    result = session.run(AsyncDBA(session.conn).prune(SCHEMA, **keywords(options)))
    return Result(as_counts(result), result.remaining)


def a_row_at_a_time(session: Session, options: Options) -> Result:
    """The steps that every face shares, each driven with the smallest bound there is."""
    arguments = options.arguments()
    lanes = sql.SQL(
        "SELECT s.name, l::text FROM hotmesh_dba._steps(hotmesh_dba._resolve({})) s,"
        " hotmesh_dba._lanes(s, false) l"
    )
    found = session.execute(
        lanes.format(sql.SQL(", ").join([sql.SQL("%s"), *map(_cast, arguments)])),
        [SCHEMA, *arguments.values()],
    )
    counts = dict.fromkeys((name.name for name in fields(Counts)), 0)
    for name, lane in found:
        for taken, attributes in _batches(session, lane):
            counts[COUNTED[name]] += taken
            counts["stripped_attributes"] += attributes
    counts["deleted_streams"] = counts["deleted_engine_streams"] + counts["deleted_worker_streams"]
    return Result(Counts(**counts))


def _batches(session: Session, lane: str) -> Iterator[tuple[int, int]]:
    finished = False
    while not finished:
        [(taken, attributes, skipped, finished, lane)] = session.execute(
            "SELECT o.taken, o.attributes, o.skipped, o.finished, o.lane::text"
            " FROM hotmesh_dba._run_batch(%s::hotmesh_dba._lane, 1, false) o",
            [lane],
        )
        assert not skipped
        assert taken <= 1, "a step takes no more than its bound"
        yield taken, attributes


def batched(session: Session, options: Options) -> Result:
    """CALL hotmesh_dba.prune_batched, with knobs that the options choose."""
    return _run_batched(session, options, random.Random(repr(options)))


def batched_without_triggers(session: Session, options: Options) -> Result:
    """The same on the fast path."""
    return _run_batched(session, options, random.Random(repr(options)), disable_triggers=True)


def policy(session: Session, options: Options) -> Result:
    """CALL hotmesh_dba.run_policy, of a policy that says the same; it may have no fuse."""
    choice = random.Random(repr(options))
    plain = _as_policy(options)
    if plain is None:
        [(now,)] = session.execute("SELECT now()")
        return Result(Counts(), None, now)  # refused, for it would do nothing
    more = {"batch_size": choice.choice((None, 1, 5)), "max_percent": choice.choice((50, 100))}
    named = [sql.SQL("{} => {}").format(sql.Identifier(name), _cast(name)) for name in plain]
    named += [
        sql.SQL("{} => {}").format(sql.Identifier(name), sql.Literal(value))
        for name, value in more.items()
    ]
    session.execute(
        sql.SQL("SELECT hotmesh_dba.set_policy(%s, 'oracle', {})").format(
            sql.SQL(", ").join(named)
        ),
        [SCHEMA, *plain.values()],
    )
    call = "CALL hotmesh_dba.run_policy(%s, 'oracle', true, %s, %s)"
    workers = choice.choice((1, 1, 2, 3))
    return _of_workers(
        session, workers, lambda worker: session.execute(call, [SCHEMA, worker, workers])
    )


def _as_policy(options: Options) -> dict[str, object] | None:
    """The arguments, less what has no effect: a policy refuses those."""
    engine, worker = (
        options.prune_streams if kind is None else kind
        for kind in (options.prune_engine_streams, options.prune_worker_streams)
    )
    jobs, strip = options.prune_jobs, options.strip_attributes
    entities = options.entity_list
    if entities is not None:
        entities = tuple(entity for entity in entities if entity is not None)
        jobs, strip = jobs and bool(entities), strip and bool(entities)
    if not (jobs or strip or engine or worker or options.prune_transient or options.prune_signals):
        return None
    said = replace(
        options,
        prune_jobs=jobs,
        strip_attributes=strip,
        entity_list=entities if jobs or strip else None,
        keep_hmark=options.keep_hmark and strip,
        engine_streams_retention=options.engine_streams_retention if engine else None,
        worker_streams_retention=options.worker_streams_retention if worker else None,
    )
    return said.arguments()


def _run_batched(
    session: Session, options: Options, choice: random.Random, **more: object
) -> Result:
    workers = choice.choice((1, 1, 2, 3))
    knobs = {"batch_size": choice.choice((None, None, 1, 2, 5, 100)), "workers": workers, **more}
    session.execute(f"SET hotmesh_dba.way = '{choice.choice(('', 'blocks', 'index', 'keys'))}'")
    return _of_workers(
        session,
        workers,
        lambda worker: _call_procedure(session, options, knobs | {"worker": worker}),
    )


def _of_workers(session: Session, workers: int, call: Callable[[int], list[Row]]) -> Result:
    """Call for each, one after the other; what they did together."""
    totals = [0] * len(fields(Counts))
    remaining, first = 0, None
    for worker in range(1, workers + 1):
        [(run,)] = call(worker)
        [(now, state, left, *counts)] = session.execute(
            "SELECT signals_until, state, remaining, deleted_jobs,"
            " deleted_engine_streams + deleted_worker_streams, deleted_engine_streams,"
            " deleted_worker_streams, stripped_attributes, deleted_transient, marked_pruned,"
            " deleted_signals FROM hotmesh_dba.run WHERE id = %s",
            [run],
        )
        assert state == "completed"
        first = first or now
        totals = [total + count for total, count in zip(totals, counts, strict=True)]
        remaining += left
    return Result(Counts(*totals), remaining, first)


def _call_procedure(session: Session, options: Options, knobs: dict[str, object]) -> list[Row]:
    arguments = options.arguments()
    named = [sql.SQL("{} => {}").format(sql.Identifier(name), _cast(name)) for name in arguments]
    named += [
        sql.SQL("{} => {}").format(sql.Identifier(name), sql.Literal(value))
        for name, value in knobs.items()
    ]
    call = sql.SQL("CALL hotmesh_dba.prune_batched(app_id => %s, {})").format(
        sql.SQL(", ").join(named)
    )
    return session.execute(call, [SCHEMA, *arguments.values()])


def look(session: Session, options: Options) -> Counts:
    """hotmesh_dba.preview."""
    row = _call(session, sql.SQL("*"), sql.SQL("hotmesh_dba.preview"), options)
    assert row[8] is True, "a preview without max_rows is exact"
    return Counts(*row[:8])


def client_look(session: Session, options: Options) -> Counts:
    """DBA.preview."""
    assert isinstance(session, SyncSession)
    result = DBA(session.conn).preview(SCHEMA, **keywords(options))
    assert result.exact
    return as_counts(result)


def async_client_look(session: Session, options: Options) -> Counts:
    """AsyncDBA.preview."""
    assert isinstance(session, AsyncSession)
    result = session.run(AsyncDBA(session.conn).preview(SCHEMA, **keywords(options)))
    assert result.exact
    return as_counts(result)


def keywords(options: Options) -> dict[str, Any]:
    """The options under their Python names; a window without months as a timedelta."""
    sql_names = {option.name: name for name, option in OPTIONS.items()}
    texts = options.arguments()
    return {sql_names[name]: _delta(getattr(options, name)) or text for name, text in texts.items()}


def _delta(value: object) -> timedelta | None:
    if isinstance(value, Window) and not value.months:
        return timedelta(days=value.days, microseconds=value.microseconds)
    return None


def as_counts(result: PythonCounts) -> Counts:
    values = asdict(result)
    names = ("jobs", "streams", "engine_streams", "worker_streams")
    more = ("attributes", "transient", "marked", "signals")
    return Counts(*(values[name] for name in (*names, *more)))


def _call(session: Session, columns: sql.SQL, routine: sql.SQL, options: Options) -> Any:
    arguments = options.arguments()
    named = (sql.SQL(", {} => {}").format(sql.Identifier(name), _cast(name)) for name in arguments)
    statement = sql.SQL("SELECT {} FROM {}(app_id => %s{}) p").format(
        columns, routine, sql.SQL("").join(named)
    )
    [row] = session.execute(statement, [SCHEMA, *arguments.values()])
    return row


def _cast(name: str) -> sql.SQL:
    """The placeholder of an argument."""
    return sql.SQL(f"%s::{CASTS[name]}")


# --- what is different about an app ----------------------------------------------------------

NO_INDEX = 'DROP INDEX IF EXISTS "My App".idx_jobs_pruned_at, "My App".idx_jobs_unstripped'
NO_STREAMS = 'DROP TABLE "My App".engine_streams, "My App".worker_streams'
NO_WORKER_STREAMS = 'DROP TABLE "My App".worker_streams'
NO_SIGNALS = 'DROP TABLE "My App".signal_registry'
REPLICA = "SET LOCAL session_replication_role = replica"

# The rights of a role, on the tables that HotMesh's documentation names and not on their leaves.
DELETER = 'GRANT USAGE ON SCHEMA "My App" TO {role}; GRANT SELECT, DELETE ON {tables} TO {role}'
PRUNER = DELETER + '; GRANT UPDATE (pruned_at) ON "My App".jobs TO {role}'
LEAVES = PRUNER + '; GRANT SELECT, DELETE, UPDATE ON ALL TABLES IN SCHEMA "My App" TO {role}'

# As an interrupted pg_restore leaves it.
CASCADE_OFF_ON_ONE_LEAF = """
DO $do$
DECLARE
  v_trigger record;
BEGIN
  FOR v_trigger IN
    SELECT t.tgrelid::regclass AS relation, t.tgname AS name
      FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
     WHERE c.relnamespace = '"My App"'::regnamespace AND t.tgconstraint <> 0
       AND c.relname = 'jobs_part_3'
  LOOP
    EXECUTE format('ALTER TABLE %s DISABLE TRIGGER %I', v_trigger.relation, v_trigger.name);
  END LOOP;
END
$do$
"""
KEY_WITHOUT_CASCADE = """
ALTER TABLE "My App".jobs_attributes DROP CONSTRAINT jobs_attributes_job_id_fkey;
ALTER TABLE "My App".jobs_attributes ADD FOREIGN KEY (job_id) REFERENCES "My App".jobs
"""

BY_EXPIRY = Triggers(by_expiry=True)
SILENT = Triggers(fire=False)
DISABLED = Triggers(fire=False, replaced=True)


@dataclass(frozen=True, slots=True)
class Path:
    """A way to prune.

    Attributes:
        prune: the call.
        preview: the look that must give the same counts; None where there is none to compare.
        layout: the app's layout.
        places: where the app's messages stand.
        plain: whether the routines are the plain script's, and not the extension's.
        deploy: whether the app is deployed.
        owned: whether an ordinary role owns the app and prunes it.
        prepare: statements of a superuser, once.
        grants: rights of a role of its own, which then prunes; {role} and {tables} are filled in.
        before: a statement in the transaction of the call, before it.
        triggers: what the app's triggers do to a mark.
        strip: whether the options may ask for a strip.
        signals: whether there are signals.
        commits: whether the call is a transaction of its own, which cannot be rolled back.
        batched: whether jobs are marked later than the call's own time, batch by batch.
        is_async: whether the connection is an async one.
    """

    prune: Face = function
    preview: Look | None = look
    layout: str = "current"
    places: tuple[tuple[MessageTable, str | None], ...] = ENGINE_AND_WORKER
    plain: bool = False
    deploy: bool = True
    owned: bool = False
    prepare: tuple[str, ...] = ()
    grants: str | None = None
    before: str | None = None
    triggers: Triggers = field(default_factory=Triggers)
    strip: bool = True
    signals: bool = True
    commits: bool = False
    batched: bool = False
    is_async: bool = False


PATHS: dict[str, Path] = {
    "function": Path(),
    "function, committed": Path(commits=True),
    "wrapper, by the app's owner": Path(wrapper, preview=None, owned=True),
    "DBA": Path(client, client_look),
    "AsyncDBA": Path(async_client, async_client_look, is_async=True),
    "batched": Path(batched, commits=True, batched=True, preview=None),
    "batched, by the app's owner": Path(
        batched, commits=True, batched=True, preview=None, owned=True
    ),
    "batched, least privileges": Path(
        batched, commits=True, batched=True, preview=None, grants=PRUNER
    ),
    "batched, triggers disabled": Path(
        batched_without_triggers, commits=True, batched=True, preview=None, triggers=DISABLED
    ),
    "batched, streams left over": Path(
        batched,
        commits=True,
        batched=True,
        preview=None,
        layout="mixture",
        places=ENGINE_AND_WORKER + ONE_TABLE,
    ),
    "batched, plain install": Path(batched, commits=True, batched=True, preview=None, plain=True),
    "batched, key without cascade": Path(
        batched, commits=True, batched=True, preview=None, prepare=(KEY_WITHOUT_CASCADE,)
    ),
    "policy": Path(policy, commits=True, batched=True, preview=None),
    "policy, by the app's owner, streams left over": Path(
        policy,
        commits=True,
        batched=True,
        preview=None,
        owned=True,
        layout="mixture",
        places=ENGINE_AND_WORKER + ONE_TABLE,
    ),
    "steps, a row at a time": Path(a_row_at_a_time, preview=None),
    "a row at a time, by blocks": Path(
        a_row_at_a_time, preview=None, before="SET LOCAL hotmesh_dba.way = blocks"
    ),
    "a row at a time, by keys": Path(
        a_row_at_a_time, preview=None, before="SET LOCAL hotmesh_dba.way = keys"
    ),
    "function, by blocks": Path(preview=None, before="SET LOCAL hotmesh_dba.way = blocks"),
    "function, by keys": Path(preview=None, before="SET LOCAL hotmesh_dba.way = keys"),
    "function, triggers disabled": Path(
        preview=None,
        before="SET LOCAL hotmesh_dba.disable_triggers = on",
        triggers=DISABLED,
    ),
    "plain install": Path(wrapper, preview=None, plain=True),
    "one table of streams": Path(layout="pre-0.10", places=ONE_TABLE, triggers=BY_EXPIRY),
    "streams left over": Path(layout="mixture", places=ENGINE_AND_WORKER + ONE_TABLE),
    "no streams, signals, index": Path(
        places=(), signals=False, prepare=(NO_STREAMS, NO_SIGNALS, NO_INDEX)
    ),
    "not deployed, engine messages only": Path(
        preview=None,
        layout="0.11",
        places=ENGINE_AND_WORKER[:1],
        deploy=False,
        prepare=(NO_WORKER_STREAMS,),
        strip=False,
    ),
    "least privileges": Path(grants=PRUNER),
    "privileges on leaves too": Path(preview=None, grants=LEAVES),
    "no right to mark": Path(wrapper, preview=None, grants=DELETER, strip=False),
    "replica": Path(preview=None, before=REPLICA, triggers=SILENT),
    "cascade switched off on one leaf": Path(preview=None, prepare=(CASCADE_OFF_ON_ONE_LEAF,)),
    "key without cascade": Path(preview=None, prepare=(KEY_WITHOUT_CASCADE,)),
}
