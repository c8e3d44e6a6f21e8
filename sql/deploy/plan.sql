-- All that deploy has to do on an app, in order, each with its statements; none where everything is in place.
CREATE OR REPLACE FUNCTION hotmesh_dba._deploy_plan(app_schema name) RETURNS SETOF hotmesh_dba._action
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT p.* FROM hotmesh_dba._plan_migration(app_schema) p
    UNION ALL
    SELECT p.* FROM hotmesh_dba._plan_overloads(app_schema) p
    UNION ALL
    SELECT p.* FROM hotmesh_dba._plan_wrapper(app_schema) p
    UNION ALL
    SELECT p.* FROM hotmesh_dba._plan_grants(app_schema) p
$$;

-- Carries out a plan, the pending rows aside: those are for a person to type.
CREATE OR REPLACE FUNCTION hotmesh_dba._carry_out(plan hotmesh_dba._action[]) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_action hotmesh_dba._action;
BEGIN
    FOREACH v_action IN ARRAY plan LOOP
        IF v_action.action <> 'pending' THEN
            EXECUTE v_action.statements;
        END IF;
    END LOOP;
END
$$;
