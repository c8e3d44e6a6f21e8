-- doctor: the extension, and what deploy puts into an app.

CREATE OR REPLACE FUNCTION hotmesh_dba._version_key(version text) RETURNS int[]
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$ SELECT ARRAY(SELECT m[1]::int FROM regexp_matches(version, '[0-9]+', 'g') m) $$;

CREATE OR REPLACE FUNCTION hotmesh_dba._doctor_extension(app_schema name) RETURNS SETOF hotmesh_dba._finding
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT 'warning',
           format('Version %s is installed, and the server has the files of %s.', e.extversion, a.default_version),
           'ALTER EXTENSION hotmesh_dba UPDATE;'
    FROM pg_extension e
    JOIN pg_available_extensions a ON a.name = e.extname
    WHERE e.extname = 'hotmesh_dba' AND hotmesh_dba._version_key(a.default_version) > hotmesh_dba._version_key(e.extversion)
    UNION ALL
    SELECT 'ok', 'Installed without CREATE EXTENSION: there are no files to compare it with.', NULL
    WHERE hotmesh_dba._extension() IS NULL
$$;

CREATE OR REPLACE FUNCTION hotmesh_dba._doctor_wrapper(app_schema name) RETURNS SETOF hotmesh_dba._finding
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    WITH found AS (
        SELECT a.wrapper,
               (SELECT min(o.overload::text) FROM hotmesh_dba._overloads(app_schema) o WHERE o.kind = 'unknown') AS unknown,
               (SELECT string_agg(o.overload::text, ', ') FROM hotmesh_dba._overloads(app_schema) o WHERE o.kind <> 'ours') AS others
        FROM hotmesh_dba.app a
        WHERE a.schema = app_schema
    )
    SELECT 'problem',
           CASE f.wrapper WHEN 'none' THEN 'The app has no function prune: the documented calls fail.'
                          WHEN 'foreign' THEN format('Something else, such as HotMesh''s SDK, has made %s: it prunes as it did before.', f.others)
                          ELSE format('There are several functions prune, so documented calls fail: %s.', f.others) END,
           CASE WHEN f.unknown IS NULL THEN format('SELECT * FROM hotmesh_dba.deploy(%L);', app_schema)
                ELSE format('ALTER ROUTINE %s RENAME TO prune_old;', f.unknown) END
    FROM found f
    WHERE f.wrapper <> 'ours'
$$;

CREATE OR REPLACE FUNCTION hotmesh_dba._may_read(relation regclass) RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT has_table_privilege(c.oid, 'SELECT') AND has_schema_privilege(c.relnamespace, 'USAGE')
    FROM pg_class c
    WHERE c.oid = relation
$$;

-- Where deploy will not build the index, as that would block writers for too long, its statements are the hint.
CREATE OR REPLACE FUNCTION hotmesh_dba._doctor_migration(app_schema name) RETURNS SETOF hotmesh_dba._finding
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN a.migrated THEN 'warning' ELSE 'problem' END,
           CASE WHEN NOT a.migrated THEN 'jobs has no column pruned_at, so nothing can be stripped.'
                ELSE format('The strip reads more of jobs than it strips: %s.', m.indexes) END,
           CASE WHEN CASE WHEN a.migrated AND hotmesh_dba._may_read(hotmesh_dba._jobs(app_schema)) AND NOT hotmesh_dba._is_foreign(app_schema)
                          THEN hotmesh_dba._is_big(hotmesh_dba._jobs(app_schema)) END
                THEN (SELECT string_agg(p.statements, E'\n') FROM hotmesh_dba._plan_migration(app_schema) p)
                ELSE format('SELECT * FROM hotmesh_dba.deploy(%L);', app_schema) END
    FROM hotmesh_dba.app a,
         LATERAL (SELECT string_agg(format('its index %s %s', w.definition,
                                           CASE WHEN hotmesh_dba._strip_index(hotmesh_dba._jobs(app_schema), w.kind, valid => false) IS NULL
                                                THEN 'is missing' ELSE 'is not valid, as its build was broken off' END), '; ') AS indexes
                  FROM hotmesh_dba._strip_indexes() w
                  WHERE hotmesh_dba._strip_index(hotmesh_dba._jobs(app_schema), w.kind) IS NULL) m
    WHERE a.schema = app_schema AND (m.indexes IS NOT NULL OR NOT a.migrated)
$$;

-- Without an index on job_id each job that goes makes its cascade read all attributes.
CREATE OR REPLACE FUNCTION hotmesh_dba._doctor_foreign_key_index(app_schema name) RETURNS SETOF hotmesh_dba._finding
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT 'problem',
           format('%s has no valid index that begins with job_id: every deleted job reads the whole table.', l.leaf),
           format('CREATE INDEX CONCURRENTLY ON %s (job_id);', l.leaf)
    FROM hotmesh_dba._leaves(hotmesh_dba._attributes(app_schema)) l
    WHERE l.is_plain AND NOT hotmesh_dba._has_index_on(l.leaf, 'job_id')
$$;
