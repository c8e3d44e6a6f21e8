-- Who may execute a function, PUBLIC as 0; its owner's own entry is left out where everybody may.
CREATE OR REPLACE FUNCTION hotmesh_dba._grantees(overload regprocedure)
RETURNS TABLE (grantee oid, is_grantable boolean)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    WITH entry AS (
        SELECT a.grantee, bool_or(a.is_grantable) AS is_grantable, a.grantee = p.proowner AS is_owner
        FROM pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
        WHERE p.oid = overload AND a.privilege_type = 'EXECUTE'
        GROUP BY a.grantee, p.proowner
    )
    SELECT e.grantee, e.is_grantable AND NOT e.is_owner
    FROM entry e
    WHERE NOT e.is_owner OR NOT EXISTS (SELECT FROM entry o WHERE o.grantee = 0)
$$;

-- Who could execute any of the app's functions prune before.
CREATE OR REPLACE FUNCTION hotmesh_dba._old_grantees(app_schema name)
RETURNS TABLE (grantee oid, is_grantable boolean)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT g.grantee, bool_or(g.is_grantable)
    FROM hotmesh_dba._overloads(app_schema) o, hotmesh_dba._grantees(o.overload) g
    WHERE o.kind <> 'unknown'
    GROUP BY g.grantee
$$;

-- A new wrapper is open to everybody, as HotMesh's own is (the rights on the tables decide), unless there were
-- older overloads and none of them was.
CREATE OR REPLACE FUNCTION hotmesh_dba._public_rights_sql(app_schema name) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT format(CASE WHEN count(*) = 0 OR bool_or(o.grantee = 0) THEN 'GRANT EXECUTE ON FUNCTION %s TO PUBLIC;'
                       ELSE 'REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC;' END,
                  hotmesh_dba._wrapper_name(app_schema))
    FROM hotmesh_dba._old_grantees(app_schema) o
$$;

-- Taking over must not break a caller: whoever could execute an old overload can execute the wrapper.
CREATE OR REPLACE FUNCTION hotmesh_dba._plan_grants(app_schema name) RETURNS SETOF hotmesh_dba._action
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    WITH wrapper AS (
        SELECT hotmesh_dba._wrapper_name(app_schema) AS name,
               hotmesh_dba._replaceable(app_schema) AS kept,
               hotmesh_dba._owner(app_schema) AS owner
    ), held AS (    -- what it will have anyway: a kept function's list, or a new one's PUBLIC
        SELECT g.grantee, g.is_grantable
        FROM wrapper w, hotmesh_dba._grantees(w.kept) g, pg_proc p
        WHERE p.oid = w.kept AND (g.grantee <> p.proowner OR p.proowner = w.owner)
        UNION ALL
        SELECT 0, false FROM wrapper w WHERE w.kept IS NULL
    )
    SELECT 'granted', format('execute on function %s to %s', w.name, r.role),
           format('GRANT EXECUTE ON FUNCTION %s TO %s%s;', w.name, r.role,
                  CASE WHEN o.is_grantable THEN ' WITH GRANT OPTION' END)
    FROM wrapper w, hotmesh_dba._old_grantees(app_schema) o,
         LATERAL (SELECT CASE WHEN o.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(o.grantee)) END) r (role)
    WHERE o.grantee <> w.owner
      AND NOT EXISTS (SELECT FROM held h WHERE h.grantee = o.grantee AND h.is_grantable >= o.is_grantable)
$$;
