-- doctor: the table in which the server keeps its locks.

-- A strip takes a lock a job, a quarter of the table at most; and all the others need theirs at the same time.
CREATE OR REPLACE FUNCTION hotmesh_dba._doctor_lock_table(app_schema name) RETURNS SETOF hotmesh_dba._finding
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
    WITH lock_table AS (
        SELECT current_setting('max_locks_per_transaction')::bigint AS each,
               current_setting('max_connections')::bigint + current_setting('max_prepared_transactions')::bigint AS sessions,
               (SELECT count(*) FROM pg_locks l WHERE NOT l.fastpath) AS held
    )
    SELECT CASE WHEN t.held > t.each * t.sessions / 2 THEN 'problem' ELSE 'warning' END,
           CASE WHEN t.held > t.each * t.sessions / 2
                THEN format('Of the %s locks that the lock table surely holds %s are taken: a strip finds no room.', t.each * t.sessions, t.held)
                ELSE format('The lock table surely holds %s locks, so a strip marks only %s jobs a transaction.',
                            t.each * t.sessions, t.each * t.sessions / 4) END,
           format(E'ALTER SYSTEM SET max_locks_per_transaction = %s;\n-- then restart the server',
                  greatest(2 * t.each, 4000 / t.sessions + 1))
    FROM lock_table t
    WHERE t.each * t.sessions < 4000 OR t.held > t.each * t.sessions / 2
$$;
