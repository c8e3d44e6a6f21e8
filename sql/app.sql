-- Every routine `prune` of an app schema. Any one beside ours can take the documented calls or make them
-- ambiguous, for '7 days' is an untyped literal. The contract's list is read off hotmesh_dba.prune itself.
--   ours     the wrapper that deploy makes: its body calls hotmesh_dba.prune, and it goes with the extension
--            (after an SDK's CREATE OR REPLACE it has another body and has lost that mark)
--   known    an overload that a release of HotMesh made: the contract's first 4, 7, 11 or all 12 arguments
--   unknown  somebody else's
CREATE OR REPLACE FUNCTION hotmesh_dba._overloads(app_schema name)
RETURNS TABLE (overload regprocedure, kind text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    WITH contract AS (
        SELECT p.oid,
               (p.proargtypes::oid[])[1 : p.pronargs - 1] AS types,   -- an oidvector counts from 0
               p.proargnames[2 : p.pronargs] AS names
        FROM pg_proc p
        WHERE p.oid = hotmesh_dba._prune_oid()
    ), candidate AS (
        SELECT p.oid, p.pronargs AS arity, p.prokind,
               (p.proargtypes::oid[])[0 : p.pronargs - 1] AS types,
               p.proargnames[1 : p.pronargs] AS names
        FROM pg_proc p
        JOIN pg_namespace n ON n.oid = p.pronamespace
        WHERE n.nspname = _overloads.app_schema AND p.proname = 'prune'
    )
    SELECT c.oid::regprocedure,
           CASE WHEN c.types = k.types AND hotmesh_dba._is_wrapper(c.oid, k.oid) THEN 'ours'
                WHEN c.prokind = 'f' AND c.arity IN (4, 7, 11, 12)
                 AND c.types = k.types[1 : c.arity] AND c.names = k.names[1 : c.arity] THEN 'known'
                ELSE 'unknown'
           END
    FROM contract k, candidate c
$$;

-- Is it the schema of a HotMesh app? What makes one is said here alone.
CREATE OR REPLACE FUNCTION hotmesh_dba._is_app(app_schema name) RETURNS boolean
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_jobs       regclass := hotmesh_dba._jobs(app_schema);
    v_attributes regclass := hotmesh_dba._attributes(app_schema);
BEGIN
    IF v_jobs IS NULL OR v_attributes IS NULL THEN
        RETURN false;
    END IF;
    RETURN EXISTS (SELECT FROM pg_attribute c
                   WHERE c.attrelid = v_jobs AND c.attname = 'id' AND c.atttypid = 'uuid'::regtype)
       AND EXISTS (SELECT FROM pg_attribute c
                   JOIN pg_type t ON t.oid = c.atttypid
                   JOIN pg_class r ON r.oid = c.attrelid
                   WHERE c.attrelid = v_attributes AND c.attname = 'type'
                     AND t.typtype = 'e' AND t.typnamespace = r.relnamespace)
       AND EXISTS (SELECT FROM pg_constraint f
                   WHERE f.conrelid = v_attributes AND f.confrelid = v_jobs AND f.contype = 'f');
END
$$;

CREATE OR REPLACE VIEW hotmesh_dba.app AS
SELECT n.nspname AS schema,
       pg_catalog.pg_get_userbyid(j.relowner) AS owner,
       (SELECT CASE pg_catalog.count(*) WHEN 0 THEN 'none'
                                        WHEN 1 THEN CASE pg_catalog.min(o.kind) WHEN 'ours' THEN 'ours' ELSE 'foreign' END
                                        ELSE 'ambiguous' END
        FROM hotmesh_dba._overloads(n.nspname) o) AS wrapper,
       hotmesh_dba._is_migrated(n.nspname) AS migrated,
       hotmesh_dba._strip_index(j.oid, 'pruned_at') IS NOT NULL AS indexed
FROM pg_catalog.pg_namespace n
JOIN pg_catalog.pg_class j ON j.relnamespace = n.oid AND j.relname = 'jobs'
WHERE hotmesh_dba._is_app(n.nspname);

GRANT SELECT ON hotmesh_dba.app TO PUBLIC;
COMMENT ON VIEW hotmesh_dba.app IS
'The HotMesh apps of this database, found in the catalogues; a row an app schema.';
COMMENT ON COLUMN hotmesh_dba.app.schema IS 'Name of the app schema; a valid app_id for every routine.';
COMMENT ON COLUMN hotmesh_dba.app.owner IS 'Owner of the app''s table jobs; deploy gives the wrapper to this role.';
COMMENT ON COLUMN hotmesh_dba.app.wrapper IS
'Function prune in the app schema: none; ours (made by deploy); foreign (made by something else, such as HotMesh''s SDK); ambiguous (several overloads, so documented calls fail). deploy() makes it ours.';
COMMENT ON COLUMN hotmesh_dba.app.migrated IS 'Whether jobs has the column pruned_at, which the strip needs.';
COMMENT ON COLUMN hotmesh_dba.app.indexed IS 'Whether jobs has its valid index (pruned_at) WHERE pruned_at IS NULL.';

-- The names for a hint.
CREATE OR REPLACE FUNCTION hotmesh_dba._known_apps() RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce('Known apps: ' || string_agg(quote_literal(a.schema), ', ' ORDER BY a.schema) || '.',
                    'This database holds no HotMesh app: check that you are connected to the right one.')
    FROM hotmesh_dba.app a
$$;

-- HotMesh's own rule: trim, lower-case, every run of other characters one _, 63 bytes, no _ at the end.
CREATE OR REPLACE FUNCTION hotmesh_dba._normalised(app_id text) RETURNS text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT rtrim(left(regexp_replace(lower(btrim(app_id) COLLATE "C"), '[^a-z0-9]+', '_', 'g'), 63), '_')
$$;

CREATE OR REPLACE FUNCTION hotmesh_dba.app_schema(app_id text) RETURNS name
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_schema text;
BEGIN
    -- A name is cut to its length: a longer app id is no schema's exact name.
    IF app_id::name::text = app_id AND hotmesh_dba._is_app(app_id::name) THEN
        RETURN app_id;
    END IF;

    -- Normalising would turn «myapp'; --» into myapp: refuse what no app id is made of.
    v_schema := hotmesh_dba._normalised(app_id);
    IF app_id IS NULL OR v_schema = ''
       OR btrim(app_id) COLLATE "C" !~ '^[A-Za-z0-9_.-]+( +[A-Za-z0-9_.-]+)*$' THEN
        RAISE EXCEPTION 'invalid app id: %', coalesce(quote_literal(app_id), 'NULL')
            USING ERRCODE = 'invalid_name',
                  DETAIL = 'An app id is made of letters, digits, _, ., - and inner spaces.',
                  HINT = hotmesh_dba._known_apps();
    END IF;

    IF hotmesh_dba._is_app(v_schema::name) THEN
        RETURN v_schema;
    END IF;
    IF EXISTS (SELECT FROM pg_namespace n WHERE n.nspname::text = v_schema) THEN
        RAISE EXCEPTION 'schema "%" is not a HotMesh app', v_schema
            USING ERRCODE = 'wrong_object_type',
                  DETAIL = 'An app schema has jobs (id uuid, key, status, expired_at) and jobs_attributes '
                           '(with a foreign key to jobs and a type of the schema''s own enum).',
                  HINT = hotmesh_dba._known_apps();
    END IF;
    RAISE EXCEPTION 'unknown app: %', quote_literal(app_id)
        USING ERRCODE = 'invalid_schema_name',
              DETAIL = format('There is no schema "%s" in database "%s".', v_schema, current_database()),
              HINT = hotmesh_dba._known_apps();
END
$$;

COMMENT ON FUNCTION hotmesh_dba.app_schema(text) IS
'The schema of an app. An app schema of exactly that name wins; else the name is normalised as HotMesh does it. Errors: 42602 not an app id, 3F000 no such schema, 42809 not a HotMesh schema.';
