\echo Use "ALTER EXTENSION hotmesh_dba UPDATE TO '1.2.0'" to load this file. \quit

-- The routines that are there keep the rights that were granted and revoked on them.
DO $keep$
BEGIN
    PERFORM pg_catalog.set_config('hotmesh_dba.routines_before',
                                  pg_catalog.string_agg(p.oid::pg_catalog.text, ','), true)
    FROM pg_catalog.pg_proc p
    WHERE p.pronamespace = pg_catalog.to_regnamespace('hotmesh_dba');
END
$keep$;

-- sql/upgrade/1.1.0--1.2.0.sql

ALTER TABLE hotmesh_dba.run ADD COLUMN policy text;
COMMENT ON COLUMN hotmesh_dba.run.policy IS 'Name of the policy that it followed; NULL where prune_batched was called by itself.';
ALTER TABLE hotmesh_dba.run ADD COLUMN expected_by_step jsonb NOT NULL DEFAULT '{}';
COMMENT ON COLUMN hotmesh_dba.run.expected_by_step IS 'The same by step: jobs, transient, engine_streams, worker_streams, strip, signals, those with anything due.';
ALTER TABLE hotmesh_dba.run ADD COLUMN app_owner oid;
COMMENT ON COLUMN hotmesh_dba.run.app_owner IS 'Of a policy''s run the oid of the role that owned the app when it began: it stops where that changes. NULL without a policy.';
GRANT INSERT (policy, expected_by_step, app_owner), UPDATE (policy, expected_by_step, app_owner) ON hotmesh_dba.run TO PUBLIC;
REVOKE INSERT (started_at), UPDATE (started_at) ON hotmesh_dba.run FROM PUBLIC;
ALTER TYPE hotmesh_dba._run ADD ATTRIBUTE max_percent numeric;
ALTER TYPE hotmesh_dba._run ADD ATTRIBUTE isolated boolean;
COMMENT ON COLUMN hotmesh_dba.run.stop_reason IS
'Of a stopped run: max_runtime, max_rows, locked (rows that others had locked are left). Of a failed one: error, cancelled, max_percent (the fuse of its policy).';
COMMENT ON TABLE hotmesh_dba.run IS
'The runs of prune_batched and of policies, a row a run (with several workers a row each, joined by group_id). Kept 90 days and no more than 1000 an app, and of each policy the last. You see the runs of apps whose jobs you may delete or whose owner you are a member of.';

-- What an app's owner wants removed, and when. set_policy writes it, resolved; whoever reads it checks it again.
CREATE TABLE hotmesh_dba.policy (
    app                      name        NOT NULL,
    name                     text        NOT NULL CHECK (name COLLATE "C" ~ '^[A-Za-z0-9_.-]{1,63}$'),
    retention                interval,
    prune_jobs               boolean     NOT NULL,
    prune_streams            boolean     NOT NULL,
    strip_attributes         boolean     NOT NULL,
    entity_list              text[],
    prune_transient          boolean     NOT NULL,
    keep_hmark               boolean     NOT NULL,
    prune_engine_streams     boolean     NOT NULL,
    prune_worker_streams     boolean     NOT NULL,
    engine_streams_retention interval,
    worker_streams_retention interval,
    prune_signals            boolean     NOT NULL,
    batch_size               int,
    batch_time               interval    NOT NULL,
    batch_pause              interval    NOT NULL,
    max_runtime              interval,
    max_rows                 bigint,
    disable_triggers         boolean     NOT NULL,
    max_wal_rate             bigint,
    max_replica_lag          interval,
    max_percent              numeric     NOT NULL,
    every                    interval    CHECK (every >= '1 second' AND every <= '10 years'
                                               AND extract(year FROM every) >= 0 AND extract(month FROM every) >= 0
                                               AND extract(day FROM every) >= 0 AND extract(hour FROM every) >= 0
                                               AND extract(minute FROM every) >= 0 AND extract(second FROM every) >= 0),
    enabled                  boolean     NOT NULL,
    note                     text,
    role                     name        NOT NULL DEFAULT current_user,
    created_at               timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    updated_at               timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    app_oid                  oid         NOT NULL,
    origin                   text        NOT NULL,
    owner                    oid         NOT NULL,
    PRIMARY KEY (origin, app_oid, name)
);

COMMENT ON TABLE hotmesh_dba.policy IS
'What is removed from an app, and how often: made by set_policy, run by run_policy and run_due. You see the policies of apps whose owner you are a member of. Dumped and restored with the database.';
COMMENT ON COLUMN hotmesh_dba.policy.app IS 'Name of the app schema; where that was renamed, the name that it had when the policy was last used.';
COMMENT ON COLUMN hotmesh_dba.policy.name IS 'Name of the policy: letters, digits, _, . and -; unique in its app.';
COMMENT ON COLUMN hotmesh_dba.policy.retention IS 'Window of jobs and transient jobs, and of messages without one of their own; NULL where no step needs it.';
COMMENT ON COLUMN hotmesh_dba.policy.prune_jobs IS 'Whether expired jobs go.';
COMMENT ON COLUMN hotmesh_dba.policy.prune_streams IS 'Whether messages go, as it was asked for; the next two columns say which.';
COMMENT ON COLUMN hotmesh_dba.policy.strip_attributes IS 'Whether completed jobs lose their execution artifacts.';
COMMENT ON COLUMN hotmesh_dba.policy.entity_list IS 'Entities that jobs and the strip are confined to; NULL: all.';
COMMENT ON COLUMN hotmesh_dba.policy.prune_transient IS 'Whether expired jobs without an entity go.';
COMMENT ON COLUMN hotmesh_dba.policy.keep_hmark IS 'Whether the strip spares attributes of type hmark.';
COMMENT ON COLUMN hotmesh_dba.policy.prune_engine_streams IS 'Whether engine messages go.';
COMMENT ON COLUMN hotmesh_dba.policy.prune_worker_streams IS 'Whether worker messages go.';
COMMENT ON COLUMN hotmesh_dba.policy.engine_streams_retention IS 'Window of engine messages; NULL where they stay.';
COMMENT ON COLUMN hotmesh_dba.policy.worker_streams_retention IS 'Window of worker messages; NULL where they stay.';
COMMENT ON COLUMN hotmesh_dba.policy.prune_signals IS 'Whether expired signals go.';
COMMENT ON COLUMN hotmesh_dba.policy.batch_size IS 'Rows a transaction; NULL: as many as take batch_time.';
COMMENT ON COLUMN hotmesh_dba.policy.batch_time IS 'How long a transaction should take.';
COMMENT ON COLUMN hotmesh_dba.policy.batch_pause IS 'How long to wait between two.';
COMMENT ON COLUMN hotmesh_dba.policy.max_runtime IS 'A run stops after this time; NULL: no limit.';
COMMENT ON COLUMN hotmesh_dba.policy.max_rows IS 'A run stops after this many rows; NULL: no limit.';
COMMENT ON COLUMN hotmesh_dba.policy.disable_triggers IS 'Whether jobs are deleted and marked with triggers off.';
COMMENT ON COLUMN hotmesh_dba.policy.max_wal_rate IS 'Bytes of WAL a second; NULL: no limit.';
COMMENT ON COLUMN hotmesh_dba.policy.max_replica_lag IS 'A run waits while a replica is further behind; NULL: no limit.';
COMMENT ON COLUMN hotmesh_dba.policy.max_percent IS 'The fuse: a run that would delete more than so much of a table stops before its first row; 100: none.';
COMMENT ON COLUMN hotmesh_dba.policy.every IS 'How often run_due runs it; NULL: never.';
COMMENT ON COLUMN hotmesh_dba.policy.enabled IS 'Whether it runs, unless forced.';
COMMENT ON COLUMN hotmesh_dba.policy.note IS 'Whatever its owner wrote.';
COMMENT ON COLUMN hotmesh_dba.policy.role IS 'The role that owned the app''s table jobs, in whose name it was set by whoever may.';
COMMENT ON COLUMN hotmesh_dba.policy.created_at IS 'When it was first set.';
COMMENT ON COLUMN hotmesh_dba.policy.updated_at IS 'When it was last set.';
COMMENT ON COLUMN hotmesh_dba.policy.app_oid IS 'The app schema''s oid in the database of origin: a policy follows its app when that is renamed, and no other app that takes its name.';
COMMENT ON COLUMN hotmesh_dba.policy.origin IS 'The database in which app_oid and owner are true; in a restored copy the names count.';
COMMENT ON COLUMN hotmesh_dba.policy.owner IS 'The oid of the role that owned the app''s table jobs when the policy was set: of another owner''s app it removes nothing.';

ALTER TABLE hotmesh_dba.policy ENABLE ROW LEVEL SECURITY;
GRANT SELECT, INSERT, UPDATE, DELETE ON hotmesh_dba.policy TO PUBLIC;
SELECT pg_catalog.pg_extension_config_dump('hotmesh_dba.policy', '');

-- A round of run_due, as the procedure carries it from policy to policy.
CREATE TYPE hotmesh_dba._due AS (
    waiting   hotmesh_dba.policy[],     -- those whose turn is still to come
    policy    hotmesh_dba.policy,       -- the one at work
    ends_at   timestamptz,  -- max_runtime
    run       hotmesh_dba._run,
    runs      int,          -- begun, or failed before they could
    failed    int,
    postponed int,          -- for want of time
    busy      int,          -- whose app another run, or somebody's lock, held
    others    int,          -- left to their apps' owners
    trust     boolean,      -- trust_owners
    role      text,         -- the session's setting: a trigger may have set another
    sqlstate  text,         -- of the first that failed
    failures  text[],
    ended     boolean
);

-- What a check of doctor finds wrong; one that finds nothing is ok.
CREATE TYPE hotmesh_dba._finding AS (
    status text,        -- warning, problem, or unknown
    detail text,
    hint   text         -- a statement to type, where there is one
);

-- sql/version.sql

CREATE OR REPLACE FUNCTION hotmesh_dba.version() RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$ SELECT '1.2.0'::text $$;

COMMENT ON FUNCTION hotmesh_dba.version() IS
'The version of the installed routines, also where they were installed without CREATE EXTENSION.';

-- sql/catalog.sql

-- A table of an app, or NULL where it is missing or lacks one of the columns (then it is somebody else's).
-- PL/pgSQL, as whatever is called again and again: it plans its statement once a session, a SQL function with every call.
CREATE OR REPLACE FUNCTION hotmesh_dba._table(app_schema name, table_name name, columns name[])
RETURNS regclass
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_table regclass;
BEGIN
    SELECT c.oid::regclass INTO v_table
    FROM pg_class c
    WHERE c.relnamespace = (SELECT n.oid FROM pg_namespace n WHERE n.nspname = _table.app_schema)
      AND c.relname = _table.table_name
      AND c.relkind IN ('r', 'p')
      AND (SELECT count(*)
           FROM pg_attribute a
           WHERE a.attrelid = c.oid AND a.attname = ANY (_table.columns) AND NOT a.attisdropped)
          = cardinality(_table.columns);
    RETURN v_table;
END
$$;

CREATE OR REPLACE FUNCTION hotmesh_dba._jobs(app_schema name) RETURNS regclass
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$ BEGIN RETURN hotmesh_dba._table(app_schema, 'jobs', '{id,key,status,expired_at}'); END $$;

CREATE OR REPLACE FUNCTION hotmesh_dba._attributes(app_schema name) RETURNS regclass
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$ BEGIN RETURN hotmesh_dba._table(app_schema, 'jobs_attributes', '{job_id,type}'); END $$;

CREATE OR REPLACE FUNCTION hotmesh_dba._is_migrated(app_schema name) RETURNS boolean
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$ BEGIN RETURN hotmesh_dba._table(app_schema, 'jobs', '{pruned_at}') IS NOT NULL; END $$;

-- A table with all its partitions. Not by pg_partition_tree: it waits for whoever has locked one of them.
CREATE OR REPLACE FUNCTION hotmesh_dba._tree(root regclass) RETURNS SETOF regclass
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    WITH RECURSIVE tree AS (
        SELECT root AS relation
        UNION ALL
        SELECT h.inhrelid::regclass FROM pg_inherits h JOIN tree t ON h.inhparent = t.relation
    )
    SELECT t.relation FROM tree t
$$;

-- Installed by CREATE EXTENSION? A plain install has no such row, and its routines belong to a common role.
CREATE OR REPLACE FUNCTION hotmesh_dba._extension() RETURNS oid
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$ SELECT e.oid FROM pg_extension e WHERE e.extname = 'hotmesh_dba' $$;

-- Does deleting a job surely take its attributes along? Not so in a session that skips triggers, nor after
-- an interrupted pg_restore that left the foreign key's triggers disabled (seen: every attribute an orphan).
CREATE OR REPLACE FUNCTION hotmesh_dba._cascade_is_intact(jobs regclass, attributes regclass)
RETURNS boolean
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_keys  oid[];      -- those of one level: the table's, its partitions', theirs
    v_all   oid[] := '{}';
    v_sound boolean;
BEGIN
    SELECT array_agg(c.oid), count(*) = 1 AND bool_and(c.confdeltype = 'c' AND c.convalidated)
    INTO v_keys, v_sound
    FROM pg_constraint c
    WHERE c.contype = 'f' AND c.conrelid = attributes AND c.confrelid = jobs AND c.conparentid = 0;
    WHILE v_sound AND v_keys IS NOT NULL LOOP
        v_all := v_all || v_keys;
        SELECT array_agg(c.oid), coalesce(bool_and(c.confdeltype = 'c' AND c.convalidated), true)
        INTO v_keys, v_sound
        FROM pg_constraint c
        WHERE c.conparentid = ANY (v_keys);
    END LOOP;
    RETURN v_sound
       AND current_setting('session_replication_role') <> 'replica'
       AND NOT EXISTS (SELECT FROM pg_trigger t WHERE t.tgconstraint = ANY (v_all) AND t.tgenabled NOT IN ('O', 'A'));
END
$$;

-- The indexes that the strip wants on an app's jobs, in the order in which deploy makes them: HotMesh's own, and one of
-- ours. HotMesh's holds every running and failed job as well: beside 500,000 of them a strip that finds nothing due
-- costs the whole run seven times as much. Ours holds the jobs that are due and no others; its key is of no account.
CREATE OR REPLACE FUNCTION hotmesh_dba._strip_indexes()
RETURNS TABLE (kind text, key name, definition text, columns name[], predicate text)
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
    VALUES ('pruned_at', 'pruned_at'::name, '(pruned_at) WHERE pruned_at IS NULL', '{pruned_at}'::name[],
            '^{NULLTEST :arg {VAR [^{}]*:varattno %s [^{}]*} :nulltesttype 0 [^{}]*}$'),
           ('unstripped', 'id', '(id) WHERE status = 0 AND is_live AND pruned_at IS NULL', '{status,is_live,pruned_at}',
            '^{BOOLEXPR :boolop and :args [(]{OPEXPR .*:varattno %s .*} {VAR [^{}]*:varattno %s [^{}]*} '
            '{NULLTEST :arg {VAR [^{}]*:varattno %s [^{}]*} :nulltesttype 0 [^{}]*}[)] [^{}]*}$')
$$;

-- The index of that kind of a table, whatever its name; one that is not valid is a build that was broken off, or one on
-- a partitioned table that waits for its parts. Read off the catalogue as it stands there, with the numbers of the columns
-- of that predicate: pg_get_expr and pg_get_indexdef would wait for whoever has locked the table.
CREATE OR REPLACE FUNCTION hotmesh_dba._strip_index(relation regclass, kind text, valid boolean DEFAULT true) RETURNS regclass
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN (SELECT i.indexrelid::regclass
            FROM hotmesh_dba._strip_indexes() w
            JOIN pg_index i ON i.indrelid = relation AND i.indisvalid = valid AND i.indnkeyatts = 1 AND i.indpred IS NOT NULL
            JOIN pg_class c ON c.oid = i.indexrelid
            JOIN pg_am m ON m.oid = c.relam AND m.amname = 'btree'
            JOIN pg_attribute k ON k.attrelid = relation AND k.attnum = i.indkey[0] AND k.attname = w.key
            WHERE w.kind = _strip_index.kind
              AND i.indpred::text ~ format(w.predicate, VARIADIC ARRAY(
                      SELECT coalesce(a.attnum, 0)::text
                      FROM unnest(w.columns) WITH ORDINALITY n (name, place)
                      LEFT JOIN pg_attribute a ON a.attrelid = relation AND a.attname = n.name
                      ORDER BY n.place))
            LIMIT 1);
END
$$;

CREATE OR REPLACE FUNCTION hotmesh_dba._prune_oid() RETURNS oid
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT p.oid FROM pg_proc p WHERE p.pronamespace = 'hotmesh_dba'::regnamespace AND p.proname = 'prune'
$$;

-- Does this function hang on hotmesh_dba.prune by its body, and (unless installed plainly) on the extension by its mark?
CREATE OR REPLACE FUNCTION hotmesh_dba._is_wrapper(overload oid, prune oid) RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT EXISTS (SELECT FROM pg_depend d
                   WHERE d.classid = 'pg_proc'::regclass AND d.objid = overload
                     AND d.refclassid = 'pg_proc'::regclass AND d.refobjid = prune)
       AND (hotmesh_dba._extension() IS NULL
            OR EXISTS (SELECT FROM pg_depend d
                       WHERE d.classid = 'pg_proc'::regclass AND d.objid = overload AND d.deptype = 'x'
                         AND d.refclassid = 'pg_extension'::regclass AND d.refobjid = hotmesh_dba._extension()))
$$;

-- sql/app.sql

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

-- sql/owner.sql

-- Whose an app is: the role's that owns its table jobs, and of whoever is a member of that role.

CREATE OR REPLACE FUNCTION hotmesh_dba._owner(app name) RETURNS oid
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$ BEGIN RETURN (SELECT c.relowner FROM pg_class c WHERE c.oid = hotmesh_dba._jobs(app)); END $$;

CREATE OR REPLACE FUNCTION hotmesh_dba._owns_app(app name) RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$ SELECT coalesce(pg_has_role(hotmesh_dba._owner(app), 'USAGE'), false) $$;

CREATE OR REPLACE FUNCTION hotmesh_dba._raise_not_owner(app_schema name, doing text, detail text, hint text) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION 'permission denied to % app "%"', doing, app_schema
        USING ERRCODE = 'insufficient_privilege', DETAIL = detail || ' Nothing was changed.', HINT = hint;
END
$$;

-- How to become one who may. No hint gives away the role of a superuser.
CREATE OR REPLACE FUNCTION hotmesh_dba._owner_hint(owner pg_roles) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN owner.rolsuper THEN format('Call it as that role, or after SET ROLE %I;', owner.rolname)
                ELSE format('SET ROLE %I; or: GRANT %1$I TO %I;', owner.rolname, current_user) END
$$;

CREATE OR REPLACE FUNCTION hotmesh_dba._check_owner(app_schema name, doing text) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_owner pg_roles;
BEGIN
    IF hotmesh_dba._owns_app(app_schema) THEN
        RETURN;
    END IF;
    SELECT r.* INTO v_owner FROM pg_roles r WHERE r.oid = hotmesh_dba._owner(app_schema);
    PERFORM hotmesh_dba._raise_not_owner(app_schema, doing,
        format('The app''s tables belong to "%s", whose rights role "%s" does not have.', v_owner.rolname, current_user),
        hotmesh_dba._owner_hint(v_owner));
END
$$;

-- Whoever may have put code on an app's tables (an index on a function, a type of his own, a trigger), that whoever reads or
-- changes them executes with his own rights: the owners of its tables and partitions, and of the schema, who may put another
-- table in one's place; those of functions that hang there already; and whoever may add a trigger.
CREATE OR REPLACE FUNCTION hotmesh_dba._authors_of_code(app name) RETURNS SETOF oid
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_tables oid[] := ARRAY(SELECT t::oid FROM hotmesh_dba._app_tables(app) a, hotmesh_dba._tree(a) t);
BEGIN
    RETURN QUERY
        SELECT n.nspowner FROM pg_namespace n WHERE n.nspname = app
        UNION
        SELECT c.relowner FROM pg_class c WHERE c.oid = ANY (v_tables)
        UNION
        SELECT p.proowner FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid WHERE t.tgrelid = ANY (v_tables)
        UNION
        SELECT p.proowner
        FROM pg_index i
        JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = i.indexrelid AND d.refclassid = 'pg_proc'::regclass
        JOIN pg_proc p ON p.oid = d.refobjid
        WHERE i.indrelid = ANY (v_tables)
        UNION
        SELECT g.grantee FROM pg_class c, aclexplode(c.relacl) g WHERE c.oid = ANY (v_tables) AND g.privilege_type = 'TRIGGER';
END
$$;

-- Is the caller a superuser, and the app not wholly superusers'? Then he goes near its tables only where it is named, or its
-- owner is said to be trusted. Of what is no app (any more) nobody knows whose it will be.
CREATE OR REPLACE FUNCTION hotmesh_dba._is_foreign(app name) RETURNS boolean
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN EXISTS (SELECT FROM pg_roles me WHERE me.rolname = current_user AND me.rolsuper)
       AND (hotmesh_dba._jobs(app) IS NULL
            OR EXISTS (SELECT FROM hotmesh_dba._authors_of_code(app) o
                       WHERE NOT EXISTS (SELECT FROM pg_roles r WHERE r.oid = o AND r.rolsuper)));
END
$$;

-- Has an app's owner a say in a table of another role's? In a partition, whoever's it is: he deletes its rows through the
-- parent. A superuser has a say in everything; of his app, what is not a superuser's is somebody else's.
CREATE OR REPLACE FUNCTION hotmesh_dba._speaks_for(owner oid, other oid, of_partition boolean) RETURNS boolean
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN owner = other
        OR (of_partition OR pg_has_role(owner, other, 'USAGE'))
       AND NOT EXISTS (SELECT FROM pg_roles o, pg_roles t WHERE o.oid = owner AND t.oid = other AND o.rolsuper AND NOT t.rolsuper);
END
$$;

-- An app's owner speaks for his own tables: one that somebody else has put beside or under them is not his to have pruned.
CREATE OR REPLACE FUNCTION hotmesh_dba._check_steps_owner(app_schema name, steps hotmesh_dba._step[]) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_owner oid := hotmesh_dba._owner(app_schema);
    v_table pg_class;
BEGIN
    SELECT c.* INTO v_table
    FROM unnest(steps) s, LATERAL (VALUES (s.relation), (s.attributes)) r (root), hotmesh_dba._tree(r.root) t
    JOIN pg_class c ON c.oid = t
    WHERE r.root IS NOT NULL AND NOT hotmesh_dba._speaks_for(v_owner, c.relowner, c.relispartition)
    ORDER BY s.ordinal, c.oid
    LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'permission denied for table %', v_table.oid::regclass
            USING ERRCODE = 'insufficient_privilege',
                  DETAIL = format('It belongs to "%s", and app "%s" to "%s", who has no say in it. Nothing was changed.',
                                  pg_get_userbyid(v_table.relowner), app_schema, pg_get_userbyid(v_owner)),
                  HINT = format('ALTER TABLE %s OWNER TO %I;', v_table.oid::regclass, pg_get_userbyid(v_owner));
    END IF;
END
$$;

-- sql/locks.sql

-- How long a statement of ours may wait: so much less than deadlock_timeout that, in a deadlock with the
-- application, it is we who give way. What counts is how long we have held locks, so the age of the whole
-- transaction; a fixed lock_timeout below deadlock_timeout does not save the application's statement.
-- The caller carries SET lock_timeout, which confines this setting to it.
-- (Not by pg_settings: it makes a row of every setting there is, which costs more than most of our statements.)
CREATE OR REPLACE FUNCTION hotmesh_dba._bound_waiting(held_since timestamptz DEFAULT now()) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_half interval := current_setting('deadlock_timeout')::interval / 2;
    v_ms   bigint := 1000 * extract(epoch FROM v_half - (clock_timestamp() - held_since));
BEGIN
    PERFORM set_config('lock_timeout', greatest(1, v_ms)::text, true);
END
$$;

-- How many more jobs one transaction may mark: HotMesh's uniqueness trigger takes an advisory lock a live
-- job and keeps it to the end, and a full lock table stops every session of the server. A quarter of the
-- table is ours, less what this session holds already (repeated calls in one transaction add up); and all
-- sessions together stay below half of it, each taking half of what is left of that half, for another may be
-- taking its own at this very moment.
CREATE OR REPLACE FUNCTION hotmesh_dba._lock_room() RETURNS bigint
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT greatest(0, least(t.size / 4 - h.mine, (t.size / 2 - h.everybodys) / 2))
    FROM (SELECT current_setting('max_locks_per_transaction')::bigint
                 * (current_setting('max_connections')::bigint
                    + current_setting('max_prepared_transactions')::bigint) AS size) t,
         (SELECT count(*) FILTER (WHERE l.pid = pg_backend_pid()) AS mine, count(*) AS everybodys
          FROM pg_locks l
          WHERE l.locktype = 'advisory') h
$$;

-- Who may stand in the way, for an error's DETAIL: the sessions with the strongest locks on the app's tables.
-- A row lock shows nowhere, but its holder has a lock on the table as well. After them those with an advisory
-- lock in HotMesh's key space: a key's lock is the same in every app, so its holder may never have touched this one.
CREATE OR REPLACE FUNCTION hotmesh_dba._lock_holders(app_schema name, readers_too boolean, keys_too boolean) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    WITH other AS (
        SELECT l.*
        FROM pg_locks l
        WHERE l.granted AND l.pid <> pg_backend_pid()
          AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
    ), held AS (
        SELECT l.pid, format('%s on %s', l.mode, coalesce(pg_partition_root(l.relation), l.relation)::regclass) AS lock,
               array_position(ARRAY['AccessShareLock', 'RowShareLock', 'RowExclusiveLock', 'ShareUpdateExclusiveLock',
                                    'ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock'],
                              l.mode) AS strength
        FROM other l
        JOIN pg_class c ON c.oid = l.relation AND c.relkind IN ('r', 'p')
        JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = _lock_holders.app_schema
        WHERE l.locktype = 'relation' AND (readers_too OR l.mode <> 'AccessShareLock')
        UNION ALL
        SELECT l.pid, 'an advisory lock', 0
        FROM other l
        WHERE l.locktype = 'advisory' AND l.objsubid = 1 AND keys_too
    ), holder AS (
        SELECT h.pid, max(h.strength) AS strength,
               string_agg(DISTINCT h.lock, ', ') AS locks
        FROM held h
        GROUP BY h.pid
        ORDER BY strength DESC, h.pid
        LIMIT 5
    )
    SELECT coalesce(string_agg(format('Process %s (role %s) holds %s.', h.pid, coalesce(a.usename, 'unknown'), h.locks),
                               ' ' ORDER BY h.strength DESC, h.pid),
                    'It has ended meanwhile.')
    FROM holder h
    LEFT JOIN pg_stat_activity a ON a.pid = h.pid
$$;

CREATE OR REPLACE FUNCTION hotmesh_dba._raise_locked(app_schema name, doing text) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION 'could not % app "%": another session holds a lock', doing, app_schema
        USING ERRCODE = 'lock_not_available',
              DETAIL = hotmesh_dba._lock_holders(app_schema, readers_too => doing = 'deploy', keys_too => doing = 'prune'),
              HINT = 'Nothing was changed. Call again when that session has ended its transaction.';
END
$$;

-- sql/guards.sql

-- What is checked before anything is touched.

CREATE OR REPLACE FUNCTION hotmesh_dba._check_writable() RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF pg_is_in_recovery() THEN
        RAISE EXCEPTION 'cannot write on a standby'
            USING ERRCODE = 'read_only_sql_transaction',
                  DETAIL = 'This server is in recovery and replays the changes of its primary.',
                  HINT = 'Connect to the primary; preview() works here.';
    ELSIF current_setting('transaction_read_only')::boolean THEN
        RAISE EXCEPTION 'cannot write in a read-only transaction'
            USING ERRCODE = 'read_only_sql_transaction',
                  DETAIL = 'transaction_read_only is on.',
                  HINT = 'Call it in a transaction begun with BEGIN READ WRITE; check default_transaction_read_only.';
    END IF;
END
$$;

-- Has each statement a snapshot of its own?
CREATE OR REPLACE FUNCTION hotmesh_dba._is_read_committed() RETURNS boolean
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$ BEGIN RETURN current_setting('transaction_isolation') IN ('read committed', 'read uncommitted'); END $$;

-- In REPEATABLE READ an attribute that was committed after the snapshot is not seen, so it would survive.
CREATE OR REPLACE FUNCTION hotmesh_dba._check_isolation(doing text) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NOT hotmesh_dba._is_read_committed() THEN
        RAISE EXCEPTION 'cannot % in a % transaction', doing, upper(current_setting('transaction_isolation'))
            USING ERRCODE = 'active_sql_transaction',
                  DETAIL = 'Attributes committed after this transaction''s snapshot would be left behind for ever.',
                  HINT = 'Call it in a transaction begun with BEGIN ISOLATION LEVEL READ COMMITTED.';
    END IF;
END
$$;

-- The hint is the very statement that mends it.
CREATE OR REPLACE FUNCTION hotmesh_dba._check_privilege(relation regclass, privilege text, column_name name DEFAULT NULL)
RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF (CASE WHEN column_name IS NULL THEN has_table_privilege(relation, privilege)
             ELSE has_column_privilege(relation, column_name, privilege) END) THEN
        RETURN;
    END IF;
    RAISE EXCEPTION 'permission denied for table %', relation
        USING ERRCODE = 'insufficient_privilege',
              DETAIL = format('Role "%s" lacks %s.', current_user, privilege),
              HINT = format('GRANT %s%s ON %s TO %I;', privilege,
                            coalesce(' (' || quote_ident(column_name) || ')', ''), relation, current_user);
END
$$;

CREATE OR REPLACE FUNCTION hotmesh_dba._check_schema_usage(app_schema name) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NOT has_schema_privilege(app_schema, 'USAGE') THEN
        RAISE EXCEPTION 'permission denied for schema %', app_schema
            USING ERRCODE = 'insufficient_privilege',
                  DETAIL = format('Role "%s" lacks USAGE.', current_user),
                  HINT = format('GRANT USAGE ON SCHEMA %I TO %I;', app_schema, current_user);
    END IF;
END
$$;

-- What row-level security hides from us would be left behind for ever, on a job that is marked or gone; and a
-- job that it keeps from being deleted would have lost its attributes.
CREATE OR REPLACE FUNCTION hotmesh_dba._check_sees_all(relation regclass, doing text) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF row_security_active(relation) THEN
        RAISE EXCEPTION 'cannot % under row-level security of table %', doing, relation
            USING ERRCODE = 'insufficient_privilege',
                  DETAIL = format('Its policies may keep rows from role "%s", and a job would be parted from its attributes.', current_user),
                  HINT = format('Call it as the owner of %s, or: ALTER ROLE %I BYPASSRLS;', relation, current_user);
    END IF;
END
$$;

-- With row_security off PostgreSQL refuses what a policy would filter, without a word of what to do.
CREATE OR REPLACE FUNCTION hotmesh_dba._check_row_security(relation regclass) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NOT current_setting('row_security')::boolean AND row_security_active(relation) THEN
        RAISE EXCEPTION 'row_security is off, and table % has row-level security', relation
            USING ERRCODE = 'insufficient_privilege',
                  DETAIL = format('Role "%s" is subject to its policies, and may not pass over them.', current_user),
                  HINT = format('SET row_security = on; or, to see all of its rows: ALTER ROLE %I BYPASSRLS;', current_user);
    END IF;
END
$$;

-- Of which type are the attributes that stay? Without an answer every one of them would go.
CREATE OR REPLACE FUNCTION hotmesh_dba._check_attribute_filter(step hotmesh_dba._step) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF step.attribute_filter IS NULL THEN
        RAISE EXCEPTION 'cannot tell which attributes of % to keep', step.attributes
            USING ERRCODE = 'wrong_object_type',
                  DETAIL = 'Its column type knows none of jdata, udata and jmark.',
                  HINT = 'Prune this app without strip_attributes.';
    END IF;
END
$$;

-- Before the first step: what the steps will need, so that a missing right costs no work.
CREATE OR REPLACE FUNCTION hotmesh_dba._check_step_privileges(step hotmesh_dba._step, removing boolean) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NOT hotmesh_dba._is_there(step.relation) THEN    -- nobody has a right to it, and none is missing: look again
        RAISE lock_not_available USING MESSAGE = format('table %s has changed', step.relation);
    END IF;
    PERFORM hotmesh_dba._check_privilege(step.relation, 'SELECT');
    PERFORM hotmesh_dba._check_row_security(step.relation);
    IF step.name = 'strip' THEN
        PERFORM hotmesh_dba._check_privilege(step.attributes, 'SELECT');
        PERFORM hotmesh_dba._check_row_security(step.attributes);
        PERFORM hotmesh_dba._check_attribute_filter(step);
    END IF;
    IF removing AND step.name = 'strip' THEN
        PERFORM hotmesh_dba._check_sees_all(step.attributes, 'strip attributes');
        PERFORM hotmesh_dba._check_privilege(step.attributes, 'DELETE');
        PERFORM hotmesh_dba._check_privilege(step.relation, 'UPDATE', 'pruned_at');
    ELSIF removing THEN
        PERFORM hotmesh_dba._check_privilege(step.relation, 'DELETE');
    END IF;
END
$$;

-- Every step of a call, before the first one.
CREATE OR REPLACE FUNCTION hotmesh_dba._check_steps(steps hotmesh_dba._step[], disable_triggers boolean) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_step hotmesh_dba._step;
BEGIN
    FOREACH v_step IN ARRAY steps LOOP
        PERFORM hotmesh_dba._check_step_privileges(v_step, true);
        IF disable_triggers AND hotmesh_dba._is_of_jobs(v_step) THEN
            PERFORM hotmesh_dba._check_fast_path(v_step);
        END IF;
    END LOOP;
END
$$;

-- sql/options.sql

-- A window becomes its cutoff. It is refused where it could reach into the future: an interval has three
-- fields, and '1 month -30 days' is positive to no comparison but points past now in March; so months count as
-- the fewest days that so many in a row can be (or, taken away, as the most): a year as 365 (366), and the rest
-- as in the tables below.
CREATE OR REPLACE FUNCTION hotmesh_dba._cutoff(option_name text, retention interval) RETURNS timestamptz
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_fewest CONSTANT int[] := '{28,59,89,120,150,181,212,242,273,303,334}';
    v_most   CONSTANT int[] := '{31,62,92,123,153,184,215,245,276,306,337}';
    v_months int;
    v_days   int;
    v_rest   interval;
BEGIN
    IF retention IS NULL THEN
        RAISE EXCEPTION '% must not be NULL', option_name
            USING ERRCODE = 'invalid_parameter_value',
                  DETAIL = 'Without a window nothing would be old enough to delete, and nothing would say so.',
                  HINT = format('Give an interval: %s => ''7 days''.', option_name);
    END IF;
    IF NOT isfinite(retention) THEN
        RAISE interval_field_overflow;
    END IF;
    v_months := extract(year FROM retention) * 12 + extract(month FROM retention);
    v_rest := retention - make_interval(months => v_months);
    -- Division is towards 0, so year and rest have one sign; no rest is no entry.
    v_days := CASE WHEN v_months < 0 THEN v_months / 12 * 366 - coalesce(v_most[-(v_months % 12)], 0)
                   ELSE v_months / 12 * 365 + coalesce(v_fewest[v_months % 12], 0) END;
    IF make_interval(days => v_days) + v_rest < interval '0' THEN
        RAISE EXCEPTION '% must not be negative: %', option_name, retention
            USING ERRCODE = 'invalid_parameter_value',
                  DETAIL = 'Its cutoff could lie in the future, and rows that have not expired yet would be deleted.',
                  HINT = format('Give an interval of one sign: %s => ''30 days''.', option_name);
    END IF;
    -- In UTC, so that '30 days' is no hour longer beside a change of the clocks.
    RETURN (now() AT TIME ZONE 'UTC' - retention) AT TIME ZONE 'UTC';
EXCEPTION
    WHEN datetime_field_overflow OR numeric_value_out_of_range OR interval_field_overflow THEN
        RAISE EXCEPTION '% is out of range: %', option_name, retention
            USING ERRCODE = 'invalid_parameter_value',
                  DETAIL = 'Its cutoff is no time that PostgreSQL can represent.',
                  HINT = format('Give a shorter interval: %s => ''10 years''.', option_name);
END
$$;

CREATE OR REPLACE FUNCTION hotmesh_dba._check_flag(option_name text, flag boolean) RETURNS boolean
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF flag IS NULL THEN
        RAISE EXCEPTION '% must not be NULL', option_name
            USING ERRCODE = 'null_value_not_allowed',
                  DETAIL = 'It says whether a kind of rows is removed, so it is true or false.',
                  HINT = format('Give it a value: %s => false.', option_name);
    END IF;
    RETURN flag;
END
$$;

-- A setting of the session that is on or off, and off where it is not set.
CREATE OR REPLACE FUNCTION hotmesh_dba._is_set(setting text) RETURNS boolean
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN coalesce(nullif(current_setting(setting, true), '')::boolean, false);
EXCEPTION WHEN invalid_text_representation THEN
    RAISE EXCEPTION '% must be on or off: %', setting, quote_literal(current_setting(setting))
        USING ERRCODE = 'invalid_parameter_value',
              DETAIL = 'It is a setting of this session, or of its role or database.',
              HINT = format('SET %s = off;', setting);
END
$$;

-- The arguments of one call, resolved and validated once. Cutoffs are fixed here and shared by every step.
CREATE OR REPLACE FUNCTION hotmesh_dba._resolve(
    app_id text, retention interval, prune_jobs boolean, prune_streams boolean, strip_attributes boolean,
    entity_list text[], prune_transient boolean, keep_hmark boolean, prune_engine_streams boolean,
    prune_worker_streams boolean, engine_streams_retention interval, worker_streams_retention interval,
    prune_signals boolean)
RETURNS hotmesh_dba._options
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_options hotmesh_dba._options;
BEGIN
    v_options.jobs := hotmesh_dba._check_flag('prune_jobs', prune_jobs);
    v_options.transient := hotmesh_dba._check_flag('prune_transient', prune_transient);
    PERFORM hotmesh_dba._check_flag('prune_streams', prune_streams);
    v_options.engine_streams := coalesce(prune_engine_streams, prune_streams);
    v_options.worker_streams := coalesce(prune_worker_streams, prune_streams);
    v_options.strip := hotmesh_dba._check_flag('strip_attributes', strip_attributes);
    v_options.signals := hotmesh_dba._check_flag('prune_signals', prune_signals);
    v_options.keep_hmark := hotmesh_dba._check_flag('keep_hmark', keep_hmark);
    v_options.entity_list := entity_list;
    v_options.jobs_before := hotmesh_dba._cutoff('retention', retention);
    v_options.engine_before := hotmesh_dba._cutoff('engine_streams_retention', coalesce(engine_streams_retention, retention));
    v_options.worker_before := hotmesh_dba._cutoff('worker_streams_retention', coalesce(worker_streams_retention, retention));
    v_options.signals_until := now();
    v_options.disable_triggers := hotmesh_dba._is_set('hotmesh_dba.disable_triggers');
    v_options.app_schema := hotmesh_dba.app_schema(app_id);
    PERFORM hotmesh_dba._check_schema_usage(v_options.app_schema);
    IF v_options.strip AND NOT hotmesh_dba._is_migrated(v_options.app_schema) THEN
        RAISE EXCEPTION 'app "%" is not deployed: jobs has no column pruned_at', v_options.app_schema
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  DETAIL = 'Stripped jobs are marked in that column.',
                  HINT = format('SELECT * FROM hotmesh_dba.deploy(%L);', v_options.app_schema);
    END IF;
    RETURN v_options;
END
$$;

-- sql/steps/plan.sql

-- The attributes that the strip removes, over alias a; NULL where the type is not HotMesh's. NOT IN, since the planner knows no better way round
-- the index (type, symbol) where a restored database has no statistics yet.
CREATE OR REPLACE FUNCTION hotmesh_dba._attribute_filter(attributes regclass, keep_hmark boolean) RETURNS text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN (SELECT 'a.type NOT IN (' || string_agg(quote_literal(e.enumlabel), ', ' ORDER BY e.enumsortorder) || ')'
            FROM pg_attribute t
            JOIN pg_enum e ON e.enumtypid = t.atttypid
            WHERE t.attrelid = attributes AND t.attname = 'type'
              AND (e.enumlabel IN ('jdata', 'udata', 'jmark') OR keep_hmark AND e.enumlabel = 'hmark'));
END
$$;

-- What a call does, a row a step and table, in the contract's order: the one place that says which rows are
-- due. Whatever removes, counts or previews rows takes them from here. A missing table has no row.
-- Only $1 (before) and $2 (entity_list) stand in a filter, and never an expression over a column.
CREATE OR REPLACE FUNCTION hotmesh_dba._steps(options hotmesh_dba._options) RETURNS SETOF hotmesh_dba._step
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN QUERY
    WITH app AS (
        SELECT hotmesh_dba._jobs(options.app_schema) AS jobs,
               hotmesh_dba._attributes(options.app_schema) AS attributes,
               hotmesh_dba._table(options.app_schema, 'engine_streams', '{stream_name,id,expired_at}') AS engine,
               hotmesh_dba._table(options.app_schema, 'worker_streams', '{stream_name,id,expired_at}') AS worker,
               -- Before 0.11 one table held both kinds; it may still stand, full, beside the newer two.
               hotmesh_dba._table(options.app_schema, 'streams', '{stream_name,id,expired_at,group_name}') AS streams,
               hotmesh_dba._table(options.app_schema, 'signal_registry', '{key,expiry}') AS signals,
               CASE WHEN options.entity_list IS NULL THEN '' ELSE ' AND t.entity = ANY ($2)' END AS of_entity
    ), step AS (
        SELECT s.*, app.jobs, app.attributes
        FROM app, LATERAL (VALUES
            (1, 'jobs',           options.jobs,           app.jobs,    'id',              't.expired_at < $1' || app.of_entity, options.jobs_before, 'expired_at'),
            (2, 'transient',      options.transient,      app.jobs,    'id',              't.expired_at < $1 AND t.entity IS NULL', options.jobs_before, 'expired_at'),
            (3, 'engine_streams', options.engine_streams, app.engine,  'stream_name, id', 't.expired_at < $1', options.engine_before, 'expired_at'),
            (4, 'engine_streams', options.engine_streams, app.streams, 'stream_name, id', 't.expired_at < $1 AND t.group_name = ''ENGINE''', options.engine_before, 'expired_at'),
            (5, 'worker_streams', options.worker_streams, app.worker,  'stream_name, id', 't.expired_at < $1', options.worker_before, 'expired_at'),
            (6, 'worker_streams', options.worker_streams, app.streams, 'stream_name, id', 't.expired_at < $1 AND t.group_name = ''WORKER''', options.worker_before, 'expired_at'),
            (7, 'strip',          options.strip,          app.jobs,    'id',              't.status = 0 AND t.is_live AND t.pruned_at IS NULL' || app.of_entity, options.jobs_before, NULL),
            (8, 'signals',        options.signals,        app.signals, 'key',             't.expiry <= $1', options.signals_until, 'expiry')
        ) AS s (ordinal, name, wanted, relation, key_columns, row_filter, before, mark_column)
        WHERE s.wanted AND s.relation IS NOT NULL
    )
    SELECT s.ordinal, s.name, s.relation, s.key_columns, s.row_filter, s.before, options.entity_list,
           (SELECT string_agg(e.row_filter, ' OR ' ORDER BY e.ordinal)
            FROM step e
            WHERE e.relation = s.relation AND s.relation = s.jobs AND e.ordinal < s.ordinal),
           CASE WHEN s.relation = s.jobs THEN s.attributes END,
           CASE WHEN s.name = 'strip' THEN hotmesh_dba._attribute_filter(s.attributes, options.keep_hmark) END,
           s.mark_column::name
    FROM step s
    ORDER BY s.ordinal;
END
$$;

-- sql/steps/lanes.sql

-- Where a step works. In the leaf partitions, one by one: there a ctid names one row, and no statement has to find its partition. But rights,
-- policies and statement triggers of the parent are not asked on a leaf; where that could make a difference, and
-- where Citus keeps the leaves elsewhere, the step works on the parent, by key.

CREATE OR REPLACE FUNCTION hotmesh_dba._may_lock(relation regclass) RETURNS boolean
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    -- Under row-level security locking wants a policy for UPDATE as well.
    RETURN has_any_column_privilege(relation, 'UPDATE') AND NOT row_security_active(relation);
END
$$;

-- Has a DELETE or UPDATE of this very table an effect of its own (statement triggers, rules), which one of its parent, or
-- of a leaf of it, has not?
CREATE OR REPLACE FUNCTION hotmesh_dba._minds_statements(relation regclass) RETURNS boolean
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN EXISTS (SELECT FROM pg_trigger t
                   WHERE t.tgrelid = relation AND t.tgenabled <> 'D'
                     AND t.tgtype & 1 = 0 AND t.tgtype & (8 | 16) > 0)   -- not FOR EACH ROW; DELETE or UPDATE
        OR EXISTS (SELECT FROM pg_rewrite r
                   WHERE r.ev_class = relation AND r.ev_enabled <> 'D' AND r.ev_type IN ('2', '4'));     -- UPDATE, DELETE
END
$$;

-- May this role do on the leaf what it may do on the parent, with the same effect?
CREATE OR REPLACE FUNCTION hotmesh_dba._is_like_parent(leaf regclass, parent regclass, step_name text) RETURNS boolean
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN leaf = parent
        OR has_table_privilege(leaf, 'SELECT')
       AND CASE WHEN step_name = 'strip' THEN has_column_privilege(leaf, 'pruned_at', 'UPDATE')
                ELSE has_table_privilege(leaf, 'DELETE') END
       AND hotmesh_dba._may_lock(leaf) >= hotmesh_dba._may_lock(parent)
       AND NOT row_security_active(parent) AND NOT row_security_active(leaf)
       AND NOT hotmesh_dba._minds_statements(parent) AND NOT hotmesh_dba._minds_statements(leaf);
END
$$;

-- Which rows of a table partitioned by HASH a partition has. Not by pg_get_expr: it waits for whoever has locked the table.
CREATE OR REPLACE FUNCTION hotmesh_dba._remainder(partition_bound text) RETURNS text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$ SELECT substring(partition_bound FROM ':strategy h .*(:modulus [0-9]+ :remainder [0-9]+)') $$;

-- The plain tables at the ends of a partition tree, numbered. A foreign table there (relkind f) has no pages of ours. The
-- remainder says something about rows only where the leaf is a partition of the root itself.
CREATE OR REPLACE FUNCTION hotmesh_dba._leaves(root regclass)
RETURNS TABLE (leaf regclass, number int, remainder text, is_plain boolean)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT t.relation, (row_number() OVER (ORDER BY t.relation::oid))::int - 1,
           CASE WHEN EXISTS (SELECT FROM pg_inherits h WHERE h.inhrelid = t.relation AND h.inhparent = root)
                THEN hotmesh_dba._remainder(c.relpartbound::text) END,
           c.relkind = 'r'
    FROM hotmesh_dba._tree(root) t (relation)
    JOIN pg_class c ON c.oid = t.relation AND c.relkind <> 'p'
$$;

-- Do two tables hash the same values into equal remainders, so that a job and its attributes lie in leaves of the same one?
CREATE OR REPLACE FUNCTION hotmesh_dba._hash_alike(jobs regclass, attributes regclass) RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT count(*) = 2 AND count(DISTINCT p.partclass::text || p.partcollation::text) = 1
    FROM pg_partitioned_table p
    JOIN pg_attribute a ON a.attrelid = p.partrelid AND a.attnum = p.partattrs[0]
    WHERE p.partrelid IN (jobs, attributes) AND p.partstrat = 'h' AND p.partnatts = 1
      AND a.attname = CASE WHEN p.partrelid = jobs THEN 'id' ELSE 'job_id' END
$$;

-- The leaves of the attributes table that may be worked in, each beside the leaf of its jobs; none where the tables are
-- not partitioned alike.
CREATE OR REPLACE FUNCTION hotmesh_dba._attribute_leaves(step hotmesh_dba._step)
RETURNS TABLE (leaf regclass, remainder text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT l.leaf, l.remainder
    FROM hotmesh_dba._leaves(step.attributes) l
    WHERE l.is_plain AND l.remainder IS NOT NULL
      AND hotmesh_dba._hash_alike(step.relation, step.attributes)
      AND hotmesh_dba._is_like_parent(l.leaf, step.attributes, 'attributes')
$$;

-- Is this schema spread over other nodes by Citus? Then the leaves' pages and statistics are not here.
CREATE OR REPLACE FUNCTION hotmesh_dba._is_distributed(relation regclass) RETURNS boolean
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_distributed boolean := false;
BEGIN
    IF to_regclass('pg_catalog.pg_dist_schema') IS NOT NULL THEN
        EXECUTE 'SELECT EXISTS (SELECT FROM pg_catalog.pg_dist_schema s JOIN pg_catalog.pg_class c
                                ON c.relnamespace = s.schemaid WHERE c.oid = $1)'
            INTO v_distributed USING relation;
    END IF;
    RETURN v_distributed;
END
$$;

-- A setting that forces the way in which rows are found, for tests: blocks, index, or keys (through the parent).
CREATE OR REPLACE FUNCTION hotmesh_dba._forced_way() RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$ SELECT nullif(current_setting('hotmesh_dba.way', true), '') $$;

CREATE OR REPLACE FUNCTION hotmesh_dba._works_in_leaves(step hotmesh_dba._step) RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT hotmesh_dba._forced_way() IS DISTINCT FROM 'keys'
       AND NOT hotmesh_dba._minds_statements(step.relation)
       AND NOT hotmesh_dba._is_distributed(step.relation)
       AND coalesce((SELECT bool_and(l.is_plain AND hotmesh_dba._is_like_parent(l.leaf, step.relation, step.name))
                     FROM hotmesh_dba._leaves(step.relation) l), false)
$$;

-- The lanes of one step, a row a table to work in.
CREATE OR REPLACE FUNCTION hotmesh_dba._lanes(step hotmesh_dba._step, disable_triggers boolean)
RETURNS SETOF hotmesh_dba._lane
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    WITH works AS MATERIALIZED (
        SELECT hotmesh_dba._works_in_leaves(step) AS in_leaves
    ), place AS (
        SELECT l.number, l.leaf AS relation, coalesce(a.leaf, step.attributes) AS attributes, true AS is_leaf
        FROM works w
        CROSS JOIN hotmesh_dba._leaves(step.relation) l
        LEFT JOIN hotmesh_dba._attribute_leaves(step) a ON a.remainder = l.remainder
        WHERE w.in_leaves
        UNION ALL
        SELECT 0, step.relation, step.attributes, false FROM works w WHERE NOT w.in_leaves
    )
    SELECT step, p.number, p.relation, p.attributes, p.is_leaf, false,
           step.name = 'strip' OR hotmesh_dba._may_lock(p.relation), step.name = 'strip',
           disable_triggers AND step.attributes IS NOT NULL, false,
           NULL::text, NULL::bigint, NULL::int, '(0,0)'::tid, '-infinity'::timestamptz, NULL::uuid[],
           step.name = 'strip', '{}'::text[], NULL::bigint, 0, 0, 0, 0, 0, false, 0
    FROM place p
    ORDER BY p.number
$$;

-- Is there still such a table? Whatever the snapshot: what has_table_privilege says of one that was dropped is NULL.
CREATE OR REPLACE FUNCTION hotmesh_dba._is_there(relation regclass) RETURNS boolean
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$ BEGIN RETURN has_table_privilege(relation, 'SELECT') IS NOT NULL; END $$;

-- Still a part of that table? One that was detached since is no longer the app's: somebody keeps it.
-- (pg_partition_ancestors knows what was committed last in any isolation; it knows only partitions.)
CREATE OR REPLACE FUNCTION hotmesh_dba._is_part_of(relation regclass, root regclass) RETURNS boolean
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF relation = root THEN
        RETURN hotmesh_dba._is_there(root);
    END IF;
    RETURN root IN (SELECT p FROM pg_partition_ancestors(relation) p)
        OR (SELECT c.relkind = 'r' FROM pg_class c WHERE c.oid = root)
       AND relation IN (SELECT t FROM hotmesh_dba._tree(root) t);
END
$$;

-- Which rows of a table one of its own partitions has; NULL where that is not by HASH, or it is none.
CREATE OR REPLACE FUNCTION hotmesh_dba._remainder_of(partition regclass, parent regclass) RETURNS text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN (SELECT hotmesh_dba._remainder(c.relpartbound::text)
            FROM pg_inherits h
            JOIN pg_class c ON c.oid = h.inhrelid
            WHERE h.inhrelid = partition AND h.inhparent = parent AND NOT h.inhdetachpending);
END
$$;

-- Do all attributes of the lane's jobs still stand where it was planned, and may that leaf be worked in?
CREATE OR REPLACE FUNCTION hotmesh_dba._attributes_stand(lane hotmesh_dba._lane) RETURNS boolean
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN (lane).attributes IS NOT DISTINCT FROM ((lane).step).attributes
        OR coalesce(hotmesh_dba._remainder_of((lane).relation, ((lane).step).relation)
                    = hotmesh_dba._remainder_of((lane).attributes, ((lane).step).attributes), false)
       AND hotmesh_dba._is_like_parent((lane).attributes, ((lane).step).attributes, 'attributes');
END
$$;

-- The lane as it may go on: rights, policies, triggers, rules and leaves may have changed since it was planned. Where its
-- leaf may not be worked in any more, it goes through the parent.
CREATE OR REPLACE FUNCTION hotmesh_dba._renewed(lane hotmesh_dba._lane) RETURNS hotmesh_dba._lane
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NOT hotmesh_dba._is_like_parent((lane).relation, ((lane).step).relation, ((lane).step).name) THEN
        lane.relation := ((lane).step).relation;
        lane.attributes := ((lane).step).attributes;
        lane.is_leaf := false;
        lane.way := NULL;
        lane.next_tid := '(0,0)';
        lane.next_mark := '-infinity';
        lane.queue := NULL;
    ELSIF NOT hotmesh_dba._attributes_stand(lane) THEN
        lane.attributes := ((lane).step).attributes;
    END IF;
    lane.may_lock := ((lane).step).name = 'strip' OR hotmesh_dba._may_lock((lane).relation);
    RETURN lane;
END
$$;

-- Asked behind a statement, whose locks by now keep its tables as they are: where they were changed before, it is undone,
-- gives way as to a lock, and the lane is renewed; where the role has lost a right to the table itself, the step fails.
CREATE OR REPLACE FUNCTION hotmesh_dba._check_stands(lane hotmesh_dba._lane) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM hotmesh_dba._check_step_privileges((lane).step, true);
    IF NOT hotmesh_dba._is_part_of((lane).relation, ((lane).step).relation)
       OR NOT hotmesh_dba._is_like_parent((lane).relation, ((lane).step).relation, ((lane).step).name)
       OR NOT hotmesh_dba._attributes_stand(lane)
    THEN
        RAISE lock_not_available USING MESSAGE = format('table %s has changed', (lane).relation);
    END IF;
END
$$;

-- Messages or signals of which few are due, as one lane of the whole table: its parent sees to its own rights, policies
-- and triggers, and one statement costs a fraction of one a leaf.
CREATE OR REPLACE FUNCTION hotmesh_dba._sweep_lane(step hotmesh_dba._step, due bigint) RETURNS hotmesh_dba._lane
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_lane hotmesh_dba._lane;
BEGIN
    v_lane.step := step;
    v_lane.number := 0;
    v_lane.relation := step.relation;
    v_lane.is_leaf := false;
    v_lane.sweeps := true;
    v_lane.may_lock := false;
    v_lane.careful := false;
    v_lane.triggers_off := false;
    v_lane.by_hand := false;
    v_lane.way := 'index';
    v_lane.due := due;
    v_lane.spares := false;
    v_lane.skip := '{}';
    v_lane.setbacks := 0;
    v_lane.locked := 0;
    v_lane.given_up := 0;
    v_lane.passes := 0;
    v_lane.taken := 0;
    v_lane.finished := false;
    v_lane.faults := 0;
    RETURN v_lane;
END
$$;

-- sql/steps/choose.sql

-- Which rows the next batch takes: up to max_rows (NULL: all). The lane comes back moved on behind them.

-- Jobs that are stripped, or lose their attributes before they go, are locked first: nobody then adds an attribute to them
-- (its foreign key wants the row) nor changes them before we are done. Whatever else is deleted is locked by its DELETE;
-- locking it before would write every row once more, and is done only where somebody holds some of them.
CREATE OR REPLACE FUNCTION hotmesh_dba._locking_clause(lane hotmesh_dba._lane) RETURNS text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$ SELECT CASE WHEN lane.may_lock AND (lane.careful OR lane.by_hand) THEN 'FOR UPDATE SKIP LOCKED' ELSE '' END $$;

CREATE OR REPLACE FUNCTION hotmesh_dba._is_of_jobs(step hotmesh_dba._step) RETURNS boolean
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$ SELECT step.attributes IS NOT NULL $$;

-- Jobs are told apart by id; other rows by ctid, in a leaf alone. $4 is the lane's skip, which is mostly empty.
CREATE OR REPLACE FUNCTION hotmesh_dba._not_skipped(lane hotmesh_dba._lane) RETURNS text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN cardinality(lane.skip) = 0 THEN ''
                WHEN hotmesh_dba._is_of_jobs(lane.step) THEN 'AND t.id <> ALL ($4::uuid[])'
                WHEN lane.is_leaf THEN 'AND t.ctid <> ALL ($4::tid[])'
                ELSE '' END
$$;

CREATE OR REPLACE FUNCTION hotmesh_dba._choice_query(lane hotmesh_dba._lane, position_and_order text) RETURNS text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT format('SELECT %s, array_agg(c.tid), max(c.mark)
                   FROM (SELECT %s AS id, t.ctid AS tid, %s AS mark
                         FROM %s t WHERE %s %s %s LIMIT $3 %s) c',
                  CASE WHEN hotmesh_dba._is_of_jobs(lane.step) THEN 'array_agg(c.id)' ELSE 'NULL::uuid[]' END,
                  CASE WHEN hotmesh_dba._is_of_jobs(lane.step) THEN 't.id' ELSE 'NULL::uuid' END,
                  coalesce('t.' || (lane.step).mark_column, 'NULL::timestamptz'),
                  lane.relation, (lane.step).row_filter, hotmesh_dba._not_skipped(lane), position_and_order,
                  hotmesh_dba._locking_clause(lane))
$$;

-- From next_tid on, in the order of the pages. The bound on pages keeps a batch short where nothing is due for long.
CREATE OR REPLACE FUNCTION hotmesh_dba._choose_by_blocks(lane hotmesh_dba._lane, max_rows bigint, max_pages bigint)
RETURNS hotmesh_dba._choice
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET enable_indexscan = off
SET enable_indexonlyscan = off
SET enable_bitmapscan = off
SET jit = off
SET lock_timeout = 0
AS $$
DECLARE
    v_choice hotmesh_dba._choice;
    v_mark   timestamptz;
    v_pages  bigint := hotmesh_dba._pages((lane).relation);
    v_until  bigint := hotmesh_dba._window_end(lane, v_pages, max_pages);
BEGIN
    PERFORM hotmesh_dba._bound_waiting();
    EXECUTE hotmesh_dba._choice_query(lane, 'AND t.ctid > $5 AND t.ctid < $6')
        INTO v_choice.ids, v_choice.tids, v_mark
        USING ((lane).step).before, ((lane).step).entity_list, max_rows, (lane).skip,
              (lane).next_tid, hotmesh_dba._page_start(v_until);
    IF cardinality(v_choice.tids) = max_rows THEN
        lane.next_tid := v_choice.tids[max_rows];
        v_choice.finished := false;
    ELSE
        lane.next_tid := hotmesh_dba._page_start(v_until);
        v_choice.finished := v_until >= v_pages;
    END IF;
    v_choice.lane := lane;
    RETURN v_choice;
END
$$;

CREATE OR REPLACE FUNCTION hotmesh_dba._page_of(place tid) RETURNS bigint
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$ SELECT split_part(ltrim(place::text, '('), ',', 1)::bigint $$;

-- Behind which page a window ends that begins at next_tid, in a table of so many pages.
CREATE OR REPLACE FUNCTION hotmesh_dba._window_end(lane hotmesh_dba._lane, pages bigint, max_pages bigint) RETURNS bigint
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$ SELECT least(pages, hotmesh_dba._page_of(lane.next_tid) + coalesce(max_pages, pages)) $$;

-- From next_mark on, oldest first. The mark keeps a batch from walking the index entries of those before it once more,
-- which lie there dead as long as somebody holds an old snapshot. Rows may share a time, so it includes its own.
CREATE OR REPLACE FUNCTION hotmesh_dba._choose_by_mark(lane hotmesh_dba._lane, max_rows bigint)
RETURNS hotmesh_dba._choice
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET enable_bitmapscan = off
SET jit = off
SET lock_timeout = 0
AS $$
DECLARE
    v_choice hotmesh_dba._choice;
    v_mark   timestamptz;
BEGIN
    PERFORM hotmesh_dba._bound_waiting();
    EXECUTE hotmesh_dba._choice_query(lane, format('AND t.%1$I >= $5 ORDER BY t.%1$I', ((lane).step).mark_column))
        INTO v_choice.ids, v_choice.tids, v_mark
        USING ((lane).step).before, ((lane).step).entity_list, max_rows, (lane).skip, (lane).next_mark;
    v_choice.finished := cardinality(v_choice.tids) < max_rows IS NOT FALSE;
    lane.next_mark := coalesce(v_mark, (lane).next_mark);
    v_choice.lane := lane;
    RETURN v_choice;
END
$$;

-- The strip: no index has its jobs in an order that a mark could go along, so they are looked for once, and taken in slices.
CREATE OR REPLACE FUNCTION hotmesh_dba._fill_queue(lane hotmesh_dba._lane, max_jobs bigint) RETURNS uuid[]
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET jit = off
SET lock_timeout = 0
AS $$
DECLARE
    v_queue uuid[];
BEGIN
    PERFORM hotmesh_dba._bound_waiting();
    EXECUTE format('SELECT array_agg(due.id) FROM (SELECT t.id FROM %s t WHERE %s %s LIMIT $3) due',
                   (lane).relation, ((lane).step).row_filter, hotmesh_dba._not_skipped(lane))
        INTO v_queue
        USING ((lane).step).before, ((lane).step).entity_list, max_jobs, (lane).skip;
    RETURN coalesce(v_queue, '{}');
END
$$;

CREATE OR REPLACE FUNCTION hotmesh_dba._choose_from_queue(lane hotmesh_dba._lane, max_jobs bigint)
RETURNS hotmesh_dba._choice
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET jit = off
SET lock_timeout = 0
AS $$
DECLARE
    c_queue  CONSTANT bigint := 20000;
    v_choice hotmesh_dba._choice;
    v_mark   timestamptz;
    v_size   int;
BEGIN
    IF (lane).queue IS NULL THEN
        lane.queue := hotmesh_dba._fill_queue(lane, CASE WHEN max_jobs IS NOT NULL THEN greatest(c_queue, max_jobs) END);
    END IF;
    v_size := least(max_jobs, cardinality((lane).queue));
    PERFORM hotmesh_dba._bound_waiting();
    EXECUTE hotmesh_dba._choice_query(lane, 'AND t.id = ANY ($5)')
        INTO v_choice.ids, v_choice.tids, v_mark
        USING ((lane).step).before, ((lane).step).entity_list, NULL::bigint, (lane).skip, (lane).queue[1 : v_size];
    lane.queue := (lane).queue[v_size + 1 :];
    v_choice.finished := cardinality((lane).queue) = 0;
    v_choice.lane := lane;
    RETURN v_choice;
END
$$;

CREATE OR REPLACE FUNCTION hotmesh_dba._choose(lane hotmesh_dba._lane, max_rows bigint, max_pages bigint)
RETURNS hotmesh_dba._choice
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN CASE
        WHEN (lane).way = 'blocks' THEN hotmesh_dba._choose_by_blocks(lane, max_rows, max_pages)
        WHEN ((lane).step).name = 'strip' THEN hotmesh_dba._choose_from_queue(lane, max_rows)
        ELSE hotmesh_dba._choose_by_mark(lane, max_rows)
    END;
END
$$;

-- sql/steps/probe.sql

-- How much is due in a lane, and by which way it is found: by bounded looks, never by reading a big table whole.

-- Due rows, counted no further than max_rows, the lane's skipped ones aside; lockable: and those that others hold.
CREATE OR REPLACE FUNCTION hotmesh_dba._count_lane(lane hotmesh_dba._lane, max_rows bigint, lockable boolean)
RETURNS bigint
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET jit = off
SET lock_timeout = 0
AS $$
DECLARE
    v_count bigint;
BEGIN
    lane.careful := true;
    PERFORM hotmesh_dba._bound_waiting();
    EXECUTE format('SELECT count(*) FROM (SELECT 1 FROM %s t WHERE %s %s LIMIT $3 %s) due',
                   (lane).relation, ((lane).step).row_filter, hotmesh_dba._not_skipped(lane),
                   CASE WHEN lockable THEN hotmesh_dba._locking_clause(lane) END)
        INTO v_count
        USING ((lane).step).before, ((lane).step).entity_list, max_rows, (lane).skip;
    RETURN v_count;
END
$$;

-- How many rows of a step one statement may take: as many as surely take less than a batch should.
CREATE OR REPLACE FUNCTION hotmesh_dba._sweep_rows(step hotmesh_dba._step, batch_time interval) RETURNS bigint
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN hotmesh_dba._is_of_jobs(step) THEN 0
                ELSE 16000 * least(1, extract(epoch FROM batch_time) / 0.2) END::bigint
$$;

-- Is anything due in any of the step's tables? One look where there would be one a leaf.
CREATE OR REPLACE FUNCTION hotmesh_dba._is_due(step hotmesh_dba._step) RETURNS boolean
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET jit = off
SET lock_timeout = 0
AS $$
DECLARE
    v_is_due boolean;
BEGIN
    PERFORM hotmesh_dba._bound_waiting();
    EXECUTE format('SELECT EXISTS (SELECT FROM %s t WHERE %s)', step.relation, step.row_filter)
        INTO v_is_due
        USING step.before, step.entity_list;
    RETURN v_is_due;
EXCEPTION WHEN OTHERS OR assert_failure THEN
    RETURN true;    -- whoever comes to it will see
END
$$;

-- Looks at no more than 128 pages, in eight groups spread evenly over the leaf: how many rows are on a full one, and
-- how many are due on an average one.
CREATE OR REPLACE FUNCTION hotmesh_dba._sample(lane hotmesh_dba._lane, pages bigint, OUT per_page int, OUT due_per_page float8)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET enable_indexscan = off
SET enable_indexonlyscan = off
SET enable_bitmapscan = off
SET jit = off
SET lock_timeout = 0
AS $$
DECLARE
    c_pages  CONSTANT bigint := 16;      -- of a group
    v_groups bigint := least(8, greatest(1, pages / c_pages));
    v_page   bigint;
    v_rows   bigint;
    v_due    bigint;
    v_all    bigint := 0;
BEGIN
    per_page := 1;
    PERFORM hotmesh_dba._bound_waiting();
    FOR v_group IN 0 .. v_groups - 1 LOOP
        v_page := v_group * pages / v_groups;
        EXECUTE format('SELECT count(*), count(*) FILTER (WHERE %s) FROM %s t WHERE t.ctid >= $3 AND t.ctid < $4',
                       ((lane).step).row_filter, (lane).relation)
            INTO v_rows, v_due
            USING ((lane).step).before, ((lane).step).entity_list,
                  hotmesh_dba._page_start(v_page), hotmesh_dba._page_start(v_page + c_pages);
        per_page := greatest(per_page, v_rows / c_pages);
        v_all := v_all + v_due;
    END LOOP;
    due_per_page := v_all::float8 / (v_groups * c_pages);
END
$$;

CREATE OR REPLACE FUNCTION hotmesh_dba._page_start(page bigint) RETURNS tid
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$ SELECT format('(%s,0)', least(page, 4294967294))::tid $$;

CREATE OR REPLACE FUNCTION hotmesh_dba._pages(relation regclass) RETURNS bigint
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$ SELECT pg_relation_size(relation) / current_setting('block_size')::bigint $$;

-- Little is due: along an index, which costs what is due. Much: along the pages, which costs each page once. The
-- strip's indexes begin anew at their left edge each time, and HotMesh's holds jobs that are not due as well, so much is
-- less for it: reading a leaf once costs next to nothing beside stripping its jobs.
CREATE OR REPLACE FUNCTION hotmesh_dba._probe(lane hotmesh_dba._lane) RETURNS hotmesh_dba._lane
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    c_few   CONSTANT bigint := 2000;
    v_pages bigint;
    v_sample record;
BEGIN
    lane.due := hotmesh_dba._count_lane(lane, c_few, false);
    lane.way := 'index';
    IF lane.due = c_few AND (lane).is_leaf THEN
        v_pages := hotmesh_dba._pages((lane).relation);
        SELECT s.* INTO v_sample FROM hotmesh_dba._sample(lane, v_pages) s;
        lane.per_page := v_sample.per_page;
        lane.due := greatest(c_few, (v_sample.due_per_page * v_pages)::bigint);
        IF v_sample.due_per_page >= 1 OR v_pages <= 1000 OR ((lane).step).name = 'strip' THEN
            lane.way := 'blocks';
        END IF;
    END IF;
    IF (lane).is_leaf AND hotmesh_dba._forced_way() IS NOT NULL THEN
        lane.way := hotmesh_dba._forced_way();
        lane.per_page := coalesce((lane).per_page, 10);
    END IF;
    RETURN lane;
END
$$;

-- The last look at a lane: how much is still due, counted no further than max_rows. Along an index it walks all the dead
-- entries of what was deleted; where that are so many messages that it would cost a quarter of their deletion it
-- looks at the sample of pages instead. (Nobody moves a message once it is processed; a job may well be updated.)
CREATE OR REPLACE FUNCTION hotmesh_dba._look_again(lane hotmesh_dba._lane, max_rows bigint) RETURNS bigint
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    c_many CONSTANT bigint := 20000;
BEGIN
    IF hotmesh_dba._is_of_jobs((lane).step) OR (lane).way <> 'blocks' OR (lane).taken < c_many
       OR (SELECT s.due_per_page > 0 FROM hotmesh_dba._sample(lane, hotmesh_dba._pages((lane).relation)) s) THEN
        RETURN hotmesh_dba._count_lane(lane, max_rows, false);
    END IF;
    RETURN 0;
END
$$;

-- sql/steps/triggers.sql

-- The fast path: with session_replication_role = replica a statement fires no trigger, neither the foreign key's
-- cascade (the attributes are then deleted by one statement of ours, in half the time) nor HotMesh's own on a mark.

-- What stands in the way of it, as one error: which condition fails and what would allow it.
CREATE OR REPLACE FUNCTION hotmesh_dba._raise_no_fast_path(sqlstate_of text, detail text, hint text) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION 'cannot disable triggers'
        USING ERRCODE = sqlstate_of, DETAIL = detail, HINT = hint || ' Or prune without disable_triggers.';
END
$$;

CREATE OR REPLACE FUNCTION hotmesh_dba._may_disable_triggers() RETURNS boolean
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_may boolean := (SELECT r.rolsuper FROM pg_roles r WHERE r.rolname = current_user);
BEGIN
    IF NOT v_may AND current_setting('server_version_num')::int >= 150000 THEN
        EXECUTE 'SELECT pg_catalog.has_parameter_privilege(''session_replication_role'', ''SET'')' INTO v_may;
    END IF;
    RETURN v_may;
END
$$;

-- A trigger that is not one of HotMesh's would be left out too, and one that is ENABLE REPLICA would fire; as with rules.
CREATE OR REPLACE FUNCTION hotmesh_dba._unknown_triggers(jobs regclass, attributes regclass) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    WITH tree (relation) AS (
        SELECT hotmesh_dba._tree(jobs) UNION ALL SELECT hotmesh_dba._tree(attributes)
    ), unknown (name, relation) AS (
        SELECT t.tgname, t.tgrelid
        FROM tree r
        -- PostgreSQL 14 calls what a leaf has from its parent internal; a foreign key's have a constraint.
        JOIN pg_trigger t ON t.tgrelid = r.relation AND (NOT t.tgisinternal OR t.tgconstraint = 0)
        WHERE t.tgname NOT IN ('trg_update_is_live', 'trg_enforce_live_job_uniqueness', 'trg_update_jobs_updated_at',
                               'trg_update_attributes_updated_at')
           OR t.tgenabled IN ('R', 'A')
        UNION ALL
        SELECT w.rulename, w.ev_class
        FROM tree r
        JOIN pg_rewrite w ON w.ev_class = r.relation AND w.ev_type IN ('2', '4') AND w.ev_enabled <> 'D'
    )
    SELECT string_agg(DISTINCT format('%I on %s', u.name, u.relation::regclass), ', ')
    FROM unknown u
$$;

-- Foreign keys that hang on either table, the one from attributes to jobs aside: they would not be looked after.
CREATE OR REPLACE FUNCTION hotmesh_dba._unknown_keys(jobs regclass, attributes regclass) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT string_agg(format('%I on %s', c.conname, c.conrelid::regclass), ', ')
    FROM pg_constraint c
    WHERE c.contype = 'f' AND c.conparentid = 0
      AND c.confrelid IN (SELECT hotmesh_dba._tree(jobs) UNION ALL SELECT hotmesh_dba._tree(attributes))
      AND NOT (c.conrelid = attributes AND c.confrelid = jobs)
$$;

CREATE OR REPLACE FUNCTION hotmesh_dba._check_fast_path(step hotmesh_dba._step) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_keys     int := (SELECT count(*) FROM pg_constraint c
                       WHERE c.contype = 'f' AND c.conrelid = step.attributes AND c.confrelid = step.relation
                         AND c.conparentid = 0);
    v_triggers text := hotmesh_dba._unknown_triggers(step.relation, step.attributes);
    v_others   text := hotmesh_dba._unknown_keys(step.relation, step.attributes);
BEGIN
    IF NOT hotmesh_dba._may_disable_triggers() THEN
        PERFORM hotmesh_dba._raise_no_fast_path('42501', format('Role "%s" may not set session_replication_role.', current_user),
            format('As a superuser, from PostgreSQL 15 on: GRANT SET ON PARAMETER session_replication_role TO %I;', current_user));
    ELSIF NOT hotmesh_dba._is_read_committed() THEN
        PERFORM hotmesh_dba._raise_no_fast_path('25001', 'In this isolation attributes that were committed meanwhile would become orphans.',
            'Call it in a transaction begun with BEGIN ISOLATION LEVEL READ COMMITTED.');
    ELSIF v_triggers IS NOT NULL THEN
        PERFORM hotmesh_dba._raise_no_fast_path('55000', format('Triggers or rules that are not HotMesh''s would not fire, or would: %s.', v_triggers),
            'Drop them, if nobody needs them.');
    ELSIF v_keys <> 1 OR v_others IS NOT NULL THEN
        PERFORM hotmesh_dba._raise_no_fast_path('55000', format('Foreign keys would not be looked after: %s.',
                coalesce(v_others, format('%s of them lead from %s to %s', v_keys, step.attributes, step.relation))),
            'Drop them, if nobody needs them.');
    ELSIF NOT hotmesh_dba._may_lock(step.relation) THEN
        PERFORM hotmesh_dba._raise_no_fast_path('42501', format('Role "%s" cannot lock rows of %s.', current_user, step.relation),
            format('GRANT UPDATE (pruned_at) ON %s TO %I; and no row-level security for it.', step.relation, current_user));
    ELSIF hotmesh_dba._is_distributed(step.relation) THEN
        PERFORM hotmesh_dba._raise_no_fast_path('0A000', 'The app''s schema is distributed by Citus, and the setting stays on this node.',
            'There is no way around it.');
    END IF;
    PERFORM hotmesh_dba._check_privilege(step.attributes, 'SELECT');
    PERFORM hotmesh_dba._check_privilege(step.attributes, 'DELETE');
    PERFORM hotmesh_dba._check_sees_all(step.attributes, 'disable triggers');
END
$$;

-- Switches triggers off, or back to what was; returns what was. Whoever calls it undoes it in the same routine; an
-- error is undone by its subtransaction. Nothing of it may outlast a step: the caller's transaction goes on.
CREATE OR REPLACE FUNCTION hotmesh_dba._set_replication_role(role text) RETURNS text
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_was text := current_setting('session_replication_role');
BEGIN
    IF role <> v_was THEN
        PERFORM set_config('session_replication_role', role, true);
    END IF;
    RETURN v_was;
END
$$;

-- The trigger that recomputes is_live on every write: where it is switched off we do its work.
CREATE OR REPLACE FUNCTION hotmesh_dba._has_live_trigger(jobs regclass) RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT EXISTS (SELECT FROM pg_trigger t
                   WHERE t.tgrelid = jobs AND t.tgname = 'trg_update_is_live' AND t.tgenabled IN ('O', 'A'))
$$;

-- sql/steps/delete_rows.sql

-- Messages and signals. Nobody locks a processed message, so none is locked before it goes: FOR UPDATE would write
-- every row once more. Only where somebody did lock one, the others are chosen around it.

-- The lane behind a window of which so many rows were taken. (The sample may have seen emptier pages.)
CREATE OR REPLACE FUNCTION hotmesh_dba._behind_window(lane hotmesh_dba._lane, until bigint, taken bigint) RETURNS hotmesh_dba._lane
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    lane.per_page := greatest((lane).per_page, taken / greatest(1, until - hotmesh_dba._page_of((lane).next_tid)));
    lane.next_tid := hotmesh_dba._page_start(until);
    RETURN lane;
END
$$;

-- All due rows of so many pages (NULL: to the end). No row is looked up: as fast as DELETE can be.
CREATE OR REPLACE FUNCTION hotmesh_dba._delete_window(lane hotmesh_dba._lane, max_pages bigint)
RETURNS hotmesh_dba._outcome
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET enable_indexscan = off
SET enable_bitmapscan = off
SET jit = off
SET lock_timeout = 0
AS $$
DECLARE
    v_pages bigint := hotmesh_dba._pages((lane).relation);
    v_until bigint := hotmesh_dba._window_end(lane, v_pages, max_pages);
    v_taken bigint;
BEGIN
    PERFORM hotmesh_dba._bound_waiting();
    EXECUTE format('DELETE FROM %s t WHERE t.ctid > $3 AND t.ctid < $4 AND %s', (lane).relation, ((lane).step).row_filter)
        USING ((lane).step).before, ((lane).step).entity_list, (lane).next_tid, hotmesh_dba._page_start(v_until);
    GET DIAGNOSTICS v_taken = ROW_COUNT;
    PERFORM hotmesh_dba._check_stands(lane);
    RETURN ROW(v_taken, 0, 0, '{}'::text[], v_until >= v_pages,
               hotmesh_dba._behind_window(lane, v_until, v_taken))::hotmesh_dba._outcome;
END
$$;

-- All that is due: little, by a look that was just taken.
CREATE OR REPLACE FUNCTION hotmesh_dba._delete_due(lane hotmesh_dba._lane) RETURNS hotmesh_dba._outcome
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET jit = off
SET lock_timeout = 0
AS $$
DECLARE
    v_taken bigint;
BEGIN
    PERFORM hotmesh_dba._bound_waiting();
    EXECUTE format('DELETE FROM %s t WHERE %s', (lane).relation, ((lane).step).row_filter)
        USING ((lane).step).before, ((lane).step).entity_list;
    GET DIAGNOSTICS v_taken = ROW_COUNT;
    RETURN ROW(v_taken, 0, 0, '{}'::text[], true, lane)::hotmesh_dba._outcome;
END
$$;

-- The chosen rows of a leaf. The filter once more: one that was not locked may have changed since.
CREATE OR REPLACE FUNCTION hotmesh_dba._delete_chosen(lane hotmesh_dba._lane, tids tid[]) RETURNS hotmesh_dba._outcome
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET jit = off
SET lock_timeout = 0
AS $$
DECLARE
    v_taken bigint;
BEGIN
    PERFORM hotmesh_dba._bound_waiting();
    EXECUTE format('DELETE FROM %s t WHERE t.ctid = ANY ($3) AND %s', (lane).relation, ((lane).step).row_filter)
        USING ((lane).step).before, ((lane).step).entity_list, tids;
    GET DIAGNOSTICS v_taken = ROW_COUNT;
    RETURN ROW(v_taken, 0, 0, '{}'::text[], true, lane)::hotmesh_dba._outcome;
END
$$;

-- key_columns of an alias. (No regular expression: standard_conforming_strings may be off.)
CREATE OR REPLACE FUNCTION hotmesh_dba._key_of(alias text, key_columns text) RETURNS text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$ SELECT format('%s.%s', alias, replace(key_columns, ', ', format(', %s.', alias))) $$;

-- The oldest from next_mark on, with their keys: $1 before, $2 entity_list, $3 max_rows, $4 next_mark.
CREATE OR REPLACE FUNCTION hotmesh_dba._oldest_query(lane hotmesh_dba._lane) RETURNS text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT format('SELECT %1$s, t.%3$I AS mark FROM %2$s t WHERE %4$s AND t.%3$I >= $4 ORDER BY t.%3$I LIMIT $3 %5$s',
                  (lane.step).key_columns, lane.relation, (lane.step).mark_column, (lane.step).row_filter,
                  hotmesh_dba._locking_clause(lane))
$$;

-- Where a rule stands on the table, which WITH and RETURNING refuse: first the keys, then as plain a DELETE as anybody's.
CREATE OR REPLACE FUNCTION hotmesh_dba._delete_by_rule(
    lane hotmesh_dba._lane, max_rows bigint, OUT taken bigint, OUT chosen bigint, OUT mark timestamptz)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_keys jsonb;
BEGIN
    EXECUTE format('SELECT jsonb_agg(c), count(*), max(c.mark) FROM (%s) c', hotmesh_dba._oldest_query(lane))
        INTO v_keys, chosen, mark
        USING ((lane).step).before, ((lane).step).entity_list, max_rows, (lane).next_mark;
    EXECUTE format('DELETE FROM %1$s t WHERE (%2$s) IN (SELECT %3$s FROM jsonb_populate_recordset(NULL::%1$s, $3) c) AND %4$s',
                   (lane).relation, hotmesh_dba._key_of('t', ((lane).step).key_columns),
                   hotmesh_dba._key_of('c', ((lane).step).key_columns), ((lane).step).row_filter)
        USING ((lane).step).before, ((lane).step).entity_list, v_keys;
    GET DIAGNOSTICS taken = ROW_COUNT;
END
$$;

-- Through the parent, by key: the oldest from next_mark on. It ends where none is left, or all of one time are kept.
CREATE OR REPLACE FUNCTION hotmesh_dba._delete_by_key(lane hotmesh_dba._lane, max_rows bigint)
RETURNS hotmesh_dba._outcome
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET lock_timeout = 0
AS $$
DECLARE
    v_taken    bigint;
    v_chosen   bigint;
    v_mark     timestamptz;
    v_finished boolean;
BEGIN
    PERFORM hotmesh_dba._bound_waiting();
    IF (SELECT c.relhasrules FROM pg_class c WHERE c.oid = (lane).relation) THEN
        SELECT r.taken, r.chosen, r.mark INTO v_taken, v_chosen, v_mark FROM hotmesh_dba._delete_by_rule(lane, max_rows) r;
    ELSE
        EXECUTE format('WITH chosen AS MATERIALIZED (%s), gone AS (
                            DELETE FROM %s t USING chosen c WHERE (%s) = (%s) AND %s RETURNING 1
                        )
                        SELECT (SELECT count(*) FROM gone), count(*), max(c.mark) FROM chosen c',
                       hotmesh_dba._oldest_query(lane), (lane).relation, hotmesh_dba._key_of('t', ((lane).step).key_columns),
                       hotmesh_dba._key_of('c', ((lane).step).key_columns), ((lane).step).row_filter)
            INTO v_taken, v_chosen, v_mark
            USING ((lane).step).before, ((lane).step).entity_list, max_rows, (lane).next_mark;
    END IF;
    v_finished := v_chosen < max_rows IS NOT FALSE OR v_taken = 0 AND v_mark = (lane).next_mark;
    lane.next_mark := coalesce(v_mark, (lane).next_mark);
    RETURN ROW(v_taken, 0, 0, '{}'::text[], v_finished, lane)::hotmesh_dba._outcome;
END
$$;

-- sql/steps/delete_jobs.sql

-- Removes the chosen jobs' attributes: all of them, or those of attribute_filter. By the primary key: without
-- statistics (a restored database) the planner would read the whole table or the index (type, symbol).
-- JIT is off wherever sequential scans are: before PostgreSQL 18 one that cannot be avoided then seems dear
-- enough to be compiled for seconds.
CREATE OR REPLACE FUNCTION hotmesh_dba._delete_attributes(attributes regclass, job_ids uuid[], attribute_filter text)
RETURNS bigint
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET jit = off
SET lock_timeout = 0
AS $$
DECLARE
    v_deleted bigint;
BEGIN
    PERFORM hotmesh_dba._bound_waiting();
    EXECUTE format('DELETE FROM %s a WHERE a.job_id = ANY ($1) AND %s', attributes, attribute_filter)
        USING job_ids;
    GET DIAGNOSTICS v_deleted = ROW_COUNT;
    RETURN v_deleted;
END
$$;

-- How many attributes this transaction has deleted so far: a cascade's rows are in no ROW_COUNT. (0 with track_counts
-- off.)
CREATE OR REPLACE FUNCTION hotmesh_dba._attributes_gone(attributes regclass) RETURNS bigint
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$ SELECT sum(pg_stat_get_xact_tuples_deleted(t))::bigint FROM hotmesh_dba._tree(attributes) t $$;

-- Where the cascade cannot be relied on, the attributes are removed by us, in the same transaction, from jobs
-- that are locked; where that cannot be done whole either, nothing is deleted.
CREATE OR REPLACE FUNCTION hotmesh_dba._check_explicit_cascade(step hotmesh_dba._step) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM hotmesh_dba._check_isolation('delete jobs without their foreign key''s cascade');
    IF NOT has_any_column_privilege(step.relation, 'UPDATE') THEN
        PERFORM hotmesh_dba._check_privilege(step.relation, 'UPDATE', 'expired_at');
    END IF;
    PERFORM hotmesh_dba._check_privilege(step.attributes, 'SELECT');
    PERFORM hotmesh_dba._check_privilege(step.attributes, 'DELETE');
    PERFORM hotmesh_dba._check_sees_all(step.relation, 'delete jobs without their foreign key''s cascade');
    PERFORM hotmesh_dba._check_sees_all(step.attributes, 'delete jobs without their foreign key''s cascade');
END
$$;

-- Behind a DELETE that relied on the cascade: was it there? The statement may have waited for whoever took it away; by now
-- its own locks keep it as it is. Giving way, we do it again, by hand. In an isolation with one snapshot the catalogues tell
-- nothing new, but attributes that have stayed do.
CREATE OR REPLACE FUNCTION hotmesh_dba._check_cascade(step hotmesh_dba._step, job_ids uuid[]) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET jit = off
AS $$
DECLARE
    v_has_orphans boolean := false;
BEGIN
    IF NOT hotmesh_dba._cascade_is_intact(step.relation, step.attributes) THEN
        RAISE lock_not_available USING MESSAGE = format('the foreign key from %s has changed', step.attributes);
    ELSIF NOT hotmesh_dba._is_read_committed() THEN
        EXECUTE format('SELECT EXISTS (SELECT FROM %s a WHERE a.job_id = ANY ($1)
                                       AND NOT EXISTS (SELECT FROM %s t WHERE t.id = a.job_id))', step.attributes, step.relation)
            INTO v_has_orphans
            USING job_ids;
    END IF;
    IF v_has_orphans THEN
        PERFORM hotmesh_dba._check_isolation('delete jobs without their foreign key''s cascade');
    END IF;
END
$$;

-- Behind a DELETE of jobs that have already lost their attributes: none of them may stay.
CREATE OR REPLACE FUNCTION hotmesh_dba._check_all_gone(step hotmesh_dba._step, chosen bigint, gone bigint) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF gone < chosen THEN
        RAISE triggered_action_exception
            USING MESSAGE = format('%s of %s jobs were not deleted', chosen - gone, chosen),
                  DETAIL = 'A trigger, a rule or a policy kept them from it, and without their attributes they must not stay.',
                  HINT = format('See what keeps them: SELECT tgname, tgfoid::regprocedure FROM pg_trigger'
                                ' WHERE tgrelid = %L::regclass;', step.relation);
    END IF;
END
$$;

-- Jobs, and transient jobs: the chosen ones go, and their attributes with them: by the cascade; without triggers in a second
-- statement, whose snapshot sees what was committed before the jobs were ours; or, by hand, before them.
-- RETURNING is asked for only where triggers are off: a rule would refuse it. Chosen by their ids; or, where job_ids is NULL,
-- all that are due on the pages between the two of a window.
CREATE OR REPLACE FUNCTION hotmesh_dba._delete_jobs(lane hotmesh_dba._lane, job_ids uuid[], page_window tid[])
RETURNS hotmesh_dba._outcome
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET jit = off
SET lock_timeout = 0
AS $$
DECLARE
    v_before bigint := hotmesh_dba._attributes_gone(((lane).step).attributes);
    -- The filter once more: a job that was not locked may have changed since it was chosen.
    v_delete text := format('DELETE FROM %s t WHERE %s AND %s', (lane).relation,
                            CASE WHEN job_ids IS NOT NULL THEN 't.id = ANY ($3)' ELSE 't.ctid > $4 AND t.ctid < $5' END,
                            ((lane).step).row_filter);
    v_gone   uuid[];
    v_taken  bigint;
BEGIN
    IF (lane).by_hand THEN
        PERFORM hotmesh_dba._check_explicit_cascade((lane).step);
        PERFORM hotmesh_dba._delete_attributes((lane).attributes, job_ids, 'true');
    END IF;
    PERFORM hotmesh_dba._bound_waiting();
    IF (lane).triggers_off THEN
        EXECUTE format('WITH gone AS (%s RETURNING t.id) SELECT array_agg(g.id) FROM gone g', v_delete)
            INTO v_gone
            USING ((lane).step).before, ((lane).step).entity_list, job_ids, page_window[1], page_window[2];
        v_taken := coalesce(cardinality(v_gone), 0);
        PERFORM hotmesh_dba._delete_attributes((lane).attributes, v_gone, 'true');
    ELSE
        EXECUTE v_delete USING ((lane).step).before, ((lane).step).entity_list, job_ids, page_window[1], page_window[2];
        GET DIAGNOSTICS v_taken = ROW_COUNT;
        IF (lane).by_hand THEN
            PERFORM hotmesh_dba._check_all_gone((lane).step, cardinality(job_ids), v_taken);
        ELSE
            PERFORM hotmesh_dba._check_cascade((lane).step, job_ids);
        END IF;
    END IF;
    RETURN ROW(v_taken, 0, hotmesh_dba._attributes_gone(((lane).step).attributes) - v_before,
               '{}'::text[], true, lane)::hotmesh_dba._outcome;
END
$$;

-- sql/steps/strip_jobs.sql

-- The chosen jobs, which we hold locked, lose their attributes and get their mark: the very same jobs in
-- both statements, so one that completes meanwhile is neither stripped nor marked.
CREATE OR REPLACE FUNCTION hotmesh_dba._strip_jobs(lane hotmesh_dba._lane, job_ids uuid[])
RETURNS hotmesh_dba._outcome
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET jit = off
SET lock_timeout = 0
AS $$
DECLARE
    v_attributes bigint;
    v_marked     bigint;
BEGIN
    PERFORM hotmesh_dba._check_isolation('strip attributes');
    v_attributes := hotmesh_dba._delete_attributes((lane).attributes, job_ids, ((lane).step).attribute_filter);
    PERFORM hotmesh_dba._bound_waiting();
    EXECUTE format('UPDATE %s t SET pruned_at = pg_catalog.now() %s WHERE t.id = ANY ($1)', (lane).relation,
                   CASE WHEN (lane).triggers_off AND hotmesh_dba._has_live_trigger(((lane).step).relation)
                        THEN ', is_live = t.expired_at IS NULL OR t.expired_at > pg_catalog.now()' END)
        USING job_ids;
    GET DIAGNOSTICS v_marked = ROW_COUNT;
    IF v_marked < cardinality(job_ids) THEN
        RAISE triggered_action_exception
            USING MESSAGE = format('%s of %s jobs were not marked', cardinality(job_ids) - v_marked, cardinality(job_ids)),
                  DETAIL = 'A trigger, a rule or a policy kept them from it.';
    END IF;
    RETURN ROW(v_marked, v_attributes, 0, '{}'::text[], true, lane)::hotmesh_dba._outcome;
END
$$;

-- sql/steps/take.sql

-- Removes the chosen rows, whatever their kind: jobs by their ids or in a window of pages, others by their ctids.
CREATE OR REPLACE FUNCTION hotmesh_dba._take_all(lane hotmesh_dba._lane, ids uuid[], tids tid[], page_window tid[] DEFAULT NULL)
RETURNS hotmesh_dba._outcome
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_role    text := hotmesh_dba._set_replication_role(CASE WHEN (lane).triggers_off THEN 'replica'
                                                             ELSE current_setting('session_replication_role') END);
    v_outcome hotmesh_dba._outcome;
BEGIN
    v_outcome := CASE
        WHEN ((lane).step).name = 'strip' THEN hotmesh_dba._strip_jobs(lane, ids)
        WHEN hotmesh_dba._is_of_jobs((lane).step) THEN hotmesh_dba._delete_jobs(lane, ids, page_window)
        ELSE hotmesh_dba._delete_chosen(lane, tids)
    END;
    PERFORM hotmesh_dba._set_replication_role(v_role);
    PERFORM hotmesh_dba._check_stands(lane);
    IF (lane).triggers_off THEN
        -- Asked once more behind the statement: by now its locks keep whoever makes a trigger or a foreign key waiting.
        PERFORM hotmesh_dba._check_fast_path((lane).step);
    END IF;
    RETURN v_outcome;
END
$$;

-- All due jobs of so many pages (NULL: to the end).
CREATE OR REPLACE FUNCTION hotmesh_dba._delete_window_of_jobs(lane hotmesh_dba._lane, max_pages bigint) RETURNS hotmesh_dba._outcome
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_pages   bigint := hotmesh_dba._pages((lane).relation);
    v_until   bigint := hotmesh_dba._window_end(lane, v_pages, max_pages);
    v_outcome hotmesh_dba._outcome;
BEGIN
    v_outcome := hotmesh_dba._take_all(lane, NULL, NULL, ARRAY[(lane).next_tid, hotmesh_dba._page_start(v_until)]);
    v_outcome.lane := hotmesh_dba._behind_window(lane, v_until, v_outcome.taken);
    v_outcome.finished := v_until >= v_pages;
    RETURN v_outcome;
END
$$;

-- May an error have been caused by one row? Not a lock, a missing right, a full disk, a shutdown.
CREATE OR REPLACE FUNCTION hotmesh_dba._is_a_rows_fault(sqlstate_of text) RETURNS boolean
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$ SELECT left(sqlstate_of, 2) NOT IN ('25', '40', '42', '53', '54', '55', '57', '58', 'XX') $$;

-- The same, but where one row cannot be removed (seen: two live jobs of one key, which HotMesh's trigger refuses to
-- mark) it does not keep the others from it for ever: the batch is halved down to that row, which is left as it was.
-- After a hundred in a row no more than one of a batch is looked for, so that it soon comes to what lies behind them
-- (the oldest rows of a table are just those that could never go); after two hundred it is no row's fault, and the error
-- stands. So it does at once for a delete in the caller's transaction, which is whole or not at all.
CREATE OR REPLACE FUNCTION hotmesh_dba._take(lane hotmesh_dba._lane, ids uuid[], tids tid[]) RETURNS hotmesh_dba._outcome
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_half    int := cardinality(tids) / 2;
    v_key     text;
    v_outcome hotmesh_dba._outcome;
    v_newer   hotmesh_dba._outcome;
BEGIN
    BEGIN
        v_outcome := hotmesh_dba._take_all(lane, ids, tids);
        IF v_outcome.taken > 0 THEN
            lane.faults := 0;
            v_outcome.lane := lane;
        END IF;
        RETURN v_outcome;
    EXCEPTION WHEN OTHERS OR assert_failure THEN
        PERFORM hotmesh_dba._check_stands(lane);    -- a right that is gone from a leaf is no error while the parent has it
        IF NOT (lane).spares OR NOT hotmesh_dba._is_a_rows_fault(SQLSTATE)
           OR (lane).faults >= 200 OR cardinality((lane).skip) >= 10000 THEN
            RAISE;
        END IF;
        IF v_half = 0 THEN
            v_key := CASE WHEN hotmesh_dba._is_of_jobs((lane).step) THEN ids[1]::text ELSE tids[1]::text END;
            PERFORM hotmesh_dba._warn_of_skipped(lane, v_key, SQLSTATE, SQLERRM);
            lane.faults := (lane).faults + 1;
            RETURN ROW(0, 0, 0, ARRAY[v_key], true, lane)::hotmesh_dba._outcome;
        END IF;
    END;
    v_newer := hotmesh_dba._take(lane, ids[v_half + 1 :], tids[v_half + 1 :]);
    IF (v_newer.lane).faults >= 100 THEN
        RETURN v_newer;
    END IF;
    v_outcome := hotmesh_dba._take(v_newer.lane, ids[: v_half], tids[: v_half]);
    RETURN ROW(v_outcome.taken + v_newer.taken, v_outcome.attributes + v_newer.attributes,
               v_outcome.cascaded + v_newer.cascaded, v_outcome.skipped || v_newer.skipped, true,
               v_outcome.lane)::hotmesh_dba._outcome;
END
$$;

CREATE OR REPLACE FUNCTION hotmesh_dba._warn_of_skipped(lane hotmesh_dba._lane, key text, sqlstate_of text, reason text)
RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_look text := format('SELECT * FROM %s WHERE %s = %L;', (lane).relation,
                          CASE WHEN hotmesh_dba._is_of_jobs((lane).step) THEN 'id' ELSE 'ctid' END, key);
BEGIN
    IF ((lane).step).name = 'strip' THEN
        RAISE WARNING 'job % of % cannot be marked as pruned, so it was not stripped', key, (lane).relation
            USING ERRCODE = sqlstate_of, DETAIL = reason, HINT = 'See what is wrong with it: ' || v_look;
    ELSE
        RAISE WARNING 'row % of % cannot be deleted', key, (lane).relation
            USING ERRCODE = sqlstate_of, DETAIL = reason, HINT = 'See what is wrong with it: ' || v_look;
    END IF;
END
$$;

-- sql/steps/run.sql

-- May all that is due on so many pages be taken at once, with nothing chosen before? Of jobs only where they lie densely
-- (elsewhere nobody could tell how many there will be), and where behind the DELETE the catalogues say whether the cascade
-- was there.
CREATE OR REPLACE FUNCTION hotmesh_dba._may_take_pages(lane hotmesh_dba._lane) RETURNS boolean
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN (lane).way = 'blocks' AND NOT (lane).careful
       AND (NOT hotmesh_dba._is_of_jobs((lane).step)
            OR ((lane).step).name <> 'strip' AND (lane).due >= hotmesh_dba._pages((lane).relation) * (lane).per_page / 2
           AND hotmesh_dba._is_read_committed());
END
$$;

-- One bounded batch of any step in one lane; whoever removes rows calls this. max_rows NULL: all that is due.
-- whole_pages: rows may be taken page by page, bounded only by the pages that can hold so many.
CREATE OR REPLACE FUNCTION hotmesh_dba._run_batch(lane hotmesh_dba._lane, max_rows bigint, whole_pages boolean)
RETURNS hotmesh_dba._outcome
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_nothing hotmesh_dba._outcome := (0, 0, 0, '{}'::text[], true, lane);
    v_pages   bigint;
BEGIN
    IF NOT hotmesh_dba._is_part_of((lane).relation, ((lane).step).relation) THEN
        RETURN v_nothing;
    ELSIF (lane).sweeps THEN
        RETURN hotmesh_dba._delete_due(lane);
    END IF;
    PERFORM hotmesh_dba._check_step_privileges((lane).step, true);
    IF (lane).careful THEN
        lane := hotmesh_dba._renewed(lane);     -- it has given way before, perhaps since its table has changed
    END IF;
    IF (lane).way IS NULL THEN
        lane := hotmesh_dba._probe(lane);
    END IF;
    v_nothing.lane := lane;
    IF (lane).due = 0 THEN
        RETURN v_nothing;
    ELSIF NOT (hotmesh_dba._is_of_jobs((lane).step) OR (lane).is_leaf) THEN
        RETURN hotmesh_dba._delete_by_key(lane, max_rows);
    ELSIF whole_pages AND hotmesh_dba._may_take_pages(lane) THEN
        v_pages := CASE WHEN max_rows IS NOT NULL THEN greatest(1, max_rows / (lane).per_page) END;
        BEGIN
            RETURN CASE WHEN hotmesh_dba._is_of_jobs((lane).step) THEN hotmesh_dba._delete_window_of_jobs(lane, v_pages)
                        ELSE hotmesh_dba._delete_window(lane, v_pages) END;
        EXCEPTION WHEN OTHERS OR assert_failure THEN
            lane.careful := true;   -- somebody has locked a row there, or one cannot go: the others are chosen around it
        END;
    END IF;
    RETURN hotmesh_dba._run_chosen(lane, max_rows);
END
$$;

-- A batch of rows that are first chosen, then taken.
CREATE OR REPLACE FUNCTION hotmesh_dba._run_chosen(lane hotmesh_dba._lane, max_rows bigint)
RETURNS hotmesh_dba._outcome
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    c_pages   CONSTANT bigint := 4096;      -- read by a batch that finds little: some milliseconds
    v_choice  hotmesh_dba._choice;
    v_outcome hotmesh_dba._outcome := (0, 0, 0, '{}'::text[], true, NULL);
BEGIN
    lane.by_hand := ((lane).step).name IN ('jobs', 'transient') AND NOT (lane).triggers_off
                    AND NOT hotmesh_dba._cascade_is_intact(((lane).step).relation, ((lane).step).attributes);
    v_choice := hotmesh_dba._choose(lane, max_rows, CASE WHEN max_rows IS NOT NULL THEN c_pages END);
    IF v_choice.tids IS NOT NULL THEN
        v_outcome := hotmesh_dba._take(v_choice.lane, v_choice.ids, v_choice.tids);
    END IF;
    -- By marks, a batch that took nothing and came no further would be chosen again for ever.
    v_outcome.finished := v_choice.finished
        OR v_outcome.taken + cardinality(v_outcome.skipped) = 0 AND (lane).way = 'index' AND ((lane).step).name <> 'strip'
       AND (v_choice.lane).next_mark = (lane).next_mark;
    lane := v_choice.lane;
    lane.skip := (lane).skip || v_outcome.skipped;
    lane.faults := coalesce((v_outcome.lane).faults, (lane).faults);
    v_outcome.lane := lane;
    RETURN v_outcome;
END
$$;

-- Adds what a step did (or would do) to the result's columns.
CREATE OR REPLACE FUNCTION hotmesh_dba._add(counts hotmesh_dba._counts, step_name text, taken bigint, attributes bigint)
RETURNS hotmesh_dba._counts
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    CASE step_name
        WHEN 'jobs' THEN counts.deleted_jobs := counts.deleted_jobs + taken;
        WHEN 'transient' THEN counts.deleted_transient := counts.deleted_transient + taken;
        WHEN 'engine_streams' THEN counts.deleted_engine_streams := counts.deleted_engine_streams + taken;
        WHEN 'worker_streams' THEN counts.deleted_worker_streams := counts.deleted_worker_streams + taken;
        WHEN 'signals' THEN counts.deleted_signals := counts.deleted_signals + taken;
        WHEN 'strip' THEN
            counts.marked_pruned := counts.marked_pruned + taken;
            counts.stripped_attributes := counts.stripped_attributes + attributes;
    END CASE;
    counts.deleted_streams := counts.deleted_engine_streams + counts.deleted_worker_streams;
    RETURN counts;
END
$$;

-- How many rows of a step are due now, and are not taken by an earlier step; counted no further than max_rows.
CREATE OR REPLACE FUNCTION hotmesh_dba._count_due(step hotmesh_dba._step, max_rows bigint) RETURNS bigint
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
SET lock_timeout = 0
AS $$
DECLARE
    v_count bigint;
BEGIN
    PERFORM hotmesh_dba._bound_waiting();
    EXECUTE format('SELECT count(*) FROM (%s) due', hotmesh_dba._due_query(step, '1'))
        INTO v_count
        USING step.before, step.entity_list, max_rows;
    RETURN v_count;
END
$$;

CREATE OR REPLACE FUNCTION hotmesh_dba._due_query(step hotmesh_dba._step, columns text) RETURNS text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT format('SELECT %s FROM %s t WHERE %s AND (%s) IS NOT TRUE LIMIT $3',
                  columns, step.relation, step.row_filter, coalesce(step.taken_before, 'false'))
$$;

-- sql/prune.sql

-- A batch that meets a lock gives way (its subtransaction sets free what it had locked) and tries again a few
-- times; then the whole call fails, and nothing is half done. So does one that meets a full lock table, for others
-- may have taken their room at the same instant; but a strip tries with less and less, and then only stops.
CREATE OR REPLACE FUNCTION hotmesh_dba._run_batch_patiently(app_schema name, lane hotmesh_dba._lane, max_rows bigint)
RETURNS hotmesh_dba._outcome
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_bound bigint := max_rows;
BEGIN
    FOR v_try IN 1 .. 5 LOOP
        BEGIN
            RETURN hotmesh_dba._run_batch(lane, v_bound, true);
        EXCEPTION
            WHEN lock_not_available OR deadlock_detected THEN
                lane.careful := true;
                PERFORM pg_sleep(v_try * 0.02);
            WHEN out_of_memory THEN
                IF ((lane).step).name <> 'strip' AND v_try = 5 THEN
                    RAISE;
                END IF;
                PERFORM pg_sleep(0.5);
                IF ((lane).step).name = 'strip' THEN
                    v_bound := least(v_bound / 4, hotmesh_dba._lock_room());
                    IF v_bound = 0 OR v_try = 5 THEN
                        RETURN ROW(0, 0, 0, '{}'::text[], NULL, lane)::hotmesh_dba._outcome;
                    END IF;
                END IF;
        END;
    END LOOP;
    PERFORM hotmesh_dba._raise_locked(app_schema, 'prune');
END
$$;

-- How many rows the next batch may take. Only the mark of the strip takes locks that pile up, and only by its trigger.
CREATE OR REPLACE FUNCTION hotmesh_dba._batch_bound(lane hotmesh_dba._lane, workers int DEFAULT 1) RETURNS bigint
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN (lane.step).name = 'strip' AND NOT lane.triggers_off THEN hotmesh_dba._lock_room() / workers END
$$;

-- What is left to strip. Where the lock table is full, those who filled it are giving way as well: a count
-- must not fail the call that stopped for it.
CREATE OR REPLACE FUNCTION hotmesh_dba._count_remaining(step hotmesh_dba._step) RETURNS bigint
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    FOR v_try IN 1 .. 10 LOOP
        BEGIN
            RETURN hotmesh_dba._count_due(step, NULL);
        EXCEPTION WHEN out_of_memory THEN
            IF v_try = 10 THEN
                RAISE;
            END IF;
            PERFORM pg_sleep(0.2);
        END;
    END LOOP;
END
$$;

CREATE OR REPLACE FUNCTION hotmesh_dba._warn_of_remaining(app_schema name, remaining bigint) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE WARNING '% finished jobs of app "%" are left to strip', remaining, app_schema
        USING DETAIL = 'Marking a live job takes a lock that lasts to the end of the transaction, and the server''s lock table holds no more safely.',
              HINT = 'Call prune again in a new transaction, until nothing is left; or raise max_locks_per_transaction.';
END
$$;

-- Every step to its end, in the caller's transaction.
-- Called by the wrappers of all apps by its identity: only ever replaced, its signature is fixed.
CREATE OR REPLACE FUNCTION hotmesh_dba.prune(
    app_id                   text,
    retention                interval DEFAULT '7 days',
    prune_jobs               boolean  DEFAULT true,
    prune_streams            boolean  DEFAULT true,
    strip_attributes         boolean  DEFAULT false,
    entity_list              text[]   DEFAULT NULL,
    prune_transient          boolean  DEFAULT false,
    keep_hmark               boolean  DEFAULT false,
    prune_engine_streams     boolean  DEFAULT NULL,
    prune_worker_streams     boolean  DEFAULT NULL,
    engine_streams_retention interval DEFAULT NULL,
    worker_streams_retention interval DEFAULT NULL,
    prune_signals            boolean  DEFAULT true)
RETURNS TABLE (
    deleted_jobs           bigint,
    deleted_streams        bigint,
    deleted_engine_streams bigint,
    deleted_worker_streams bigint,
    stripped_attributes    bigint,
    deleted_transient      bigint,
    marked_pruned          bigint,
    deleted_signals        bigint,
    remaining              bigint)
LANGUAGE plpgsql VOLATILE ROWS 1
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_options hotmesh_dba._options;
    v_counts  hotmesh_dba._counts := (0, 0, 0, 0, 0, 0, 0, 0);
    v_steps   hotmesh_dba._step[];
    v_step    hotmesh_dba._step;
    v_lanes   hotmesh_dba._lane[];
    v_lane    hotmesh_dba._lane;
    v_bound   bigint;
    v_outcome hotmesh_dba._outcome;
BEGIN
    remaining := 0;
    PERFORM hotmesh_dba._check_writable();
    v_options := hotmesh_dba._resolve(
        app_id, retention, prune_jobs, prune_streams, strip_attributes, entity_list, prune_transient, keep_hmark,
        prune_engine_streams, prune_worker_streams, engine_streams_retention, worker_streams_retention, prune_signals);
    v_steps := ARRAY(SELECT s FROM hotmesh_dba._steps(v_options) s);
    PERFORM hotmesh_dba._check_steps(v_steps, v_options.disable_triggers);

    FOREACH v_step IN ARRAY v_steps LOOP
        v_lanes := CASE WHEN hotmesh_dba._is_due(v_step)
                        THEN ARRAY(SELECT l FROM hotmesh_dba._lanes(v_step, v_options.disable_triggers) l) ELSE '{}' END;
        FOREACH v_lane IN ARRAY v_lanes LOOP
            LOOP
                v_bound := hotmesh_dba._batch_bound(v_lane);
                EXIT WHEN v_bound = 0;
                v_outcome := hotmesh_dba._run_batch_patiently(v_options.app_schema, v_lane, v_bound);
                v_counts := hotmesh_dba._add(v_counts, v_step.name, v_outcome.taken, v_outcome.attributes);
                v_lane := v_outcome.lane;
                v_bound := CASE WHEN v_outcome.finished IS NULL THEN 0 ELSE v_bound END;
                EXIT WHEN v_outcome.finished OR v_bound = 0;
            END LOOP;
            EXIT WHEN v_bound = 0;
        END LOOP;
        IF v_step.name = 'strip' THEN
            remaining := hotmesh_dba._count_remaining(v_step);
            IF v_bound = 0 AND remaining > 0 THEN
                PERFORM hotmesh_dba._warn_of_remaining(v_options.app_schema, remaining);
            END IF;
        END IF;
    END LOOP;

    RETURN QUERY SELECT v_counts.*, remaining;
END
$$;

COMMENT ON FUNCTION hotmesh_dba.prune(text, interval, boolean, boolean, boolean, text[], boolean, boolean, boolean, boolean, interval, interval, boolean) IS
'Removes an app''s finished work in the caller''s transaction, and returns one row of counts.
app_id: the app (see view hotmesh_dba.app).
retention (7 days): jobs and messages go when they expired longer ago than this; not NULL, not negative.
prune_jobs (true): delete expired jobs, their attributes with them; only those of entity_list where one is given.
prune_streams (true): delete expired messages; prune_engine_streams, prune_worker_streams (NULL: as prune_streams) say it per kind.
strip_attributes (false): remove the execution artifacts of completed live jobs, whatever their age; jdata, udata and jmark stay, hmark too with keep_hmark (false). Needs READ COMMITTED.
entity_list (NULL: every job): entities that jobs and strip are restricted to.
prune_transient (false): delete expired jobs that have no entity, whatever entity_list says.
engine_streams_retention, worker_streams_retention (NULL: as retention): a window for each kind of message.
prune_signals (true): delete signals whose expiry has come.
remaining: completed jobs still due for stripping; one transaction strips as many as the lock table safely holds, and warns.
Errors: 22023 22004 42602 3F000 42809 bad input; 25001 25006 wrong transaction; 42501 missing privilege; 55000 not deployed; 55P03 locked.';

-- sql/preview.sql

-- How many attributes the strip would remove, from no more than max_rows jobs, counted no further than max_rows.
CREATE OR REPLACE FUNCTION hotmesh_dba._count_attributes(step hotmesh_dba._step, max_rows bigint) RETURNS bigint
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
SET lock_timeout = 0
AS $$
DECLARE
    v_count bigint;
BEGIN
    PERFORM hotmesh_dba._bound_waiting();
    EXECUTE format('SELECT count(*) FROM (SELECT 1 FROM %s a WHERE a.job_id IN (%s) AND %s LIMIT $3) due',
                   step.attributes, hotmesh_dba._due_query(step, 't.id'), step.attribute_filter)
        INTO v_count
        USING step.before, step.entity_list, max_rows;
    RETURN v_count;
END
$$;

-- STABLE, so PostgreSQL itself keeps it from changing anything, and all counts come from one snapshot.
CREATE OR REPLACE FUNCTION hotmesh_dba.preview(
    app_id                   text,
    retention                interval DEFAULT '7 days',
    prune_jobs               boolean  DEFAULT true,
    prune_streams            boolean  DEFAULT true,
    strip_attributes         boolean  DEFAULT false,
    entity_list              text[]   DEFAULT NULL,
    prune_transient          boolean  DEFAULT false,
    keep_hmark               boolean  DEFAULT false,
    prune_engine_streams     boolean  DEFAULT NULL,
    prune_worker_streams     boolean  DEFAULT NULL,
    engine_streams_retention interval DEFAULT NULL,
    worker_streams_retention interval DEFAULT NULL,
    prune_signals            boolean  DEFAULT true,
    max_rows                 bigint   DEFAULT NULL)
RETURNS TABLE (
    deleted_jobs           bigint,
    deleted_streams        bigint,
    deleted_engine_streams bigint,
    deleted_worker_streams bigint,
    stripped_attributes    bigint,
    deleted_transient      bigint,
    marked_pruned          bigint,
    deleted_signals        bigint,
    exact                  boolean)
LANGUAGE plpgsql STABLE ROWS 1
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_options    hotmesh_dba._options;
    v_counts     hotmesh_dba._counts := (0, 0, 0, 0, 0, 0, 0, 0);
    v_step       hotmesh_dba._step;
    -- One more than is shown, to know whether there are more (least passes over NULL: no limit).
    v_limit      bigint := least(max_rows, 9223372036854775806) + 1;
    v_due        bigint;
    v_attributes bigint;
BEGIN
    IF max_rows < 1 THEN
        RAISE EXCEPTION 'max_rows must be positive: %', max_rows
            USING ERRCODE = 'invalid_parameter_value',
                  DETAIL = 'Counting stops at max_rows rows of a step and table.',
                  HINT = 'Leave it out to count everything: max_rows => NULL.';
    END IF;
    exact := true;
    v_options := hotmesh_dba._resolve(
        app_id, retention, prune_jobs, prune_streams, strip_attributes, entity_list, prune_transient, keep_hmark,
        prune_engine_streams, prune_worker_streams, engine_streams_retention, worker_streams_retention, prune_signals);
    PERFORM hotmesh_dba._check_step_privileges(s, false) FROM hotmesh_dba._steps(v_options) s;

    FOR v_step IN SELECT s.* FROM hotmesh_dba._steps(v_options) s LOOP
        v_due := hotmesh_dba._count_due(v_step, v_limit);
        v_attributes := CASE WHEN v_step.name = 'strip' THEN hotmesh_dba._count_attributes(v_step, v_limit) ELSE 0 END;
        exact := exact AND greatest(v_due, v_attributes) < v_limit;
        v_counts := hotmesh_dba._add(v_counts, v_step.name, least(v_due, max_rows), least(v_attributes, max_rows));
    END LOOP;

    RETURN QUERY SELECT v_counts.*, exact;
EXCEPTION WHEN lock_not_available THEN
    PERFORM hotmesh_dba._raise_locked(v_options.app_schema, 'preview');
END
$$;

COMMENT ON FUNCTION hotmesh_dba.preview(text, interval, boolean, boolean, boolean, text[], boolean, boolean, boolean, boolean, interval, interval, boolean, bigint) IS
'Counts what prune with the same options would remove, and changes nothing; needs SELECT alone, and works on a standby.
max_rows (NULL: no limit): stop counting at this many rows of a step and table.
exact: whether every count is the whole one. The strip is counted whole, though prune may do it in several calls.
Errors: 22023 22004 42602 3F000 42809 bad input; 42501 missing privilege; 55000 not deployed.';

-- sql/runs/rights.sql

-- Whoever may delete an app's jobs, or may give himself the right to, sees and writes the records of its runs, and
-- nobody else.
CREATE OR REPLACE FUNCTION hotmesh_dba._may_prune(app name) RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce((SELECT has_table_privilege(c.oid, 'DELETE') OR pg_has_role(c.relowner, 'USAGE')
                     FROM pg_class c
                     JOIN pg_namespace n ON n.oid = c.relnamespace
                     WHERE n.nspname = _may_prune.app AND c.relname = 'jobs'), false)
$$;

-- A policy whose app is gone fails, and whoever set it is told so by a record.
CREATE OR REPLACE FUNCTION hotmesh_dba._is_a_lost_apps(app name, role name, policy text) RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT policy IS NOT NULL AND hotmesh_dba._jobs(app) IS NULL
       AND EXISTS (SELECT FROM pg_roles r WHERE r.rolname = role AND pg_has_role(r.oid, 'USAGE'))
$$;

DROP POLICY IF EXISTS may_prune ON hotmesh_dba.run;
CREATE POLICY may_prune ON hotmesh_dba.run
    USING (hotmesh_dba._may_prune(app) OR hotmesh_dba._is_a_lost_apps(app, role, policy))
    WITH CHECK (hotmesh_dba._may_prune(app)
                OR state = 'failed' AND hotmesh_dba._is_a_lost_apps(app, role, policy));

-- A run whose app is renamed or dropped under it may still close its record, where no app has that name now.
CREATE OR REPLACE FUNCTION hotmesh_dba._is_ours_alone(app name, role name, pid int) RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT role = current_user AND pid = pg_backend_pid()
       AND NOT EXISTS (SELECT FROM pg_namespace n WHERE n.nspname = _is_ours_alone.app)
$$;

DROP POLICY IF EXISTS lost_app_seen ON hotmesh_dba.run;
DROP POLICY IF EXISTS lost_app_closed ON hotmesh_dba.run;
CREATE POLICY lost_app_seen ON hotmesh_dba.run FOR SELECT USING (hotmesh_dba._is_ours_alone(app, role, pid));
CREATE POLICY lost_app_closed ON hotmesh_dba.run FOR UPDATE
    USING (hotmesh_dba._is_ours_alone(app, role, pid)) WITH CHECK (hotmesh_dba._is_ours_alone(app, role, pid));

-- sql/runs/record.sql

-- What a run writes down: a row of hotmesh_dba.run, updated with every batch.

-- Whoever may prune an app can write any nonsense into the records of its runs: what is worked out of them never fails.
CREATE OR REPLACE FUNCTION hotmesh_dba._as_count(number numeric) RETURNS bigint
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$ SELECT least(greatest(number, 0), 9223372036854775807)::bigint $$;

-- Jobs, messages and signals deleted and jobs stripped; attributes do not count.
CREATE OR REPLACE FUNCTION hotmesh_dba._rows_done(run hotmesh_dba.run) RETURNS bigint
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT hotmesh_dba._as_count(run.deleted_jobs::numeric + run.deleted_transient + run.deleted_engine_streams
                                 + run.deleted_worker_streams + run.deleted_signals + run.marked_pruned)
$$;

CREATE OR REPLACE FUNCTION hotmesh_dba._rows_left(run hotmesh_dba.run) RETURNS bigint
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$ SELECT hotmesh_dba._as_count(run.expected::numeric - hotmesh_dba._rows_done(run)) $$;

-- Rows a second since it began; NULL where that cannot be told.
CREATE OR REPLACE FUNCTION hotmesh_dba._rate(run hotmesh_dba.run) RETURNS float8
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN run.started_at > 'epoch' AND run.updated_at > run.started_at AND run.updated_at < '9999-01-01 UTC'
                THEN hotmesh_dba._rows_done(run) / date_part('epoch', run.updated_at - run.started_at) END
$$;

-- Before a run adds its row. Runs of this app whose process is gone are closed; what they had committed stays. Old
-- records go: a table that only grows would be the very thing we are here against.
CREATE OR REPLACE FUNCTION hotmesh_dba._tidy_runs(app_schema name) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_dead bigint[] := hotmesh_dba._dead_runs(app_schema);
BEGIN
    UPDATE hotmesh_dba.run r
    SET state = 'interrupted', finished_at = r.updated_at, remaining = hotmesh_dba._rows_left(r)
    WHERE r.id = ANY (v_dead) AND r.state = 'running';

    DELETE FROM hotmesh_dba.run r
    WHERE r.app = app_schema AND r.state <> 'running'
      AND (r.started_at < now() - interval '90 days'
           OR r.id < (SELECT k.id FROM hotmesh_dba.run k WHERE k.app = app_schema ORDER BY k.id DESC OFFSET 998 LIMIT 1))
      -- A policy that is seldom run is due from its last one on.
      AND r.id <> ALL (ARRAY(SELECT max(p.id) FROM hotmesh_dba.run p
                             WHERE p.app = app_schema AND p.policy IS NOT NULL GROUP BY p.policy));
END
$$;

-- A run that does not find its record: its role has lost the right to see it, or somebody has ended it.
CREATE OR REPLACE FUNCTION hotmesh_dba._raise_unrecorded(run hotmesh_dba._run) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_jobs regclass := hotmesh_dba._jobs((run).app);
BEGIN
    IF v_jobs IS NOT NULL AND NOT hotmesh_dba._may_prune((run).app) THEN
        PERFORM hotmesh_dba._check_privilege(v_jobs, 'DELETE');
    END IF;
    RAISE EXCEPTION 'run % of app "%" was ended by somebody else', (run).id, (run).app
        USING ERRCODE = 'object_not_in_prerequisite_state',
              DETAIL = 'Its row in hotmesh_dba.run says that it is over, or is gone.',
              HINT = format('SELECT * FROM hotmesh_dba.run WHERE id = %s;', (run).id);
END
$$;

-- In the batch's transaction: what cannot be recorded is not done.
CREATE OR REPLACE FUNCTION hotmesh_dba._record_batch(
    run hotmesh_dba._run, step_name text, outcome hotmesh_dba._outcome, elapsed interval) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_counts hotmesh_dba._counts := hotmesh_dba._add((0, 0, 0, 0, 0, 0, 0, 0), step_name, outcome.taken, outcome.attributes);
BEGIN
    UPDATE hotmesh_dba.run r
    SET updated_at = clock_timestamp(),
        batches = r.batches + 1,
        longest_batch = greatest(r.longest_batch, elapsed),
        deleted_jobs = r.deleted_jobs + v_counts.deleted_jobs,
        deleted_transient = r.deleted_transient + v_counts.deleted_transient,
        deleted_engine_streams = r.deleted_engine_streams + v_counts.deleted_engine_streams,
        deleted_worker_streams = r.deleted_worker_streams + v_counts.deleted_worker_streams,
        deleted_signals = r.deleted_signals + v_counts.deleted_signals,
        marked_pruned = r.marked_pruned + v_counts.marked_pruned,
        stripped_attributes = r.stripped_attributes + v_counts.stripped_attributes,
        cascaded_attributes = r.cascaded_attributes + outcome.cascaded,
        skipped = r.skipped + cardinality(outcome.skipped)
    WHERE r.id = (run).id;
    IF NOT FOUND THEN
        PERFORM hotmesh_dba._raise_unrecorded(run);
    END IF;
END
$$;

-- Ends a run: `failed` where anything failed, `stopped` where something due is left, else `completed`.
CREATE OR REPLACE FUNCTION hotmesh_dba._end_run(run hotmesh_dba._run, reason text) RETURNS hotmesh_dba._run
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    run.ended := true;
    run.stop_reason := reason;
    run.remaining := hotmesh_dba._remaining(run);
    UPDATE hotmesh_dba.run r
    SET state = CASE WHEN (run).sqlstate IS NOT NULL THEN 'failed' WHEN reason IS NOT NULL THEN 'stopped' ELSE 'completed' END,
        stop_reason = reason,
        updated_at = clock_timestamp(),
        finished_at = clock_timestamp(),
        remaining = (run).remaining,
        error_sqlstate = (run).sqlstate,
        error_message = (run).message,
        error_detail = (run).detail
    WHERE r.id = (run).id;
    RETURN run;
END
$$;

-- NULL before they are planned. Of lanes that are not finished what their probes estimated and nobody took, and what others had locked.
CREATE OR REPLACE FUNCTION hotmesh_dba._remaining(run hotmesh_dba._run) RETURNS bigint
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN (run).lanes IS NOT NULL THEN coalesce(sum(l.locked + cardinality(l.skip)
                        + CASE WHEN l.finished THEN 0 ELSE greatest(1, coalesce(l.due, 0) - l.taken) END), 0) END
    FROM unnest((run).lanes) l
$$;

-- What the caller is told once the record is committed: the error, or a warning of what is left.
CREATE OR REPLACE FUNCTION hotmesh_dba._report(run hotmesh_dba._run) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF (run).sqlstate IS NOT NULL THEN
        RAISE EXCEPTION '%', (run).message
            USING ERRCODE = (run).sqlstate,
                  DETAIL = concat_ws(' ', (run).detail,
                                     format('Run %s of app "%s" removed %s rows before, and they stay removed.',
                                            (run).id, (run).app, (run).taken)),
                  HINT = coalesce((run).hint, format('SELECT * FROM hotmesh_dba.run WHERE id = %s; and call it again to go on.', (run).id));
    ELSIF (run).stop_reason IS NOT NULL THEN
        RAISE WARNING 'run % of app "%" stopped: %', (run).id, (run).app, (run).stop_reason
            USING DETAIL = format('%s rows were removed, about %s are left.', (run).taken, (run).remaining),
                  HINT = 'Call it again to go on.';
    END IF;
END
$$;

-- sql/runs/locks.sql

-- One run at a time and app and worker, by locks that no exit path can leave behind: each transaction takes them at its
-- head, and its end gives them up. In the key space of two integers, since HotMesh uses the other.
--   (app, 0)       exclusive by a run alone, shared by workers
--   (app, worker)  exclusive by a worker
--   (app, -1)      exclusive by whoever begins a run

CREATE OR REPLACE FUNCTION hotmesh_dba._key_of(schema_oid oid) RETURNS int
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$ SELECT hashtext('hotmesh_dba ' || schema_oid) & 2147483647 $$;

CREATE OR REPLACE FUNCTION hotmesh_dba._lock_key(app_schema name) RETURNS int
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$ SELECT hotmesh_dba._key_of(n.oid) FROM pg_namespace n WHERE n.nspname = app_schema $$;

-- Was the app renamed, or dropped? A run's locks hang on its schema's oid, whatever that is called.
CREATE OR REPLACE FUNCTION hotmesh_dba._is_lost(app_schema name, schema_oid oid) RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT NOT EXISTS (SELECT FROM pg_namespace n WHERE n.oid = schema_oid AND n.nspname = app_schema)
$$;

CREATE OR REPLACE FUNCTION hotmesh_dba._try_run_locks(app_schema name, worker int, workers int) RETURNS boolean
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_key int := hotmesh_dba._lock_key(app_schema);
BEGIN
    IF workers = 1 THEN
        RETURN pg_try_advisory_xact_lock(v_key, 0);
    END IF;
    RETURN pg_try_advisory_xact_lock_shared(v_key, 0) AND pg_try_advisory_xact_lock(v_key, worker);
END
$$;

-- Between two batches somebody who begins a run may hold them, for a second at most, to see whether we are alive.
CREATE OR REPLACE FUNCTION hotmesh_dba._take_run_locks(run hotmesh_dba._run) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '10s'
AS $$
DECLARE
    v_key int := hotmesh_dba._key_of((run).schema_oid);
BEGIN
    IF (run).workers = 1 THEN
        PERFORM pg_advisory_xact_lock(v_key, 0);
    ELSE
        PERFORM pg_advisory_xact_lock_shared(v_key, 0);
        PERFORM pg_advisory_xact_lock(v_key, (run).worker);
    END IF;
    IF NOT EXISTS (SELECT FROM hotmesh_dba.run r WHERE r.id = (run).id AND r.state = 'running') THEN
        PERFORM hotmesh_dba._raise_unrecorded(run);
    END IF;
END
$$;

-- Does this run's process hold one of its locks, or queue for one? A pid alone proves nothing: it is used again, and
-- comes back from a dump. Our own process at work on another run is no proof for the old one either, nor is one that
-- queues at (app, -1) to begin the next.
CREATE OR REPLACE FUNCTION hotmesh_dba._is_alive(run hotmesh_dba.run) RETURNS boolean
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT run.state = 'running' AND run.pid <> pg_backend_pid() AND run.started_at >= pg_postmaster_start_time()
       AND EXISTS (SELECT FROM pg_locks l
                   WHERE l.locktype = 'advisory' AND l.objsubid = 2 AND l.pid = run.pid
                     AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
                     AND l.classid = hotmesh_dba._lock_key(run.app)::oid AND l.objid IN (0, run.worker::oid))
$$;

-- The app's runs that say `running` and are not, allowing for the moment between two batches in which one has no lock:
-- all of them are looked at for up to a second.
CREATE OR REPLACE FUNCTION hotmesh_dba._dead_runs(app_schema name) RETURNS bigint[]
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_until timestamptz := clock_timestamp() + interval '1 second';
    v_ids   bigint[] := ARRAY(SELECT r.id FROM hotmesh_dba.run r WHERE r.app = app_schema AND r.state = 'running');
    v_runs  hotmesh_dba.run[];
BEGIN
    LOOP
        -- One that has ended meanwhile is neither.
        v_runs := ARRAY(SELECT r FROM hotmesh_dba.run r
                        WHERE r.id = ANY (v_ids) AND r.state = 'running' AND NOT hotmesh_dba._is_alive(r));
        v_ids := ARRAY(SELECT r.id FROM unnest(v_runs) r);
        EXIT WHEN clock_timestamp() >= v_until
               OR NOT EXISTS (SELECT FROM unnest(v_runs) r
                              WHERE r.pid <> pg_backend_pid() AND r.started_at >= pg_postmaster_start_time()
                                AND EXISTS (SELECT FROM pg_stat_get_activity(r.pid)));
        PERFORM pg_sleep(0.02);
    END LOOP;
    RETURN v_ids;
END
$$;

-- Who stands in the way of a run, as an error that names the holder.
CREATE OR REPLACE FUNCTION hotmesh_dba._raise_busy(app_schema name, worker int, detail text) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_holder text;
    v_dead   bigint[] := hotmesh_dba._dead_runs(app_schema);
BEGIN
    SELECT string_agg(format('Run %s of role "%s" (process %s, worker %s of %s) has removed %s rows since %s.', r.id, r.role, r.pid,
                             r.worker, r.workers, hotmesh_dba._rows_done(r), date_trunc('second', r.started_at)), ' ')
    INTO v_holder
    FROM hotmesh_dba.run r
    WHERE r.app = app_schema AND r.state = 'running' AND r.id <> ALL (v_dead);
    RAISE EXCEPTION 'another run prunes app "%"', app_schema
        USING ERRCODE = 'lock_not_available',
              DETAIL = concat_ws(' ', detail, coalesce(v_holder, hotmesh_dba._run_lock_holders(app_schema))),
              HINT = 'Wait for it: SELECT * FROM hotmesh_dba.progress; or end it: SELECT pg_cancel_backend(pid).';
END
$$;

-- Processes that hold the app's run locks without a row that we can see.
CREATE OR REPLACE FUNCTION hotmesh_dba._run_lock_holders(app_schema name) RETURNS text
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT 'Its lock is held by process ' || coalesce(string_agg(DISTINCT l.pid::text, ', '), 'that has ended meanwhile') || '.'
    FROM pg_locks l
    WHERE l.locktype = 'advisory' AND l.objsubid = 2 AND l.pid <> pg_backend_pid() AND l.granted
      AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
      AND l.classid = hotmesh_dba._lock_key(app_schema)::oid
$$;

-- sql/runs/steer.sql

-- How many rows a batch takes: a number that was given (fewer after a setback); else what took four fifths of batch_time
-- the last time. Never more than the lock table holds, nor than max_rows leaves; nor, unless it was asked for, so many jobs
-- that the server keeps megabytes of their ids (the memory of a run follows its largest batch).
CREATE OR REPLACE FUNCTION hotmesh_dba._batch_rows(run hotmesh_dba._run, lane hotmesh_dba._lane) RETURNS bigint
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT greatest(1, least(CASE WHEN lane.setbacks > 0 THEN least((run).batch_size, lane.size)
                                  ELSE coalesce((run).batch_size, lane.size) END, hotmesh_dba._batch_bound(lane, (run).workers),
                             (run).max_rows - (run).taken,
                             CASE WHEN (run).batch_size IS NULL AND hotmesh_dba._is_of_jobs(lane.step) THEN 5000 END))
$$;

-- It starts small: nobody knows yet how many attributes a job has.
CREATE OR REPLACE FUNCTION hotmesh_dba._first_size(step hotmesh_dba._step) RETURNS bigint
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$ SELECT CASE WHEN hotmesh_dba._is_of_jobs(step) THEN 50 ELSE 5000 END::bigint $$;

-- A batch that found less than it might have taken says nothing about a bigger one.
CREATE OR REPLACE FUNCTION hotmesh_dba._next_size(
    tried bigint, taken bigint, elapsed interval, batch_time interval) RETURNS bigint
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT greatest(1, CASE WHEN f.factor < 1 OR taken >= tried / 2 THEN tried * least(4, greatest(0.1, f.factor)) ELSE tried END)::bigint
    FROM (SELECT 0.8 * extract(epoch FROM batch_time) / greatest(0.0005, extract(epoch FROM elapsed)) AS factor) f
$$;

-- sql/runs/throttle.sql

-- What slows a run down between two batches, so that others hardly notice it.

-- The pause that was asked for, or as long as the WAL of this batch should have taken to write. (All of the server's
-- since the batch began: others' is in it too, and makes us slower, not them.)
CREATE OR REPLACE FUNCTION hotmesh_dba._pause_after(run hotmesh_dba._run, begun timestamptz, wal_begun pg_lsn) RETURNS interval
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT greatest((run).batch_pause,
                    CASE WHEN (run).max_wal_rate IS NOT NULL THEN
                        make_interval(secs => ((pg_current_wal_insert_lsn() - wal_begun) / (run).max_wal_rate)::float8)
                        - (clock_timestamp() - begun)
                    END)
$$;

CREATE OR REPLACE FUNCTION hotmesh_dba._replayed(lsn pg_lsn) RETURNS boolean
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$ SELECT coalesce(bool_and(r.replay_lsn >= lsn), true) FROM pg_stat_replication r $$;

-- Has every replica replayed what was written max_replica_lag ago? What it has to reach is noted, and noted anew once
-- it was reached. (Its own replay_lag stands still while replay is paused.)
CREATE OR REPLACE FUNCTION hotmesh_dba._replicas_keep_up(run hotmesh_dba._run) RETURNS boolean
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT (run).max_replica_lag IS NULL
        OR clock_timestamp() < (run).replay_since + (run).max_replica_lag
        OR hotmesh_dba._replayed((run).replay_lsn)
$$;

-- May the next batch begin? Else sleeps for a moment (and no longer: a transaction that sleeps holds a snapshot).
CREATE OR REPLACE FUNCTION hotmesh_dba._throttle(run hotmesh_dba._run, OUT may_go boolean)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_left float8 := extract(epoch FROM (run).resume_at - clock_timestamp());
BEGIN
    may_go := false;
    IF v_left > 0 THEN
        PERFORM pg_sleep(least(v_left, 0.25));
        may_go := v_left <= 0.25 AND hotmesh_dba._replicas_keep_up(run);
    ELSIF hotmesh_dba._replicas_keep_up(run) THEN
        may_go := true;
    ELSE
        PERFORM pg_sleep(0.1);
    END IF;
END
$$;

-- sql/runs/start.sql

-- A knob of prune_batched that is out of its range.
CREATE OR REPLACE FUNCTION hotmesh_dba._check_knob(ok boolean, option_name text, value text, range text, example text) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF ok IS NOT TRUE THEN
        RAISE EXCEPTION '% must be %: %', option_name, range, coalesce(value, 'NULL')
            USING ERRCODE = 'invalid_parameter_value',
                  DETAIL = 'Nothing was changed.',
                  HINT = format('Write for example %s => %s.', option_name, example);
    END IF;
END
$$;

CREATE OR REPLACE FUNCTION hotmesh_dba._check_knobs(
    batch_size int, batch_time interval, batch_pause interval, max_runtime interval, max_rows bigint, worker int,
    workers int, disable_triggers boolean, max_wal_rate bigint, max_replica_lag interval) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM hotmesh_dba._check_knob(coalesce(batch_size > 0, true), 'batch_size', batch_size::text, 'positive, or NULL', '1000');
    PERFORM hotmesh_dba._check_knob(batch_time BETWEEN '1 ms' AND '1 hour', 'batch_time', batch_time::text,
                                    'between 1 ms and an hour', '''200 ms''');
    PERFORM hotmesh_dba._check_knob(batch_pause BETWEEN '0' AND '1 hour', 'batch_pause', batch_pause::text,
                                    'between 0 and an hour', '''50 ms''');
    PERFORM hotmesh_dba._check_knob(coalesce(max_runtime BETWEEN '0' AND '1 year', true), 'max_runtime', max_runtime::text,
                                    'between 0 and a year, or NULL', '''10 minutes''');
    PERFORM hotmesh_dba._check_knob(coalesce(max_rows > 0, true), 'max_rows', max_rows::text, 'positive, or NULL', '1000000');
    PERFORM hotmesh_dba._check_knob(workers BETWEEN 1 AND 64, 'workers', workers::text, 'between 1 and 64', '2');
    PERFORM hotmesh_dba._check_knob(worker BETWEEN 1 AND workers, 'worker', worker::text, 'between 1 and workers', '1');
    PERFORM hotmesh_dba._check_flag('disable_triggers', disable_triggers);
    PERFORM hotmesh_dba._check_knob(coalesce(max_wal_rate > 0, true), 'max_wal_rate', max_wal_rate::text,
                                    'positive (bytes a second), or NULL', '50000000');
    PERFORM hotmesh_dba._check_knob(coalesce(max_replica_lag BETWEEN '0' AND '1 year', true), 'max_replica_lag',
                                    max_replica_lag::text, 'between 0 and a year, or NULL', '''10 seconds''');
    IF max_replica_lag IS NOT NULL AND NOT pg_has_role('pg_read_all_stats', 'USAGE') THEN
        RAISE EXCEPTION 'permission denied to see how far replicas are'
            USING ERRCODE = 'insufficient_privilege',
                  DETAIL = format('Role "%s" may not read pg_stat_replication, which max_replica_lag needs.', current_user),
                  HINT = format('GRANT pg_read_all_stats TO %I;', current_user);
    END IF;
END
$$;

-- max_runtime NULL: nine tenths of statement_timeout, where one is set; it bounds the whole CALL, and setting it inside
-- does not help.
CREATE OR REPLACE FUNCTION hotmesh_dba._ends_at(max_runtime interval) RETURNS timestamptz
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT statement_timestamp()
           + coalesce(max_runtime, nullif(current_setting('statement_timeout')::interval, '0') * 0.9)
$$;

-- Where one statement may take all that is due of a step: its lane, or none if nothing is due; NULL where it may not.
CREATE OR REPLACE FUNCTION hotmesh_dba._plan_sweep(step hotmesh_dba._step, batch_time interval) RETURNS hotmesh_dba._lane[]
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_most bigint := hotmesh_dba._sweep_rows(step, batch_time);
    v_lane hotmesh_dba._lane := hotmesh_dba._sweep_lane(step, NULL);
BEGIN
    v_lane.due := CASE WHEN v_most > 0 THEN hotmesh_dba._count_lane(v_lane, v_most + 1, false) END;
    RETURN CASE WHEN v_lane.due = 0 THEN '{}'
                WHEN v_lane.due <= v_most THEN ARRAY[v_lane] END;
EXCEPTION WHEN OTHERS OR assert_failure THEN
    RETURN NULL;    -- what is wrong is seen when its turn has come
END
$$;

-- Of a step the lanes that this worker has: every workers-th leaf; what has no leaves is worker 1's. Those in which nothing
-- is due are left out; of the others the probe says how much.
CREATE OR REPLACE FUNCTION hotmesh_dba._probed_lanes(step hotmesh_dba._step, disable_triggers boolean, worker int, workers int)
RETURNS hotmesh_dba._lane[]
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_lane  hotmesh_dba._lane;
    v_lanes hotmesh_dba._lane[] := '{}';
BEGIN
    FOR v_lane IN SELECT l.* FROM hotmesh_dba._lanes(step, disable_triggers) l WHERE l.number % workers = worker - 1 LOOP
        BEGIN
            v_lane := hotmesh_dba._probe(v_lane);
        EXCEPTION WHEN OTHERS OR assert_failure THEN
            NULL;   -- it is probed when its turn has come
        END;
        v_lane.spares := true;
        IF (v_lane).due IS DISTINCT FROM 0 THEN
            v_lanes := v_lanes || v_lane;
        END IF;
    END LOOP;
    RETURN v_lanes;
END
$$;

-- may_sweep: nobody shares the work or has said how much a batch takes.
CREATE OR REPLACE FUNCTION hotmesh_dba._plan_lanes(
    steps hotmesh_dba._step[], disable_triggers boolean, worker int, workers int, may_sweep boolean, batch_time interval)
RETURNS hotmesh_dba._lane[]
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_step  hotmesh_dba._step;
    v_lanes hotmesh_dba._lane[] := '{}';
    v_step_lanes hotmesh_dba._lane[];
BEGIN
    FOREACH v_step IN ARRAY steps LOOP
        v_step_lanes := CASE WHEN may_sweep THEN hotmesh_dba._plan_sweep(v_step, batch_time) END;
        IF v_step_lanes IS NULL AND hotmesh_dba._is_due(v_step) THEN
            v_step_lanes := hotmesh_dba._probed_lanes(v_step, disable_triggers, worker, workers);
        END IF;
        v_lanes := v_lanes || v_step_lanes;
    END LOOP;
    RETURN v_lanes;
END
$$;

-- What the probes found, by step; a step that spans tables is one.
CREATE OR REPLACE FUNCTION hotmesh_dba._expected_by_step(lanes hotmesh_dba._lane[]) RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce(jsonb_object_agg(s.name, s.due), '{}')
    FROM (SELECT ((l).step).name AS name, coalesce(sum((l).due), 0) AS due
          FROM unnest(lanes) l GROUP BY 1) s
$$;

-- Makes sure that nobody else prunes this app (or, with several workers, its part), and closes what dead runs left open.
CREATE OR REPLACE FUNCTION hotmesh_dba._claim_app(app_schema name, worker int, workers int, options jsonb) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '10s'
AS $$
DECLARE
    v_other hotmesh_dba.run;
BEGIN
    -- Workers that begin at the same instant look at each other's rows one after the other.
    PERFORM pg_advisory_xact_lock(hotmesh_dba._lock_key(app_schema), -1);
    IF NOT hotmesh_dba._try_run_locks(app_schema, worker, workers) THEN
        PERFORM hotmesh_dba._raise_busy(app_schema, worker, NULL);
    END IF;
    PERFORM hotmesh_dba._tidy_runs(app_schema);
    FOR v_other IN SELECT r.* FROM hotmesh_dba.run r WHERE r.app = app_schema AND r.state = 'running' LOOP
        IF v_other.workers <> workers OR v_other.worker = worker OR workers = 1 THEN
            PERFORM hotmesh_dba._raise_busy(app_schema, worker, format('It has %s workers, this one would be worker %s of %s.',
                                                                       v_other.workers, worker, workers));
        ELSIF v_other.options - 'worker' <> options - 'worker' THEN
            PERFORM hotmesh_dba._raise_busy(app_schema, worker, 'Its options are others, and workers share theirs.');
        END IF;
    END LOOP;
END
$$;

-- A worker that joins others shares their cutoffs.
CREATE OR REPLACE FUNCTION hotmesh_dba._share_cutoffs(options hotmesh_dba._options, first hotmesh_dba.run)
RETURNS hotmesh_dba._options
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    options.jobs_before := first.jobs_before;
    options.engine_before := first.engine_before;
    options.worker_before := first.worker_before;
    options.signals_until := first.signals_until;
    RETURN options;
END
$$;

CREATE OR REPLACE FUNCTION hotmesh_dba._first_worker(app_schema name) RETURNS hotmesh_dba.run
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT r.* FROM hotmesh_dba.run r WHERE r.app = app_schema AND r.state = 'running' ORDER BY r.id LIMIT 1
$$;

-- The run's row, joined to the first worker's by group_id; the first one's is its own id.
CREATE OR REPLACE FUNCTION hotmesh_dba._insert_run(
    options hotmesh_dba._options, worker int, workers int, arguments jsonb, group_id bigint) RETURNS bigint
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_id bigint;
BEGIN
    INSERT INTO hotmesh_dba.run AS r (group_id, app, worker, workers, options, jobs_before, engine_before, worker_before,
                                      signals_until, triggers_disabled)
    VALUES (coalesce(_insert_run.group_id, 0), (options).app_schema, worker, workers, arguments, (options).jobs_before,
            (options).engine_before, (options).worker_before, (options).signals_until, (options).disable_triggers)
    RETURNING r.id INTO v_id;
    IF _insert_run.group_id IS NULL THEN
        UPDATE hotmesh_dba.run r SET group_id = v_id WHERE r.id = v_id;
    END IF;
    RETURN v_id;
END
$$;

-- Everything that comes before the plan: the rights, the locks, the record.
CREATE OR REPLACE FUNCTION hotmesh_dba._start_run(
    options hotmesh_dba._options, arguments jsonb, batch_size int, batch_time interval, batch_pause interval,
    max_runtime interval, max_rows bigint, worker int, workers int, max_wal_rate bigint, max_replica_lag interval)
RETURNS hotmesh_dba._run
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_run   hotmesh_dba._run;
    v_steps hotmesh_dba._step[] := ARRAY(SELECT s FROM hotmesh_dba._steps(options) s);
    v_first hotmesh_dba.run;
BEGIN
    PERFORM hotmesh_dba._check_steps(v_steps, (options).disable_triggers);
    PERFORM hotmesh_dba._check_privilege(hotmesh_dba._jobs((options).app_schema), 'DELETE');    -- its record is guarded by it
    PERFORM hotmesh_dba._check_row_security('hotmesh_dba.run');
    PERFORM hotmesh_dba._claim_app((options).app_schema, worker, workers, arguments);
    IF workers > 1 THEN
        v_first := hotmesh_dba._first_worker((options).app_schema);
        IF v_first.id IS NOT NULL THEN
            options := hotmesh_dba._share_cutoffs(options, v_first);
            v_steps := ARRAY(SELECT s FROM hotmesh_dba._steps(options) s);
        END IF;
    END IF;
    v_run.id := hotmesh_dba._insert_run(options, worker, workers, arguments, v_first.group_id);
    v_run.app := (options).app_schema;
    v_run.worker := worker;
    v_run.workers := workers;
    v_run.schema_oid := (SELECT n.oid FROM pg_namespace n WHERE n.nspname = v_run.app);
    v_run.steps := v_steps;
    v_run.disable_triggers := (options).disable_triggers;
    v_run.batch_size := batch_size;
    v_run.batch_time := batch_time;
    v_run.batch_pause := batch_pause;
    v_run.ends_at := hotmesh_dba._ends_at(max_runtime);
    v_run.max_rows := max_rows;
    v_run.max_wal_rate := max_wal_rate;
    v_run.max_replica_lag := max_replica_lag;
    v_run.taken := 0;
    v_run.resume_at := statement_timestamp();
    v_run.replay_lsn := pg_current_wal_insert_lsn();
    v_run.replay_since := clock_timestamp();
    v_run.failed_steps := '{}';
    v_run.ended := false;
    RETURN v_run;
END
$$;
-- The procedure's arguments, resolved and written down; an interval in one style, whatever the session's, for workers
-- compare what they were given.
CREATE OR REPLACE FUNCTION hotmesh_dba._begin_run(
    app_id text, retention interval, prune_jobs boolean, prune_streams boolean, strip_attributes boolean,
    entity_list text[], prune_transient boolean, keep_hmark boolean, prune_engine_streams boolean,
    prune_worker_streams boolean, engine_streams_retention interval, worker_streams_retention interval,
    prune_signals boolean, batch_size int, batch_time interval, batch_pause interval, max_runtime interval,
    max_rows bigint, worker int, workers int, disable_triggers boolean, max_wal_rate bigint, max_replica_lag interval)
RETURNS hotmesh_dba._run
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET intervalstyle = 'postgres'
AS $$
DECLARE
    v_options   hotmesh_dba._options;
    v_arguments jsonb := jsonb_build_object(
        'retention', retention, 'prune_jobs', prune_jobs, 'prune_streams', prune_streams,
        'strip_attributes', strip_attributes, 'entity_list', entity_list, 'prune_transient', prune_transient,
        'keep_hmark', keep_hmark, 'prune_engine_streams', prune_engine_streams, 'prune_worker_streams', prune_worker_streams,
        'engine_streams_retention', engine_streams_retention, 'worker_streams_retention', worker_streams_retention,
        'prune_signals', prune_signals, 'batch_size', batch_size, 'batch_time', batch_time, 'batch_pause', batch_pause,
        'max_runtime', max_runtime, 'max_rows', max_rows, 'worker', worker, 'workers', workers,
        'disable_triggers', disable_triggers, 'max_wal_rate', max_wal_rate, 'max_replica_lag', max_replica_lag);
BEGIN
    PERFORM hotmesh_dba._check_writable();
    v_options := hotmesh_dba._resolve(
        app_id, retention, prune_jobs, prune_streams, strip_attributes, entity_list, prune_transient, keep_hmark,
        prune_engine_streams, prune_worker_streams, engine_streams_retention, worker_streams_retention, prune_signals);
    PERFORM hotmesh_dba._check_knobs(batch_size, batch_time, batch_pause, max_runtime, max_rows, worker, workers,
                                     disable_triggers, max_wal_rate, max_replica_lag);
    v_options.disable_triggers := disable_triggers;
    RETURN hotmesh_dba._start_run(v_options, v_arguments, batch_size, batch_time, batch_pause, max_runtime, max_rows,
                                  worker, workers, max_wal_rate, max_replica_lag);
END
$$;

-- sql/runs/batch.sql

-- One transaction of a run: a batch, or a moment's wait, or its end. All of a run's logic is here, for a procedure that
-- commits can neither fix its search_path nor catch an error.

CREATE OR REPLACE FUNCTION hotmesh_dba._over_budget(run hotmesh_dba._run) RETURNS text
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN clock_timestamp() >= (run).ends_at THEN 'max_runtime'
                WHEN (run).taken >= (run).max_rows THEN 'max_rows' END
$$;

-- Every lane is done: was anything left?
CREATE OR REPLACE FUNCTION hotmesh_dba._conclude(run hotmesh_dba._run) RETURNS hotmesh_dba._run
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_skipped bigint := (SELECT sum(cardinality(l.skip)) FROM unnest((run).lanes) l);
    v_locked  bigint := (SELECT sum(l.locked) FROM unnest((run).lanes) l);
BEGIN
    IF (run).sqlstate IS NULL AND v_skipped > 0 THEN
        run.sqlstate := '09000';    -- triggered_action_exception
        run.message := format('%s rows of app "%s" cannot be removed', v_skipped, (run).app);
        run.detail := 'A WARNING named each of them.';
        run.hint := 'Mend or delete those rows by hand; see hotmesh_dba.run for the record.';
    END IF;
    RETURN hotmesh_dba._end_run(run, CASE WHEN (run).sqlstate IS NOT NULL THEN 'error' WHEN v_locked > 0 THEN 'locked' END);
END
$$;

-- On to the next lane. One of the same step begins with the size that this one ended with.
CREATE OR REPLACE FUNCTION hotmesh_dba._leave_lane(run hotmesh_dba._run, lane hotmesh_dba._lane, finished boolean)
RETURNS hotmesh_dba._run
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_next hotmesh_dba._lane := (run).lanes[(run).current + 1];
BEGIN
    lane.finished := finished;
    lane.queue := NULL;
    run.lanes[(run).current] := lane;
    run.current := (run).current + 1;
    IF ((v_next).step).name = ((lane).step).name THEN
        v_next.size := (lane).size;
        run.lanes[(run).current] := v_next;
    END IF;
    RETURN run;
END
$$;

-- Where not all of it could be taken at once (somebody has locked a row, or one cannot go), each leaf is a lane.
CREATE OR REPLACE FUNCTION hotmesh_dba._split_sweep(run hotmesh_dba._run, lane hotmesh_dba._lane) RETURNS hotmesh_dba._run
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    run.lanes := (run).lanes[: (run).current - 1] || hotmesh_dba._probed_lanes((lane).step, false, 1, 1)
                 || (run).lanes[(run).current + 1 :];
    RETURN run;
END
$$;

-- Was its table dropped under us? Then its rows are gone, and nothing is left to do there.
CREATE OR REPLACE FUNCTION hotmesh_dba._is_gone(lane hotmesh_dba._lane) RETURNS boolean
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$ SELECT NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = lane.relation) $$;

-- What a batch, or a look at a lane, does with an error that is no lock's. A row's fault ends its lane; any other error
-- ends its step, for it would meet all the step's lanes.
CREATE OR REPLACE FUNCTION hotmesh_dba._fail_lane(
    run hotmesh_dba._run, lane hotmesh_dba._lane, sqlstate_of text, message text, detail text, hint text)
RETURNS hotmesh_dba._run
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF hotmesh_dba._is_gone(lane) THEN
        RETURN hotmesh_dba._leave_lane(run, lane, true);
    ELSIF (lane).sweeps THEN
        RETURN hotmesh_dba._split_sweep(run, lane);
    END IF;
    run := hotmesh_dba._with_error(run, sqlstate_of, message, detail, hint);
    IF NOT hotmesh_dba._is_a_rows_fault(sqlstate_of) THEN
        run.failed_steps := (run).failed_steps || ((lane).step).name;
    END IF;
    RETURN hotmesh_dba._leave_lane(run, (run).lanes[(run).current], false);
END
$$;

-- A lane was gone through to its end. A row may have moved behind our back (an UPDATE puts its new version anywhere), so
-- nothing is done before a last look finds nothing due. What is left then is locked by others; jobs that completed
-- meanwhile are left to the next run.
CREATE OR REPLACE FUNCTION hotmesh_dba._end_pass(run hotmesh_dba._run, lane hotmesh_dba._lane) RETURNS hotmesh_dba._run
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    c_bound CONSTANT bigint := 1000;
    v_left  bigint := CASE WHEN hotmesh_dba._is_part_of((lane).relation, ((lane).step).relation)
                           THEN hotmesh_dba._look_again(lane, c_bound) ELSE 0 END;
    v_free  bigint := CASE WHEN v_left > 0 THEN hotmesh_dba._count_lane(lane, c_bound, true) ELSE 0 END;
BEGIN
    IF (lane).sweeps AND v_left > 0 THEN
        RETURN hotmesh_dba._split_sweep(run, lane);
    END IF;
    IF v_free > 0 AND ((lane).passes < 2 OR (lane).taken >= 10000 OR (lane).faults >= 100) THEN
        lane.passes := (lane).passes + 1;
        lane.taken := 0;
        lane.way := NULL;
        lane.next_tid := '(0,0)';
        lane.next_mark := '-infinity';
        lane.queue := NULL;
        run.lanes[(run).current] := lane;
        RETURN run;
    END IF;
    lane.locked := greatest((lane).locked, CASE WHEN ((lane).step).name = 'strip' THEN v_left - v_free ELSE v_left END);
    RETURN hotmesh_dba._leave_lane(run, lane, true);
END
$$;

-- A batch met a lock, and has given way. It is tried again, smaller each time and after a while; then its rows are left,
-- and it goes on behind them. Where that does not help either, the rest of the table is left.
CREATE OR REPLACE FUNCTION hotmesh_dba._give_way(run hotmesh_dba._run, lane hotmesh_dba._lane, tried bigint)
RETURNS hotmesh_dba._run
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_choice hotmesh_dba._choice;
BEGIN
    IF hotmesh_dba._is_gone(lane) THEN
        RETURN hotmesh_dba._leave_lane(run, lane, true);
    ELSIF (lane).sweeps THEN
        RETURN hotmesh_dba._split_sweep(run, lane);
    END IF;
    lane.careful := true;
    lane.setbacks := (lane).setbacks + 1;
    lane.size := greatest(1, tried / 4);
    run.resume_at := clock_timestamp() + (lane).setbacks * (0.02 + 0.03 * random()) * interval '1 second';
    IF (lane).setbacks < 5 THEN
        run.lanes[(run).current] := lane;
        RETURN run;
    END IF;

    IF (lane).given_up < 3 AND (lane).way IS NOT NULL AND (hotmesh_dba._is_of_jobs((lane).step) OR (lane).is_leaf) THEN
        BEGIN
            v_choice := hotmesh_dba._choose(lane, (lane).size, 4096);
            lane := v_choice.lane;
            lane.locked := (lane).locked + coalesce(cardinality(v_choice.tids), 0);
            lane.given_up := (lane).given_up + 1;
            lane.setbacks := 0;
            run.lanes[(run).current] := lane;
            RETURN CASE WHEN v_choice.finished THEN hotmesh_dba._leave_lane(run, lane, true) ELSE run END;
        EXCEPTION WHEN OTHERS OR assert_failure THEN
            NULL;   -- so it is left
        END;
    END IF;
    lane.locked := greatest(1, (lane).locked);
    RETURN hotmesh_dba._leave_lane(run, lane, false);
END
$$;

-- The first error is the run's.
CREATE OR REPLACE FUNCTION hotmesh_dba._with_error(
    run hotmesh_dba._run, sqlstate_of text, message text, detail text, hint text) RETURNS hotmesh_dba._run
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF (run).sqlstate IS NULL THEN
        run.sqlstate := sqlstate_of;
        run.message := message;
        run.detail := nullif(detail, '');
        run.hint := nullif(hint, '');
    END IF;
    RETURN run;
END
$$;

-- A batch, its record, and the last look where it was the lane's last: whole, or undone by whoever called.
CREATE OR REPLACE FUNCTION hotmesh_dba._do_batch(run hotmesh_dba._run, lane hotmesh_dba._lane, max_rows bigint)
RETURNS hotmesh_dba._run
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_begun   timestamptz := clock_timestamp();
    v_wal     pg_lsn := pg_current_wal_insert_lsn();
    v_outcome hotmesh_dba._outcome;
    v_elapsed interval;
BEGIN
    SET CONSTRAINTS ALL IMMEDIATE;      -- an error of a deferred trigger belongs to its row, and not to the COMMIT
    v_outcome := hotmesh_dba._run_batch(lane, _do_batch.max_rows, (run).batch_size IS NULL AND (run).max_rows IS NULL);
    SET CONSTRAINTS ALL IMMEDIATE;      -- a trigger may have deferred them again
    v_elapsed := clock_timestamp() - v_begun;
    lane := v_outcome.lane;
    lane.size := hotmesh_dba._next_size(_do_batch.max_rows, v_outcome.taken, v_elapsed, (run).batch_time);
    IF (lane).faults >= 100 THEN        -- in strides that soon lead past the rows that cannot go, slow as these are
        lane.size := greatest((lane).size, hotmesh_dba._first_size((lane).step));
    END IF;
    lane.setbacks := 0;
    lane.taken := (lane).taken + v_outcome.taken;
    run.lanes[(run).current] := lane;
    run.taken := (run).taken + v_outcome.taken;
    PERFORM hotmesh_dba._record_batch(run, ((lane).step).name, v_outcome, v_elapsed);
    run.resume_at := clock_timestamp() + hotmesh_dba._pause_after(run, v_begun, v_wal);
    IF (run).max_replica_lag IS NOT NULL AND hotmesh_dba._replayed((run).replay_lsn) THEN
        run.replay_lsn := pg_current_wal_insert_lsn();
        run.replay_since := clock_timestamp();
    END IF;
    RETURN CASE WHEN v_outcome.finished THEN hotmesh_dba._end_pass(run, lane) ELSE run END;
END
$$;

CREATE OR REPLACE FUNCTION hotmesh_dba._try_batch(run hotmesh_dba._run) RETURNS hotmesh_dba._run
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_lane   hotmesh_dba._lane := (run).lanes[(run).current];
    v_rows   bigint;
    v_detail text;
    v_hint   text;
BEGIN
    IF ((v_lane).step).name = ANY ((run).failed_steps) THEN
        RETURN hotmesh_dba._leave_lane(run, v_lane, false);
    END IF;
    v_lane.size := coalesce((v_lane).size, hotmesh_dba._first_size((v_lane).step));
    v_rows := hotmesh_dba._batch_rows(run, v_lane);
    RETURN hotmesh_dba._do_batch(run, v_lane, v_rows);
EXCEPTION
    WHEN lock_not_available OR deadlock_detected THEN
        RETURN hotmesh_dba._give_way(run, v_lane, v_rows);
    WHEN OTHERS OR assert_failure THEN
        GET STACKED DIAGNOSTICS v_detail = PG_EXCEPTION_DETAIL, v_hint = PG_EXCEPTION_HINT;
        RETURN hotmesh_dba._fail_lane(run, v_lane, SQLSTATE, SQLERRM, v_detail, v_hint);
END
$$;

-- The first thing that a run does, once others can see it: it looks at how much there is to do, as long as that takes.
CREATE OR REPLACE FUNCTION hotmesh_dba._plan_run(run hotmesh_dba._run) RETURNS hotmesh_dba._run
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_detail text;
    v_hint   text;
BEGIN
    run.lanes := hotmesh_dba._plan_lanes(
        (run).steps, (run).disable_triggers, (run).worker, (run).workers,
        (run).workers = 1 AND (run).batch_size IS NULL AND (run).max_rows IS NULL AND hotmesh_dba._forced_way() IS NULL,
        (run).batch_time);
    run.current := 1;
    run.steps := NULL;
    IF (run).ends_at > (run).resume_at THEN     -- not told to do nothing: however long the look took, there is time for a batch
        run.ends_at := greatest((run).ends_at, clock_timestamp() + (run).batch_time);
    END IF;
    UPDATE hotmesh_dba.run r
    SET expected = (SELECT coalesce(sum(l.due), 0) FROM unnest((run).lanes) l),
        expected_by_step = hotmesh_dba._expected_by_step((run).lanes), updated_at = clock_timestamp()
    WHERE r.id = (run).id;
    RETURN run;
EXCEPTION WHEN OTHERS OR assert_failure THEN
    GET STACKED DIAGNOSTICS v_detail = PG_EXCEPTION_DETAIL, v_hint = PG_EXCEPTION_HINT;
    RETURN hotmesh_dba._end_run(hotmesh_dba._with_error(run, SQLSTATE, SQLERRM, v_detail, v_hint), 'error');
END
$$;

-- Of a policy's run: the app, or a table that is being worked at.
CREATE OR REPLACE FUNCTION hotmesh_dba._has_other_owner(run hotmesh_dba._run) RETURNS boolean
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_owner oid := (SELECT r.app_owner FROM hotmesh_dba.run r WHERE r.id = (run).id);
    v_lane  hotmesh_dba._lane := (run).lanes[(run).current];
BEGIN
    RETURN v_owner IS NOT NULL
       AND (v_owner <> hotmesh_dba._owner((run).app)
            OR EXISTS (SELECT FROM pg_class c
                       WHERE c.oid IN ((v_lane).relation, ((v_lane).step).relation, ((v_lane).step).attributes, (v_lane).attributes)
                         AND NOT hotmesh_dba._speaks_for(v_owner, c.relowner, c.relispartition)));
END
$$;

-- An app that was renamed or dropped under the run, or a policy's that was given away, is no more what was asked for; and
-- whoever may prune it now does not see this run's record.
CREATE OR REPLACE FUNCTION hotmesh_dba._with_lost_app(run hotmesh_dba._run) RETURNS hotmesh_dba._run
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_name name := (SELECT n.nspname FROM pg_namespace n WHERE n.oid = (run).schema_oid);
BEGIN
    IF v_name IS NULL THEN
        RETURN hotmesh_dba._with_error(run, '3F000', format('app "%s" was dropped under its run', (run).app),
                                       'Its schema is gone.', 'Nothing is left to do.');
    ELSIF v_name <> (run).app THEN
        RETURN hotmesh_dba._with_error(run, '55000', format('app "%s" was renamed to "%s" under its run', (run).app, v_name),
                                       'A run goes on for as long as its app has the name that it was called with.',
                                       format('Call it again for app %L.', v_name));
    ELSIF hotmesh_dba._has_other_owner(run) THEN
        RETURN hotmesh_dba._with_error(run, '55000', format('app "%s" was given to another owner under its run', (run).app),
                                       'A policy is the owner''s who set it.', 'Its new owner may set it anew.');
    END IF;
    RETURN run;
END
$$;

-- Whatever no block of the run has caught: its record is gone, or somebody else holds its locks. It ends without a record
-- where even that cannot be written.
CREATE OR REPLACE FUNCTION hotmesh_dba._abandon_run(run hotmesh_dba._run) RETURNS hotmesh_dba._run
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '10s'
AS $$
BEGIN
    RETURN hotmesh_dba._end_run(run, 'error');
EXCEPTION WHEN OTHERS OR assert_failure THEN
    run.ended := true;
    run.stop_reason := 'error';
    RETURN run;
END
$$;

-- A cancel in here ends the run with a true record; elsewhere it leaves a row whose process is seen to be gone. (What a
-- trigger says in its words is an error like any other.)
CREATE OR REPLACE FUNCTION hotmesh_dba._next(run hotmesh_dba._run) RETURNS hotmesh_dba._run
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_reason  text;
    v_detail  text;
    v_hint    text;
    v_context text;
BEGIN
    PERFORM hotmesh_dba._take_run_locks(run);
    IF hotmesh_dba._is_lost((run).app, (run).schema_oid) OR hotmesh_dba._has_other_owner(run) THEN
        RETURN hotmesh_dba._end_run(hotmesh_dba._with_lost_app(run), 'error');
    ELSIF (run).lanes IS NULL THEN
        -- Not (run).max_percent: a run that 1.1.0 began, and that goes on under an update, has no such field.
        RETURN CASE WHEN to_jsonb(run) ->> 'max_percent' IS NOT NULL THEN hotmesh_dba._try_fuse(run)
                    ELSE hotmesh_dba._plan_run(run) END;
    END IF;
    v_reason := hotmesh_dba._over_budget(run);
    IF (run).current > cardinality((run).lanes) THEN
        RETURN hotmesh_dba._conclude(run);
    ELSIF v_reason IS NOT NULL THEN
        RETURN hotmesh_dba._end_run(run, CASE WHEN (run).sqlstate IS NULL THEN v_reason ELSE 'error' END);
    ELSIF NOT hotmesh_dba._throttle(run) THEN
        RETURN run;
    END IF;
    RETURN hotmesh_dba._try_batch(run);
EXCEPTION
    WHEN query_canceled THEN
        GET STACKED DIAGNOSTICS v_context = PG_EXCEPTION_CONTEXT;
        run := hotmesh_dba._with_error(run, SQLSTATE, SQLERRM, NULL, NULL);
        RETURN hotmesh_dba._end_run(run, CASE WHEN split_part(v_context, chr(10), 1) LIKE '% RAISE' THEN 'error' ELSE 'cancelled' END);
    WHEN OTHERS OR assert_failure THEN
        IF to_jsonb(run) ->> 'isolated' IS DISTINCT FROM 'true' THEN     -- 1.1.0's has no such field, see above
            RAISE;
        END IF;
        GET STACKED DIAGNOSTICS v_detail = PG_EXCEPTION_DETAIL, v_hint = PG_EXCEPTION_HINT;
        RETURN hotmesh_dba._abandon_run(hotmesh_dba._with_error(run, SQLSTATE, SQLERRM, v_detail, v_hint));
END
$$;

-- sql/runs/prune_batched.sql

-- The procedures do no more than carry a run from one transaction to the next. They have no SET clause (they could not
-- COMMIT), so there is nothing in them that a search_path could turn: every name is qualified, and there is no operator.
-- The isolation level is set anew at the head of each transaction: default_transaction_isolation governs them all.
CREATE OR REPLACE PROCEDURE hotmesh_dba._drive(INOUT run hotmesh_dba._run)
LANGUAGE plpgsql
AS $$
BEGIN
    LOOP
        EXIT WHEN run.ended;                    -- not behind the COMMIT: even this looks at a snapshot
        COMMIT;
        SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
        SET LOCAL synchronous_commit TO off;    -- what a crash undoes is pruned again
        run := hotmesh_dba._next(run);
    END LOOP;
    COMMIT;
END
$$;

CREATE OR REPLACE PROCEDURE hotmesh_dba.prune_batched(
    app_id                   text,
    retention                interval DEFAULT '7 days',
    prune_jobs               boolean  DEFAULT true,
    prune_streams            boolean  DEFAULT true,
    strip_attributes         boolean  DEFAULT false,
    entity_list              text[]   DEFAULT NULL,
    prune_transient          boolean  DEFAULT false,
    keep_hmark               boolean  DEFAULT false,
    prune_engine_streams     boolean  DEFAULT NULL,
    prune_worker_streams     boolean  DEFAULT NULL,
    engine_streams_retention interval DEFAULT NULL,
    worker_streams_retention interval DEFAULT NULL,
    prune_signals            boolean  DEFAULT true,
    batch_size               int      DEFAULT NULL,
    batch_time               interval DEFAULT '200 ms',
    batch_pause              interval DEFAULT '0',
    max_runtime              interval DEFAULT NULL,
    max_rows                 bigint   DEFAULT NULL,
    worker                   int      DEFAULT 1,
    workers                  int      DEFAULT 1,
    disable_triggers         boolean  DEFAULT false,
    max_wal_rate             bigint   DEFAULT NULL,
    max_replica_lag          interval DEFAULT NULL,
    INOUT run_id             bigint   DEFAULT NULL)
LANGUAGE plpgsql
AS $$
DECLARE
    v_run hotmesh_dba._run;
BEGIN
    COMMIT;
    SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
    SET LOCAL synchronous_commit TO off;        -- a crash that undoes its record undoes all of its batches too
    v_run := hotmesh_dba._begin_run(
        app_id, retention, prune_jobs, prune_streams, strip_attributes, entity_list, prune_transient, keep_hmark,
        prune_engine_streams, prune_worker_streams, engine_streams_retention, worker_streams_retention, prune_signals,
        batch_size, batch_time, batch_pause, max_runtime, max_rows, worker, workers, disable_triggers, max_wal_rate,
        max_replica_lag);
    run_id := v_run.id;
    CALL hotmesh_dba._drive(v_run);
    PERFORM hotmesh_dba._report(v_run);
END
$$;

COMMENT ON PROCEDURE hotmesh_dba.prune_batched(text, interval, boolean, boolean, boolean, text[], boolean, boolean, boolean, boolean, interval, interval, boolean, int, interval, interval, interval, bigint, int, int, boolean, bigint, interval, bigint) IS
'Removes an app''s finished work, of any amount, in short transactions that are committed one by one, and keeps a record in hotmesh_dba.run. CALL it by itself, outside a transaction block.
app_id: the app (see view hotmesh_dba.app).
retention, prune_jobs, prune_streams, strip_attributes, entity_list, prune_transient, keep_hmark, prune_engine_streams, prune_worker_streams, engine_streams_retention, worker_streams_retention, prune_signals: as in prune.
batch_size (NULL: as many as take batch_time): rows a transaction; never more than the lock table holds.
batch_time (200 ms): how long a transaction should take.
batch_pause (0): how long to wait between two.
max_runtime (NULL: nine tenths of statement_timeout, where one is set): stop after this time, at the end of a transaction.
max_rows (NULL: no limit): stop after this many rows of jobs, messages and signals deleted and jobs stripped; of each worker.
worker, workers (1, 1): this call takes every workers-th leaf partition, so that several connections share the work; CALL each with the same options.
disable_triggers (false): delete and mark jobs with session_replication_role = replica, in about half the time. Needs the right to set it, and tables on which nothing hangs but HotMesh''s own triggers and foreign key.
max_wal_rate (NULL: no limit): bytes of WAL a second, the server''s own included.
max_replica_lag (NULL: no limit): wait while a replica is further behind. Needs pg_read_all_stats.
run_id: leave it out; it returns the id of the run''s row in hotmesh_dba.run.
A run ends completed; or stopped (max_runtime, max_rows, or rows that others had locked), with a WARNING; or failed: what is committed stays, and the first error is raised.
Errors: 2D000 in a transaction block; 22023 22004 42602 3F000 42809 bad input, or the app was dropped meanwhile; 25006 read-only; 42501 missing privilege; 55000 not deployed, triggers that cannot be disabled, or the app was renamed meanwhile; 55P03 another run; 57014 cancelled; 09000 rows that cannot be removed.';

-- sql/runs/progress.sql

-- The rows that say `running`, seen with the caller's rights: a view of the table itself would, before PostgreSQL 15
-- could be told otherwise, see with its owner's.
CREATE OR REPLACE FUNCTION hotmesh_dba._running() RETURNS SETOF hotmesh_dba.run
LANGUAGE sql VOLATILE ROWS 1
SET search_path = pg_catalog, pg_temp
AS $$ SELECT r.* FROM hotmesh_dba.run r WHERE r.state = 'running' $$;

CREATE OR REPLACE VIEW hotmesh_dba.progress AS
SELECT r.id AS run_id, r.group_id, r.app, r.worker, r.workers, r.role, r.pid,
       -- Between two batches it has no lock for a moment.
       CASE WHEN hotmesh_dba._is_alive(r)
              OR r.updated_at > pg_catalog.clock_timestamp() - pg_catalog.make_interval(secs => 2)
             AND EXISTS (SELECT FROM pg_catalog.pg_stat_get_activity(r.pid))
            THEN 'running' ELSE 'interrupted' END AS state,
       r.started_at, r.updated_at, r.batches, hotmesh_dba._rows_done(r) AS rows_done, r.expected AS rows_expected,
       d.rows_left, d.rate AS rows_per_second,
       -- No more than a hundred years: an interval ends somewhere.
       CASE WHEN d.rate > 0 THEN pg_catalog.make_interval(secs => least(d.rows_left / d.rate, 3153600000)) END AS time_left
FROM hotmesh_dba._running() r,
     LATERAL (SELECT hotmesh_dba._rows_left(r) AS rows_left, hotmesh_dba._rate(r) AS rate) d;

GRANT SELECT ON hotmesh_dba.progress TO PUBLIC;
COMMENT ON VIEW hotmesh_dba.progress IS
'The runs of prune_batched that have not ended, as far as you may see them (see table hotmesh_dba.run).';
COMMENT ON COLUMN hotmesh_dba.progress.run_id IS 'Its row in hotmesh_dba.run.';
COMMENT ON COLUMN hotmesh_dba.progress.group_id IS 'Of the workers that share a run the first one''s id.';
COMMENT ON COLUMN hotmesh_dba.progress.app IS 'Name of the app schema.';
COMMENT ON COLUMN hotmesh_dba.progress.worker IS 'Which of the workers, from 1.';
COMMENT ON COLUMN hotmesh_dba.progress.workers IS 'How many share the work.';
COMMENT ON COLUMN hotmesh_dba.progress.role IS 'Who runs it.';
COMMENT ON COLUMN hotmesh_dba.progress.pid IS 'Its server process: SELECT pg_cancel_backend(pid) ends it.';
COMMENT ON COLUMN hotmesh_dba.progress.state IS 'running; or interrupted: its process is gone, what it had committed stays, and the app''s next run closes its record.';
COMMENT ON COLUMN hotmesh_dba.progress.started_at IS 'When it began.';
COMMENT ON COLUMN hotmesh_dba.progress.updated_at IS 'When its last batch was recorded.';
COMMENT ON COLUMN hotmesh_dba.progress.batches IS 'Transactions so far.';
COMMENT ON COLUMN hotmesh_dba.progress.rows_done IS 'Jobs, messages and signals deleted and jobs stripped so far.';
COMMENT ON COLUMN hotmesh_dba.progress.rows_expected IS 'How many there were at the start, as bounded probes estimated it.';
COMMENT ON COLUMN hotmesh_dba.progress.rows_left IS 'The difference: an estimate.';
COMMENT ON COLUMN hotmesh_dba.progress.rows_per_second IS 'Since its start, pauses included.';
COMMENT ON COLUMN hotmesh_dba.progress.time_left IS 'What is left at that rate.';

-- sql/policies/rights.sql

-- A policy is its app's owner's: whoever is a member of that role sees, sets, drops and runs it, and nobody else.

-- This very database: an oid means nothing in a restored copy of it, where another schema may have it.
CREATE OR REPLACE FUNCTION hotmesh_dba._origin() RETURNS text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN format('%s.%s.%s', (SELECT s.system_identifier FROM pg_control_system() s),
                  (SELECT d.oid FROM pg_database d WHERE d.datname = current_database()), 'hotmesh_dba.policy'::regclass::oid);
EXCEPTION WHEN insufficient_privilege THEN
    RETURN 'unknown';
END
$$;

-- The app that a policy was set for, by its present name: never another one that has taken the name since. NULL where it is
-- gone. In a restored copy the names count, the app's and its owner's.
CREATE OR REPLACE FUNCTION hotmesh_dba._policy_app(policy hotmesh_dba.policy) RETURNS name
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN policy.origin = hotmesh_dba._origin() AND policy.origin <> 'unknown'
                THEN (SELECT n.nspname FROM pg_namespace n WHERE n.oid = policy.app_oid)
                WHEN pg_get_userbyid(hotmesh_dba._owner(policy.app)) = policy.role THEN policy.app END
$$;

-- One whose app is gone is still its author's, to see and to drop.
CREATE OR REPLACE FUNCTION hotmesh_dba._may_see_policy(policy hotmesh_dba.policy) RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN hotmesh_dba._jobs(a.app) IS NOT NULL THEN hotmesh_dba._owns_app(a.app)
                ELSE EXISTS (SELECT FROM pg_roles r WHERE r.rolname = policy.role AND pg_has_role(r.oid, 'USAGE')) END
    FROM (SELECT hotmesh_dba._policy_app(policy) AS app) a
$$;

DROP POLICY IF EXISTS of_the_owner ON hotmesh_dba.policy;
CREATE POLICY of_the_owner ON hotmesh_dba.policy
    USING (hotmesh_dba._may_see_policy(policy))
    WITH CHECK (role = pg_catalog.pg_get_userbyid(owner) AND hotmesh_dba._owns_app(app) AND hotmesh_dba._owns_app(hotmesh_dba._policy_app(policy))
                AND owner = hotmesh_dba._owner(app));

-- sql/policies/find.sql

-- Finding a policy, whatever its app was called when it was set.

-- The statement that runs one, as a cron job has it and hints say it.
CREATE OR REPLACE FUNCTION hotmesh_dba._run_policy_call(app name, policy_name text, force boolean DEFAULT false) RETURNS text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$ SELECT format('CALL hotmesh_dba.run_policy(%L, %L%s)', app, policy_name, CASE WHEN force THEN ', force => true' ELSE '' END) $$;

-- The statement that counts what one would take: all that preview does not take for granted. NULL where there is none.
CREATE OR REPLACE FUNCTION hotmesh_dba._preview_policy_call(policy hotmesh_dba.policy) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT format('SELECT * FROM hotmesh_dba.preview(%s)', concat_ws(', ',
        quote_literal(policy.app),
        'retention => ' || quote_literal(policy.retention::text),
        CASE WHEN NOT policy.prune_jobs THEN 'prune_jobs => false' END,
        CASE WHEN policy.strip_attributes THEN 'strip_attributes => true' END,
        'entity_list => ' || quote_literal(policy.entity_list::text),
        CASE WHEN policy.prune_transient THEN 'prune_transient => true' END,
        CASE WHEN policy.keep_hmark THEN 'keep_hmark => true' END,
        CASE WHEN NOT policy.prune_engine_streams THEN 'prune_engine_streams => false' END,
        CASE WHEN NOT policy.prune_worker_streams THEN 'prune_worker_streams => false' END,
        'engine_streams_retention => ' || quote_literal(nullif(policy.engine_streams_retention::text, policy.retention::text)),
        'worker_streams_retention => ' || quote_literal(nullif(policy.worker_streams_retention::text, policy.retention::text)),
        CASE WHEN NOT policy.prune_signals THEN 'prune_signals => false' END))
    WHERE policy.app IS NOT NULL
$$;

-- A policy made that of an app as it is now: its schema, this database, its owner, in whose name it is whoever sets it.
CREATE OR REPLACE FUNCTION hotmesh_dba._bind_policy(policy hotmesh_dba.policy, app_schema name) RETURNS hotmesh_dba.policy
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    policy.app := app_schema;
    policy.app_oid := (SELECT n.oid FROM pg_namespace n WHERE n.nspname = app_schema);
    policy.origin := hotmesh_dba._origin();
    policy.owner := hotmesh_dba._owner(app_schema);
    policy.role := pg_get_userbyid(policy.owner);
    RETURN policy;
END
$$;

CREATE OR REPLACE FUNCTION hotmesh_dba._is_outdated(policy hotmesh_dba.policy) RETURNS boolean
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_now hotmesh_dba.policy := hotmesh_dba._bind_policy(policy, hotmesh_dba._policy_app(policy));
BEGIN
    RETURN policy <> v_now AND (policy.origin <> v_now.origin OR policy.owner = v_now.owner);
END
$$;

CREATE OR REPLACE FUNCTION hotmesh_dba._up_to_date(policy hotmesh_dba.policy) RETURNS hotmesh_dba.policy
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN CASE WHEN hotmesh_dba._is_outdated(policy) AND hotmesh_dba._policy_app(policy) IS NOT NULL
                THEN hotmesh_dba._bind_policy(policy, hotmesh_dba._policy_app(policy)) ELSE policy END;
END
$$;

CREATE OR REPLACE FUNCTION hotmesh_dba._save_policy(policy hotmesh_dba.policy) RETURNS hotmesh_dba.policy
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_saved hotmesh_dba.policy;
BEGIN
    INSERT INTO hotmesh_dba.policy AS p
    SELECT (_save_policy.policy).*
    ON CONFLICT (origin, app_oid, name) DO UPDATE SET
        (retention, prune_jobs, prune_streams, strip_attributes, entity_list, prune_transient, keep_hmark, prune_engine_streams,
         prune_worker_streams, engine_streams_retention, worker_streams_retention, prune_signals, batch_size, batch_time,
         batch_pause, max_runtime, max_rows, disable_triggers, max_wal_rate, max_replica_lag, max_percent, every, enabled, note,
         role, updated_at, app, owner, created_at)
        = ROW(excluded.retention, excluded.prune_jobs, excluded.prune_streams, excluded.strip_attributes, excluded.entity_list,
              excluded.prune_transient, excluded.keep_hmark, excluded.prune_engine_streams, excluded.prune_worker_streams,
              excluded.engine_streams_retention, excluded.worker_streams_retention, excluded.prune_signals, excluded.batch_size,
              excluded.batch_time, excluded.batch_pause, excluded.max_runtime, excluded.max_rows, excluded.disable_triggers,
              excluded.max_wal_rate, excluded.max_replica_lag, excluded.max_percent, excluded.every, excluded.enabled,
              excluded.note, excluded.role, excluded.updated_at, excluded.app, excluded.owner,
              CASE WHEN p.owner = excluded.owner THEN least(p.created_at, excluded.created_at) ELSE excluded.created_at END)
    RETURNING p.* INTO v_saved;
    RETURN v_saved;
END
$$;

CREATE OR REPLACE FUNCTION hotmesh_dba._rebind_policy(found hotmesh_dba.policy, now hotmesh_dba.policy) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    UPDATE hotmesh_dba.policy p
    SET (app, app_oid, origin, owner, role) = ROW(now.app, now.app_oid, now.origin, now.owner, now.role)
    WHERE (p.origin, p.app_oid, p.name) = (found.origin, found.app_oid, found.name)
      AND NOT EXISTS (SELECT FROM hotmesh_dba.policy n
                      WHERE (n.origin, n.app_oid, n.name) = (now.origin, now.app_oid, now.name)
                        AND (n.origin, n.app_oid) <> (found.origin, found.app_oid));
    IF NOT FOUND THEN
        DELETE FROM hotmesh_dba.policy p WHERE (p.origin, p.app_oid, p.name) = (found.origin, found.app_oid, found.name);
    END IF;
END
$$;

-- Policies whose app was renamed get its new name, and those of a restored database their new app, unless that has one of
-- this name by now. Not those of an app that was given to another owner: that is for him to say. One whose row somebody
-- has locked, or whose place, waits for the next call, and nobody for it.
CREATE OR REPLACE FUNCTION hotmesh_dba._follow_renames() RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '1s'
AS $$
DECLARE
    v_found   hotmesh_dba.policy;
    v_waiting name[] := '{}';
BEGIN
    PERFORM hotmesh_dba._check_writable();
    FOR v_found IN
        SELECT p.* FROM hotmesh_dba.policy p
        WHERE hotmesh_dba._is_outdated(p) AND hotmesh_dba._owns_app(hotmesh_dba._policy_app(p))
        FOR UPDATE SKIP LOCKED
    LOOP
        CONTINUE WHEN hotmesh_dba._policy_app(v_found) = ANY (v_waiting);
        BEGIN
            PERFORM hotmesh_dba._rebind_policy(v_found, hotmesh_dba._up_to_date(v_found));
        EXCEPTION WHEN OTHERS THEN
            v_waiting := v_waiting || hotmesh_dba._policy_app(v_found);
        END;
    END LOOP;
END
$$;

-- Of an app that is gone too, by the name that it had.
CREATE OR REPLACE FUNCTION hotmesh_dba._app_or_name(app_id text) RETURNS name
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN hotmesh_dba.app_schema(app_id);
EXCEPTION WHEN invalid_schema_name OR wrong_object_type THEN
    RETURN app_id;
END
$$;

CREATE OR REPLACE FUNCTION hotmesh_dba._raise_no_policy(app_schema name, policy_name text) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION 'unknown policy: %', coalesce(quote_literal(policy_name), 'NULL')
        USING ERRCODE = 'undefined_object',
              DETAIL = format('App "%s" has no policy of that name.', app_schema),
              HINT = (SELECT coalesce('Its policies: ' || string_agg(quote_literal(p.name), ', ' ORDER BY p.name) || '.',
                                      format('Set one: SELECT * FROM hotmesh_dba.set_policy(%L, ''nightly'', strip_attributes => true);',
                                             app_schema))
                      FROM hotmesh_dba.policy p WHERE hotmesh_dba._policy_app(p) = app_schema);
END
$$;

-- Never on another app than the one it was set for.
CREATE OR REPLACE FUNCTION hotmesh_dba._raise_app_is_gone(policy hotmesh_dba.policy) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION 'the app "%" that policy "%" was set for is gone', policy.app, policy.name
        USING ERRCODE = 'object_not_in_prerequisite_state',
              DETAIL = 'An app of that name, if there is one, is another, or another owner''s.',
              HINT = format('Set it anew with hotmesh_dba.set_policy, or: SELECT hotmesh_dba.drop_policy(%L, %L);',
                            policy.app, policy.name);
END
$$;

-- Nor on one that was given to another owner, who said nothing of it.
CREATE OR REPLACE FUNCTION hotmesh_dba._raise_other_owner(policy hotmesh_dba.policy) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION 'the app "%" has another owner since policy "%" was set', policy.app, policy.name
        USING ERRCODE = 'object_not_in_prerequisite_state',
              DETAIL = format('It belongs to "%s" now. Nothing was changed.', pg_get_userbyid(hotmesh_dba._owner(policy.app))),
              HINT = format('Set it anew with hotmesh_dba.set_policy, or: SELECT hotmesh_dba.drop_policy(%L, %L);',
                            policy.app, policy.name);
END
$$;

CREATE OR REPLACE FUNCTION hotmesh_dba._check_policy_app(policy hotmesh_dba.policy) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF hotmesh_dba._policy_app(policy) IS DISTINCT FROM policy.app OR NOT hotmesh_dba._is_app(policy.app) THEN
        PERFORM hotmesh_dba._raise_app_is_gone(policy);
    ELSIF policy.owner IS DISTINCT FROM hotmesh_dba._owner(policy.app) THEN
        PERFORM hotmesh_dba._raise_other_owner(policy);
    END IF;
END
$$;

-- A policy by the name that its app has now. There may be others of an app that had it before: they are nobody's any more.
CREATE OR REPLACE FUNCTION hotmesh_dba._policy(app_schema name, policy_name text) RETURNS hotmesh_dba.policy
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_policy hotmesh_dba.policy;
BEGIN
    SELECT p.* INTO v_policy
    FROM hotmesh_dba.policy p
    WHERE p.name = policy_name AND hotmesh_dba._policy_app(p) = app_schema
    ORDER BY p.updated_at DESC
    LIMIT 1;
    IF v_policy.app IS NOT NULL THEN
        v_policy.app := app_schema;
    END IF;
    RETURN v_policy;
END
$$;

-- The same, for whoever may run it.
CREATE OR REPLACE FUNCTION hotmesh_dba._find_policy(app_id text, policy_name text, doing text) RETURNS hotmesh_dba.policy
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_app    name := hotmesh_dba.app_schema(app_id);
    v_policy hotmesh_dba.policy;
BEGIN
    PERFORM hotmesh_dba._check_owner(v_app, doing);
    PERFORM hotmesh_dba._follow_renames();
    v_policy := hotmesh_dba._policy(v_app, policy_name);
    IF v_policy.app IS NULL THEN
        PERFORM hotmesh_dba._raise_no_policy(v_app, policy_name);
    END IF;
    PERFORM hotmesh_dba._check_policy_app(v_policy);
    RETURN v_policy;
END
$$;

-- sql/policies/check.sql

-- What a policy may say. Checked when it is set, and again before each run: a row may have come another way.

CREATE OR REPLACE FUNCTION hotmesh_dba._check_rule(ok boolean, message text, detail text, hint text) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF ok IS NOT TRUE THEN
        RAISE EXCEPTION '%', message
            USING ERRCODE = 'invalid_parameter_value', DETAIL = detail || ' Nothing was changed.', HINT = hint;
    END IF;
END
$$;

-- A window is needed by what is on, and says nothing where it is off.
CREATE OR REPLACE FUNCTION hotmesh_dba._check_policy_windows(policy hotmesh_dba.policy) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_rule record;
BEGIN
    FOR v_rule IN
        SELECT r.*
        FROM (VALUES ('prune_jobs', policy.prune_jobs, 'retention', policy.retention, false),
                     ('prune_transient', policy.prune_transient, 'retention', policy.retention, false),
                     ('prune_engine_streams', policy.prune_engine_streams, 'engine_streams_retention',
                      policy.engine_streams_retention, true),
                     ('prune_worker_streams', policy.prune_worker_streams, 'worker_streams_retention',
                      policy.worker_streams_retention, true)) r (step, wanted, option, retention, its_own)
    LOOP
        PERFORM hotmesh_dba._check_rule(NOT v_rule.wanted OR v_rule.retention IS NOT NULL,
            format('%s needs a window', v_rule.step), 'A policy has none unless it is said.',
            format('Give it one: %s => ''30 days''.', v_rule.option));
        PERFORM hotmesh_dba._check_rule(v_rule.wanted OR v_rule.retention IS NULL OR NOT v_rule.its_own,
            format('%s without %s', v_rule.option, v_rule.step), 'A window of messages that stay has no meaning.',
            format('Write %s => true, or leave out %s.', v_rule.step, v_rule.option));
        IF v_rule.retention IS NOT NULL THEN
            PERFORM hotmesh_dba._cutoff(v_rule.option, v_rule.retention);
        END IF;
    END LOOP;
END
$$;

CREATE OR REPLACE FUNCTION hotmesh_dba._check_policy_steps(policy hotmesh_dba.policy) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM hotmesh_dba._check_rule(
        policy.prune_jobs OR policy.prune_transient OR policy.prune_engine_streams OR policy.prune_worker_streams
        OR policy.strip_attributes OR policy.prune_signals,
        'policy without a step', 'In a policy every step is off unless it is named.',
        'Name one: prune_jobs, prune_transient, prune_streams, prune_engine_streams, prune_worker_streams, strip_attributes or prune_signals => true.');
    PERFORM hotmesh_dba._check_policy_windows(policy);
    PERFORM hotmesh_dba._check_rule(
        policy.entity_list IS NULL OR policy.prune_jobs OR policy.strip_attributes,
        'entity_list without prune_jobs or strip_attributes', 'It confines these two alone, and neither is on.',
        'Write prune_jobs => true or strip_attributes => true, or leave out entity_list.');
    PERFORM hotmesh_dba._check_rule(
        policy.entity_list IS NULL OR cardinality(policy.entity_list) > 0 AND array_position(policy.entity_list, NULL) IS NULL,
        'entity_list is empty or has a NULL in it', 'No job has such an entity.',
        'Name entities: entity_list => ARRAY[''book'']; jobs without one go by prune_transient => true.');
    PERFORM hotmesh_dba._check_rule(
        NOT policy.keep_hmark OR policy.strip_attributes,
        'keep_hmark without strip_attributes', 'It says what the strip spares, and there is none.',
        'Write strip_attributes => true, or leave out keep_hmark.');
END
$$;

-- '1000000 years -359999999 days' is a day to every comparison, and no time at all to an addition.
CREATE OR REPLACE FUNCTION hotmesh_dba._is_of_one_sign(every interval) RETURNS boolean
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT least(extract(year FROM every), extract(month FROM every), extract(day FROM every), extract(hour FROM every),
                 extract(minute FROM every), extract(second FROM every)) >= 0
$$;

CREATE OR REPLACE FUNCTION hotmesh_dba._check_policy(policy hotmesh_dba.policy) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM hotmesh_dba._check_rule(
        policy.name COLLATE "C" ~ '^[A-Za-z0-9_.-]{1,63}$', format('invalid policy name: %s', coalesce(quote_literal(policy.name), 'NULL')),
        'A name is made of 1 to 63 letters, digits, _, . and -.', 'Choose one such as ''nightly-strip''.');
    PERFORM hotmesh_dba._check_flag(f.name, f.value)
    FROM (VALUES ('prune_jobs', policy.prune_jobs), ('prune_streams', policy.prune_streams),
                 ('strip_attributes', policy.strip_attributes), ('prune_transient', policy.prune_transient),
                 ('keep_hmark', policy.keep_hmark), ('prune_signals', policy.prune_signals),
                 ('enabled', policy.enabled)) f (name, value);
    PERFORM hotmesh_dba._check_policy_steps(policy);
    PERFORM hotmesh_dba._check_knobs(
        policy.batch_size, policy.batch_time, policy.batch_pause, policy.max_runtime, policy.max_rows, 1, 1,
        policy.disable_triggers, policy.max_wal_rate, policy.max_replica_lag);
    PERFORM hotmesh_dba._check_knob(policy.max_percent > 0 AND policy.max_percent <= 100, 'max_percent', policy.max_percent::text,
                                    'above 0 and at most 100', '50');
    PERFORM hotmesh_dba._check_knob(coalesce(policy.every BETWEEN '1 second' AND '10 years' AND hotmesh_dba._is_of_one_sign(policy.every), true),
                                    'every', policy.every::text,
                                    'between a second and ten years, or NULL', '''1 day''');
END
$$;

-- sql/policies/options.sql

-- What a policy takes, as the options and steps of a call have it.

-- Where no step that is on needs a window, one that nothing is older than.
CREATE OR REPLACE FUNCTION hotmesh_dba._policy_retention(policy hotmesh_dba.policy) RETURNS interval
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$ SELECT coalesce(policy.retention, '100 years') $$;

-- With the cutoffs that a run would have now. (Not by _resolve: whoever only looks need not be able to prune.)
CREATE OR REPLACE FUNCTION hotmesh_dba._policy_options(policy hotmesh_dba.policy) RETURNS hotmesh_dba._options
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_options hotmesh_dba._options;
BEGIN
    v_options.app_schema := policy.app;
    v_options.jobs := policy.prune_jobs;
    v_options.transient := policy.prune_transient;
    v_options.engine_streams := coalesce(policy.prune_engine_streams, policy.prune_streams);
    v_options.worker_streams := coalesce(policy.prune_worker_streams, policy.prune_streams);
    v_options.strip := policy.strip_attributes;
    v_options.signals := policy.prune_signals;
    v_options.entity_list := policy.entity_list;
    v_options.keep_hmark := policy.keep_hmark;
    v_options.jobs_before := hotmesh_dba._cutoff('retention', hotmesh_dba._policy_retention(policy));
    v_options.engine_before := hotmesh_dba._cutoff('engine_streams_retention',
                                                   coalesce(policy.engine_streams_retention, hotmesh_dba._policy_retention(policy)));
    v_options.worker_before := hotmesh_dba._cutoff('worker_streams_retention',
                                                   coalesce(policy.worker_streams_retention, hotmesh_dba._policy_retention(policy)));
    v_options.signals_until := now();
    RETURN v_options;
END
$$;

CREATE OR REPLACE FUNCTION hotmesh_dba._policy_steps(policy hotmesh_dba.policy) RETURNS hotmesh_dba._step[]
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$ BEGIN RETURN ARRAY(SELECT s FROM hotmesh_dba._steps(hotmesh_dba._policy_options(policy)) s); END $$;

-- sql/policies/set_policy.sql

-- What set_policy was given, with what follows from it filled in.
CREATE OR REPLACE FUNCTION hotmesh_dba._resolve_policy(policy hotmesh_dba.policy) RETURNS hotmesh_dba.policy
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    policy.prune_engine_streams := coalesce(policy.prune_engine_streams, policy.prune_streams);
    policy.prune_worker_streams := coalesce(policy.prune_worker_streams, policy.prune_streams);
    policy.engine_streams_retention := coalesce(policy.engine_streams_retention,
                                                CASE WHEN policy.prune_engine_streams THEN policy.retention END);
    policy.worker_streams_retention := coalesce(policy.worker_streams_retention,
                                                CASE WHEN policy.prune_worker_streams THEN policy.retention END);
    RETURN policy;
END
$$;

CREATE OR REPLACE FUNCTION hotmesh_dba.set_policy(
    app_id                   text,
    name                     text,
    retention                interval DEFAULT NULL,
    prune_jobs               boolean  DEFAULT false,
    prune_streams            boolean  DEFAULT false,
    strip_attributes         boolean  DEFAULT false,
    entity_list              text[]   DEFAULT NULL,
    prune_transient          boolean  DEFAULT false,
    keep_hmark               boolean  DEFAULT false,
    prune_engine_streams     boolean  DEFAULT NULL,
    prune_worker_streams     boolean  DEFAULT NULL,
    engine_streams_retention interval DEFAULT NULL,
    worker_streams_retention interval DEFAULT NULL,
    prune_signals            boolean  DEFAULT false,
    batch_size               int      DEFAULT NULL,
    batch_time               interval DEFAULT '200 ms',
    batch_pause              interval DEFAULT '0',
    max_runtime              interval DEFAULT NULL,
    max_rows                 bigint   DEFAULT NULL,
    disable_triggers         boolean  DEFAULT false,
    max_wal_rate             bigint   DEFAULT NULL,
    max_replica_lag          interval DEFAULT NULL,
    max_percent              numeric  DEFAULT 50,
    every                    interval DEFAULT NULL,
    enabled                  boolean  DEFAULT true,
    note                     text     DEFAULT NULL)
RETURNS hotmesh_dba.policy
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_app    name := hotmesh_dba.app_schema(app_id);
    v_policy hotmesh_dba.policy;
BEGIN
    PERFORM hotmesh_dba._check_owner(v_app, 'set a policy of');
    PERFORM hotmesh_dba._follow_renames();
    v_policy := hotmesh_dba._resolve_policy(ROW(
        v_app, name, retention, prune_jobs, prune_streams, strip_attributes, entity_list, prune_transient, keep_hmark,
        prune_engine_streams, prune_worker_streams, engine_streams_retention, worker_streams_retention, prune_signals,
        batch_size, batch_time, batch_pause, max_runtime, max_rows, disable_triggers, max_wal_rate, max_replica_lag,
        max_percent, every, enabled, note, current_user, clock_timestamp(), clock_timestamp(), NULL, NULL, NULL)::hotmesh_dba.policy);
    v_policy := hotmesh_dba._bind_policy(v_policy, v_app);
    PERFORM hotmesh_dba._check_policy(v_policy);
    PERFORM hotmesh_dba._check_steps_owner(v_app, hotmesh_dba._policy_steps(v_policy));
    RETURN hotmesh_dba._save_policy(v_policy);
END
$$;

COMMENT ON FUNCTION hotmesh_dba.set_policy(text, text, interval, boolean, boolean, boolean, text[], boolean, boolean, boolean, boolean, interval, interval, boolean, int, interval, interval, interval, bigint, boolean, bigint, interval, numeric, interval, boolean, text) IS
'Sets a policy of an app: what run_policy and run_due remove. It replaces the whole policy of that name, and returns it resolved. In a policy every step is off unless it is named, and no window is set unless it is said. Needs membership in the role that owns the app''s tables; a table that belongs to somebody else is refused.
app_id: the app (see view hotmesh_dba.app).
name: 1 to 63 letters, digits, _, . and -.
retention (NULL), prune_jobs, prune_streams, strip_attributes (false), entity_list (NULL), prune_transient, keep_hmark (false), prune_engine_streams, prune_worker_streams, engine_streams_retention, worker_streams_retention (NULL), prune_signals (false): as in prune. What is on needs a window, retention or its own; the strip and signals have none.
batch_size, batch_time, batch_pause, max_runtime, max_rows, disable_triggers, max_wal_rate, max_replica_lag: as in prune_batched.
max_percent (50): the fuse. A run that would delete more than so much of any one table stops before its first row; 100 switches it off. What is small or quiet may be due as a whole: say 100 there.
every (NULL: never): how often run_due runs it.
enabled (true): whether it runs; a disabled one runs by force alone.
note (NULL): whatever you like.
Errors: 22023 22004 options that contradict each other or are out of range; 42602 3F000 42809 bad app; 42501 not the owner''s.';

CREATE OR REPLACE FUNCTION hotmesh_dba.drop_policy(app_id text, name text) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_app name := hotmesh_dba._app_or_name(app_id);
BEGIN
    PERFORM hotmesh_dba._follow_renames();
    DELETE FROM hotmesh_dba.policy p
    WHERE p.name = drop_policy.name AND hotmesh_dba._policy_app(p) = v_app AND hotmesh_dba._may_see_policy(p);
    IF FOUND THEN
        RETURN;
    END IF;
    -- Of an app that is gone, by the name that it had.
    DELETE FROM hotmesh_dba.policy p
    WHERE p.name = drop_policy.name AND p.app::text = app_id AND hotmesh_dba._policy_app(p) IS NULL
      AND hotmesh_dba._may_see_policy(p);
    IF FOUND THEN
        RETURN;
    END IF;
    v_app := hotmesh_dba.app_schema(app_id);
    PERFORM hotmesh_dba._check_owner(v_app, 'drop a policy of');
    PERFORM hotmesh_dba._raise_no_policy(v_app, name);
END
$$;

COMMENT ON FUNCTION hotmesh_dba.drop_policy(text, text) IS
'Drops a policy; what it has removed stays removed, its runs stay in hotmesh_dba.run, and a schedule of it is ended by unschedule. Needs membership in the role that owns the app''s tables.
app_id: the app (see view hotmesh_dba.app).
name: of the policy.
Errors: 42704 no such policy; 42602 3F000 42809 bad app; 42501 not the owner''s.';

-- sql/policies/fuse.sql

-- The fuse: a policy that would delete more than max_percent of a table's rows was hardly meant so (a window too short, an
-- app restored with its clock wrong). It stops before the first row.

-- Rows that none of the steps (two at most, of one table) takes, counted no further than max_rows.
CREATE OR REPLACE FUNCTION hotmesh_dba._count_staying(steps hotmesh_dba._step[], max_rows bigint) RETURNS bigint
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET jit = off
SET lock_timeout = 0
AS $$
DECLARE
    v_count bigint;
BEGIN
    PERFORM hotmesh_dba._bound_waiting();
    EXECUTE format('SELECT count(*) FROM (SELECT 1 FROM %s t WHERE (%s) IS NOT TRUE AND (%s) IS NOT TRUE LIMIT $4) s',
                   (steps[1]).relation, (steps[1]).row_filter,
                   coalesce(replace((steps[2]).row_filter, '$1', '$3'), 'false'))
        INTO v_count
        USING (steps[1]).before, (steps[1]).entity_list, (steps[2]).before, max_rows;
    RETURN v_count;
END
$$;

-- Of one table, all the steps that delete rows of it. No estimate: statistics know nothing of a restored table, and a
-- sample of pages nothing of one whose rows all lie at one end. But rows that stay are counted no further than there
-- must be of them, so that where little is due little is read.
CREATE OR REPLACE FUNCTION hotmesh_dba._check_share(run hotmesh_dba._run, relation regclass, steps hotmesh_dba._step[])
RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_due  bigint := (SELECT coalesce(sum(hotmesh_dba._count_due(s, NULL)), 0)
                      FROM unnest(steps) s WHERE hotmesh_dba._is_due(s));
    v_must bigint := ceil(v_due * (100 - (run).max_percent) / (run).max_percent);
    v_stay bigint := hotmesh_dba._count_staying(steps, v_must);
BEGIN
    IF v_due > 0 AND v_stay < v_must THEN
        RAISE EXCEPTION '% of % rows of % are due', v_due, v_due + v_stay, relation
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  DETAIL = format('More than the max_percent of %s of its policy; so no row was deleted.', (run).max_percent),
                  HINT = (SELECT concat_ws(' ', 'Look at what would go: ' || hotmesh_dba._preview_policy_call(p) || ';',
                                           'if all of it may go: ' || hotmesh_dba._run_policy_call(r.app, r.policy, force => true) || ';')
                          FROM hotmesh_dba.run r, hotmesh_dba._policy(r.app, r.policy) p
                          WHERE r.id = (run).id);
    END IF;
END
$$;

-- Every worker looks at every table as a whole: none begins where one would not.
CREATE OR REPLACE FUNCTION hotmesh_dba._check_shares(run hotmesh_dba._run) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    FOR v_try IN 1 .. 6 LOOP
        BEGIN
            PERFORM hotmesh_dba._check_share(run, t.relation, t.steps)
            FROM (SELECT s.relation, array_agg(s ORDER BY s.ordinal) AS steps, min(s.ordinal) AS position
                  FROM unnest((run).steps) s
                  WHERE s.name <> 'strip'       -- it deletes no row of its table
                  GROUP BY s.relation
                  ORDER BY position) t;
            RETURN;
        EXCEPTION WHEN lock_not_available OR deadlock_detected THEN
            IF v_try = 6 THEN
                PERFORM hotmesh_dba._raise_locked((run).app, 'prune');
            END IF;
            PERFORM pg_sleep(0.05 * v_try);
        END;
    END LOOP;
END
$$;

CREATE OR REPLACE FUNCTION hotmesh_dba._try_fuse(run hotmesh_dba._run) RETURNS hotmesh_dba._run
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_detail text;
    v_hint   text;
BEGIN
    PERFORM hotmesh_dba._check_shares(run);
    run.max_percent := NULL;
    RETURN run;
EXCEPTION WHEN OTHERS OR assert_failure THEN
    GET STACKED DIAGNOSTICS v_detail = PG_EXCEPTION_DETAIL, v_hint = PG_EXCEPTION_HINT;
    run := hotmesh_dba._with_error(run, SQLSTATE, SQLERRM, v_detail, v_hint);
    RETURN hotmesh_dba._end_run(run, CASE WHEN SQLSTATE = '55000' THEN 'max_percent' ELSE 'error' END);
END
$$;

-- sql/policies/run_policy.sql

-- Who disables a policy means its schedules too.
CREATE OR REPLACE FUNCTION hotmesh_dba._check_enabled(policy hotmesh_dba.policy) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF policy.enabled IS NOT TRUE THEN
        RAISE EXCEPTION 'policy "%" of app "%" is disabled', policy.name, policy.app
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  DETAIL = 'It was set with enabled => false. Nothing was changed.',
                  HINT = format('Set it anew with enabled => true; or once: %s;',
                                hotmesh_dba._run_policy_call(policy.app, policy.name, force => true));
    END IF;
END
$$;

-- A policy's run, begun: that of prune_batched with its options, and with the fuse unless it is forced.
CREATE OR REPLACE FUNCTION hotmesh_dba._begin_policy(policy hotmesh_dba.policy, force boolean, worker int, workers int)
RETURNS hotmesh_dba._run
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_run hotmesh_dba._run;
BEGIN
    PERFORM hotmesh_dba._check_flag('force', force);
    PERFORM hotmesh_dba._check_policy(policy);
    IF NOT force THEN
        PERFORM hotmesh_dba._check_enabled(policy);
    END IF;
    v_run := hotmesh_dba._begin_run(
        policy.app, hotmesh_dba._policy_retention(policy), policy.prune_jobs, policy.prune_streams, policy.strip_attributes,
        policy.entity_list, policy.prune_transient, policy.keep_hmark, policy.prune_engine_streams,
        policy.prune_worker_streams, policy.engine_streams_retention, policy.worker_streams_retention, policy.prune_signals,
        policy.batch_size, policy.batch_time, policy.batch_pause, policy.max_runtime, policy.max_rows, worker, workers,
        policy.disable_triggers, policy.max_wal_rate, policy.max_replica_lag);
    -- An app id is resolved by its name, and the name of what is no app any more may lead to another.
    IF (v_run).schema_oid IS DISTINCT FROM policy.app_oid THEN
        PERFORM hotmesh_dba._raise_app_is_gone(policy);
    END IF;
    PERFORM hotmesh_dba._check_steps_owner((v_run).app, (v_run).steps);
    UPDATE hotmesh_dba.run r SET policy = (_begin_policy.policy).name, app_owner = (_begin_policy.policy).owner WHERE r.id = (v_run).id;
    v_run.max_percent := CASE WHEN NOT force THEN nullif(policy.max_percent, 100) END;
    RETURN v_run;
END
$$;

CREATE OR REPLACE PROCEDURE hotmesh_dba.run_policy(
    app_id       text,
    name         text,
    force        boolean DEFAULT false,
    worker       int     DEFAULT 1,
    workers      int     DEFAULT 1,
    INOUT run_id bigint  DEFAULT NULL)
LANGUAGE plpgsql
AS $$
DECLARE
    v_run hotmesh_dba._run;
BEGIN
    COMMIT;
    SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
    SET LOCAL synchronous_commit TO off;
    PERFORM hotmesh_dba._check_writable();
    v_run := hotmesh_dba._begin_policy(hotmesh_dba._find_policy(app_id, name, 'run a policy of'), force, worker, workers);
    run_id := v_run.id;
    CALL hotmesh_dba._drive(v_run);
    PERFORM hotmesh_dba._report(v_run);
END
$$;

COMMENT ON PROCEDURE hotmesh_dba.run_policy(text, text, boolean, int, int, bigint) IS
'Runs a policy of an app now: prune_batched with its options, recorded in hotmesh_dba.run with the policy''s name. CALL it by itself, outside a transaction block. Needs membership in the role that owns the app''s tables.
app_id: the app (see view hotmesh_dba.app).
name: of the policy.
force (false): go on where the fuse, the policy''s max_percent, would stop it before its first row, or where the policy is disabled.
worker, workers (1, 1): as in prune_batched.
run_id: leave it out; it returns the id of the run''s row in hotmesh_dba.run.
Errors: as of prune_batched; 42704 no such policy; 55000 the fuse, a disabled policy, or an app that is gone.';

-- sql/policies/run_due.sql

-- Every policy whose time has come, of every app that the caller has a say in. One that fails does not stop the others.

-- When it last began. What says to have begun in the future (a clock was set back), or before there was this policy (an app
-- of the name had one like it), would keep it waiting, and counts for nothing.
CREATE OR REPLACE FUNCTION hotmesh_dba._last_run(policy hotmesh_dba.policy) RETURNS timestamptz
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT max(r.started_at)
    FROM hotmesh_dba.run r
    WHERE r.app = policy.app AND r.policy = policy.name AND r.started_at BETWEEN policy.created_at AND clock_timestamp()
$$;

-- A tenth of `every` early, ten minutes at most: a run begins a moment after its tick, by as much as those before it took,
-- and the next tick must not find that a second is missing.
CREATE OR REPLACE FUNCTION hotmesh_dba._is_policy_due(policy hotmesh_dba.policy) RETURNS boolean
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN policy.enabled AND policy.every IS NOT NULL
       AND coalesce(hotmesh_dba._last_run(policy)
                    <= clock_timestamp() - policy.every + least(policy.every / 10, '10 minutes'), true);
EXCEPTION WHEN OTHERS THEN
    RETURN true;    -- whatever is wrong with it is said when its turn has come, and is nobody else's business
END
$$;

-- Those that are due, of apps that the caller has a say in, the one that waits longest first.
CREATE OR REPLACE FUNCTION hotmesh_dba._due_policies() RETURNS SETOF hotmesh_dba.policy
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT p.*
    FROM hotmesh_dba.policy p
    WHERE hotmesh_dba._is_policy_due(p)
      AND hotmesh_dba._may_see_policy(p)    -- who bypasses row-level security sees them all
    ORDER BY hotmesh_dba._last_run(p) NULLS FIRST, p.app, p.name
$$;

CREATE OR REPLACE FUNCTION hotmesh_dba._begin_round(max_runtime interval, trust_owners boolean) RETURNS hotmesh_dba._due
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '10s'
AS $$
DECLARE
    v_due     hotmesh_dba._due;
    v_policy  hotmesh_dba.policy;
    v_foreign text[];
BEGIN
    PERFORM hotmesh_dba._check_flag('trust_owners', trust_owners);
    PERFORM hotmesh_dba._check_knob(coalesce(max_runtime BETWEEN '0' AND '1 year', true), 'max_runtime', max_runtime::text,
                                    'between 0 and a year, or NULL', '''10 minutes''');
    PERFORM hotmesh_dba._follow_renames();
    v_due.waiting := '{}';
    v_due.ends_at := hotmesh_dba._ends_at(max_runtime);
    v_due.runs := 0;
    v_due.failed := 0;
    v_due.postponed := 0;
    v_due.busy := 0;
    v_due.others := 0;
    v_due.failures := '{}';
    v_due.ended := false;
    v_foreign := ARRAY(SELECT coalesce(a.app, '')
                       FROM (SELECT DISTINCT hotmesh_dba._policy_app(p) AS app FROM hotmesh_dba.policy p) a
                       WHERE hotmesh_dba._is_foreign(a.app));
    v_due.trust := trust_owners;
    v_due.role := current_setting('role');
    FOR v_policy IN SELECT p.* FROM hotmesh_dba._due_policies() p LOOP
        -- Asked again when its turn has come.
        IF NOT trust_owners AND coalesce(hotmesh_dba._policy_app(v_policy)::text, '') = ANY (v_foreign) THEN
            v_due.others := (v_due).others + 1;
        ELSE
            v_due.waiting := (v_due).waiting || v_policy;
        END IF;
    END LOOP;
    RETURN v_due;
END
$$;

-- A policy that fails is not tried again before its next turn, so even one that could not begin has a run.
CREATE OR REPLACE FUNCTION hotmesh_dba._record_failure(policy hotmesh_dba.policy, sqlstate_of text, message text, detail text)
RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '10s'
AS $$
DECLARE
    v_id bigint;
BEGIN
    PERFORM hotmesh_dba._tidy_runs(policy.app);
    INSERT INTO hotmesh_dba.run AS r (group_id, app, worker, workers, options, jobs_before, engine_before, worker_before,
                                      signals_until, triggers_disabled, finished_at, state, stop_reason, remaining,
                                      error_sqlstate, error_message, error_detail, policy)
    VALUES (0, policy.app, 1, 1, to_jsonb(policy) || '{"worker": 1, "workers": 1}', now(), now(), now(), now(),
            policy.disable_triggers, clock_timestamp(), 'failed', 'error', 0, sqlstate_of, message, nullif(detail, ''), policy.name)
    RETURNING r.id INTO v_id;
    UPDATE hotmesh_dba.run r SET group_id = r.id WHERE r.id = v_id;
EXCEPTION WHEN OTHERS OR assert_failure THEN
    RAISE WARNING 'the failure of policy "%" of app "%" could not be recorded', policy.name, policy.app
        USING ERRCODE = SQLSTATE, DETAIL = SQLERRM,
              HINT = 'It will be tried again at the next call; disable it until it is mended.';
END
$$;

CREATE OR REPLACE FUNCTION hotmesh_dba._with_failure(due hotmesh_dba._due, sqlstate_of text, message text, hint text)
RETURNS hotmesh_dba._due
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    due.failed := (due).failed + 1;
    due.sqlstate := coalesce((due).sqlstate, sqlstate_of);
    due.failures := (due).failures || format('Policy "%s" of app "%s": %s.', ((due).policy).name, ((due).policy).app, message);
    RAISE WARNING 'policy "%" of app "%" failed: %', ((due).policy).name, ((due).policy).app, message
        USING ERRCODE = sqlstate_of, HINT = coalesce(nullif(hint, ''), 'SELECT * FROM hotmesh_dba.run ORDER BY id DESC;');
    RETURN due;
END
$$;

-- The failure of a policy that could not begin. Where its app is gone, or another has its name, no other app's owner has
-- to read of it.
CREATE OR REPLACE FUNCTION hotmesh_dba._fail_turn(due hotmesh_dba._due, sqlstate_of text, message text, detail text, hint text)
RETURNS hotmesh_dba._due
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF hotmesh_dba._policy_app((due).policy) = ((due).policy).app OR hotmesh_dba._jobs(((due).policy).app) IS NULL THEN
        PERFORM hotmesh_dba._record_failure((due).policy, sqlstate_of, message, detail);
    END IF;
    due.runs := (due).runs + 1;
    RETURN hotmesh_dba._with_failure(due, sqlstate_of, message, hint);
END
$$;

-- Begins the run of one policy, unless it has none to do any more: another round was quicker, or it was changed.
CREATE OR REPLACE FUNCTION hotmesh_dba._begin_turn(due hotmesh_dba._due, share interval) RETURNS hotmesh_dba._due
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '10s'
AS $$
DECLARE
    v_policy hotmesh_dba.policy;
    v_run    hotmesh_dba._run;
    v_detail text;
    v_hint   text;
BEGIN
    SELECT p.* INTO v_policy
    FROM hotmesh_dba.policy p
    WHERE (p.origin, p.app_oid, p.name) = (((due).policy).origin, ((due).policy).app_oid, ((due).policy).name);
    IF v_policy.app IS NULL OR NOT hotmesh_dba._is_policy_due(v_policy) THEN
        RETURN due;
    END IF;
    v_policy := hotmesh_dba._up_to_date(v_policy);      -- its row may have been locked
    due.policy := v_policy;
    IF NOT (due).trust AND hotmesh_dba._is_foreign(v_policy.app) THEN
        due.others := (due).others + 1;
        RETURN due;
    END IF;
    PERFORM hotmesh_dba._check_policy_app(v_policy);
    v_run := hotmesh_dba._begin_policy(v_policy, false, 1, 1);
    v_run.ends_at := least(clock_timestamp() + v_policy.max_runtime, clock_timestamp() + share);
    v_run.isolated := true;
    due.run := v_run;
    due.runs := (due).runs + 1;
    RETURN due;
EXCEPTION
    WHEN lock_not_available THEN
        GET STACKED DIAGNOSTICS v_detail = PG_EXCEPTION_DETAIL, v_hint = PG_EXCEPTION_HINT;
        RAISE WARNING 'policy "%" of app "%" is left for the next call: %', ((due).policy).name, ((due).policy).app, SQLERRM
            USING ERRCODE = SQLSTATE, DETAIL = v_detail, HINT = v_hint;
        due.busy := (due).busy + 1;
        RETURN due;
    WHEN OTHERS OR assert_failure THEN
        GET STACKED DIAGNOSTICS v_detail = PG_EXCEPTION_DETAIL, v_hint = PG_EXCEPTION_HINT;
        RETURN hotmesh_dba._fail_turn(due, SQLSTATE, SQLERRM, v_detail, v_hint);
END
$$;

-- The next policy, with its share of the time that is left.
CREATE OR REPLACE FUNCTION hotmesh_dba._next_turn(due hotmesh_dba._due) RETURNS hotmesh_dba._due
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_none  hotmesh_dba._run;
    v_share interval := ((due).ends_at - clock_timestamp()) / nullif(cardinality((due).waiting), 0);
BEGIN
    v_none.ended := true;
    due.run := v_none;
    IF cardinality((due).waiting) = 0 THEN
        due.ended := true;
        RETURN due;
    END IF;
    IF current_setting('role') <> (due).role THEN
        PERFORM set_config('role', (due).role, false);
    END IF;
    due.policy := (due).waiting[1];
    due.waiting := (due).waiting[2 :];
    IF v_share <= '0' THEN
        due.postponed := (due).postponed + 1;
        RETURN due;
    END IF;
    RETURN hotmesh_dba._begin_turn(due, v_share);
END
$$;

-- Whoever cancels a run means the whole round.
CREATE OR REPLACE FUNCTION hotmesh_dba._end_turn(due hotmesh_dba._due, run hotmesh_dba._run) RETURNS hotmesh_dba._due
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF (run).id IS NULL THEN
        RETURN due;
    ELSIF (run).stop_reason = 'cancelled' THEN
        due.waiting := '{}';
    END IF;
    IF (run).sqlstate IS NOT NULL THEN
        RETURN hotmesh_dba._with_failure(due, (run).sqlstate, (run).message, (run).hint);
    END IF;
    PERFORM hotmesh_dba._report(run);
    RETURN due;
END
$$;

CREATE OR REPLACE FUNCTION hotmesh_dba._report_round(due hotmesh_dba._due) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF (due).postponed > 0 THEN
        RAISE WARNING '% policies are left for the next call: max_runtime', (due).postponed
            USING HINT = 'They are the first then; or give it more time: max_runtime => ''1 hour''.';
    END IF;
    IF (due).others > 0 THEN
        RAISE WARNING '% policies are left to the owners of their apps, whose code a superuser would execute', (due).others
            USING HINT = 'Call it as a member of those roles; or, where they are trusted: CALL hotmesh_dba.run_due(trust_owners => true);';
    END IF;
    IF (due).failed > 0 THEN
        RAISE EXCEPTION '% of % policies failed', (due).failed, (due).runs
            USING ERRCODE = (due).sqlstate,
                  DETAIL = array_to_string((due).failures, ' ') || ' What was removed stays removed.',
                  HINT = 'SELECT * FROM hotmesh_dba.run WHERE state = ''failed'' ORDER BY id DESC;';
    END IF;
END
$$;

CREATE OR REPLACE PROCEDURE hotmesh_dba.run_due(
    max_runtime     interval DEFAULT NULL,
    trust_owners    boolean  DEFAULT false,
    INOUT runs      int      DEFAULT NULL,
    INOUT failed    int      DEFAULT NULL,
    INOUT busy      int      DEFAULT NULL,
    INOUT postponed int      DEFAULT NULL,
    INOUT others    int      DEFAULT NULL)
LANGUAGE plpgsql
AS $$
DECLARE
    v_due hotmesh_dba._due;
    v_run hotmesh_dba._run;
BEGIN
    COMMIT;
    SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
    v_due := hotmesh_dba._begin_round(max_runtime, trust_owners);
    LOOP
        COMMIT;
        SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
        SET LOCAL synchronous_commit TO off;
        v_due := hotmesh_dba._next_turn(v_due);
        EXIT WHEN v_due.ended;
        v_run := v_due.run;
        CALL hotmesh_dba._drive(v_run);
        v_due := hotmesh_dba._end_turn(v_due, v_run);
    END LOOP;
    COMMIT;
    runs := v_due.runs;
    failed := v_due.failed;
    busy := v_due.busy;
    postponed := v_due.postponed;
    others := v_due.others;
    PERFORM hotmesh_dba._report_round(v_due);
END
$$;

COMMENT ON PROCEDURE hotmesh_dba.run_due(interval, boolean, int, int, int, int, int) IS
'Runs every enabled policy whose time (every) has come, of every app that the caller has a say in, one after the other, the one that waits longest first. One line in any scheduler. CALL it by itself, outside a transaction block.
max_runtime (NULL: nine tenths of statement_timeout, where one is set): stop after this time; each policy gets a fair share of what is left. What comes too late is first at the next call.
trust_owners (false): a superuser leaves other owners'' apps alone, with a WARNING, for whatever these have put on their tables (a trigger, an index on a function) is executed by whoever prunes them; true: they are pruned too.
runs, failed, busy, postponed, others: leave them out; they return how many runs there were, how many of them failed, and how many of those that are due were left for the next call, with a WARNING: because another run or somebody''s lock held their app, and for want of time; and how many of other owners'' apps a superuser left to them.
One that fails does not stop the others, and waits for its next turn. Each has its row in hotmesh_dba.run. If any failed, its error is raised at the end.
Errors: 2D000 in a transaction block; 22023 bad max_runtime; 25006 read-only; 57014 cancelled; else the SQLSTATE of the first that failed.';

-- sql/policies/cron.sql

-- pg_cron. Its job runs as whoever it belongs to, one statement by itself: the bare CALL that can COMMIT.

CREATE OR REPLACE FUNCTION hotmesh_dba._job_name(app name, policy_name text) RETURNS text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$ SELECT format('hotmesh_dba %s %s', app, policy_name) $$;

CREATE OR REPLACE FUNCTION hotmesh_dba._cron_is_here() RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$ SELECT EXISTS (SELECT FROM pg_extension e WHERE e.extname = 'pg_cron') $$;

-- The one database of the cluster in which pg_cron keeps its jobs; '' where we may not know; NULL where there is none.
CREATE OR REPLACE FUNCTION hotmesh_dba._cron_database() RETURNS text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN current_setting('cron.database_name', true);
EXCEPTION WHEN insufficient_privilege THEN
    RETURN '';
END
$$;

CREATE OR REPLACE FUNCTION hotmesh_dba._check_cron() RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF hotmesh_dba._cron_is_here() THEN
        IF NOT has_schema_privilege('cron', 'USAGE') THEN
            RAISE EXCEPTION 'permission denied for schema cron'
                USING ERRCODE = 'insufficient_privilege',
                      DETAIL = format('Role "%s" lacks USAGE on the schema of pg_cron. Nothing was changed.', current_user),
                      HINT = format('GRANT USAGE ON SCHEMA cron TO %I;', current_user);
        END IF;
    ELSIF hotmesh_dba._cron_database() IS NULL THEN
        RAISE EXCEPTION 'pg_cron is not installed'
            USING ERRCODE = 'feature_not_supported',
                  DETAIL = 'The server does not load it. Nothing was changed.',
                  HINT = 'Add pg_cron to shared_preload_libraries and restart; or let another scheduler call: CALL hotmesh_dba.run_due();';
    ELSIF hotmesh_dba._cron_database() = current_database() THEN
        RAISE EXCEPTION 'pg_cron is not installed in this database'
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  DETAIL = 'The server keeps its jobs in this database, where the extension is missing. Nothing was changed.',
                  HINT = 'CREATE EXTENSION pg_cron;';
    END IF;
END
$$;

-- Five fields, a name such as @hourly, or seconds: what pg_cron says of it where it is in reach, else we.
CREATE OR REPLACE FUNCTION hotmesh_dba._check_cron_expression(cron_expression text) RETURNS void
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF (cron_expression ~ '^[[:space:]]*(@[a-z]+|[0-9]+ seconds?|[0-9*/,$A-Za-z-]+([[:space:]]+[0-9*/,$A-Za-z-]+){4})[[:space:]]*$') IS NOT TRUE THEN
        RAISE EXCEPTION 'invalid schedule: %', coalesce(quote_literal(cron_expression), 'NULL')
            USING ERRCODE = 'invalid_parameter_value',
                  DETAIL = 'A cron expression has five fields: minute, hour, day of the month, month, day of the week.',
                  HINT = 'Write for example ''0 2 * * *'' (nightly at two) or ''*/15 * * * *''.';
    END IF;
END
$$;

-- As whom the job should run: not a superuser where the app is somebody else's, for what it runs is the owner's to change.
CREATE OR REPLACE FUNCTION hotmesh_dba._job_role(app name) RETURNS name
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_owner pg_roles := (SELECT r FROM pg_roles r WHERE r.oid = hotmesh_dba._owner(app));
BEGIN
    IF NOT hotmesh_dba._is_foreign(app) THEN
        RETURN current_user;
    ELSIF NOT v_owner.rolcanlogin THEN
        RAISE EXCEPTION 'role "%" cannot log in', v_owner.rolname
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  DETAIL = format('It owns app "%s"; a job of pg_cron logs in, and as a superuser it would execute whatever that role has put on its tables. Nothing was changed.', app),
                  HINT = format('ALTER ROLE %I LOGIN; or call it as a member of that role.', v_owner.rolname);
    END IF;
    RETURN v_owner.rolname;
END
$$;

CREATE OR REPLACE FUNCTION hotmesh_dba._call_cron(statement text) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_detail text;
    v_hint   text;
BEGIN
    EXECUTE statement;
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS v_detail = PG_EXCEPTION_DETAIL, v_hint = PG_EXCEPTION_HINT;
    RAISE EXCEPTION '%', SQLERRM
        USING ERRCODE = SQLSTATE,
              DETAIL = coalesce(nullif(v_detail, ''), 'pg_cron refused: ' || statement),
              HINT = coalesce(nullif(v_hint, ''),
                              'A cron expression has five fields, such as ''0 2 * * *''; SELECT * FROM hotmesh_dba.schedules;');
END
$$;

-- sql/policies/schedules.sql

-- A literal that stands in a job's command, with or without its parameter's name before it.
CREATE OR REPLACE FUNCTION hotmesh_dba._argument(command text, routine text, number int) RETURNS text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT replace((regexp_match(command, '[[:<:]]hotmesh_dba[[:space:]]*[.][[:space:]]*' || routine || '[[:space:]]*[(]'
                                          || repeat('[[:space:]]*(?:[[:alnum:]_]+[[:space:]]*=>)?[[:space:]]*''(?:[^'']|'''')*''[[:space:]]*,', number - 1)
                                          || '[[:space:]]*(?:[[:alnum:]_]+[[:space:]]*=>)?[[:space:]]*''((?:[^'']|'''')*)''', 'i'))[1], '''''', '''')
$$;

-- pg_cron's jobs that call us, as far as the caller sees them (row-level security of pg_cron: his own), each with its last
-- outcome, if it is among the last 10,000 (pg_cron keeps them for ever, with no index on the job). pg_cron may not be there,
-- so its tables stand in text alone.
CREATE OR REPLACE FUNCTION hotmesh_dba._schedules()
RETURNS TABLE (job_id bigint, job_name text, command text, cron_expression text, role name, database name, active boolean,
               last_started timestamptz, last_finished timestamptz, last_status text, last_message text)
LANGUAGE plpgsql STABLE ROWS 10
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NOT hotmesh_dba._cron_is_here() OR NOT has_schema_privilege('cron', 'USAGE')
       OR NOT has_table_privilege('cron.job', 'SELECT') OR NOT has_table_privilege('cron.job_run_details', 'SELECT') THEN
        RETURN;
    END IF;
    RETURN QUERY EXECUTE $query$
        SELECT j.jobid, j.jobname::text, j.command, j.schedule, j.username::name, j.database::name, j.active,
               d.start_time, d.end_time, d.status, d.return_message
        FROM cron.job j
        LEFT JOIN LATERAL (SELECT r.* FROM cron.job_run_details r WHERE r.jobid = j.jobid AND r.runid > (SELECT max(l.runid) - 10000 FROM cron.job_run_details l)
                           ORDER BY r.runid DESC LIMIT 1) d ON true
        WHERE j.command ~* '[[:<:]]hotmesh_dba[[:space:]]*[.]'
    $query$;
END
$$;

CREATE OR REPLACE VIEW hotmesh_dba.schedules AS
SELECT s.job_id, s.job_name,
       coalesce(hotmesh_dba._argument(s.command, 'run_policy', 1),
                hotmesh_dba._argument(s.command, 'prune_batched', 1))::name AS app,
       hotmesh_dba._argument(s.command, 'run_policy', 2) AS policy,
       s.cron_expression, s.role, s.database, s.active, s.last_started, s.last_finished, s.last_status, s.last_message
FROM hotmesh_dba._schedules() s;

GRANT SELECT ON hotmesh_dba.schedules TO PUBLIC;
COMMENT ON VIEW hotmesh_dba.schedules IS
'Jobs of pg_cron that call a routine of hotmesh_dba, as far as you may see them, with their last outcome. Empty where pg_cron is not in this database, or may not be read.';
COMMENT ON COLUMN hotmesh_dba.schedules.job_id IS 'What cron.unschedule takes.';
COMMENT ON COLUMN hotmesh_dba.schedules.job_name IS 'Name of the job; NULL where it has none.';
COMMENT ON COLUMN hotmesh_dba.schedules.app IS 'The app as its command names it; NULL where it names none, as run_due.';
COMMENT ON COLUMN hotmesh_dba.schedules.policy IS 'The policy that it runs; NULL where it runs none, or all that are due.';
COMMENT ON COLUMN hotmesh_dba.schedules.cron_expression IS 'When: minute, hour, day of the month, month, day of the week.';
COMMENT ON COLUMN hotmesh_dba.schedules.role IS 'As whom it runs.';
COMMENT ON COLUMN hotmesh_dba.schedules.database IS 'In which database.';
COMMENT ON COLUMN hotmesh_dba.schedules.active IS 'Whether pg_cron runs it.';
COMMENT ON COLUMN hotmesh_dba.schedules.last_started IS 'When it last began; NULL where it never did, or pg_cron keeps no record.';
COMMENT ON COLUMN hotmesh_dba.schedules.last_finished IS 'When that ended.';
COMMENT ON COLUMN hotmesh_dba.schedules.last_status IS 'starting, running, succeeded or failed, as pg_cron says; NULL where it never ran, or not among its last 10,000.';
COMMENT ON COLUMN hotmesh_dba.schedules.last_message IS 'What the server said: CALL, or the error.';

-- sql/policies/schedule.sql

CREATE OR REPLACE FUNCTION hotmesh_dba.schedule(app_id text, policy_name text, cron_expression text)
RETURNS TABLE (job_name text, scheduled boolean, statement text)
LANGUAGE plpgsql VOLATILE ROWS 1
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_policy  hotmesh_dba.policy := hotmesh_dba._find_policy(app_id, policy_name, 'schedule a policy of');
    v_role    name := hotmesh_dba._job_role(v_policy.app);
    v_command text := hotmesh_dba._run_policy_call(v_policy.app, v_policy.name);
BEGIN
    PERFORM hotmesh_dba._check_enabled(v_policy);
    PERFORM hotmesh_dba._check_cron();
    PERFORM hotmesh_dba._check_cron_expression(cron_expression);
    job_name := hotmesh_dba._job_name(v_policy.app, v_policy.name);
    scheduled := hotmesh_dba._cron_is_here();
    IF scheduled AND v_role = current_user THEN
        statement := format('SELECT cron.schedule(%L, %L, %L);', job_name, cron_expression, v_command);
    ELSE
        statement := format('SELECT cron.schedule_in_database(%L, %L, %L, %L, %L);', job_name, cron_expression, v_command,
                            current_database(), v_role);
    END IF;
    IF scheduled THEN
        PERFORM hotmesh_dba._call_cron(statement);
    END IF;
    RETURN NEXT;
END
$$;

COMMENT ON FUNCTION hotmesh_dba.schedule(text, text, text) IS
'Has pg_cron run a policy: a job whose command is one CALL of run_policy. A job of that name is replaced. Called by a superuser, the job is the app''s owner''s. Needs membership in that role, and USAGE on schema cron.
app_id: the app (see view hotmesh_dba.app).
policy_name: of the policy.
cron_expression: minute, hour, day of the month, month, day of the week; in the time zone of pg_cron (UTC unless it is told another).
job_name: what the job is called.
scheduled: true where pg_cron is in this database, and it is done. false where pg_cron lives in another database of the cluster: then nothing was done, and a superuser has to run there what is in the next column.
statement: the statement.
Errors: 42704 no such policy; 22023 invalid cron_expression; 0A000 no pg_cron; 55000 not created in this database, a disabled policy, or an owner who cannot log in; 42501 not the owner''s, or no USAGE.';

CREATE OR REPLACE FUNCTION hotmesh_dba.unschedule(app_id text, policy_name text)
RETURNS TABLE (job_name text, scheduled boolean, statement text)
LANGUAGE plpgsql VOLATILE ROWS 1
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_job text := hotmesh_dba._job_name(hotmesh_dba._app_or_name(app_id), policy_name);
    v_id  bigint;
BEGIN
    PERFORM hotmesh_dba._check_cron();
    job_name := v_job;
    scheduled := false;
    IF NOT hotmesh_dba._cron_is_here() THEN
        statement := format('SELECT cron.unschedule(jobid) FROM cron.job WHERE jobname = %L AND database = %L;',
                            v_job, current_database());
        RETURN NEXT;
        RETURN;
    END IF;
    FOR v_id IN SELECT s.job_id FROM hotmesh_dba.schedules s WHERE s.job_name = v_job AND s.database = current_database() LOOP
        statement := concat_ws(' ', statement, format('SELECT cron.unschedule(%s);', v_id));
    END LOOP;
    IF statement IS NULL THEN
        RAISE EXCEPTION 'no such schedule: %', coalesce(quote_literal(v_job), 'NULL')
            USING ERRCODE = 'undefined_object',
                  DETAIL = format('Role "%s" has no job of that name in this database.', current_user),
                  HINT = 'SELECT job_id, job_name, role FROM hotmesh_dba.schedules;';
    END IF;
    PERFORM hotmesh_dba._call_cron(statement);
    RETURN NEXT;
END
$$;

COMMENT ON FUNCTION hotmesh_dba.unschedule(text, text) IS
'Ends a schedule that schedule made; the policy stays. The job must be the caller''s, unless that is a superuser.
app_id: the app, or the name that it had.
policy_name: of the policy; it may be dropped already.
job_name: what the job was called.
scheduled: whether a job of that name is still scheduled by this database''s pg_cron: false.
statement: what was run; where pg_cron lives in another database of the cluster, what has to be run there.
Errors: 42704 no such schedule; 0A000 no pg_cron; 55000 not created in this database; 42501 no USAGE on schema cron.';

-- sql/deploy/wrapper.sql

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

-- sql/deploy/grants.sql

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

-- sql/deploy/overloads.sql

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

-- sql/deploy/index.sql

-- Would a plain CREATE INDEX block the app's writers for too long? More than 100,000 rows, counted no further;
-- or a heap so large that reading it takes as long, however few rows are left in it.
CREATE OR REPLACE FUNCTION hotmesh_dba._is_big(jobs regclass) RETURNS boolean
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_rows bigint;
BEGIN
    IF (SELECT sum(pg_relation_size(t)) FROM hotmesh_dba._tree(jobs) t) > 256 * 1024 * 1024 THEN
        RETURN true;
    END IF;
    EXECUTE format('SELECT count(*) FROM (SELECT 1 FROM %s LIMIT 100001) probe', jobs) INTO v_rows;
    RETURN v_rows > 100000;
END
$$;

-- The first name that is free: another index may have taken the usual one.
CREATE OR REPLACE FUNCTION hotmesh_dba._index_name(app_schema name, kind text) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT c.candidate
    FROM (SELECT 'idx_jobs_' || kind || coalesce('_' || nullif(i, 0), '') AS candidate, i
          FROM generate_series(0, 99) i) c
    WHERE to_regclass(format('%I.%I', app_schema, c.candidate)) IS NULL
    ORDER BY c.i
    LIMIT 1
$$;

CREATE OR REPLACE FUNCTION hotmesh_dba._index_definition(kind text) RETURNS text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$ SELECT w.definition FROM hotmesh_dba._strip_indexes() w WHERE w.kind = _index_definition.kind $$;

-- What to type for one table, without blocking its writers; begins where an earlier try broke off.
CREATE OR REPLACE FUNCTION hotmesh_dba._concurrent_index_sql(relation regclass, kind text, index_name text) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT concat_ws(E'\n',
        'DROP INDEX CONCURRENTLY ' || hotmesh_dba._strip_index(relation, kind, valid => false) || ';',
        format('CREATE INDEX CONCURRENTLY %I ON %s %s;', index_name, relation, hotmesh_dba._index_definition(kind)))
    WHERE hotmesh_dba._strip_index(relation, kind) IS NULL
$$;

-- A partitioned table takes no CONCURRENTLY: an empty index on it, one built on each part, and each attached.
CREATE OR REPLACE FUNCTION hotmesh_dba._partitioned_index_sql(jobs regclass, kind text, app_schema name) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    WITH part AS (
        SELECT h.inhrelid::regclass AS relation, format('%s_%s_idx', left(c.relname, 50), kind) AS index_name,
               hotmesh_dba._strip_index(h.inhrelid, kind) AS built
        FROM pg_inherits h
        JOIN pg_class c ON c.oid = h.inhrelid
        WHERE h.inhparent = jobs
    )
    SELECT concat_ws(E'\n',
        CASE WHEN hotmesh_dba._strip_index(jobs, kind, valid => false) IS NULL THEN
            format('CREATE INDEX %I ON ONLY %s %s;',
                   hotmesh_dba._index_name(app_schema, kind), jobs, hotmesh_dba._index_definition(kind))
        END,
        string_agg(concat_ws(E'\n',
            hotmesh_dba._concurrent_index_sql(p.relation, kind, p.index_name),
            format('ALTER INDEX %s ATTACH PARTITION %s;',
                   coalesce(hotmesh_dba._strip_index(jobs, kind, valid => false)::text,
                            format('%I.%I', app_schema, hotmesh_dba._index_name(app_schema, kind))),
                   coalesce(p.built::text, format('%I.%I', app_schema, p.index_name)))),
            E'\n' ORDER BY p.index_name)
            FILTER (WHERE NOT EXISTS (SELECT FROM pg_inherits i
                                      WHERE i.inhrelid = p.built
                                        AND i.inhparent = hotmesh_dba._strip_index(jobs, kind, valid => false))))
    FROM part p
$$;

-- Dropping the one on a partitioned table takes along what is attached to it; a new one would adopt the rest.
CREATE OR REPLACE FUNCTION hotmesh_dba._drop_invalid_indexes_sql(jobs regclass, kind text) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT string_agg(format('DROP INDEX %s;', i.index), E'\n' ORDER BY i.index::text)
    FROM hotmesh_dba._tree(jobs) t, LATERAL (SELECT hotmesh_dba._strip_index(t, kind, valid => false)) i (index)
    WHERE i.index IS NOT NULL
      AND NOT EXISTS (SELECT FROM pg_inherits h WHERE h.inhrelid = i.index)
$$;

CREATE OR REPLACE FUNCTION hotmesh_dba._plan_index(app_schema name, jobs regclass, kind text, is_big boolean)
RETURNS hotmesh_dba._action
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_index  text := hotmesh_dba._index_name(app_schema, kind);
    v_object text := format('index %I.%I', app_schema, v_index);
BEGIN
    IF NOT is_big THEN
        RETURN ROW('created'::text, v_object, concat_ws(E'\n',
            hotmesh_dba._drop_invalid_indexes_sql(jobs, kind),
            format('CREATE INDEX %I ON %s %s;', v_index, jobs, hotmesh_dba._index_definition(kind))));
    ELSIF (SELECT c.relkind = 'p' FROM pg_class c WHERE c.oid = jobs) THEN
        RETURN ROW('pending'::text, v_object, hotmesh_dba._partitioned_index_sql(jobs, kind, app_schema));
    END IF;
    RETURN ROW('pending'::text, v_object, hotmesh_dba._concurrent_index_sql(jobs, kind, v_index));
END
$$;

CREATE OR REPLACE FUNCTION hotmesh_dba._plan_migration(app_schema name) RETURNS SETOF hotmesh_dba._action
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_jobs   regclass := hotmesh_dba._jobs(app_schema);
    v_kind   text;
    v_is_big boolean;
    v_action hotmesh_dba._action;
BEGIN
    IF NOT hotmesh_dba._is_migrated(app_schema) THEN
        v_action := ('added', format('column %s.pruned_at', v_jobs),
                     format('ALTER TABLE %s ADD COLUMN pruned_at timestamp with time zone;', v_jobs));
        RETURN NEXT v_action;
    END IF;
    FOR v_kind IN SELECT w.kind FROM hotmesh_dba._strip_indexes() w WHERE hotmesh_dba._strip_index(v_jobs, w.kind) IS NULL LOOP
        v_is_big := coalesce(v_is_big, hotmesh_dba._is_big(v_jobs));
        RETURN NEXT hotmesh_dba._plan_index(app_schema, v_jobs, v_kind, v_is_big);
    END LOOP;
END
$$;

-- sql/deploy/plan.sql

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

-- sql/deploy/guards.sql

-- An overload of unknown origin is nobody's to drop, and with it in place the documented calls stay ambiguous.
CREATE OR REPLACE FUNCTION hotmesh_dba._check_unknown_overloads(app_schema name) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_overload regprocedure;
BEGIN
    SELECT o.overload INTO v_overload FROM hotmesh_dba._overloads(app_schema) o WHERE o.kind = 'unknown' LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'routine % would make calls of prune ambiguous', v_overload
            USING ERRCODE = 'ambiguous_function',
                  DETAIL = 'No release of HotMesh made it, so deploy does not drop it; nothing was changed.',
                  HINT = format('ALTER ROUTINE %s RENAME TO prune_old;', v_overload);
    END IF;
END
$$;

-- Other objects that use a function which is about to be dropped.
CREATE OR REPLACE FUNCTION hotmesh_dba._check_dependents(overload regprocedure) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_dependents text;
BEGIN
    SELECT string_agg(DISTINCT coalesce(pg_describe_object('pg_class'::regclass, r.ev_class, 0),
                                        pg_describe_object(d.classid, d.objid, d.objsubid)), ', ')
    INTO v_dependents
    FROM pg_depend d
    LEFT JOIN pg_rewrite r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid   -- a view hangs on by its rule
    WHERE d.refclassid = 'pg_proc'::regclass AND d.refobjid = overload AND d.deptype = 'n';
    IF v_dependents IS NOT NULL THEN
        RAISE EXCEPTION 'cannot drop function %: other objects depend on it', overload
            USING ERRCODE = 'dependent_objects_still_exist',
                  DETAIL = format('These do: %s. Nothing was changed.', v_dependents),
                  HINT = format('Drop them, or change them to call %s another way, then try again.', overload);
    END IF;
END
$$;

-- Whoever deploys or undeploys acts for the owner of the app's tables, who owns the wrapper.
CREATE OR REPLACE FUNCTION hotmesh_dba._check_deployer(app_schema name, doing text) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_owner    name := pg_get_userbyid(hotmesh_dba._owner(app_schema));
    v_role     name;
    v_foreign  pg_roles;
    v_overload regprocedure;
BEGIN
    PERFORM hotmesh_dba._check_owner(app_schema, doing);
    -- To give a function to a role, that role too must be able to create it.
    FOREACH v_role IN ARRAY ARRAY[v_owner, current_user] LOOP
        IF NOT has_schema_privilege(v_role, app_schema, 'CREATE') THEN
            PERFORM hotmesh_dba._raise_not_owner(app_schema, doing,
                format('Role "%s" lacks CREATE on the schema.', v_role),
                format('GRANT CREATE ON SCHEMA %I TO %I;', app_schema, v_role));
        END IF;
    END LOOP;
    SELECT o.overload INTO v_overload
    FROM hotmesh_dba._overloads(app_schema) o
    JOIN pg_proc p ON p.oid = o.overload
    WHERE NOT pg_has_role(p.proowner, 'USAGE')
    LIMIT 1;
    IF FOUND THEN
        SELECT r.* INTO v_foreign FROM pg_proc p JOIN pg_roles r ON r.oid = p.proowner WHERE p.oid = v_overload;
        PERFORM hotmesh_dba._raise_not_owner(app_schema, doing,
            format('A function prune there belongs to "%s".', v_foreign.rolname),
            CASE WHEN NOT v_foreign.rolsuper THEN format('GRANT %I TO %I; or ', v_foreign.rolname, current_user) ELSE '' END
            || format('as its owner: ALTER FUNCTION %s OWNER TO %I;', v_overload, v_owner));
    END IF;
END
$$;

-- Where the routines were installed without CREATE EXTENSION, they belong to the role that did it, and it can
-- replace them: it is trusted by every app that is deployed. Another owner's app is taken only on its word.
CREATE OR REPLACE FUNCTION hotmesh_dba._check_trust(app_schema name, trust_installer boolean) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_installer pg_roles;
    v_owner     oid := hotmesh_dba._owner(app_schema);
BEGIN
    SELECT r.* INTO v_installer
    FROM pg_proc p
    JOIN pg_roles r ON r.oid = p.proowner
    WHERE p.oid = hotmesh_dba._prune_oid();
    IF trust_installer OR v_installer.rolsuper OR v_installer.oid = v_owner THEN
        RETURN;
    END IF;
    PERFORM hotmesh_dba._raise_not_owner(app_schema, 'deploy',
        format('The routines of hotmesh_dba belong to "%s", who could change what prune does to the tables of "%s".',
               v_installer.rolname, pg_get_userbyid(v_owner)),
        format('If "%s" may: SELECT * FROM hotmesh_dba.deploy(%L, trust_installer => true);',
               v_installer.rolname, app_schema));
END
$$;

-- sql/deploy/deploy.sql

-- The strongest lock on jobs that the plan will take, to be taken at once. Raising it later would be a deadlock
-- with whoever has read the table and then writes to it, and PostgreSQL ends that writer without waiting
-- for any timeout.
CREATE OR REPLACE FUNCTION hotmesh_dba._deploy_lock_mode(app_schema name) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN bool_or(p.statements ~ '^(ALTER TABLE|DROP INDEX)') THEN 'ACCESS EXCLUSIVE'
                ELSE 'SHARE ROW EXCLUSIVE' END
    FROM hotmesh_dba._deploy_plan(app_schema) p
    WHERE p.action <> 'pending'
$$;

-- Looks what there is to do; where there is something, locks the app against other deployments and
-- migrations, looks again, and does it.
CREATE OR REPLACE FUNCTION hotmesh_dba._deploy_once(app_schema name, trust_installer boolean)
RETURNS hotmesh_dba._action[]
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET lock_timeout = 0
AS $$
DECLARE
    v_plan hotmesh_dba._action[];
BEGIN
    PERFORM hotmesh_dba._bound_waiting(clock_timestamp());
    IF NOT EXISTS (SELECT FROM hotmesh_dba._deploy_plan(app_schema) p) THEN
        RETURN '{}';
    END IF;
    EXECUTE format('LOCK TABLE %s IN %s MODE', hotmesh_dba._jobs(app_schema), hotmesh_dba._deploy_lock_mode(app_schema));
    v_plan := ARRAY(SELECT p FROM hotmesh_dba._deploy_plan(app_schema) p);
    PERFORM hotmesh_dba._check_trust(app_schema, trust_installer);
    PERFORM hotmesh_dba._check_dependents(o.overload)
    FROM hotmesh_dba._overloads(app_schema) o
    WHERE o.kind = 'known' AND o.overload IS DISTINCT FROM hotmesh_dba._replaceable(app_schema);
    PERFORM hotmesh_dba._carry_out(v_plan);
    RETURN v_plan;
END
$$;

-- HotMesh's SDK may be deploying at this very moment: what two CREATE OR REPLACE at once give (XX000, 23505)
-- passes, but not soon where it does so all the time, and no lock keeps it out; hence many short tries, out of
-- step with its own. A lock that somebody holds is waited for, a few times.
CREATE OR REPLACE FUNCTION hotmesh_dba.deploy(app_id text, trust_installer boolean DEFAULT false)
RETURNS TABLE (action text, object text, statements text)
LANGUAGE plpgsql VOLATILE ROWS 10
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_schema name := hotmesh_dba.app_schema(app_id);
    v_plan   hotmesh_dba._action[];
    v_waits  int := 0;
BEGIN
    PERFORM hotmesh_dba._check_writable();
    PERFORM hotmesh_dba._check_deployer(v_schema, 'deploy');
    PERFORM hotmesh_dba._check_unknown_overloads(v_schema);
    FOR v_try IN 1 .. 60 LOOP
        BEGIN
            v_plan := hotmesh_dba._deploy_once(v_schema, trust_installer);
            RETURN QUERY SELECT p.* FROM unnest(v_plan) p;
            RETURN;
        EXCEPTION
            WHEN lock_not_available OR deadlock_detected THEN
                v_waits := v_waits + 1;
                EXIT WHEN v_waits = 5;
            WHEN internal_error OR unique_violation THEN
                IF v_try = 60 THEN
                    RAISE;
                END IF;
        END;
        PERFORM pg_sleep(random() * 0.05);
    END LOOP;
    PERFORM hotmesh_dba._raise_locked(v_schema, 'deploy');
END
$$;

COMMENT ON FUNCTION hotmesh_dba.deploy(text, boolean) IS
'Puts function prune into an app''s schema and migrates it (column jobs.pruned_at, its partial index), taking over what an older HotMesh left: its overloads go, their grants are carried over. Safe while HotMesh runs; waits a few seconds at most for a lock.
app_id: the app (see view hotmesh_dba.app).
trust_installer (false): where the routines were installed without CREATE EXTENSION by a role that is not the app''s owner, accept that this role can change them.
Returns a row an action: action (added, created, replaced, dropped, owned, granted; or pending: too big to do without blocking writers, for you to type), object, statements. No rows: everything is in place.
Errors: 42602 3F000 42809 bad app; 25006 read-only; 42501 missing privilege; 42725 an overload of unknown origin; 2BP01 something depends on an old overload; 55P03 locked.';

-- sql/deploy/undeploy.sql

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

-- sql/grants.sql

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

-- sql/observe/policies.sql

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

-- sql/observe/sizes.sql

-- How big an app's tables are, as the catalogues and the statistics have it: no row is read.

-- Each table with its leaves. Rows: the counters know of every change, but are lost in a crash; then what the last VACUUM or
-- ANALYZE wrote down counts, and where nobody knows it is NULL and not 0. Without measured, sizes are those that the last
-- VACUUM saw.
CREATE OR REPLACE FUNCTION hotmesh_dba._sum_sizes(tables regclass[], measured boolean)
RETURNS TABLE (relation regclass, total_rows bigint, total_bytes bigint, dead_rows bigint, last_vacuum timestamptz)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN QUERY
        WITH RECURSIVE tree AS (
            SELECT r AS root, r::oid AS member FROM unnest(tables) r
            UNION ALL
            SELECT t.root, h.inhrelid FROM pg_inherits h JOIN tree t ON h.inhparent = t.member
        ), leaf AS (
            SELECT t.root, c.oid, c.reltuples, c.relpages,
                   CASE WHEN measured THEN pg_relation_size(c.oid)
                        ELSE c.relpages * current_setting('block_size')::bigint END AS bytes
            FROM tree t
            JOIN pg_class c ON c.oid = t.member AND c.relkind = 'r'
        ), counted AS (
            SELECT l.*, CASE WHEN n.live > 0 OR n.dead > 0 OR pg_stat_get_tuples_inserted(l.oid) > 0 THEN n.live
                             WHEN l.reltuples > 0 OR l.relpages > 0 AND l.reltuples >= 0 THEN l.reltuples::bigint
                             WHEN measured AND l.bytes = 0 THEN 0 END AS live, n.dead
            FROM leaf l, LATERAL (SELECT pg_stat_get_live_tuples(l.oid) AS live, pg_stat_get_dead_tuples(l.oid) AS dead) n
        )
        SELECT c.root, CASE WHEN bool_and(c.live IS NOT NULL) THEN sum(c.live) END::bigint, sum(c.bytes)::bigint,
               sum(c.dead)::bigint,
               max(greatest(pg_stat_get_last_vacuum_time(c.oid), pg_stat_get_last_autovacuum_time(c.oid)))
        FROM counted c
        GROUP BY c.root;
END
$$;

-- Measuring waits for whoever has locked a table.
CREATE OR REPLACE FUNCTION hotmesh_dba._sizes(tables regclass[])
RETURNS TABLE (relation regclass, total_rows bigint, total_bytes bigint, dead_rows bigint, last_vacuum timestamptz)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
SET lock_timeout = 0
AS $$
BEGIN
    PERFORM hotmesh_dba._bound_waiting();
    RETURN QUERY SELECT s.* FROM hotmesh_dba._sum_sizes(tables, true) s;
EXCEPTION WHEN lock_not_available THEN
    RETURN QUERY SELECT s.* FROM hotmesh_dba._sum_sizes(tables, false) s;
END
$$;

-- Of a table and its partitions.
CREATE OR REPLACE FUNCTION hotmesh_dba._dead_rows(root regclass) RETURNS bigint
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN pg_stat_get_dead_tuples(root)
           + coalesce((SELECT sum(pg_stat_get_dead_tuples(h.inhrelid)) FROM pg_inherits h WHERE h.inhparent = root), 0);
END
$$;

-- sql/observe/due.sql

-- How many rows of a step are due: a look that is bounded in what it reads, not only in what it finds.

-- Is there a whole, valid index that begins with the column? (By the predicate as the catalogue has it: pg_get_indexdef
-- would wait for whoever has locked the table.)
CREATE OR REPLACE FUNCTION hotmesh_dba._has_index_on(relation regclass, column_name name) RETURNS boolean
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN EXISTS (
        SELECT FROM pg_index i
        JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
        WHERE i.indrelid = relation AND i.indisvalid AND a.attname = column_name
          AND (i.indpred IS NULL
               OR i.indpred::text ~ format('^{NULLTEST :arg {VAR [^{}]*:varattno %s [^{}]*} :nulltesttype 1 [^{}]*}$', a.attnum)));
END
$$;

-- The rows to look at, $3 of them: those with the oldest marks, or those that no strip has marked yet; where no index
-- leads to them, any. Many of them may not be due (failed and running jobs, other entities): the step's own filter says.
CREATE OR REPLACE FUNCTION hotmesh_dba._candidates_query(step hotmesh_dba._step) RETURNS text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN format('SELECT t.* FROM %s t %s LIMIT $3', (step).relation, CASE
        WHEN (step).name = 'strip'
        THEN (SELECT substring(w.definition FROM 'WHERE .*')
              FROM hotmesh_dba._strip_indexes() w
              WHERE hotmesh_dba._strip_index((step).relation, w.kind) IS NOT NULL
              ORDER BY w.kind = 'unstripped' DESC
              LIMIT 1)
        WHEN hotmesh_dba._has_index_on((step).relation, (step).mark_column)
        THEN format('WHERE t.%1$I <= $1 ORDER BY t.%1$I', (step).mark_column)
    END);
END
$$;

-- Counts among candidates: due ones, the oldest mark of these, and all that were looked at.
CREATE OR REPLACE FUNCTION hotmesh_dba._count_query(step hotmesh_dba._step, candidates text) RETURNS text
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN format('SELECT count(*) FILTER (WHERE c.is_due) AS due, min(c.mark) FILTER (WHERE c.is_due) AS oldest, count(*) AS seen
                   FROM (SELECT %s AND (%s) IS NOT TRUE AS is_due, %s AS mark FROM (%s) t) c',
                  (step).row_filter, coalesce((step).taken_before, 'false'),
                  coalesce('t.' || quote_ident((step).mark_column), 'NULL::timestamptz'), candidates);
END
$$;

CREATE OR REPLACE FUNCTION hotmesh_dba._look_by_index(
    step hotmesh_dba._step, bound bigint, OUT due bigint, OUT oldest timestamptz, OUT seen bigint)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET enable_bitmapscan = off
SET enable_sort = off
SET max_parallel_workers_per_gather = 0
SET jit = off
SET lock_timeout = 0
AS $$
BEGIN
    PERFORM hotmesh_dba._bound_waiting();
    EXECUTE hotmesh_dba._count_query(step, hotmesh_dba._candidates_query(step))
        INTO due, oldest, seen
        USING (step).before, (step).entity_list, bound;
END
$$;

-- An index whose dead entries nobody may clean away yet is walked through them all to the first living row. So where
-- they are many: a few pages of every leaf, from its first to its last, and what is due on them is the least there is.
CREATE OR REPLACE FUNCTION hotmesh_dba._look_by_pages(step hotmesh_dba._step, OUT due bigint, OUT oldest timestamptz)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET enable_indexscan = off
SET enable_indexonlyscan = off
SET enable_bitmapscan = off
SET max_parallel_workers_per_gather = 0
SET jit = off
SET lock_timeout = 0
AS $$
DECLARE
    c_groups CONSTANT int := 8;
    c_pages  CONSTANT int := 8;
    v_pages  bigint;
    v_page   bigint;
    v_due    bigint;
    v_oldest timestamptz;
    v_seen   bigint;
BEGIN
    due := 0;
    PERFORM hotmesh_dba._bound_waiting();
    v_pages := (SELECT max(hotmesh_dba._pages(l.leaf)) FROM hotmesh_dba._leaves((step).relation) l);
    FOR v_group IN 0 .. c_groups - 1 LOOP
        v_page := v_group * greatest(0, v_pages - c_pages) / (c_groups - 1);
        EXECUTE hotmesh_dba._count_query(step, format('SELECT t.* FROM %s t WHERE t.ctid >= $3 AND t.ctid < $4', (step).relation))
            INTO v_due, v_oldest, v_seen
            USING (step).before, (step).entity_list, hotmesh_dba._page_start(v_page),
                  hotmesh_dba._page_start(v_page + c_pages);
        due := due + v_due;
        oldest := least(oldest, v_oldest);
    END LOOP;
END
$$;

-- Due rows, up to the bound; exact: these are all. Where somebody has locked the table, or the caller may not look: NULL.
CREATE OR REPLACE FUNCTION hotmesh_dba._look_for_due(
    step hotmesh_dba._step, OUT due bigint, OUT exact boolean, OUT oldest timestamptz)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    c_bound CONSTANT bigint := 1000;
    c_dead  CONSTANT bigint := 200000;
    v_seen  bigint;
BEGIN
    IF hotmesh_dba._dead_rows((step).relation) > c_dead THEN
        SELECT l.due, false, l.oldest INTO due, exact, oldest FROM hotmesh_dba._look_by_pages(step) l;
    ELSE
        SELECT l.due, l.oldest, l.seen INTO due, oldest, v_seen FROM hotmesh_dba._look_by_index(step, c_bound + 1) l;
        exact := v_seen <= c_bound AND NOT row_security_active((step).relation);
        due := least(due, c_bound);
    END IF;
EXCEPTION WHEN OTHERS THEN
    due := NULL;
    exact := NULL;
    oldest := NULL;
END
$$;

-- sql/observe/backlog.sql

-- What there is to do, and how much there is in all.

-- Of a count that stopped at its bound the planner knows more, from its statistics: enough for an estimate of time.
CREATE OR REPLACE FUNCTION hotmesh_dba._planned_rows(step hotmesh_dba._step) RETURNS bigint
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET lock_timeout = 0
AS $$
DECLARE
    v_plan json;
BEGIN
    PERFORM hotmesh_dba._bound_waiting();
    EXECUTE format('EXPLAIN (FORMAT JSON) SELECT FROM %s t WHERE %s', (step).relation, (step).row_filter)
        INTO v_plan
        USING (step).before, (step).entity_list;
    RETURN (v_plan -> 0 -> 'Plan' ->> 'Plan Rows')::bigint;
EXCEPTION WHEN OTHERS THEN
    RETURN NULL;
END
$$;

-- What is due under a policy, a row a step. overdue: how long the oldest row has been due. rate: of the last run; where
-- there is none, nobody needs an estimate.
CREATE OR REPLACE FUNCTION hotmesh_dba._due_by_step(policy hotmesh_dba.policy, looks boolean)
RETURNS TABLE (relation regclass, due bigint, exact boolean, oldest timestamptz, overdue interval, estimate bigint, rate numeric)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_steps hotmesh_dba._step[];
    v_step  hotmesh_dba._step;
BEGIN
    BEGIN
        rate := hotmesh_dba._last_rate(policy.app, policy.name);
        v_steps := hotmesh_dba._policy_steps(policy);
    EXCEPTION WHEN OTHERS THEN
        RETURN;     -- a policy that its owner has spoilt by hand, or a forged record, hides nobody else's
    END;
    FOREACH v_step IN ARRAY v_steps LOOP
        IF looks THEN
            SELECT l.* INTO due, exact, oldest FROM hotmesh_dba._look_for_due(v_step) l;
        END IF;
        relation := hotmesh_dba._pruned_table(v_step);
        overdue := v_step.before - oldest;
        estimate := CASE WHEN exact OR rate IS NULL OR NOT looks THEN due ELSE greatest(due, hotmesh_dba._planned_rows(v_step)) END;
        RETURN NEXT;
    END LOOP;
END
$$;

-- A row a table of an app, and policy that takes rows of it. Without looks, nothing is read: nobody knows how much is due.
CREATE OR REPLACE FUNCTION hotmesh_dba._backlog(app_schema name, looks boolean)
RETURNS TABLE (relation regclass, policy text, due bigint, exact boolean, oldest timestamptz, overdue interval,
               estimate bigint, rate numeric, total_rows bigint, total_bytes bigint, dead_rows bigint,
               last_vacuum timestamptz)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_tables regclass[] := ARRAY(SELECT a FROM hotmesh_dba._app_tables(app_schema) a);
BEGIN
    RETURN QUERY
        WITH due AS MATERIALIZED (
            SELECT d.relation, p.name AS policy, CASE WHEN bool_and(d.due IS NOT NULL) THEN sum(d.due) END::bigint AS due,
                   CASE WHEN bool_and(d.due IS NOT NULL) THEN bool_and(d.exact) END AS exact, min(d.oldest) AS oldest,
                   max(d.overdue) AS overdue, sum(d.estimate)::bigint AS estimate,
                   min(d.rate) AS rate
            FROM hotmesh_dba._policies_of(app_schema) p, hotmesh_dba._due_by_step(p, looks) d
            GROUP BY d.relation, p.name
        )
        SELECT t.relation, d.policy, d.due, d.exact, d.oldest, d.overdue, d.estimate, d.rate, s.total_rows, s.total_bytes,
               s.dead_rows, s.last_vacuum
        FROM unnest(v_tables) WITH ORDINALITY t (relation, place)
        JOIN hotmesh_dba._sizes(v_tables) s ON s.relation = t.relation
        LEFT JOIN due d ON d.relation = t.relation
        ORDER BY t.place, d.policy;
END
$$;

CREATE OR REPLACE FUNCTION hotmesh_dba.backlog(app_id text DEFAULT NULL)
RETURNS TABLE (app name, table_name name, policy text, due bigint, exact boolean, oldest_due timestamptz, total_rows bigint,
               total_bytes bigint, dead_rows bigint, last_vacuum timestamptz, rows_per_second numeric, time_to_drain interval)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET jit = off
AS $$
BEGIN
    FOR app IN SELECT a FROM hotmesh_dba._observed_apps(app_id) a LOOP
        RETURN QUERY
            SELECT app, c.relname, b.policy, b.due, b.exact, b.oldest, b.total_rows, b.total_bytes, b.dead_rows, b.last_vacuum,
                   b.rate, CASE WHEN b.rate > 0 THEN make_interval(secs => (b.estimate / b.rate)::float8) END
            FROM hotmesh_dba._backlog(app, app_id IS NOT NULL OR NOT hotmesh_dba._is_foreign(app)) b
            JOIN pg_class c ON c.oid = b.relation;
    END LOOP;
END
$$;

COMMENT ON FUNCTION hotmesh_dba.backlog(text) IS
'What is due for removal now, a row a table and enabled policy that takes rows of it, and what there is in all. Cheap enough for every minute: it reads a few thousand rows of a table at most. A superuser sees what is due in other owners'' apps only where the app is named, for whatever these have put on their tables is executed by whoever reads them.
app_id (NULL: every app of this database): the app (see view hotmesh_dba.app).
Returns app; table_name; policy (NULL where none that you may see takes rows of this table);
due: rows due now, of jobs_attributes the jobs due for the strip (NULL where you may not read the table, somebody has it locked, or you are a superuser and did not name the app);
exact: whether these are all, else there are at least so many; oldest_due: when the oldest of them expired (the strip has none);
total_rows (NULL: never counted), total_bytes (without indexes), dead_rows, last_vacuum: by the statistics;
rows_per_second: of the policy''s last run that removed anything; time_to_drain: an estimate of what is due at that rate.
Errors: 42602 3F000 42809 bad app.';

-- sql/observe/doctor/install.sql

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

-- sql/observe/doctor/rights.sql

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

-- sql/observe/doctor/schedules.sql

-- doctor: what pg_cron does in this database.

-- The schedules of an app, as their commands name it; or (NULL) those that name none that there is.
CREATE OR REPLACE FUNCTION hotmesh_dba._schedules_of(app_schema name) RETURNS SETOF hotmesh_dba.schedules
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT s.*
    FROM hotmesh_dba.schedules s
    LEFT JOIN hotmesh_dba.app a ON a.schema = s.app OR a.schema = hotmesh_dba._normalised(s.app)
    WHERE a.schema IS NOT DISTINCT FROM app_schema
$$;

-- Of an app, or (NULL) those that serve no app in particular.
CREATE OR REPLACE FUNCTION hotmesh_dba._doctor_schedules(app_schema name) RETURNS SETOF hotmesh_dba._finding
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN s.active AND s.last_status = 'failed' THEN 'problem' ELSE 'warning' END,
           format('Schedule "%s" (%s) %s.', s.job_name, s.cron_expression,
                  CASE WHEN NOT s.active THEN 'is switched off'
                       WHEN s.last_started IS NULL THEN 'never ran'
                       ELSE format('failed when it last ran (%s): %s', date_trunc('second', s.last_started), rtrim(s.last_message)) END),
           CASE WHEN NOT s.active AND s.policy IS NOT NULL AND s.role = current_user    -- alter_job is the superusers'
                THEN format(E'SELECT * FROM hotmesh_dba.unschedule(%1$L, %2$L);\nSELECT * FROM hotmesh_dba.schedule(%1$L, %2$L, %3$L);',
                            app_schema, s.policy, s.cron_expression)
                WHEN NOT s.active THEN format('SELECT cron.alter_job(%s, active => true);', s.job_id)
                WHEN s.last_started IS NULL
                THEN 'Wait for its time; else see that the log has no error of pg_cron, and that its role may connect.'
                ELSE format('SELECT * FROM cron.job_run_details WHERE jobid = %s ORDER BY runid DESC;', s.job_id) END
    FROM hotmesh_dba._schedules_of(app_schema) s
    WHERE (NOT s.active OR s.last_started IS NULL OR s.last_status = 'failed')
    UNION ALL
    SELECT 'unknown', format('Role "%s" may not see the schedules of pg_cron.', current_user),
           format('GRANT USAGE ON SCHEMA cron TO %I;', current_user)
    FROM pg_namespace n
    WHERE n.nspname = 'cron' AND NOT has_schema_privilege(n.oid, 'USAGE') AND hotmesh_dba._cron_is_here()
$$;

-- The app's owner could put a trigger or function in the way, and a superuser's job would execute it.
CREATE OR REPLACE FUNCTION hotmesh_dba._doctor_schedule_roles(app_schema name) RETURNS SETOF hotmesh_dba._finding
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT 'problem',
           format('Schedule "%s" runs as "%s", a superuser, what belongs to "%s": whatever that role has put on its tables would be executed with all rights.',
                  s.job_name, s.role, o.rolname),
           CASE WHEN NOT o.rolcanlogin THEN format(E'ALTER ROLE %I LOGIN;\n', o.rolname) ELSE '' END
           || format('UPDATE cron.job SET username = %L WHERE jobid = %s;', o.rolname, s.job_id)
    FROM hotmesh_dba._schedules_of(app_schema) s
    JOIN hotmesh_dba._schedules() j ON j.job_id = s.job_id
    JOIN pg_roles r ON r.rolname = s.role AND r.rolsuper
    CROSS JOIN LATERAL (SELECT w.*
                        FROM hotmesh_dba.app a
                        JOIN pg_roles w ON w.rolname = a.owner AND NOT w.rolsuper
                        WHERE app_schema IS NULL OR a.schema = app_schema
                        ORDER BY a.schema LIMIT 1) o
    -- Of itself run_due leaves others' apps alone.
    WHERE NOT (j.command ~* '[[:<:]]run_due[[:>:]]' AND j.command !~* 'trust_owners|true')
$$;

-- sql/observe/doctor/policies.sql

-- doctor: policies, and whether they are followed. Only the app's owner sees them (see _doctor_checks).

-- The tables that something takes rows of: an enabled policy, or of late a run without one. Attributes go with their jobs.
CREATE OR REPLACE FUNCTION hotmesh_dba._covered_tables(app_schema name) RETURNS SETOF regclass
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
    WITH rule AS (
        SELECT p AS policy FROM hotmesh_dba._policies_of(app_schema) p
        UNION ALL
        SELECT jsonb_populate_record(NULL::hotmesh_dba.policy, o.options || jsonb_build_object('app', app_schema))
        FROM (SELECT DISTINCT r.options - '{worker,workers,max_runtime}'::text[] AS options
              FROM hotmesh_dba.run r
              WHERE r.app = app_schema AND r.policy IS NULL AND r.started_at > now() - interval '8 days'
              LIMIT 20) o
    )
    SELECT DISTINCT t.relation
    FROM rule r, unnest(hotmesh_dba._policy_steps(r.policy)) s,
         LATERAL (VALUES (hotmesh_dba._pruned_table(s)), (s.attributes)) t (relation)
    WHERE t.relation IS NOT NULL
$$;

-- A name that no policy of the app has: set_policy would replace it.
CREATE OR REPLACE FUNCTION hotmesh_dba._new_policy_name(app_schema name, wish text) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT c.name
    FROM (SELECT wish || coalesce('-' || nullif(n, 1), '') AS name, n FROM generate_series(1, 1000) n) c
    WHERE NOT EXISTS (SELECT FROM hotmesh_dba.policy p WHERE p.app = app_schema AND p.name = c.name)
    ORDER BY c.n
    LIMIT 1
$$;

CREATE OR REPLACE FUNCTION hotmesh_dba._doctor_coverage(app_schema name) RETURNS SETOF hotmesh_dba._finding
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT 'warning',
           format('Nothing takes rows of %s, which has about %s: neither an enabled policy, nor any run of the last 8 days.',
                  s.relation, s.total_rows),
           format('SELECT hotmesh_dba.set_policy(%L, %L, %s, every => ''1 day'');', app_schema,
                  hotmesh_dba._new_policy_name(app_schema, c.relname::text), o.options)
    FROM hotmesh_dba._sizes(ARRAY(SELECT a FROM hotmesh_dba._app_tables(app_schema) a)) s
    JOIN pg_class c ON c.oid = s.relation
    JOIN (VALUES (1, 'jobs', 'retention => ''30 days'', prune_jobs => true'),
                 (2, 'jobs_attributes', 'strip_attributes => true'),
                 (3, 'engine_streams', 'prune_engine_streams => true, engine_streams_retention => ''7 days'''),
                 (4, 'worker_streams', 'prune_worker_streams => true, worker_streams_retention => ''90 days'''),
                 (5, 'streams', 'prune_streams => true, retention => ''90 days'''),
                 (6, 'signal_registry', 'prune_signals => true')) o (place, table_name, options) ON o.table_name = c.relname
    WHERE s.total_rows >= 1000 AND s.relation NOT IN (SELECT t FROM hotmesh_dba._covered_tables(app_schema) t)
    ORDER BY o.place
$$;

-- One with `every` should have run by now, with as much again (an hour at least) for delay; one without, if no schedule of
-- its own is known, in the last 8 days: schedules in another database are not seen here.
CREATE OR REPLACE FUNCTION hotmesh_dba._doctor_unrun_policies(app_schema name) RETURNS SETOF hotmesh_dba._finding
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
    WITH policy AS (
        SELECT p.name, p.every, p.updated_at,
               (SELECT max(r.started_at) FROM hotmesh_dba.run r WHERE r.app = app_schema AND r.policy = p.name) AS last_run,
               coalesce(p.every + greatest(p.every, interval '1 hour'), interval '8 days') AS patience
        FROM hotmesh_dba._policies_of(app_schema) p
        WHERE p.every IS NOT NULL
           OR NOT EXISTS (SELECT FROM hotmesh_dba._schedules_of(app_schema) s WHERE s.policy = p.name AND s.active)
    )
    SELECT 'problem',
           format('Nothing runs policy "%s"%s: %s. Have %s run by pg_cron or another scheduler.', p.name,
                  ', which should run every ' || p.every,
                  coalesce('its last run began on ' || date_trunc('second', p.last_run), 'it never ran'),
                  CASE WHEN p.every IS NULL THEN 'it' ELSE 'CALL hotmesh_dba.run_due()' END),
           CASE WHEN p.every IS NULL THEN hotmesh_dba._run_policy_call(app_schema, p.name) || ';' ELSE 'CALL hotmesh_dba.run_due();' END
    FROM policy p
    WHERE now() > greatest(p.last_run, p.updated_at) + p.patience
$$;

-- How the last run of each policy ended, and the last one without.
CREATE OR REPLACE FUNCTION hotmesh_dba._doctor_last_runs(app_schema name) RETURNS SETOF hotmesh_dba._finding
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
    WITH last AS (
        SELECT DISTINCT ON (r.policy) r.*,
               -- Its process may be gone, and no other run has closed its record yet.
               CASE WHEN r.state = 'running' THEN (SELECT p.state FROM hotmesh_dba.progress p WHERE p.run_id = r.id)
                    ELSE r.state END AS outcome
        FROM hotmesh_dba.run r
        WHERE r.app = app_schema
          AND (r.policy IN (SELECT p.name FROM hotmesh_dba._policies_of(app_schema) p)
               OR r.policy IS NULL AND r.started_at > now() - interval '8 days')
        ORDER BY r.policy, r.id DESC
    )
    SELECT CASE WHEN l.outcome = 'stopped' THEN 'warning' ELSE 'problem' END,
           format('The last run of %s (run %s) %s.', coalesce('policy "' || l.policy || '"', 'prune_batched'), l.id,
                  CASE l.outcome WHEN 'failed' THEN format('failed: %s (%s)', l.error_message, l.error_sqlstate)
                               WHEN 'interrupted' THEN 'was interrupted'
                               ELSE format('left %s rows that others had locked', l.remaining) END),
           CASE WHEN l.policy IS NULL THEN format('SELECT * FROM hotmesh_dba.run WHERE id = %s;', l.id)
                WHEN l.stop_reason = 'max_percent'      -- its fuse: whether that was meant, its owner knows
                THEN (SELECT hotmesh_dba._preview_policy_call(p) || E';\n' FROM hotmesh_dba._policies_of(app_schema) p WHERE p.name = l.policy)
                     || hotmesh_dba._run_policy_call(app_schema, l.policy, force => true) || ';'
                ELSE hotmesh_dba._run_policy_call(app_schema, l.policy) || ';' END
    FROM last l
    WHERE l.outcome IN ('failed', 'interrupted') OR l.outcome = 'stopped' AND l.stop_reason = 'locked'
$$;

-- Rows that have been due for longer than it takes until the next run, and a day.
CREATE OR REPLACE FUNCTION hotmesh_dba._doctor_backlog(app_schema name) RETURNS SETOF hotmesh_dba._finding
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN b.overdue IS NULL THEN 'unknown' ELSE 'problem' END,
           CASE WHEN b.due IS NULL
                THEN format('Nobody knows how much of %s is due: it is locked, or role "%s" may not read it.', b.relation, current_user)
                WHEN b.overdue IS NULL
                THEN format('None of the oldest rows of %s that the look came upon is due under policy "%s": behind them some may be.',
                            b.relation, b.policy)
                ELSE format('%s%s rows of %s are due under policy "%s", the oldest for %s days.',
                            CASE WHEN NOT b.exact THEN 'At least ' END, b.due, b.relation, b.policy, extract(day FROM b.overdue)) END,
           CASE WHEN b.due IS NULL THEN 'SELECT * FROM pg_locks WHERE NOT granted;'
                WHEN b.overdue IS NULL THEN format('SELECT * FROM hotmesh_dba.run WHERE app = %L AND policy = %L ORDER BY id DESC;', app_schema, b.policy)
                ELSE hotmesh_dba._run_policy_call(app_schema, b.policy) || ';' END
    FROM hotmesh_dba._backlog(app_schema, true) b
    JOIN hotmesh_dba._policies_of(app_schema) p ON p.name = b.policy
    WHERE b.due IS NULL OR b.due = 0 AND NOT b.exact OR b.overdue > coalesce(p.every, interval '1 day') + interval '1 day'
$$;

-- Two policies that take the same rows, but not in the same way: the one that takes more leaves the other nothing.
CREATE OR REPLACE FUNCTION hotmesh_dba._doctor_conflicts(app_schema name) RETURNS SETOF hotmesh_dba._finding
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
    WITH step AS (
        SELECT p.name AS policy, s.name, s.relation, s.before, s.attribute_filter,
               CASE WHEN s.name IN ('jobs', 'strip') THEN p.entity_list END AS entities
        FROM hotmesh_dba._policies_of(app_schema) p, unnest(hotmesh_dba._policy_steps(p)) s
    ), conflict AS (
        -- b takes more: what a waits for or spares is gone.
        SELECT DISTINCT a.name, a.policy AS loser, b.policy AS winner
        FROM step a
        JOIN step b ON b.policy <> a.policy AND b.relation = a.relation
        WHERE CASE
            WHEN a.name = 'strip' AND b.name = 'strip' THEN length(a.attribute_filter) > length(b.attribute_filter)
            WHEN 'strip' IN (a.name, b.name) THEN false
            WHEN a.name = b.name THEN a.before < b.before
            WHEN a.name = 'transient' AND b.name = 'jobs' THEN b.entities IS NULL AND a.before < b.before
            WHEN a.name = 'jobs' AND b.name = 'transient' THEN a.entities IS NULL AND a.before < b.before
            ELSE false END
          AND (a.entities IS NULL OR b.entities IS NULL OR a.entities && b.entities)
    )
    SELECT 'warning',
           CASE WHEN c.name = 'strip'
                THEN format('Policies "%s" and "%s" strip the same jobs: the one keeps hmark, the other does not, and whichever comes first has its way.',
                            c.loser, c.winner)
                ELSE format('Policies "%s" and "%s" take the same rows (%s), and the shorter window, of "%s", has its way.',
                            c.loser, c.winner, c.name, c.winner) END,
           format('SELECT hotmesh_dba.drop_policy(%L, %L);', app_schema, c.loser)
    FROM conflict c
$$;

-- sql/observe/doctor/vacuum.sql

-- doctor: whether the space of what was removed comes back.

CREATE OR REPLACE FUNCTION hotmesh_dba._doctor_autovacuum(app_schema name) RETURNS SETOF hotmesh_dba._finding
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT 'problem', format('%s is off: what is removed goes on taking up space.', s.name),
           format(E'ALTER SYSTEM SET %s = on;\nSELECT pg_reload_conf();', s.name)
    FROM (VALUES ('autovacuum'), ('track_counts')) s (name)
    WHERE NOT current_setting(s.name)::boolean
$$;

-- The app's plain tables, and when autovacuum comes to them.
CREATE OR REPLACE FUNCTION hotmesh_dba._vacuum_state(app_schema name)
RETURNS TABLE (root regclass, leaf regclass, live float8, dead bigint, enabled boolean, threshold float8, scaled float8)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    WITH option AS (
        SELECT a AS root, l.leaf, greatest(c.reltuples, 0)::float8 AS live,
               (SELECT jsonb_object_agg(o.option_name, o.option_value) FROM pg_options_to_table(c.reloptions) o) AS set
        FROM hotmesh_dba._app_tables(app_schema) a, hotmesh_dba._leaves(a) l, pg_class c
        WHERE c.oid = l.leaf AND l.is_plain
    ), resolved AS (
        SELECT o.root, o.leaf, o.live, coalesce((o.set ->> 'autovacuum_enabled')::boolean, true) AS enabled,
               coalesce(o.set ->> 'autovacuum_vacuum_threshold',
                        current_setting('autovacuum_vacuum_threshold'))::float8 AS base,
               coalesce(o.set ->> 'autovacuum_vacuum_scale_factor',
                        current_setting('autovacuum_vacuum_scale_factor'))::float8 * o.live AS scaled,
               -- Since PostgreSQL 18; -1: no limit.
               nullif(coalesce(o.set ->> 'autovacuum_vacuum_max_threshold',
                               current_setting('autovacuum_vacuum_max_threshold', true))::float8, -1) AS most
        FROM option o
    )
    SELECT r.root, r.leaf, r.live, pg_stat_get_dead_tuples(r.leaf), r.enabled, least(r.base + r.scaled, r.most), r.scaled
    FROM resolved r
$$;

CREATE OR REPLACE FUNCTION hotmesh_dba._doctor_table_autovacuum(app_schema name) RETURNS SETOF hotmesh_dba._finding
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT 'problem', format('autovacuum is switched off for %s.', string_agg(v.leaf::text, ', ' ORDER BY v.leaf::text)),
           string_agg(format('ALTER TABLE %s RESET (autovacuum_enabled);', v.leaf), E'\n' ORDER BY v.leaf::text)
    FROM hotmesh_dba._vacuum_state(app_schema) v
    WHERE NOT v.enabled
    GROUP BY v.root
$$;

-- More than twice as many as autovacuum lets come together: it is too slow, or is kept from it.
CREATE OR REPLACE FUNCTION hotmesh_dba._doctor_dead_rows(app_schema name) RETURNS SETOF hotmesh_dba._finding
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT 'warning',
           format('%s dead rows lie in %s, and autovacuum is far behind.', sum(v.dead), v.root),
           format('VACUUM (ANALYZE) %s;', string_agg(v.leaf::text, ', ' ORDER BY v.leaf::text))
    FROM hotmesh_dba._vacuum_state(app_schema) v
    WHERE v.dead > greatest(2 * v.threshold, 10000)
    GROUP BY v.root
$$;

-- A fifth of a big table is a lot to let lie there, and to clean away at once.
CREATE OR REPLACE FUNCTION hotmesh_dba._doctor_vacuum_threshold(app_schema name) RETURNS SETOF hotmesh_dba._finding
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT 'warning',
           format('autovacuum comes to %s only when %s rows are dead.', string_agg(v.leaf::text, ', ' ORDER BY v.leaf::text),
                  round(max(v.threshold))),
           string_agg(format('ALTER TABLE %s SET (autovacuum_vacuum_scale_factor = %s);', v.leaf,
                             trim_scale(greatest(round((50000 / v.live)::numeric, 6), 0.000001))),
                      E'\n' ORDER BY v.leaf::text)
    FROM hotmesh_dba._vacuum_state(app_schema) v
    WHERE v.threshold > 100000 AND v.scaled > 50000
    GROUP BY v.root
$$;

-- sql/observe/doctor/horizon.sql

-- doctor: what holds the horizon back, so that rows go and space does not.

CREATE OR REPLACE FUNCTION hotmesh_dba._may_see_sessions() RETURNS SETOF hotmesh_dba._finding
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT 'unknown', format('Role "%s" sees only its own sessions.', current_user),
           format('GRANT pg_read_all_stats TO %I;', current_user)
    WHERE NOT pg_has_role('pg_read_all_stats', 'USAGE')
$$;

-- From what age on a transaction counts as old.
CREATE OR REPLACE FUNCTION hotmesh_dba._old_transaction() RETURNS interval
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$ SELECT coalesce(nullif(current_setting('hotmesh_dba.old_transaction', true), ''), '10 minutes')::interval $$;

CREATE OR REPLACE FUNCTION hotmesh_dba._doctor_old_transactions(app_schema name) RETURNS SETOF hotmesh_dba._finding
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN a.xact_start < now() - interval '1 hour' THEN 'problem' ELSE 'warning' END,
           format('Process %s (role "%s", %s) has held a snapshot since %s: what was removed since then keeps its space.',
                  a.pid, a.usename, coalesce(a.state, a.backend_type), date_trunc('second', a.xact_start)),
           format('SELECT pg_terminate_backend(%s);', a.pid)
    FROM pg_stat_activity a
    WHERE a.datname = current_database() AND a.pid <> pg_backend_pid() AND a.backend_type <> 'autovacuum worker'
      AND a.pid NOT IN (SELECT v.pid FROM pg_stat_progress_vacuum v)    -- nobody's horizon waits for a VACUUM
      AND coalesce(a.backend_xmin, a.backend_xid) IS NOT NULL
      AND a.xact_start < clock_timestamp() - hotmesh_dba._old_transaction()
    UNION ALL
    SELECT f.* FROM hotmesh_dba._may_see_sessions() f
$$;

CREATE OR REPLACE FUNCTION hotmesh_dba._doctor_prepared_transactions(app_schema name) RETURNS SETOF hotmesh_dba._finding
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN p.prepared < now() - interval '1 hour' THEN 'problem' ELSE 'warning' END,
           format('Transaction %L of role "%s" was prepared on %s, and neither committed nor rolled back.',
                  p.gid, p.owner, date_trunc('second', p.prepared)),
           format('ROLLBACK PREPARED %L;', p.gid)
    FROM pg_prepared_xacts p
    WHERE p.database = current_database() AND p.prepared < clock_timestamp() - hotmesh_dba._old_transaction()
$$;

-- One that nobody reads from keeps rows (xmin), and all WAL since.
CREATE OR REPLACE FUNCTION hotmesh_dba._doctor_replication_slots(app_schema name) RETURNS SETOF hotmesh_dba._finding
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN s.xmin IS NOT NULL THEN 'problem' ELSE 'warning' END,
           format('Nobody reads from replication slot "%s", which keeps %s.', s.slot_name,
                  CASE WHEN s.xmin IS NOT NULL THEN 'removed rows and their WAL' ELSE 'the WAL of every removal' END),
           format('SELECT pg_drop_replication_slot(%L);', s.slot_name)
    FROM pg_replication_slots s
    WHERE NOT s.active AND (s.xmin IS NOT NULL OR s.restart_lsn IS NOT NULL)
$$;

-- A standby that asks for old rows. In transactions, for nobody knows since when.
CREATE OR REPLACE FUNCTION hotmesh_dba._doctor_standby_feedback(app_schema name) RETURNS SETOF hotmesh_dba._finding
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT 'warning',
           format('Standby "%s" asks by hot_standby_feedback for rows of %s transactions ago: a long query there keeps their space.',
                  r.application_name, f.age),
           'On that standby, end the query that pg_stat_activity shows with the oldest backend_xmin: SELECT pg_terminate_backend(pid);'
    FROM pg_stat_replication r
    LEFT JOIN pg_replication_slots s ON s.active_pid = r.pid
    CROSS JOIN LATERAL (SELECT age(coalesce(s.xmin, r.backend_xmin)) AS age) f
    WHERE f.age > coalesce(nullif(current_setting('hotmesh_dba.old_xid_age', true), ''), '1000000')::int
    UNION ALL
    SELECT f.* FROM hotmesh_dba._may_see_sessions() f
$$;

-- sql/observe/doctor/locks.sql

-- doctor: the table in which the server keeps its locks.

-- A strip takes a lock a job, a quarter of the table at most; and all the others need theirs at the same time.
CREATE OR REPLACE FUNCTION hotmesh_dba._doctor_lock_table(app_schema name) RETURNS SETOF hotmesh_dba._finding
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
    WITH lock_table AS (
        SELECT current_setting('max_locks_per_transaction')::bigint AS each,
               current_setting('max_connections')::bigint + current_setting('max_prepared_transactions')::bigint AS sessions,
               (SELECT count(*) FROM pg_locks l WHERE NOT l.fastpath) AS held
    )
    SELECT CASE WHEN t.held > t.each * t.sessions / 2 THEN 'problem' ELSE 'warning' END,
           CASE WHEN t.held > t.each * t.sessions / 2
                THEN format('Of the %s locks that the lock table surely holds %s are taken: a strip finds no room.', t.each * t.sessions, t.held)
                ELSE format('The lock table surely holds %s locks, so a strip marks only %s jobs a transaction.',
                            t.each * t.sessions, t.each * t.sessions / 4) END,
           format(E'ALTER SYSTEM SET max_locks_per_transaction = %s;\n-- then restart the server',
                  greatest(2 * t.each, 4000 / t.sessions + 1))
    FROM lock_table t
    WHERE t.each * t.sessions < 4000 OR t.held > t.each * t.sessions / 2
$$;

-- sql/observe/doctor/doctor.sql

-- The checks one after the other, each by itself.

-- Of which kind a check is: of the database, of each app, or of both; whether only an app's owner can know; and whether it
-- reads the app's tables.
CREATE OR REPLACE FUNCTION hotmesh_dba._doctor_checks()
RETURNS TABLE (name text, of_database boolean, of_app boolean, owners boolean, reads boolean, healthy text)
LANGUAGE sql IMMUTABLE ROWS 20
SET search_path = pg_catalog, pg_temp
AS $$
    VALUES ('extension',             true,  false, false, false, 'As new as its files.'),
           ('autovacuum',            true,  false, false, false, 'On.'),
           ('lock_table',            true,  false, false, false, 'Large enough.'),
           ('old_transactions',      true,  false, false, false, 'None.'),
           ('prepared_transactions', true,  false, false, false, 'None.'),
           ('replication_slots',     true,  false, false, false, 'None that nobody reads from.'),
           ('standby_feedback',      true,  false, false, false, 'No standby holds back much.'),
           ('schedules',             true,  true,  false, false, 'None that fails, never ran or is switched off.'),
           ('schedule_roles',        true,  true,  false, false, 'No superuser''s.'),
           ('wrapper',               false, true,  false, false, 'The app''s function prune is ours.'),
           ('migration',             false, true,  false, false, 'Column and index pruned_at are in place.'),
           ('foreign_key_index',     false, true,  false, false, 'Attributes are found by their job.'),
           ('privileges',            false, true,  false, false, 'You may prune.'),
           ('row_security',          false, true,  false, false, 'Not in the way.'),
           ('disable_triggers',      false, true,  true,  false, 'Possible for you.'),
           ('coverage',              false, true,  true,  false, 'Something takes rows of every table that has many.'),
           ('unrun_policies',        false, true,  true,  false, 'Every enabled policy is run.'),
           ('last_runs',             false, true,  true,  false, 'None that failed.'),
           ('backlog',               false, true,  true,  true,  'Nothing has been due for long.'),
           ('conflicts',             false, true,  true,  false, 'No two policies take the same rows in different ways.'),
           ('table_autovacuum',      false, true,  false, false, 'On for every table.'),
           ('dead_rows',             false, true,  false, false, 'Not more than autovacuum lets be.'),
           ('vacuum_threshold',      false, true,  false, false, 'Fine enough.')
$$;

-- What a check says of an app, or (NULL) of the database. Whatever keeps it from saying anything makes it unknown.
CREATE OR REPLACE FUNCTION hotmesh_dba._run_check(check_name text, app_schema name) RETURNS SETOF hotmesh_dba._finding
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET lock_timeout = 0
AS $$
DECLARE
    v_finding hotmesh_dba._finding;
    v_hint    text;
BEGIN
    PERFORM hotmesh_dba._bound_waiting(clock_timestamp() - interval '0.3 s');
    FOR v_finding IN EXECUTE format('SELECT f.* FROM hotmesh_dba.%I($1) f', '_doctor_' || check_name) USING app_schema LOOP
        RETURN NEXT v_finding;
    END LOOP;
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS v_hint = PG_EXCEPTION_HINT;
    v_finding := ('unknown', format('It could not be checked: %s (%s).', SQLERRM, SQLSTATE), nullif(v_hint, ''));
    RETURN NEXT v_finding;
END
$$;

CREATE OR REPLACE FUNCTION hotmesh_dba._owners_only(app_schema name) RETURNS hotmesh_dba._finding
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT 'unknown', format('Only members of "%s", the app''s owner, see its policies.', r.rolname),
           CASE WHEN r.rolsuper THEN format('SET ROLE %I;', r.rolname) ELSE format('GRANT %I TO %I;', r.rolname, current_user) END
    FROM pg_roles r
    WHERE r.oid = hotmesh_dba._owner(app_schema)
$$;

CREATE OR REPLACE FUNCTION hotmesh_dba._named_only(app_schema name) RETURNS hotmesh_dba._finding
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT 'unknown',
           format('A superuser reads tables of "%s" only where the app is named: whatever that role has put on them is executed by whoever reads them.',
                  pg_get_userbyid(hotmesh_dba._owner(app_schema))),
           format('SELECT * FROM hotmesh_dba.doctor(%L);', app_schema)
$$;

CREATE OR REPLACE FUNCTION hotmesh_dba.doctor(app_id text DEFAULT NULL)
RETURNS TABLE (app name, check_name text, status text, detail text, hint text)
LANGUAGE plpgsql VOLATILE ROWS 40
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_check   record;
    v_is_ok   boolean;
    v_apps    name[] := ARRAY(SELECT a FROM hotmesh_dba._observed_apps(app_id) a);
BEGIN
    FOREACH app IN ARRAY NULL::name || v_apps LOOP
        FOR v_check IN SELECT c.* FROM hotmesh_dba._doctor_checks() c WHERE CASE WHEN app IS NULL THEN c.of_database ELSE c.of_app END LOOP
            check_name := v_check.name;
            IF v_check.owners AND NOT hotmesh_dba._owns_app(app) THEN
                SELECT f.* INTO status, detail, hint FROM hotmesh_dba._owners_only(app) f;
                RETURN NEXT;
                CONTINUE;
            ELSIF v_check.reads AND app_id IS NULL AND hotmesh_dba._is_foreign(app) THEN
                SELECT f.* INTO status, detail, hint FROM hotmesh_dba._named_only(app) f;
                RETURN NEXT;
                CONTINUE;
            END IF;
            v_is_ok := true;
            FOR status, detail, hint IN SELECT f.* FROM hotmesh_dba._run_check(v_check.name, app) f LOOP
                v_is_ok := false;
                RETURN NEXT;
            END LOOP;
            IF v_is_ok THEN
                status := 'ok'; detail := v_check.healthy; hint := NULL;
                RETURN NEXT;
            END IF;
        END LOOP;
    END LOOP;
END
$$;

COMMENT ON FUNCTION hotmesh_dba.doctor(text) IS
'Looks for whatever keeps finished work from going away. Changes nothing. As a superuser it reads other owners'' tables only where the app is named.
app_id (NULL: every app of this database): the app (see view hotmesh_dba.app).
Returns a row a check, more where it finds several things: app (NULL: of the whole database); check_name; status: ok, warning, problem, or unknown where you may not look; detail; hint: what to type.
Of pg_cron it sees the schedules of this database alone.
Settings: hotmesh_dba.old_transaction (10 minutes): from what age on a transaction is old; hotmesh_dba.old_xid_age (1000000): of how many transactions ago a standby may ask for rows.
Errors: 42602 3F000 42809 bad app.';

-- sql/rights.sql

-- Said, not left to default privileges, which the installing role may have changed: every routine acts with
-- its caller's own rights, so everybody may call it. Those that an update found there keep what they had.
DO $rights$
DECLARE
    v_routine pg_catalog.regprocedure;
BEGIN
    FOR v_routine IN
        SELECT p.oid::pg_catalog.regprocedure
        FROM pg_catalog.pg_proc p
        WHERE p.pronamespace = 'hotmesh_dba'::pg_catalog.regnamespace
          AND p.oid::text <> ALL (pg_catalog.string_to_array(
                  coalesce(pg_catalog.current_setting('hotmesh_dba.routines_before', true), ''), ','))
    LOOP
        EXECUTE pg_catalog.format('GRANT EXECUTE ON ROUTINE %s TO PUBLIC', v_routine);
    END LOOP;
END
$rights$;
