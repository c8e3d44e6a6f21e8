"""Sample data of real shape for an app schema, the same for the same seed.

A job has about 82 attributes (58 adata, 16 jdata, 6 other, 2 jmark, and now and then a hmark or
a udata) of 11 to 50 bytes, 8 engine messages of 245 bytes and 1.3 worker messages of 475. Jobs are
completed, running or failed; live, long expired or without an end; of the entities book and author
or of none; is_live is stale or NULL for some, as it is in old databases.
"""

from __future__ import annotations

from dataclasses import dataclass

from psycopg import sql

from .server import Connection

# The attributes of a job, by type.
SHAPE = {"adata": 58, "jdata": 16, "other": 6, "jmark": 2}


@dataclass(frozen=True, slots=True)
class Sample:
    """How many rows were loaded, by table."""

    jobs: int
    attributes: int
    engine_messages: int
    worker_messages: int
    signals: int


def load_sample(
    conn: Connection,
    schema: str,
    *,
    jobs: int = 5000,
    attributes: int = 82,
    engine_messages: float = 8,
    worker_messages: float = 1.3,
    signals: float = 0.2,
    seed: int = 1,
) -> Sample:
    """Fill the tables that `schema` has; numbers but `jobs` are per job.

    A superuser's load goes around the triggers and is several times as fast. Anybody else's runs
    them, so is_live is then never stale. Tables of a layout that are not there are left out, and
    messages for the one table `streams` are in their groups ENGINE and WORKER.
    """
    tables = _tables(conn, schema)
    by_field = "field" in _columns(conn, schema, "jobs_attributes")
    with conn.transaction():
        _bypass_triggers(conn)
        n_jobs = _jobs(conn, schema, jobs, seed)
        n_attributes = _attributes(conn, schema, attributes, by_field=by_field)
        n_engine = n_worker = n_signals = 0
        for table, column in (("engine_streams", ""), ("streams", "group_name")):
            if table in tables:
                count = round(jobs * engine_messages)
                n_engine += _messages(conn, schema, table, "ENGINE", count, 245, seed, column)
        for table, column in (("worker_streams", ""), ("streams", "group_name")):
            if table in tables:
                count = round(jobs * worker_messages)
                n_worker += _messages(conn, schema, table, "WORKER", count, 475, seed, column)
        if "signal_registry" in tables:
            n_signals = _signals(conn, schema, round(jobs * signals), seed)
        conn.execute("DROP TABLE pg_temp.sample_job")
    return Sample(n_jobs, n_attributes, n_engine, n_worker, n_signals)


def _bypass_triggers(conn: Connection) -> None:
    row = conn.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user").fetchone()
    if row and row[0]:
        conn.execute("SET LOCAL session_replication_role = replica")


def _tables(conn: Connection, schema: str) -> set[str]:
    rows = conn.execute("SELECT tablename FROM pg_tables WHERE schemaname = %s", (schema,))
    return {row[0] for row in rows}


def _columns(conn: Connection, schema: str, table: str) -> set[str]:
    rows = conn.execute(
        "SELECT column_name FROM information_schema.columns"
        " WHERE table_schema = %s AND table_name = %s",
        (schema, table),
    )
    return {row[0] for row in rows}


def _jobs(conn: Connection, schema: str, jobs: int, seed: int) -> int:
    """The jobs, kept in a temporary table too, because the attributes need their ids.

    `d` are dice: hashes of the number and the seed, each for another question. A key is used
    again by a later job only where the first is no longer live: two live ones are refused.
    """
    conn.execute(
        """
        CREATE TEMPORARY TABLE sample_job AS
        WITH die AS (
          SELECT n, md5(%(seed)s || ':' || n)::uuid AS id,
                 abs(hashint8extended(n, %(seed)s + 1) %% 100) AS d_status,
                 abs(hashint8extended(n, %(seed)s + 2) %% 100) AS d_end,
                 abs(hashint8extended(n, %(seed)s + 3) %% 86400) AS d_second,
                 abs(hashint8extended(n, %(seed)s + 4) %% 100) AS d_live,
                 abs(hashint8extended(n, %(seed)s + 5) %% 3) AS d_entity,
                 abs(hashint8extended(n, %(seed)s + 6) %% 60) AS d_day
            FROM generate_series(1, %(jobs)s) AS n
        ), job AS (
          SELECT die.*,
                 CASE WHEN d_status < 70 THEN 0 WHEN d_status < 88 THEN 1 + d_day %% 3
                      ELSE -1 END AS status,
                 CASE WHEN d_status >= 70 AND d_status < 88 AND d_end < 90 THEN NULL
                      WHEN d_end < 55
                      THEN now() - make_interval(days => d_day::int, secs => d_second)
                      WHEN d_end < 85
                      THEN now() + make_interval(days => d_day::int / 6, secs => 3600 + d_second)
                 END AS expired_at
            FROM die
        )
        SELECT n, id,
               'job-' || CASE WHEN expired_at < now() AND d_live BETWEEN 50 AND 59 THEN n + 1
                              ELSE n END AS key,
               (ARRAY['book', 'author', NULL])[1 + d_entity] AS entity,
               status, expired_at,
               least(coalesce(expired_at, now()), now()) - make_interval(mins => 5) AS created_at,
               CASE WHEN expired_at IS NULL OR expired_at >= now() THEN true
                    WHEN d_live < 50 THEN true      -- stale: nobody wrote the row since
                    WHEN d_live < 95 THEN false
               END AS is_live
          FROM job
        """,
        {"jobs": jobs, "seed": seed},
    )
    return conn.execute(
        sql.SQL(
            """
            INSERT INTO {}.jobs
                   (id, key, entity, status, created_at, updated_at, expired_at, is_live)
            SELECT id, key, entity, status, created_at, created_at, expired_at, is_live
              FROM pg_temp.sample_job
            """
        ).format(sql.Identifier(schema))
    ).rowcount


def _attributes(conn: Connection, schema: str, per_job: int, *, by_field: bool) -> int:
    name = "field" if by_field else "symbol, dimension"
    value = "slot.symbol || slot.dimension" if by_field else "slot.symbol, slot.dimension"
    symbols, dimensions, types = zip(*_slots(per_job), strict=True)
    return conn.execute(
        sql.SQL(
            f"""
            INSERT INTO {{schema}}.jobs_attributes (job_id, {name}, value, type)
            SELECT job.id, {value},
                   left(md5(job.n || slot.symbol) || md5(slot.symbol),
                        11 + (job.n + slot.at)::int %% 40),
                   slot.type::{{schema}}.type_enum
              FROM pg_temp.sample_job AS job
             CROSS JOIN unnest(%s::text[], %s::text[], %s::text[])
                   WITH ORDINALITY AS slot (symbol, dimension, type, at)
             WHERE slot.type NOT IN ('hmark', 'udata') OR job.n %% 10 = 0
            """
        ).format(schema=sql.Identifier(schema)),
        (list(symbols), list(dimensions), list(types)),
    ).rowcount


def _slots(per_job: int) -> list[tuple[str, str, str]]:
    """Symbol, dimension and type of each attribute of a job, the types in their real shares."""
    whole = sum(SHAPE.values())
    # Largest error first: for every number of slots the shares are as near as they can be.
    given = dict.fromkeys(SHAPE, 0)
    types: list[str] = []
    for at in range(1, per_job + 1):
        due = max(SHAPE, key=lambda kind: SHAPE[kind] * at / whole - given[kind])
        given[due] += 1
        types.append(due)
    types += ["hmark", "udata"]
    return [(_symbol(at), ",0" * (1 + at % 3), kind) for at, kind in enumerate(types)]


def _symbol(number: int) -> str:
    """A three-letter symbol, as HotMesh names its fields."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    return letters[number // 676 % 26] + letters[number // 26 % 26] + letters[number % 26]


def _messages(
    conn: Connection,
    schema: str,
    table: str,
    group: str,
    count: int,
    size: int,
    seed: int,
    group_column: str,
) -> int:
    """Messages: most processed long ago, some waiting, some reserved, some dead-lettered."""
    dead = "dead_lettered_at" in _columns(conn, schema, table)
    columns = ["stream_name", "message", "created_at", "reserved_at", "reserved_by", "expired_at"]
    values = [
        "'hmsh:app:' || lower(left(%(group)s, 1)) || ':' || n %% 12",
        "left(repeat(md5(n::text), 16), %(size)s)",
        "at - interval '2 seconds'",
        "CASE WHEN d < 94 THEN at - interval '1 second' END",
        "CASE WHEN d < 94 THEN 'worker-' || n %% 4 END",
        "CASE WHEN d < 90 THEN at END",
    ]
    if dead:
        columns.append("dead_lettered_at")
        values.append("CASE WHEN d < 3 THEN at END")
    if group_column:
        columns.append(group_column)
        values.append("%(group)s")
    return conn.execute(
        sql.SQL(
            f"""
            INSERT INTO {{}} ({", ".join(columns)})
            SELECT {", ".join(values)}
              FROM (SELECT n, abs(hashint8extended(n, %(seed)s + 7) %% 100) AS d,
                           now() - make_interval(
                             secs => abs(hashint8extended(n, %(seed)s + 8) %% (100 * 86400)))
                      FROM generate_series(1, %(count)s) AS n) AS die (n, d, at)
            """
        ).format(sql.Identifier(schema, table)),
        {"group": group, "size": size, "seed": seed, "count": count},
    ).rowcount


def _signals(conn: Connection, schema: str, count: int, seed: int) -> int:
    """Signals: half of them over, a quarter still good, a quarter without an end."""
    return conn.execute(
        sql.SQL(
            """
            INSERT INTO {} (key, value, expiry)
            SELECT 'signal-' || n, md5(n::text),
                   CASE WHEN d < 50 THEN now() - make_interval(hours => (1 + d)::int)
                        WHEN d < 75 THEN now() + make_interval(hours => d::int) END
              FROM (SELECT n, abs(hashint8extended(n, %(seed)s + 9) %% 100)
                      FROM generate_series(1, %(count)s) AS n) AS die (n, d)
            """
        ).format(sql.Identifier(schema, "signal_registry")),
        {"count": count, "seed": seed},
    ).rowcount
