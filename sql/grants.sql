-- What a role needs that prunes one app and does nothing else with it: the leaves too, or no step could work in them.

-- The app's tables that prune takes rows of, read off the steps of a call that does everything.
CREATE OR REPLACE FUNCTION hotmesh_dba._app_tables(app_schema name) RETURNS SETOF regclass
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_options hotmesh_dba._options;
BEGIN
    v_options.app_schema := app_schema;
    v_options.jobs := true;
    v_options.engine_streams := true;
    v_options.worker_streams := true;
    v_options.signals := true;
    RETURN QUERY
        SELECT t.relation
        FROM hotmesh_dba._steps(v_options) s, LATERAL (VALUES (1, s.relation), (2, s.attributes)) t (place, relation)
        WHERE t.relation IS NOT NULL
        GROUP BY t.relation
        ORDER BY min(s.ordinal), min(t.place);
END
$$;

-- Statements that give (doing GRANT … TO) or take back (REVOKE … FROM).
CREATE OR REPLACE FUNCTION hotmesh_dba._grant_statements(app_schema name, role name, doing text, preposition text)
RETURNS SETOF text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    WITH object AS (
        SELECT a.relation, a.place,
               (SELECT string_agg(t::text, ', ' ORDER BY t::oid <> a.relation, t::text) FROM hotmesh_dba._tree(a.relation) t) AS tree
        FROM hotmesh_dba._app_tables(app_schema) WITH ORDINALITY a (relation, place)
    ), part AS (
        SELECT 0 AS place, 1 AS turn, format('USAGE ON SCHEMA %I', app_schema) AS what
        UNION ALL
        SELECT o.place, 1, 'SELECT, DELETE ON ' || o.tree FROM object o
        UNION ALL
        SELECT o.place, 2, 'UPDATE (pruned_at) ON ' || o.tree
        FROM object o
        WHERE o.relation = hotmesh_dba._jobs(app_schema) AND hotmesh_dba._is_migrated(app_schema)
    )
    SELECT format('%s %s %s %I;', doing, p.what, preposition, role) FROM part p ORDER BY p.place, p.turn
$$;

CREATE OR REPLACE FUNCTION hotmesh_dba._check_grantee(app_schema name, role name) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles r WHERE r.rolname = _check_grantee.role) THEN
        RAISE EXCEPTION 'unknown role: %', coalesce(quote_literal(role), 'NULL')
            USING ERRCODE = 'undefined_object',
                  DETAIL = 'There is no such role in this cluster, and PUBLIC is none.',
                  HINT = format('CREATE ROLE %I LOGIN;', coalesce(role, 'pruner'));
    ELSIF EXISTS (SELECT FROM hotmesh_dba._app_tables(app_schema) t JOIN pg_class c ON c.oid = t
                  JOIN pg_roles r ON r.oid = c.relowner WHERE r.rolname = _check_grantee.role) THEN
        -- Taken back from an owner, it would lose its own rights.
        RAISE EXCEPTION 'role "%" owns the tables of app "%"', role, app_schema
            USING ERRCODE = 'invalid_grant_operation',
                  DETAIL = 'An owner may prune; nothing was changed.',
                  HINT = 'Name a role that is to prune and nothing else.';
    END IF;
END
$$;

-- Only an owner gives rights, and a GRANT without the right to do so is no error but a mere warning.
CREATE OR REPLACE FUNCTION hotmesh_dba._check_grantor(app_schema name) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_owner pg_roles;
BEGIN
    SELECT r.* INTO v_owner
    FROM hotmesh_dba._app_tables(app_schema) a, hotmesh_dba._tree(a) t, pg_class c, pg_roles r
    WHERE c.oid = t AND r.oid = c.relowner AND NOT pg_has_role(c.relowner, 'USAGE')
    LIMIT 1;
    IF FOUND THEN
        PERFORM hotmesh_dba._raise_not_owner(app_schema, 'grant rights on',
            format('Tables of it belong to "%s", whose rights role "%s" does not have.', v_owner.rolname, current_user),
            hotmesh_dba._owner_hint(v_owner));
    ELSIF NOT has_schema_privilege(app_schema, 'USAGE WITH GRANT OPTION') THEN
        PERFORM hotmesh_dba._raise_not_owner(app_schema, 'grant rights on',
            format('Role "%s" may not pass on USAGE of the schema.', current_user),
            format('GRANT USAGE ON SCHEMA %I TO %I WITH GRANT OPTION;', app_schema, current_user));
    END IF;
END
$$;

CREATE OR REPLACE FUNCTION hotmesh_dba._change_grants(app_id text, role name, doing text, preposition text) RETURNS SETOF text
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_schema    name := hotmesh_dba.app_schema(app_id);
    v_statement text;
BEGIN
    PERFORM hotmesh_dba._check_writable();
    PERFORM hotmesh_dba._check_grantee(v_schema, role);
    PERFORM hotmesh_dba._check_grantor(v_schema);
    FOR v_statement IN SELECT s FROM hotmesh_dba._grant_statements(v_schema, role, doing, preposition) s LOOP
        EXECUTE v_statement;
        RETURN NEXT v_statement;
    END LOOP;
END
$$;

CREATE OR REPLACE FUNCTION hotmesh_dba.grant_prune(app_id text, role name) RETURNS SETOF text
LANGUAGE plpgsql VOLATILE ROWS 10
SET search_path = pg_catalog, pg_temp
AS $$ BEGIN RETURN QUERY SELECT hotmesh_dba._change_grants(app_id, role, 'GRANT', 'TO'); END $$;

COMMENT ON FUNCTION hotmesh_dba.grant_prune(text, name) IS
'Lets a role prune an app, strip included, and do nothing else with it: USAGE of its schema, SELECT and DELETE on its tables and every partition, UPDATE of jobs.pruned_at. Call it again after a partition or table was added. Only for the app''s owner.
app_id: the app (see view hotmesh_dba.app).
role: who is to prune; it must exist.
Returns the statements, which were executed.
Errors: 42602 3F000 42809 bad app; 42704 unknown role; 0LP01 the role owns the tables; 42501 not the owner; 25006 read-only.';

CREATE OR REPLACE FUNCTION hotmesh_dba.revoke_prune(app_id text, role name) RETURNS SETOF text
LANGUAGE plpgsql VOLATILE ROWS 10
SET search_path = pg_catalog, pg_temp
AS $$ BEGIN RETURN QUERY SELECT hotmesh_dba._change_grants(app_id, role, 'REVOKE', 'FROM'); END $$;

COMMENT ON FUNCTION hotmesh_dba.revoke_prune(text, name) IS
'Takes back what grant_prune gives; other rights of the role stay. Only for the app''s owner.
app_id: the app (see view hotmesh_dba.app).
role: who shall prune no more.
Returns the statements, which were executed.
Errors: 42602 3F000 42809 bad app; 42704 unknown role; 0LP01 the role owns the tables; 42501 not the owner; 25006 read-only; 2BP01 the role has passed them on.';
