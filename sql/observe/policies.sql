-- What a policy takes, as the steps of a call have it.

-- One app, or all that there are.
CREATE OR REPLACE FUNCTION hotmesh_dba._observed_apps(app_id text) RETURNS SETOF name
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF app_id IS NOT NULL THEN
        RETURN NEXT hotmesh_dba.app_schema(app_id);
    ELSE
        RETURN QUERY SELECT a.schema FROM hotmesh_dba.app a ORDER BY a.schema;
    END IF;
END
$$;

-- An app's enabled policies, as far as the caller may see them, by the name that the app has now.
CREATE OR REPLACE FUNCTION hotmesh_dba._policies_of(app_schema name) RETURNS SETOF hotmesh_dba.policy
LANGUAGE plpgsql STABLE ROWS 4
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_policy hotmesh_dba.policy;
BEGIN
    FOR v_policy IN SELECT p.* FROM hotmesh_dba.policy p WHERE p.enabled ORDER BY p.name LOOP
        CONTINUE WHEN hotmesh_dba._policy_app(v_policy) IS DISTINCT FROM app_schema;
        v_policy.app := app_schema;
        RETURN NEXT v_policy;
    END LOOP;
END
$$;

-- The table whose rows a step removes: a strip takes attributes, though it is jobs that are due for it.
CREATE OR REPLACE FUNCTION hotmesh_dba._pruned_table(step hotmesh_dba._step) RETURNS regclass
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$ BEGIN RETURN CASE WHEN (step).name = 'strip' THEN (step).attributes ELSE (step).relation END; END $$;

-- Rows removed a second by the last run that followed a policy and removed any: over all its steps, pauses included, its
-- workers together.
CREATE OR REPLACE FUNCTION hotmesh_dba._last_rate(app_schema name, policy_name text) RETURNS numeric
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_rate numeric;
BEGIN
    SELECT sum(hotmesh_dba._rows_done(r)::numeric)
           / greatest(0.001, extract(epoch FROM max(r.updated_at) - min(r.started_at)))
    INTO v_rate
    FROM hotmesh_dba.run r
    WHERE r.app = app_schema AND r.policy = policy_name AND hotmesh_dba._rate(r) IS NOT NULL
      AND r.group_id = (SELECT l.group_id
                        FROM hotmesh_dba.run l
                        WHERE l.app = app_schema AND l.policy = policy_name AND hotmesh_dba._rows_done(l) > 0
                        ORDER BY l.id DESC LIMIT 1);
    RETURN round(v_rate, 1);
END
$$;
