CREATE OR REPLACE FUNCTION hotmesh_dba._undeploy_plan(app_schema name) RETURNS SETOF hotmesh_dba._action
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT 'dropped', 'function ' || o.overload, format('DROP FUNCTION %s;', o.overload)
    FROM hotmesh_dba._overloads(app_schema) o
    WHERE o.kind = 'ours'
$$;

CREATE OR REPLACE FUNCTION hotmesh_dba.undeploy(app_id text)
RETURNS TABLE (action text, object text, statements text)
LANGUAGE plpgsql VOLATILE ROWS 1
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_schema name := hotmesh_dba.app_schema(app_id);
    v_plan   hotmesh_dba._action[];
BEGIN
    PERFORM hotmesh_dba._check_writable();
    PERFORM hotmesh_dba._check_deployer(v_schema, 'undeploy');
    v_plan := ARRAY(SELECT p FROM hotmesh_dba._undeploy_plan(v_schema) p);
    PERFORM hotmesh_dba._check_dependents(o.overload) FROM hotmesh_dba._overloads(v_schema) o WHERE o.kind = 'ours';
    PERFORM hotmesh_dba._carry_out(v_plan);
    RETURN QUERY SELECT p.* FROM unnest(v_plan) p;
END
$$;

COMMENT ON FUNCTION hotmesh_dba.undeploy(text) IS
'Takes the function prune that deploy made out of an app''s schema; the column pruned_at and its index stay, and so does a prune that something else made.
app_id: the app (see view hotmesh_dba.app).
Returns a row an action (action, object, statements); no rows where there was none of ours.
Errors: 42602 3F000 42809 bad app; 25006 read-only; 42501 missing privilege; 2BP01 something depends on it.';
