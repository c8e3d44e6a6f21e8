-- How long a statement of ours may wait: so much less than deadlock_timeout that, in a deadlock with the
-- application, it is we who give way. What counts is how long we have held locks, so the age of the whole
-- transaction; a fixed lock_timeout below deadlock_timeout does not save the application's statement.
-- The caller carries SET lock_timeout, which confines this setting to it.
-- (Not by pg_settings: it makes a row of every setting there is, which costs more than most of our statements.)
CREATE OR REPLACE FUNCTION hotmesh_dba._bound_waiting(held_since timestamptz DEFAULT now()) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_half interval := current_setting('deadlock_timeout')::interval / 2;
    v_ms   bigint := 1000 * extract(epoch FROM v_half - (clock_timestamp() - held_since));
BEGIN
    PERFORM set_config('lock_timeout', greatest(1, v_ms)::text, true);
END
$$;

-- How many more jobs one transaction may mark: HotMesh's uniqueness trigger takes an advisory lock a live
-- job and keeps it to the end, and a full lock table stops every session of the server. A quarter of the
-- table is ours, less what this session holds already (repeated calls in one transaction add up); and all
-- sessions together stay below half of it, each taking half of what is left of that half, for another may be
-- taking its own at this very moment.
CREATE OR REPLACE FUNCTION hotmesh_dba._lock_room() RETURNS bigint
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT greatest(0, least(t.size / 4 - h.mine, (t.size / 2 - h.everybodys) / 2))
    FROM (SELECT current_setting('max_locks_per_transaction')::bigint
                 * (current_setting('max_connections')::bigint
                    + current_setting('max_prepared_transactions')::bigint) AS size) t,
         (SELECT count(*) FILTER (WHERE l.pid = pg_backend_pid()) AS mine, count(*) AS everybodys
          FROM pg_locks l
          WHERE l.locktype = 'advisory') h
$$;

-- Who may stand in the way, for an error's DETAIL: the sessions with the strongest locks on the app's tables.
-- A row lock shows nowhere, but its holder has a lock on the table as well. After them those with an advisory
-- lock in HotMesh's key space: a key's lock is the same in every app, so its holder may never have touched this one.
CREATE OR REPLACE FUNCTION hotmesh_dba._lock_holders(app_schema name, readers_too boolean, keys_too boolean) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    WITH other AS (
        SELECT l.*
        FROM pg_locks l
        WHERE l.granted AND l.pid <> pg_backend_pid()
          AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
    ), held AS (
        SELECT l.pid, format('%s on %s', l.mode, coalesce(pg_partition_root(l.relation), l.relation)::regclass) AS lock,
               array_position(ARRAY['AccessShareLock', 'RowShareLock', 'RowExclusiveLock', 'ShareUpdateExclusiveLock',
                                    'ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock'],
                              l.mode) AS strength
        FROM other l
        JOIN pg_class c ON c.oid = l.relation AND c.relkind IN ('r', 'p')
        JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = _lock_holders.app_schema
        WHERE l.locktype = 'relation' AND (readers_too OR l.mode <> 'AccessShareLock')
        UNION ALL
        SELECT l.pid, 'an advisory lock', 0
        FROM other l
        WHERE l.locktype = 'advisory' AND l.objsubid = 1 AND keys_too
    ), holder AS (
        SELECT h.pid, max(h.strength) AS strength,
               string_agg(DISTINCT h.lock, ', ') AS locks
        FROM held h
        GROUP BY h.pid
        ORDER BY strength DESC, h.pid
        LIMIT 5
    )
    SELECT coalesce(string_agg(format('Process %s (role %s) holds %s.', h.pid, coalesce(a.usename, 'unknown'), h.locks),
                               ' ' ORDER BY h.strength DESC, h.pid),
                    'It has ended meanwhile.')
    FROM holder h
    LEFT JOIN pg_stat_activity a ON a.pid = h.pid
$$;

CREATE OR REPLACE FUNCTION hotmesh_dba._raise_locked(app_schema name, doing text) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION 'could not % app "%": another session holds a lock', doing, app_schema
        USING ERRCODE = 'lock_not_available',
              DETAIL = hotmesh_dba._lock_holders(app_schema, readers_too => doing = 'deploy', keys_too => doing = 'prune'),
              HINT = 'Nothing was changed. Call again when that session has ended its transaction.';
END
$$;
