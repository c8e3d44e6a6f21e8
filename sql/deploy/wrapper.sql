-- The wrapper's signature and body, read off hotmesh_dba.prune: the contract's list is written nowhere else.

CREATE OR REPLACE FUNCTION hotmesh_dba._wrapper_result() RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT 'TABLE(' || string_agg(a.attname || ' ' || format_type(a.atttypid, NULL), ', ' ORDER BY a.attnum) || ')'
    FROM pg_attribute a
    WHERE a.attrelid = 'hotmesh_dba._counts'::regclass AND a.attnum > 0 AND NOT a.attisdropped
$$;

-- myapp.prune(interval, boolean, …): how statements name the wrapper.
CREATE OR REPLACE FUNCTION hotmesh_dba._wrapper_name(app_schema name) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT format('%I.prune(%s)', app_schema, string_agg(format_type(t.type, NULL), ', ' ORDER BY t.position))
    FROM pg_proc p, unnest(p.proargtypes::oid[]) WITH ORDINALITY AS t (type, position)
    WHERE p.oid = hotmesh_dba._prune_oid() AND t.position > 1
$$;

-- It names its own schema by identity, so it follows ALTER SCHEMA RENAME, and prune by identity too.
CREATE OR REPLACE FUNCTION hotmesh_dba._wrapper_sql(app_schema name) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT concat_ws(E'\n',
        format('CREATE OR REPLACE FUNCTION %I.prune(%s)', app_schema,
               regexp_replace(pg_get_function_arguments(p.oid), '^app_id text, ', '')),
        format('RETURNS %s', hotmesh_dba._wrapper_result()),
        'LANGUAGE sql VOLATILE ROWS 1 SET search_path = pg_catalog, pg_temp',
        'BEGIN ATOMIC',
        format('    SELECT %s', (SELECT string_agg('p.' || a.attname, ', ' ORDER BY a.attnum)
                                 FROM pg_attribute a
                                 WHERE a.attrelid = 'hotmesh_dba._counts'::regclass AND a.attnum > 0
                                   AND NOT a.attisdropped)),
        '    FROM hotmesh_dba.prune(',
        format('        (SELECT n.nspname FROM pg_catalog.pg_namespace n WHERE n.oid = %L::pg_catalog.regnamespace),',
               quote_ident(app_schema)),
        format('        %s) p;', array_to_string(p.proargnames[2 : p.pronargs], ', ')),
        'END;',
        format('COMMENT ON FUNCTION %s IS %L;', hotmesh_dba._wrapper_name(app_schema),
               'Removes finished work of this HotMesh app: calls hotmesh_dba.prune, whose comment explains the options. '
               'Made by hotmesh_dba.deploy; goes with the extension.'),
        CASE WHEN hotmesh_dba._extension() IS NOT NULL THEN
            format('ALTER FUNCTION %s DEPENDS ON EXTENSION hotmesh_dba;', hotmesh_dba._wrapper_name(app_schema))
        END)
    FROM pg_proc p
    WHERE p.oid = hotmesh_dba._prune_oid()
$$;

-- The function that the new wrapper replaces in place, keeping its identity and its grants: one of just the
-- contract's arguments and result. PostgreSQL refuses to replace any other.
CREATE OR REPLACE FUNCTION hotmesh_dba._replaceable(app_schema name) RETURNS regprocedure
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT o.overload
    FROM hotmesh_dba._overloads(app_schema) o
    JOIN pg_proc p ON p.oid = o.overload
    WHERE p.pronargs = 12 AND o.kind <> 'unknown' AND pg_get_function_result(p.oid) = hotmesh_dba._wrapper_result()
$$;
