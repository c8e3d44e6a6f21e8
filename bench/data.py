"""The rows that are pruned: many, fast to load, of the shape that HotMesh's have.

They are loaded with session_replication_role = replica, in the order of time, the same each time.
"""

from __future__ import annotations

from dataclasses import dataclass

from psycopg import sql

from tests.support.server import Connection

from .stage import APP

LEAVES = 8

# Ids that are looked at for each job that shall be in one leaf.
_CANDIDATES = 2 * LEAVES

# Status, when it expires, whether it is marked as stripped.
_KINDS = {
    "expired": "(0, now() - interval '30 days', false)",
    "live": "(0, now() + interval '30 days', false)",
    "stripped": "(0, now() + interval '30 days', true)",
    "running": "(1, NULL::timestamptz, false)",
    "failed": "(-1, NULL::timestamptz, false)",
    # Nobody wrote it since it expired, so it still says that it is live: a strip takes it too.
    "stale": "(0, now() - interval '30 days', false)",
}


@dataclass(frozen=True, slots=True)
class Jobs:
    """Jobs of each of `kinds` in turn, with `attributes` each.

    Of 80 attributes 58 are adata, 6 other, 14 jdata and 2 jmark, so a strip takes 64; with
    another number each type has the same share. Skewed: all of them are in one leaf.
    """

    count: int
    kinds: tuple[str, ...]
    attributes: int = 80
    skewed: bool = False


@dataclass(frozen=True, slots=True)
class Messages:
    """Messages of one table, of which the rows with `due` expired long ago.

    `due` is a condition over `i`, the number of the message, and `n`, its number within its leaf.
    Of the others every second one is processed, but still within the retention.
    Skewed: all of them are in one stream, and so in one leaf; else five streams in each leaf.
    """

    count: int
    due: str = "i % 100 > 0"
    table: str = "engine_streams"
    skewed: bool = False


def load_jobs(conn: Connection, jobs: Jobs) -> None:
    """Load jobs and their attributes, behind those that are there."""
    kinds = ", ".join(_KINDS[kind] for kind in jobs.kinds)
    fresh = sql.SQL(
        """
        CREATE TEMPORARY TABLE fresh AS
        WITH kind AS (
          SELECT f.*, row_number() OVER () - 1 AS place, f.live_until IS NULL AS endless
            FROM (VALUES {kinds}) AS f (status, live_until, stripped)
        ), id AS (
          SELECT md5('job-' || c)::uuid AS id
            FROM (SELECT {spread} * count(*) AS jobs FROM {app}.jobs) AS have,
                 generate_series(have.jobs + 1, have.jobs + {candidates}) AS c
           WHERE NOT {skewed} OR satisfies_hash_partition({parent}::regclass, {leaves}, 0,
                                                          md5('job-' || c)::uuid)
           LIMIT {count}
        ), numbered AS (SELECT id.id, row_number() OVER () AS i FROM id)
        SELECT numbered.i, numbered.id, kind.*
          FROM numbered JOIN kind ON kind.place = numbered.i % {kind_count}
        """
    ).format(
        kinds=sql.SQL(kinds),
        app=sql.Identifier(APP),
        parent=sql.Literal(f"{APP}.jobs"),
        leaves=sql.Literal(LEAVES),
        skewed=sql.Literal(jobs.skewed),
        spread=sql.Literal(_CANDIDATES),
        candidates=sql.Literal(jobs.count * (_CANDIDATES if jobs.skewed else 1)),
        count=sql.Literal(jobs.count),
        kind_count=sql.Literal(len(jobs.kinds)),
    )
    conn.execute(fresh)
    _insert_jobs(conn, stale="stale" in jobs.kinds)
    _insert_attributes(conn, jobs.attributes)
    conn.execute("DROP TABLE fresh")


def _insert_jobs(conn: Connection, *, stale: bool) -> None:
    conn.execute(
        sql.SQL(
            """
            INSERT INTO {app}.jobs
                   (id, key, entity, status, created_at, updated_at, expired_at, is_live, pruned_at)
            SELECT id, 'key-' || id, CASE WHEN i % 2 = 0 THEN 'book' END, status,
                   now() - interval '40 days', now() - interval '40 days', live_until,
                   {stale} OR endless OR live_until > now(),
                   CASE WHEN stripped THEN now() - interval '1 day' END
              FROM fresh ORDER BY i
            """
        ).format(app=sql.Identifier(APP), stale=sql.Literal(stale))
    )


def _insert_attributes(conn: Connection, per_job: int) -> None:
    conn.execute(
        sql.SQL(
            """
            INSERT INTO {app}.jobs_attributes (job_id, symbol, dimension, value, type, created_at)
            SELECT fresh.id,
                   chr(97 + slot.k / 676) || chr(97 + slot.k / 26 % 26) || chr(97 + slot.k % 26),
                   ',0,' || slot.k % 4,
                   left(md5(fresh.id || ':' || slot.k) || md5(slot.k::text), 11 + slot.k % 40),
                   (CASE WHEN slot.place < 58 THEN 'adata' WHEN slot.place < 64 THEN 'other'
                         WHEN slot.place < 78 THEN 'jdata' ELSE 'jmark' END)::{app}.type_enum,
                   now() - interval '40 days'
              FROM fresh,
                   (SELECT k, (k - 1) * 80 / {per_job} AS place
                      FROM generate_series(1, {per_job}) AS k) AS slot
             ORDER BY fresh.i, slot.k
            """
        ).format(app=sql.Identifier(APP), per_job=sql.Literal(per_job))
    )


def load_messages(conn: Connection, messages: Messages) -> None:
    """Load messages: 245 bytes each in engine_streams, 475 in worker_streams."""
    names = stream_names(conn, messages.table, 1 if messages.skewed else 5)
    if messages.skewed:
        names = names[:1]
    size = 245 if messages.table == "engine_streams" else 475
    conn.execute(
        sql.SQL(
            """
            INSERT INTO {table}
                   (stream_name, message, created_at, reserved_at, reserved_by, expired_at, jid)
            SELECT ({names}::text[])[1 + i % {count_names}],
                   rpad('{{"id":"' || md5(i::text) || '"', {size}, md5((i * 7)::text)),
                   now() - interval '40 days', now() - interval '40 days', 'worker',
                   CASE WHEN {due} THEN now() - interval '40 days' + i * interval '1 second'
                        WHEN i % 2 = 0 THEN now() - interval '1 day' END,
                   md5((i / 8)::text)
              FROM (SELECT i, i / {leaves} AS n
                      FROM generate_series(0, {count} - 1) AS i) AS message
             ORDER BY i
            """
        ).format(
            table=sql.Identifier(APP, messages.table),
            names=sql.Literal(names),
            count_names=sql.Literal(len(names)),
            size=sql.Literal(size),
            due=sql.SQL(messages.due),
            leaves=sql.Literal(1 if messages.skewed else LEAVES),
            count=sql.Literal(messages.count),
        )
    )


def load_signals(conn: Connection, count: int) -> None:
    """Load signals of which none is due."""
    conn.execute(
        sql.SQL(
            "INSERT INTO {}.signal_registry (key, value, expiry)"
            " SELECT md5(s::text), 'signal', now() + interval '30 days'"
            "   FROM generate_series(1, {}) AS s"
        ).format(sql.Identifier(APP), sql.Literal(count))
    )


def stream_names(conn: Connection, table: str, per_leaf: int) -> list[str]:
    """Names of streams, `per_leaf` for each leaf, one leaf after the other in turn."""
    rows = conn.execute(
        """
        SELECT r.name
          FROM (SELECT 'stream-' || s AS name, leaf,
                       row_number() OVER (PARTITION BY leaf ORDER BY s) AS place
                  FROM generate_series(1, %(tries)s) AS s, generate_series(0, %(last)s) AS leaf
                 WHERE satisfies_hash_partition(%(table)s::regclass, %(last)s + 1, leaf,
                                                'stream-' || s)) AS r
         WHERE r.place <= %(per_leaf)s
         ORDER BY r.place, r.leaf
        """,
        {
            "tries": per_leaf * LEAVES * 20,
            "last": LEAVES - 1,
            "table": f"{APP}.{table}",
            "per_leaf": per_leaf,
        },
    ).fetchall()
    assert len(rows) == per_leaf * LEAVES, rows
    return [str(row[0]) for row in rows]
