-- doctor: what the caller may do.

-- May the caller do what every step needs? The leaves are not asked: without them the steps work through the parent.
CREATE OR REPLACE FUNCTION hotmesh_dba._doctor_privileges(app_schema name) RETURNS SETOF hotmesh_dba._finding
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    WITH missing AS (
        SELECT 'USAGE on schema ' || quote_ident(app_schema) AS what WHERE NOT has_schema_privilege(app_schema, 'USAGE')
        UNION ALL
        SELECT p.privilege || ' on ' || t
        FROM hotmesh_dba._app_tables(app_schema) t, (VALUES ('SELECT'), ('DELETE')) p (privilege)
        WHERE NOT has_table_privilege(t, p.privilege)
        UNION ALL
        SELECT 'UPDATE (pruned_at) on ' || hotmesh_dba._jobs(app_schema)
        WHERE hotmesh_dba._is_migrated(app_schema)
          AND NOT has_column_privilege(hotmesh_dba._jobs(app_schema), 'pruned_at', 'UPDATE')
    )
    SELECT CASE WHEN hotmesh_dba._may_prune(app_schema) THEN 'problem' ELSE 'ok' END,
           format('%sRole "%s" lacks %s.', CASE WHEN NOT hotmesh_dba._may_prune(app_schema) THEN 'You do not prune this app. ' END,
                  current_user, string_agg(m.what, ', ')),
           format('SELECT * FROM hotmesh_dba.grant_prune(%L, %L);', app_schema, current_user)
    FROM missing m
    HAVING count(*) > 0
$$;

-- Row-level security keeps a strip from working, and lets a deletion pass over rows.
CREATE OR REPLACE FUNCTION hotmesh_dba._doctor_row_security(app_schema name) RETURNS SETOF hotmesh_dba._finding
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT 'warning',
           format('Row-level security of %s may hide rows from role "%s", and they would stay.', t, current_user),
           format('ALTER ROLE %I BYPASSRLS;', current_user)
    FROM hotmesh_dba._app_tables(app_schema) t
    WHERE row_security_active(t)
$$;

-- disable_triggers: nobody needs it, so it is wrong only where a policy asks for it and cannot have it.
CREATE OR REPLACE FUNCTION hotmesh_dba._doctor_disable_triggers(app_schema name) RETURNS SETOF hotmesh_dba._finding
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_finding hotmesh_dba._finding;
    v_asked   text := (SELECT string_agg(quote_literal(p.name), ', ' ORDER BY p.name)
                       FROM hotmesh_dba._policies_of(app_schema) p WHERE p.disable_triggers);
BEGIN
    PERFORM hotmesh_dba._check_fast_path(hotmesh_dba._step_of_jobs(app_schema));
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS v_finding.detail = PG_EXCEPTION_DETAIL, v_finding.hint = PG_EXCEPTION_HINT;
    v_finding.hint := coalesce(substring(v_finding.hint FROM 'GRANT [^;]*;'), v_finding.hint);
    v_finding.status := CASE WHEN v_asked IS NULL THEN 'ok' ELSE 'problem' END;
    v_finding.detail := CASE WHEN v_asked IS NULL THEN 'Not possible, and no policy asks for it. '
                             ELSE format('Policies that ask for it fail: %s. ', v_asked) END || v_finding.detail;
    RETURN NEXT v_finding;
END
$$;

CREATE OR REPLACE FUNCTION hotmesh_dba._step_of_jobs(app_schema name) RETURNS hotmesh_dba._step
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_options hotmesh_dba._options;
BEGIN
    v_options.app_schema := app_schema;
    v_options.jobs := true;
    RETURN (SELECT s FROM hotmesh_dba._steps(v_options) s);
END
$$;
