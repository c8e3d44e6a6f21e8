-- What there is to do, and how much there is in all.

-- Of a count that stopped at its bound the planner knows more, from its statistics: enough for an estimate of time.
CREATE OR REPLACE FUNCTION hotmesh_dba._planned_rows(step hotmesh_dba._step) RETURNS bigint
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET lock_timeout = 0
AS $$
DECLARE
    v_plan json;
BEGIN
    PERFORM hotmesh_dba._bound_waiting();
    EXECUTE format('EXPLAIN (FORMAT JSON) SELECT FROM %s t WHERE %s', (step).relation, (step).row_filter)
        INTO v_plan
        USING (step).before, (step).entity_list;
    RETURN (v_plan -> 0 -> 'Plan' ->> 'Plan Rows')::bigint;
EXCEPTION WHEN OTHERS THEN
    RETURN NULL;
END
$$;

-- What is due under a policy, a row a step. overdue: how long the oldest row has been due. rate: of the last run; where
-- there is none, nobody needs an estimate.
CREATE OR REPLACE FUNCTION hotmesh_dba._due_by_step(policy hotmesh_dba.policy, looks boolean)
RETURNS TABLE (relation regclass, due bigint, exact boolean, oldest timestamptz, overdue interval, estimate bigint, rate numeric)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_steps hotmesh_dba._step[];
    v_step  hotmesh_dba._step;
BEGIN
    BEGIN
        rate := hotmesh_dba._last_rate(policy.app, policy.name);
        v_steps := hotmesh_dba._policy_steps(policy);
    EXCEPTION WHEN OTHERS THEN
        RETURN;     -- a policy that its owner has spoilt by hand, or a forged record, hides nobody else's
    END;
    FOREACH v_step IN ARRAY v_steps LOOP
        IF looks THEN
            SELECT l.* INTO due, exact, oldest FROM hotmesh_dba._look_for_due(v_step) l;
        END IF;
        relation := hotmesh_dba._pruned_table(v_step);
        overdue := v_step.before - oldest;
        estimate := CASE WHEN exact OR rate IS NULL OR NOT looks THEN due ELSE greatest(due, hotmesh_dba._planned_rows(v_step)) END;
        RETURN NEXT;
    END LOOP;
END
$$;

-- A row a table of an app, and policy that takes rows of it. Without looks, nothing is read: nobody knows how much is due.
CREATE OR REPLACE FUNCTION hotmesh_dba._backlog(app_schema name, looks boolean)
RETURNS TABLE (relation regclass, policy text, due bigint, exact boolean, oldest timestamptz, overdue interval,
               estimate bigint, rate numeric, total_rows bigint, total_bytes bigint, dead_rows bigint,
               last_vacuum timestamptz)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_tables regclass[] := ARRAY(SELECT a FROM hotmesh_dba._app_tables(app_schema) a);
BEGIN
    RETURN QUERY
        WITH due AS MATERIALIZED (
            SELECT d.relation, p.name AS policy, CASE WHEN bool_and(d.due IS NOT NULL) THEN sum(d.due) END::bigint AS due,
                   CASE WHEN bool_and(d.due IS NOT NULL) THEN bool_and(d.exact) END AS exact, min(d.oldest) AS oldest,
                   max(d.overdue) AS overdue, sum(d.estimate)::bigint AS estimate,
                   min(d.rate) AS rate
            FROM hotmesh_dba._policies_of(app_schema) p, hotmesh_dba._due_by_step(p, looks) d
            GROUP BY d.relation, p.name
        )
        SELECT t.relation, d.policy, d.due, d.exact, d.oldest, d.overdue, d.estimate, d.rate, s.total_rows, s.total_bytes,
               s.dead_rows, s.last_vacuum
        FROM unnest(v_tables) WITH ORDINALITY t (relation, place)
        JOIN hotmesh_dba._sizes(v_tables) s ON s.relation = t.relation
        LEFT JOIN due d ON d.relation = t.relation
        ORDER BY t.place, d.policy;
END
$$;

CREATE OR REPLACE FUNCTION hotmesh_dba.backlog(app_id text DEFAULT NULL)
RETURNS TABLE (app name, table_name name, policy text, due bigint, exact boolean, oldest_due timestamptz, total_rows bigint,
               total_bytes bigint, dead_rows bigint, last_vacuum timestamptz, rows_per_second numeric, time_to_drain interval)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET jit = off
AS $$
BEGIN
    FOR app IN SELECT a FROM hotmesh_dba._observed_apps(app_id) a LOOP
        RETURN QUERY
            SELECT app, c.relname, b.policy, b.due, b.exact, b.oldest, b.total_rows, b.total_bytes, b.dead_rows, b.last_vacuum,
                   b.rate, CASE WHEN b.rate > 0 THEN make_interval(secs => (b.estimate / b.rate)::float8) END
            FROM hotmesh_dba._backlog(app, app_id IS NOT NULL OR NOT hotmesh_dba._is_foreign(app)) b
            JOIN pg_class c ON c.oid = b.relation;
    END LOOP;
END
$$;

COMMENT ON FUNCTION hotmesh_dba.backlog(text) IS
'What is due for removal now, a row a table and enabled policy that takes rows of it, and what there is in all. Cheap enough for every minute: it reads a few thousand rows of a table at most. A superuser sees what is due in other owners'' apps only where the app is named, for whatever these have put on their tables is executed by whoever reads them.
app_id (NULL: every app of this database): the app (see view hotmesh_dba.app).
Returns app; table_name; policy (NULL where none that you may see takes rows of this table);
due: rows due now, of jobs_attributes the jobs due for the strip (NULL where you may not read the table, somebody has it locked, or you are a superuser and did not name the app);
exact: whether these are all, else there are at least so many; oldest_due: when the oldest of them expired (the strip has none);
total_rows (NULL: never counted), total_bytes (without indexes), dead_rows, last_vacuum: by the statistics;
rows_per_second: of the policy''s last run that removed anything; time_to_drain: an estimate of what is due at that rate.
Errors: 42602 3F000 42809 bad app.';
