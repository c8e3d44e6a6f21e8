CREATE OR REPLACE FUNCTION hotmesh_dba._plan_overloads(app_schema name) RETURNS SETOF hotmesh_dba._action
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT 'dropped', 'function ' || o.overload, format('DROP FUNCTION %s;', o.overload)
    FROM hotmesh_dba._overloads(app_schema) o
    WHERE o.kind = 'known' AND o.overload IS DISTINCT FROM hotmesh_dba._replaceable(app_schema)
$$;

CREATE OR REPLACE FUNCTION hotmesh_dba._plan_wrapper(app_schema name) RETURNS SETOF hotmesh_dba._action
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    WITH app AS (
        SELECT pg_get_userbyid(hotmesh_dba._owner(app_schema)) AS owner
    ), current AS (
        SELECT o.kind, pg_get_userbyid(p.proowner) AS owner
        FROM hotmesh_dba._overloads(app_schema) o
        JOIN pg_proc p ON p.oid = o.overload
        WHERE o.overload = hotmesh_dba._replaceable(app_schema)
    )
    SELECT CASE WHEN c.kind IS NULL THEN 'created' ELSE 'replaced' END,
           'function ' || hotmesh_dba._wrapper_name(app_schema),
           concat_ws(E'\n', hotmesh_dba._wrapper_sql(app_schema),
                     CASE WHEN c.kind IS NULL THEN hotmesh_dba._public_rights_sql(app_schema) END)
    FROM app LEFT JOIN current c ON true
    WHERE c.kind IS DISTINCT FROM 'ours'
    UNION ALL
    SELECT 'owned', format('function %s by %I', hotmesh_dba._wrapper_name(app_schema), app.owner),
           format('ALTER FUNCTION %s OWNER TO %I;', hotmesh_dba._wrapper_name(app_schema), app.owner)
    FROM app LEFT JOIN current c ON true
    WHERE coalesce(c.owner, current_user) <> app.owner
$$;
