-- doctor: policies, and whether they are followed. Only the app's owner sees them (see _doctor_checks).

-- The tables that something takes rows of: an enabled policy, or of late a run without one. Attributes go with their jobs.
CREATE OR REPLACE FUNCTION hotmesh_dba._covered_tables(app_schema name) RETURNS SETOF regclass
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
    WITH rule AS (
        SELECT p AS policy FROM hotmesh_dba._policies_of(app_schema) p
        UNION ALL
        SELECT jsonb_populate_record(NULL::hotmesh_dba.policy, o.options || jsonb_build_object('app', app_schema))
        FROM (SELECT DISTINCT r.options - '{worker,workers,max_runtime}'::text[] AS options
              FROM hotmesh_dba.run r
              WHERE r.app = app_schema AND r.policy IS NULL AND r.started_at > now() - interval '8 days'
              LIMIT 20) o
    )
    SELECT DISTINCT t.relation
    FROM rule r, unnest(hotmesh_dba._policy_steps(r.policy)) s,
         LATERAL (VALUES (hotmesh_dba._pruned_table(s)), (s.attributes)) t (relation)
    WHERE t.relation IS NOT NULL
$$;

-- A name that no policy of the app has: set_policy would replace it.
CREATE OR REPLACE FUNCTION hotmesh_dba._new_policy_name(app_schema name, wish text) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT c.name
    FROM (SELECT wish || coalesce('-' || nullif(n, 1), '') AS name, n FROM generate_series(1, 1000) n) c
    WHERE NOT EXISTS (SELECT FROM hotmesh_dba.policy p WHERE p.app = app_schema AND p.name = c.name)
    ORDER BY c.n
    LIMIT 1
$$;

CREATE OR REPLACE FUNCTION hotmesh_dba._doctor_coverage(app_schema name) RETURNS SETOF hotmesh_dba._finding
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT 'warning',
           format('Nothing takes rows of %s, which has about %s: neither an enabled policy, nor any run of the last 8 days.',
                  s.relation, s.total_rows),
           format('SELECT hotmesh_dba.set_policy(%L, %L, %s, every => ''1 day'');', app_schema,
                  hotmesh_dba._new_policy_name(app_schema, c.relname::text), o.options)
    FROM hotmesh_dba._sizes(ARRAY(SELECT a FROM hotmesh_dba._app_tables(app_schema) a)) s
    JOIN pg_class c ON c.oid = s.relation
    JOIN (VALUES (1, 'jobs', 'retention => ''30 days'', prune_jobs => true'),
                 (2, 'jobs_attributes', 'strip_attributes => true'),
                 (3, 'engine_streams', 'prune_engine_streams => true, engine_streams_retention => ''7 days'''),
                 (4, 'worker_streams', 'prune_worker_streams => true, worker_streams_retention => ''90 days'''),
                 (5, 'streams', 'prune_streams => true, retention => ''90 days'''),
                 (6, 'signal_registry', 'prune_signals => true')) o (place, table_name, options) ON o.table_name = c.relname
    WHERE s.total_rows >= 1000 AND s.relation NOT IN (SELECT t FROM hotmesh_dba._covered_tables(app_schema) t)
    ORDER BY o.place
$$;

-- One with `every` should have run by now, with as much again (an hour at least) for delay; one without, if no schedule of
-- its own is known, in the last 8 days: schedules in another database are not seen here.
CREATE OR REPLACE FUNCTION hotmesh_dba._doctor_unrun_policies(app_schema name) RETURNS SETOF hotmesh_dba._finding
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
    WITH policy AS (
        SELECT p.name, p.every, p.updated_at,
               (SELECT max(r.started_at) FROM hotmesh_dba.run r WHERE r.app = app_schema AND r.policy = p.name) AS last_run,
               coalesce(p.every + greatest(p.every, interval '1 hour'), interval '8 days') AS patience
        FROM hotmesh_dba._policies_of(app_schema) p
        WHERE p.every IS NOT NULL
           OR NOT EXISTS (SELECT FROM hotmesh_dba._schedules_of(app_schema) s WHERE s.policy = p.name AND s.active)
    )
    SELECT 'problem',
           format('Nothing runs policy "%s"%s: %s. Have %s run by pg_cron or another scheduler.', p.name,
                  ', which should run every ' || p.every,
                  coalesce('its last run began on ' || date_trunc('second', p.last_run), 'it never ran'),
                  CASE WHEN p.every IS NULL THEN 'it' ELSE 'CALL hotmesh_dba.run_due()' END),
           CASE WHEN p.every IS NULL THEN hotmesh_dba._run_policy_call(app_schema, p.name) || ';' ELSE 'CALL hotmesh_dba.run_due();' END
    FROM policy p
    WHERE now() > greatest(p.last_run, p.updated_at) + p.patience
$$;

-- How the last run of each policy ended, and the last one without.
CREATE OR REPLACE FUNCTION hotmesh_dba._doctor_last_runs(app_schema name) RETURNS SETOF hotmesh_dba._finding
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
    WITH last AS (
        SELECT DISTINCT ON (r.policy) r.*,
               -- Its process may be gone, and no other run has closed its record yet.
               CASE WHEN r.state = 'running' THEN (SELECT p.state FROM hotmesh_dba.progress p WHERE p.run_id = r.id)
                    ELSE r.state END AS outcome
        FROM hotmesh_dba.run r
        WHERE r.app = app_schema
          AND (r.policy IN (SELECT p.name FROM hotmesh_dba._policies_of(app_schema) p)
               OR r.policy IS NULL AND r.started_at > now() - interval '8 days')
        ORDER BY r.policy, r.id DESC
    )
    SELECT CASE WHEN l.outcome = 'stopped' THEN 'warning' ELSE 'problem' END,
           format('The last run of %s (run %s) %s.', coalesce('policy "' || l.policy || '"', 'prune_batched'), l.id,
                  CASE l.outcome WHEN 'failed' THEN format('failed: %s (%s)', l.error_message, l.error_sqlstate)
                               WHEN 'interrupted' THEN 'was interrupted'
                               ELSE format('left %s rows that others had locked', l.remaining) END),
           CASE WHEN l.policy IS NULL THEN format('SELECT * FROM hotmesh_dba.run WHERE id = %s;', l.id)
                WHEN l.stop_reason = 'max_percent'      -- its fuse: whether that was meant, its owner knows
                THEN (SELECT hotmesh_dba._preview_policy_call(p) || E';\n' FROM hotmesh_dba._policies_of(app_schema) p WHERE p.name = l.policy)
                     || hotmesh_dba._run_policy_call(app_schema, l.policy, force => true) || ';'
                ELSE hotmesh_dba._run_policy_call(app_schema, l.policy) || ';' END
    FROM last l
    WHERE l.outcome IN ('failed', 'interrupted') OR l.outcome = 'stopped' AND l.stop_reason = 'locked'
$$;

-- Rows that have been due for longer than it takes until the next run, and a day.
CREATE OR REPLACE FUNCTION hotmesh_dba._doctor_backlog(app_schema name) RETURNS SETOF hotmesh_dba._finding
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN b.overdue IS NULL THEN 'unknown' ELSE 'problem' END,
           CASE WHEN b.due IS NULL
                THEN format('Nobody knows how much of %s is due: it is locked, or role "%s" may not read it.', b.relation, current_user)
                WHEN b.overdue IS NULL
                THEN format('None of the oldest rows of %s that the look came upon is due under policy "%s": behind them some may be.',
                            b.relation, b.policy)
                ELSE format('%s%s rows of %s are due under policy "%s", the oldest for %s days.',
                            CASE WHEN NOT b.exact THEN 'At least ' END, b.due, b.relation, b.policy, extract(day FROM b.overdue)) END,
           CASE WHEN b.due IS NULL THEN 'SELECT * FROM pg_locks WHERE NOT granted;'
                WHEN b.overdue IS NULL THEN format('SELECT * FROM hotmesh_dba.run WHERE app = %L AND policy = %L ORDER BY id DESC;', app_schema, b.policy)
                ELSE hotmesh_dba._run_policy_call(app_schema, b.policy) || ';' END
    FROM hotmesh_dba._backlog(app_schema, true) b
    JOIN hotmesh_dba._policies_of(app_schema) p ON p.name = b.policy
    WHERE b.due IS NULL OR b.due = 0 AND NOT b.exact OR b.overdue > coalesce(p.every, interval '1 day') + interval '1 day'
$$;

-- Two policies that take the same rows, but not in the same way: the one that takes more leaves the other nothing.
CREATE OR REPLACE FUNCTION hotmesh_dba._doctor_conflicts(app_schema name) RETURNS SETOF hotmesh_dba._finding
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
    WITH step AS (
        SELECT p.name AS policy, s.name, s.relation, s.before, s.attribute_filter,
               CASE WHEN s.name IN ('jobs', 'strip') THEN p.entity_list END AS entities
        FROM hotmesh_dba._policies_of(app_schema) p, unnest(hotmesh_dba._policy_steps(p)) s
    ), conflict AS (
        -- b takes more: what a waits for or spares is gone.
        SELECT DISTINCT a.name, a.policy AS loser, b.policy AS winner
        FROM step a
        JOIN step b ON b.policy <> a.policy AND b.relation = a.relation
        WHERE CASE
            WHEN a.name = 'strip' AND b.name = 'strip' THEN length(a.attribute_filter) > length(b.attribute_filter)
            WHEN 'strip' IN (a.name, b.name) THEN false
            WHEN a.name = b.name THEN a.before < b.before
            WHEN a.name = 'transient' AND b.name = 'jobs' THEN b.entities IS NULL AND a.before < b.before
            WHEN a.name = 'jobs' AND b.name = 'transient' THEN a.entities IS NULL AND a.before < b.before
            ELSE false END
          AND (a.entities IS NULL OR b.entities IS NULL OR a.entities && b.entities)
    )
    SELECT 'warning',
           CASE WHEN c.name = 'strip'
                THEN format('Policies "%s" and "%s" strip the same jobs: the one keeps hmark, the other does not, and whichever comes first has its way.',
                            c.loser, c.winner)
                ELSE format('Policies "%s" and "%s" take the same rows (%s), and the shorter window, of "%s", has its way.',
                            c.loser, c.winner, c.name, c.winner) END,
           format('SELECT hotmesh_dba.drop_policy(%L, %L);', app_schema, c.loser)
    FROM conflict c
$$;
