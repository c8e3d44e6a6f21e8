\echo Use "CREATE EXTENSION hotmesh_dba" to load this file. \quit

-- sql/schema.sql

-- The first statement: it fails where a schema of this name stands already, so that nobody else's
-- object can wait in it for a privileged caller (and, as a member, the schema goes with the extension).
CREATE SCHEMA hotmesh_dba;
COMMENT ON SCHEMA hotmesh_dba IS
'Data retention for HotMesh apps: deploy(), prune(), preview() and view app. Names that begin with _ are private.';

-- Every routine acts with its caller's own rights, so the rights on the app's tables decide.
GRANT USAGE ON SCHEMA hotmesh_dba TO PUBLIC;

-- sql/types.sql

-- The options of one call, validated, with every cutoff worked out: made once by _resolve, then handed on.
CREATE TYPE hotmesh_dba._options AS (
    app_schema     name,
    jobs           boolean,
    transient      boolean,
    engine_streams boolean,
    worker_streams boolean,
    strip          boolean,
    signals        boolean,
    entity_list    text[],
    keep_hmark     boolean,
    jobs_before    timestamptz,
    engine_before  timestamptz,
    worker_before  timestamptz,
    signals_until  timestamptz
);

-- One kind of removal on one table. row_filter is SQL over alias t; $1 is before, $2 is entity_list.
CREATE TYPE hotmesh_dba._step AS (
    ordinal          int,
    name             text,
    relation         regclass,
    key_columns      text,
    row_filter       text,
    before           timestamptz,
    entity_list      text[],
    taken_before     text,      -- the rows that earlier steps of the same call take: row_filters joined by OR
    attributes       regclass,
    attribute_filter text       -- SQL over alias a: the attributes that the strip removes
);

-- What one bounded batch of a step did.
CREATE TYPE hotmesh_dba._outcome AS (
    taken      bigint,          -- rows deleted, or jobs stripped and marked
    attributes bigint,          -- attributes stripped
    skipped    uuid[],          -- jobs that cannot be marked, whatever we do
    finished   boolean          -- NULL: it gave way to a full lock table
);

-- The result of prune and preview (contract: names, order and types are fixed).
CREATE TYPE hotmesh_dba._counts AS (
    deleted_jobs           bigint,
    deleted_streams        bigint,
    deleted_engine_streams bigint,
    deleted_worker_streams bigint,
    stripped_attributes    bigint,
    deleted_transient      bigint,
    marked_pruned          bigint,
    deleted_signals        bigint
);

-- One thing that deploy or undeploy does, or leaves for a person to type.
CREATE TYPE hotmesh_dba._action AS (
    action     text,
    object     text,
    statements text
);

-- sql/version.sql

CREATE FUNCTION hotmesh_dba.version() RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$ SELECT '1.0.0'::text $$;

COMMENT ON FUNCTION hotmesh_dba.version() IS
'The version of the installed routines, also where they were installed without CREATE EXTENSION.';

-- sql/catalog.sql

-- A table of an app, or NULL where it is missing or lacks one of the columns (then it is somebody else's).
CREATE FUNCTION hotmesh_dba._table(app_schema name, table_name name, columns name[])
RETURNS regclass
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT c.oid::regclass
    FROM pg_class c
    WHERE c.relnamespace = (SELECT n.oid FROM pg_namespace n WHERE n.nspname = _table.app_schema)
      AND c.relname = _table.table_name
      AND c.relkind IN ('r', 'p')
      AND (SELECT count(*)
           FROM pg_attribute a
           WHERE a.attrelid = c.oid AND a.attname = ANY (_table.columns) AND NOT a.attisdropped)
          = cardinality(_table.columns)
$$;

CREATE FUNCTION hotmesh_dba._jobs(app_schema name) RETURNS regclass
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$ SELECT hotmesh_dba._table(app_schema, 'jobs', '{id,key,status,expired_at}') $$;

CREATE FUNCTION hotmesh_dba._attributes(app_schema name) RETURNS regclass
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$ SELECT hotmesh_dba._table(app_schema, 'jobs_attributes', '{job_id,type}') $$;

CREATE FUNCTION hotmesh_dba._is_migrated(app_schema name) RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$ SELECT hotmesh_dba._table(app_schema, 'jobs', '{pruned_at}') IS NOT NULL $$;

-- A table with all its partitions. Not by pg_partition_tree: it waits for whoever has locked one of them.
CREATE FUNCTION hotmesh_dba._tree(root regclass) RETURNS SETOF regclass
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
CREATE FUNCTION hotmesh_dba._extension() RETURNS oid
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$ SELECT e.oid FROM pg_extension e WHERE e.extname = 'hotmesh_dba' $$;

-- Does deleting a job surely take its attributes along? Not so in a session that skips triggers, nor after
-- an interrupted pg_restore that left the foreign key's triggers disabled (seen: every attribute an orphan).
CREATE FUNCTION hotmesh_dba._cascade_is_intact(jobs regclass, attributes regclass)
RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    WITH RECURSIVE fk AS (
        SELECT c.oid, c.confdeltype, c.convalidated, true AS is_root
        FROM pg_constraint c
        WHERE c.contype = 'f' AND c.conrelid = attributes AND c.confrelid = jobs AND c.conparentid = 0
        UNION ALL
        SELECT c.oid, c.confdeltype, c.convalidated, false
        FROM pg_constraint c
        JOIN fk ON c.conparentid = fk.oid
    )
    SELECT current_setting('session_replication_role') <> 'replica'
       AND count(*) FILTER (WHERE fk.is_root) = 1
       AND bool_and(fk.confdeltype = 'c' AND fk.convalidated)
       AND NOT EXISTS (SELECT FROM pg_trigger t
                       WHERE t.tgconstraint IN (SELECT f.oid FROM fk f) AND t.tgenabled NOT IN ('O', 'A'))
    FROM fk
$$;

-- The index (pruned_at) WHERE pruned_at IS NULL of a table, whatever its name; one that is not valid is a build
-- that was broken off, or one on a partitioned table that waits for its parts. Read off the definition:
-- pg_get_expr would wait for whoever has locked the table.
CREATE FUNCTION hotmesh_dba._pruned_at_index(relation regclass, valid boolean DEFAULT true) RETURNS regclass
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT i.indexrelid::regclass
    FROM pg_index i
    WHERE i.indrelid = relation AND i.indisvalid = valid
      AND pg_get_indexdef(i.indexrelid) ~ ' USING btree \(pruned_at\).* WHERE \(pruned_at IS NULL\)$'
    LIMIT 1
$$;

CREATE FUNCTION hotmesh_dba._prune_oid() RETURNS oid
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT p.oid FROM pg_proc p WHERE p.pronamespace = 'hotmesh_dba'::regnamespace AND p.proname = 'prune'
$$;

-- Does this function hang on hotmesh_dba.prune by its body, and (unless installed plainly) on the extension by its mark?
CREATE FUNCTION hotmesh_dba._is_wrapper(overload oid, prune oid) RETURNS boolean
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
CREATE FUNCTION hotmesh_dba._overloads(app_schema name)
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

CREATE VIEW hotmesh_dba.app AS
SELECT n.nspname AS schema,
       pg_catalog.pg_get_userbyid(j.relowner) AS owner,
       (SELECT CASE pg_catalog.count(*) WHEN 0 THEN 'none'
                                        WHEN 1 THEN CASE pg_catalog.min(o.kind) WHEN 'ours' THEN 'ours' ELSE 'foreign' END
                                        ELSE 'ambiguous' END
        FROM hotmesh_dba._overloads(n.nspname) o) AS wrapper,
       hotmesh_dba._is_migrated(n.nspname) AS migrated,
       hotmesh_dba._pruned_at_index(j.oid) IS NOT NULL AS indexed
FROM pg_catalog.pg_namespace n
JOIN pg_catalog.pg_class j ON j.relnamespace = n.oid AND j.relname = 'jobs'
JOIN pg_catalog.pg_class a ON a.relnamespace = n.oid AND a.relname = 'jobs_attributes'
WHERE hotmesh_dba._jobs(n.nspname) IS NOT NULL
  AND hotmesh_dba._attributes(n.nspname) IS NOT NULL
  AND EXISTS (SELECT FROM pg_catalog.pg_attribute c
              WHERE c.attrelid = j.oid AND c.attname = 'id' AND c.atttypid = 'pg_catalog.uuid'::pg_catalog.regtype)
  AND EXISTS (SELECT FROM pg_catalog.pg_attribute c
              JOIN pg_catalog.pg_type t ON t.oid = c.atttypid
              WHERE c.attrelid = a.oid AND c.attname = 'type' AND t.typtype = 'e' AND t.typnamespace = n.oid)
  AND EXISTS (SELECT FROM pg_catalog.pg_constraint f
              WHERE f.conrelid = a.oid AND f.confrelid = j.oid AND f.contype = 'f');

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
CREATE FUNCTION hotmesh_dba._known_apps() RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce('Known apps: ' || string_agg(quote_literal(a.schema), ', ' ORDER BY a.schema) || '.',
                    'This database holds no HotMesh app: check that you are connected to the right one.')
    FROM hotmesh_dba.app a
$$;

-- HotMesh's own rule: trim, lower-case, every run of other characters one _, 63 bytes, no _ at the end.
CREATE FUNCTION hotmesh_dba._normalised(app_id text) RETURNS text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT rtrim(left(regexp_replace(lower(btrim(app_id) COLLATE "C"), '[^a-z0-9]+', '_', 'g'), 63), '_')
$$;

CREATE FUNCTION hotmesh_dba.app_schema(app_id text) RETURNS name
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_schema text;
BEGIN
    SELECT a.schema::text INTO v_schema FROM hotmesh_dba.app a WHERE a.schema::text = app_id;
    IF FOUND THEN
        RETURN v_schema;
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

    IF EXISTS (SELECT FROM hotmesh_dba.app a WHERE a.schema::text = v_schema) THEN
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

-- sql/locks.sql

-- How long a statement of ours may wait: so much less than deadlock_timeout that, in a deadlock with the
-- application, it is we who give way. What counts is how long we have held locks, so the age of the whole
-- transaction; a fixed lock_timeout below deadlock_timeout does not save the application's statement.
-- The caller carries SET lock_timeout, which confines this setting to it.
CREATE FUNCTION hotmesh_dba._bound_waiting(held_since timestamptz DEFAULT now()) RETURNS void
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT set_config('lock_timeout', greatest(1, round(s.setting::numeric / 2
                      - extract(epoch FROM clock_timestamp() - _bound_waiting.held_since) * 1000))::text, true)
    FROM pg_settings s
    WHERE s.name = 'deadlock_timeout'
$$;

-- How many more jobs one transaction may mark: HotMesh's uniqueness trigger takes an advisory lock a live
-- job and keeps it to the end, and a full lock table stops every session of the server. A quarter of the
-- table is ours, less what this session holds already (repeated calls in one transaction add up); and all
-- sessions together stay below half of it, each taking half of what is left of that half, for another may be
-- taking its own at this very moment.
CREATE FUNCTION hotmesh_dba._lock_room() RETURNS bigint
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
CREATE FUNCTION hotmesh_dba._lock_holders(app_schema name, readers_too boolean, keys_too boolean) RETURNS text
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

CREATE FUNCTION hotmesh_dba._raise_locked(app_schema name, doing text) RETURNS void
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

CREATE FUNCTION hotmesh_dba._check_writable() RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF pg_is_in_recovery() THEN
        RAISE EXCEPTION 'cannot remove rows on a standby'
            USING ERRCODE = 'read_only_sql_transaction',
                  DETAIL = 'This server is in recovery and replays the changes of its primary.',
                  HINT = 'Connect to the primary; preview() works here.';
    ELSIF current_setting('transaction_read_only')::boolean THEN
        RAISE EXCEPTION 'cannot remove rows in a read-only transaction'
            USING ERRCODE = 'read_only_sql_transaction',
                  DETAIL = 'transaction_read_only is on.',
                  HINT = 'Call it in a transaction begun with BEGIN READ WRITE; check default_transaction_read_only.';
    END IF;
END
$$;

-- In REPEATABLE READ an attribute that was committed after the snapshot is not seen, so it would survive.
CREATE FUNCTION hotmesh_dba._check_isolation(doing text) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN
        RAISE EXCEPTION 'cannot % in a % transaction', doing, upper(current_setting('transaction_isolation'))
            USING ERRCODE = 'active_sql_transaction',
                  DETAIL = 'Attributes committed after this transaction''s snapshot would be left behind for ever.',
                  HINT = 'Call it in a transaction begun with BEGIN ISOLATION LEVEL READ COMMITTED.';
    END IF;
END
$$;

-- The hint is the very statement that mends it.
CREATE FUNCTION hotmesh_dba._check_privilege(relation regclass, privilege text, column_name name DEFAULT NULL)
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

CREATE FUNCTION hotmesh_dba._check_schema_usage(app_schema name) RETURNS void
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
CREATE FUNCTION hotmesh_dba._check_sees_all(relation regclass, doing text) RETURNS void
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

-- Of which type are the attributes that stay? Without an answer every one of them would go.
CREATE FUNCTION hotmesh_dba._check_attribute_filter(step hotmesh_dba._step) RETURNS void
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
CREATE FUNCTION hotmesh_dba._check_step_privileges(step hotmesh_dba._step, removing boolean) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM hotmesh_dba._check_privilege(step.relation, 'SELECT');
    IF step.name = 'strip' THEN
        PERFORM hotmesh_dba._check_privilege(step.attributes, 'SELECT');
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

-- sql/options.sql

-- A window becomes its cutoff. It is refused where it could reach into the future: an interval has three
-- fields, and '1 month -30 days' is positive to no comparison but points past now in March; so months count as
-- the fewest days that so many in a row can be (or, taken away, as the most): a year as 365 (366), and the rest
-- as in the tables below.
CREATE FUNCTION hotmesh_dba._cutoff(option_name text, retention interval) RETURNS timestamptz
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

CREATE FUNCTION hotmesh_dba._check_flag(option_name text, flag boolean) RETURNS boolean
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

-- The arguments of one call, resolved and validated once. Cutoffs are fixed here and shared by every step.
CREATE FUNCTION hotmesh_dba._resolve(
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
CREATE FUNCTION hotmesh_dba._attribute_filter(attributes regclass, keep_hmark boolean) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT 'a.type NOT IN (' || string_agg(quote_literal(e.enumlabel), ', ' ORDER BY e.enumsortorder) || ')'
    FROM pg_attribute t
    JOIN pg_enum e ON e.enumtypid = t.atttypid
    WHERE t.attrelid = attributes AND t.attname = 'type'
      AND (e.enumlabel IN ('jdata', 'udata', 'jmark') OR keep_hmark AND e.enumlabel = 'hmark')
$$;

-- What a call does, a row a step and table, in the contract's order: the one place that says which rows are
-- due. Whatever removes, counts or previews rows takes them from here. A missing table has no row.
-- Only $1 (before) and $2 (entity_list) stand in a filter, and never an expression over a column.
CREATE FUNCTION hotmesh_dba._steps(options hotmesh_dba._options) RETURNS SETOF hotmesh_dba._step
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
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
            (1, 'jobs',           options.jobs,           app.jobs,    'id',              't.expired_at < $1' || app.of_entity, options.jobs_before),
            (2, 'transient',      options.transient,      app.jobs,    'id',              't.expired_at < $1 AND t.entity IS NULL', options.jobs_before),
            (3, 'engine_streams', options.engine_streams, app.engine,  'stream_name, id', 't.expired_at < $1', options.engine_before),
            (4, 'engine_streams', options.engine_streams, app.streams, 'stream_name, id', 't.expired_at < $1 AND t.group_name = ''ENGINE''', options.engine_before),
            (5, 'worker_streams', options.worker_streams, app.worker,  'stream_name, id', 't.expired_at < $1', options.worker_before),
            (6, 'worker_streams', options.worker_streams, app.streams, 'stream_name, id', 't.expired_at < $1 AND t.group_name = ''WORKER''', options.worker_before),
            (7, 'strip',          options.strip,          app.jobs,    'id',              't.status = 0 AND t.is_live AND t.pruned_at IS NULL' || app.of_entity, options.jobs_before),
            (8, 'signals',        options.signals,        app.signals, 'key',             't.expiry <= $1', options.signals_until)
        ) AS s (ordinal, name, wanted, relation, key_columns, row_filter, before)
        WHERE s.wanted AND s.relation IS NOT NULL
    )
    SELECT s.ordinal, s.name, s.relation, s.key_columns, s.row_filter, s.before, options.entity_list,
           (SELECT string_agg(e.row_filter, ' OR ' ORDER BY e.ordinal)
            FROM step e
            WHERE e.relation = s.relation AND s.relation = s.jobs AND e.ordinal < s.ordinal),
           CASE WHEN s.relation = s.jobs THEN s.attributes END,
           CASE WHEN s.name = 'strip' THEN hotmesh_dba._attribute_filter(s.attributes, options.keep_hmark) END
    FROM step s
    ORDER BY s.ordinal
$$;

-- sql/steps/delete_rows.sql

-- Messages and signals: up to max_rows due rows go (NULL: all of them). Nobody locks a processed message,
-- so they are not locked first either: FOR UPDATE would write every row once more.
CREATE FUNCTION hotmesh_dba._delete_rows(step hotmesh_dba._step, max_rows bigint)
RETURNS hotmesh_dba._outcome
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET lock_timeout = 0
AS $$
DECLARE
    v_chosen text := '';
    v_taken  bigint;
BEGIN
    IF max_rows IS NOT NULL THEN
        v_chosen := format('AND (%1$s) IN (SELECT %1$s FROM %2$s t WHERE %3$s LIMIT $3)',
                           step.key_columns, step.relation, step.row_filter);
    END IF;
    PERFORM hotmesh_dba._bound_waiting();
    EXECUTE format('DELETE FROM %s t WHERE %s %s', step.relation, step.row_filter, v_chosen)
        USING step.before, step.entity_list, max_rows;
    GET DIAGNOSTICS v_taken = ROW_COUNT;
    RETURN ROW(v_taken, 0, '{}', max_rows IS NULL OR v_taken < max_rows)::hotmesh_dba._outcome;
END
$$;

-- sql/steps/delete_jobs.sql

-- Locking wants UPDATE on a column, and under row-level security a policy for it: a role that may delete and no
-- more chooses without. The strip cannot do without.
CREATE FUNCTION hotmesh_dba._may_lock(step hotmesh_dba._step) RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT step.name = 'strip'
        OR has_any_column_privilege(step.relation, 'UPDATE') AND NOT row_security_active(step.relation)
$$;

-- Chooses up to max_jobs due jobs (NULL: all of them) and locks them: nobody then adds an attribute to them
-- (its foreign key wants the row) nor changes them before we are done. A job that somebody else has locked is
-- left for the next run.
CREATE FUNCTION hotmesh_dba._take_jobs(step hotmesh_dba._step, max_jobs bigint, skip uuid[])
RETURNS uuid[]
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET lock_timeout = 0
AS $$
DECLARE
    v_ids uuid[];
BEGIN
    PERFORM hotmesh_dba._bound_waiting();
    EXECUTE format('SELECT array_agg(due.id) FROM (SELECT t.id FROM %s t WHERE %s %s LIMIT $3 %s) due',
                   step.relation, step.row_filter,
                   CASE WHEN cardinality(skip) > 0 THEN 'AND t.id <> ALL ($4)' END,
                   CASE WHEN hotmesh_dba._may_lock(step) THEN 'FOR UPDATE SKIP LOCKED' END)
        INTO v_ids
        USING step.before, step.entity_list, max_jobs, skip;
    RETURN coalesce(v_ids, '{}');
END
$$;

-- Removes the chosen jobs' attributes: all of them, or those of attribute_filter. By the primary key: without
-- statistics (a restored database) the planner would read the whole table or the index (type, symbol).
-- JIT is off wherever sequential scans are: before PostgreSQL 18 one that cannot be avoided then seems dear
-- enough to be compiled for seconds.
CREATE FUNCTION hotmesh_dba._delete_attributes(attributes regclass, job_ids uuid[], attribute_filter text)
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

-- Where the cascade cannot be relied on, the attributes are removed by us, in the same transaction, from jobs
-- that are locked; where that cannot be done whole either, nothing is deleted.
CREATE FUNCTION hotmesh_dba._check_explicit_cascade(step hotmesh_dba._step) RETURNS void
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
    PERFORM hotmesh_dba._check_sees_all(step.attributes, 'delete jobs without their foreign key''s cascade');
    PERFORM hotmesh_dba._check_sees_all(step.relation, 'delete jobs without their foreign key''s cascade');
END
$$;

-- Jobs, and transient jobs: up to max_jobs due ones go (NULL: all of them), their attributes with them.
CREATE FUNCTION hotmesh_dba._delete_jobs(step hotmesh_dba._step, max_jobs bigint)
RETURNS hotmesh_dba._outcome
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET jit = off
SET lock_timeout = 0
AS $$
DECLARE
    v_intact  boolean := hotmesh_dba._cascade_is_intact(step.relation, step.attributes);
    v_ids     uuid[];
    v_deleted bigint;
BEGIN
    IF NOT v_intact THEN
        PERFORM hotmesh_dba._check_explicit_cascade(step);
    END IF;
    v_ids := hotmesh_dba._take_jobs(step, max_jobs, '{}');
    IF NOT v_intact THEN
        PERFORM hotmesh_dba._delete_attributes(step.attributes, v_ids, 'true');
    END IF;
    PERFORM hotmesh_dba._bound_waiting();
    -- The filter once more: a job that could not be locked may have changed since it was chosen.
    EXECUTE format('DELETE FROM %s t WHERE t.id = ANY ($3) AND %s', step.relation, step.row_filter)
        USING step.before, step.entity_list, v_ids;
    GET DIAGNOSTICS v_deleted = ROW_COUNT;
    IF NOT v_intact AND v_deleted < cardinality(v_ids) THEN
        RAISE triggered_action_exception
            USING MESSAGE = format('%s of %s jobs of %s were not deleted', cardinality(v_ids) - v_deleted, cardinality(v_ids), step.relation),
                  DETAIL = 'A trigger kept them, and without their foreign key''s cascade their attributes would be lost all the same.',
                  HINT = format('See what keeps them: SELECT tgname, tgfoid::regprocedure FROM pg_trigger WHERE tgrelid = %L::regclass;', step.relation);
    END IF;
    RETURN ROW(v_deleted, 0, '{}', max_jobs IS NULL OR v_deleted = 0 OR cardinality(v_ids) < max_jobs)::hotmesh_dba._outcome;
END
$$;

-- sql/steps/strip_jobs.sql

-- The jobs of job_ids, which we hold locked, lose their attributes and get their mark: the very same jobs in
-- both statements, so one that completes meanwhile is neither stripped nor marked.
-- Where a job cannot be marked (seen: two live rows of one key, which HotMesh's trigger refuses), it must not
-- keep the others from it for ever: the batch is halved down to that row, which is left as it was.
CREATE FUNCTION hotmesh_dba._strip_and_mark(step hotmesh_dba._step, job_ids uuid[])
RETURNS hotmesh_dba._outcome
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET jit = off
SET lock_timeout = 0
AS $$
DECLARE
    v_half       int := cardinality(job_ids) / 2;
    v_attributes bigint;
    v_marked     bigint;
    v_left       hotmesh_dba._outcome;
    v_right      hotmesh_dba._outcome;
BEGIN
    BEGIN
        v_attributes := hotmesh_dba._delete_attributes(step.attributes, job_ids, step.attribute_filter);
        PERFORM hotmesh_dba._bound_waiting();
        EXECUTE format('UPDATE %s t SET pruned_at = pg_catalog.now() WHERE t.id = ANY ($1)', step.relation)
            USING job_ids;
        GET DIAGNOSTICS v_marked = ROW_COUNT;
        IF v_marked < cardinality(job_ids) THEN
            RAISE triggered_action_exception
                USING MESSAGE = format('%s of %s jobs were not marked', cardinality(job_ids) - v_marked, cardinality(job_ids)),
                      DETAIL = 'A trigger or a policy kept them from it.';
        END IF;
        RETURN ROW(v_marked, v_attributes, '{}', true)::hotmesh_dba._outcome;
    EXCEPTION WHEN OTHERS THEN
        -- Only what one row can cause: not a lock, a missing right, a full disk, a shutdown.
        IF left(SQLSTATE, 2) IN ('25', '40', '42', '53', '54', '55', '57', '58', 'XX') THEN
            RAISE;
        END IF;
        IF v_half = 0 THEN
            RAISE WARNING 'job % of % cannot be marked as pruned, so it was not stripped', job_ids[1], step.relation
                USING ERRCODE = SQLSTATE, DETAIL = SQLERRM,
                      HINT = format('See what is wrong with it: SELECT * FROM %s WHERE id = %L;', step.relation, job_ids[1]);
            RETURN ROW(0, 0, job_ids, true)::hotmesh_dba._outcome;
        END IF;
    END;
    v_left := hotmesh_dba._strip_and_mark(step, job_ids[: v_half]);
    v_right := hotmesh_dba._strip_and_mark(step, job_ids[v_half + 1 :]);
    RETURN ROW(v_left.taken + v_right.taken, v_left.attributes + v_right.attributes,
               v_left.skipped || v_right.skipped, true)::hotmesh_dba._outcome;
END
$$;

-- Strips up to max_jobs finished jobs (NULL: all of them), those of skip aside.
CREATE FUNCTION hotmesh_dba._strip_jobs(step hotmesh_dba._step, max_jobs bigint, skip uuid[])
RETURNS hotmesh_dba._outcome
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_ids     uuid[];
    v_outcome hotmesh_dba._outcome := (0, 0, '{}'::uuid[], true);
BEGIN
    PERFORM hotmesh_dba._check_isolation('strip attributes');
    v_ids := hotmesh_dba._take_jobs(step, max_jobs, skip);
    IF cardinality(v_ids) > 0 THEN
        v_outcome := hotmesh_dba._strip_and_mark(step, v_ids);
    END IF;
    v_outcome.finished := max_jobs IS NULL OR cardinality(v_ids) < max_jobs;
    RETURN v_outcome;
END
$$;

-- sql/steps/run.sql

-- One bounded batch of any step; whoever removes rows calls this.
CREATE FUNCTION hotmesh_dba._run_step(step hotmesh_dba._step, max_rows bigint, skip uuid[])
RETURNS hotmesh_dba._outcome
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN CASE
        WHEN step.name IN ('jobs', 'transient') THEN hotmesh_dba._delete_jobs(step, max_rows)
        WHEN step.name = 'strip' THEN hotmesh_dba._strip_jobs(step, max_rows, skip)
        ELSE hotmesh_dba._delete_rows(step, max_rows)
    END;
END
$$;

-- Adds what a step did (or would do) to the result's columns.
CREATE FUNCTION hotmesh_dba._add(counts hotmesh_dba._counts, step_name text, taken bigint, attributes bigint)
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
CREATE FUNCTION hotmesh_dba._count_due(step hotmesh_dba._step, max_rows bigint) RETURNS bigint
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

CREATE FUNCTION hotmesh_dba._due_query(step hotmesh_dba._step, columns text) RETURNS text
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
CREATE FUNCTION hotmesh_dba._run_step_patiently(
    app_schema name, step hotmesh_dba._step, max_rows bigint, skip uuid[])
RETURNS hotmesh_dba._outcome
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_bound bigint := max_rows;
BEGIN
    FOR v_try IN 1 .. 5 LOOP
        BEGIN
            RETURN hotmesh_dba._run_step(step, v_bound, skip);
        EXCEPTION
            WHEN lock_not_available OR deadlock_detected THEN
                PERFORM pg_sleep(v_try * 0.02);
            WHEN out_of_memory THEN
                IF step.name <> 'strip' AND v_try = 5 THEN
                    RAISE;
                END IF;
                PERFORM pg_sleep(0.5);
                IF step.name = 'strip' THEN
                    v_bound := least(v_bound / 4, hotmesh_dba._lock_room());
                    IF v_bound = 0 OR v_try = 5 THEN
                        RETURN ROW(0, 0, '{}', NULL)::hotmesh_dba._outcome;
                    END IF;
                END IF;
        END;
    END LOOP;
    PERFORM hotmesh_dba._raise_locked(app_schema, 'prune');
END
$$;

-- How many jobs (or rows) the next batch may take. Only the mark of the strip takes locks that pile up.
CREATE FUNCTION hotmesh_dba._batch_bound(step hotmesh_dba._step) RETURNS bigint
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$ SELECT CASE WHEN step.name = 'strip' THEN hotmesh_dba._lock_room() END $$;

-- What is left to strip. Where the lock table is full, those who filled it are giving way as well: a count
-- must not fail the call that stopped for it.
CREATE FUNCTION hotmesh_dba._count_remaining(step hotmesh_dba._step) RETURNS bigint
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

CREATE FUNCTION hotmesh_dba._warn_of_remaining(app_schema name, remaining bigint) RETURNS void
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
CREATE FUNCTION hotmesh_dba.prune(
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
    v_step    hotmesh_dba._step;
    v_bound   bigint;
    v_outcome hotmesh_dba._outcome;
    v_skipped uuid[] := '{}';
BEGIN
    remaining := 0;
    PERFORM hotmesh_dba._check_writable();
    v_options := hotmesh_dba._resolve(
        app_id, retention, prune_jobs, prune_streams, strip_attributes, entity_list, prune_transient, keep_hmark,
        prune_engine_streams, prune_worker_streams, engine_streams_retention, worker_streams_retention, prune_signals);
    PERFORM hotmesh_dba._check_step_privileges(s, true) FROM hotmesh_dba._steps(v_options) s;

    FOR v_step IN SELECT s.* FROM hotmesh_dba._steps(v_options) s LOOP
        LOOP
            v_bound := hotmesh_dba._batch_bound(v_step);
            EXIT WHEN v_bound = 0;
            v_outcome := hotmesh_dba._run_step_patiently(v_options.app_schema, v_step, v_bound, v_skipped);
            v_counts := hotmesh_dba._add(v_counts, v_step.name, v_outcome.taken, v_outcome.attributes);
            v_skipped := v_skipped || v_outcome.skipped;
            v_bound := CASE WHEN v_outcome.finished IS NULL THEN 0 ELSE v_bound END;
            EXIT WHEN v_outcome.finished OR v_bound = 0;
        END LOOP;
        IF v_step.name = 'strip' THEN
            remaining := hotmesh_dba._count_remaining(v_step);
        END IF;
        IF v_bound = 0 AND remaining > 0 THEN
            PERFORM hotmesh_dba._warn_of_remaining(v_options.app_schema, remaining);
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
CREATE FUNCTION hotmesh_dba._count_attributes(step hotmesh_dba._step, max_rows bigint) RETURNS bigint
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
CREATE FUNCTION hotmesh_dba.preview(
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

-- sql/deploy/wrapper.sql

-- The wrapper's signature and body, read off hotmesh_dba.prune: the contract's list is written nowhere else.

CREATE FUNCTION hotmesh_dba._wrapper_result() RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT 'TABLE(' || string_agg(a.attname || ' ' || format_type(a.atttypid, NULL), ', ' ORDER BY a.attnum) || ')'
    FROM pg_attribute a
    WHERE a.attrelid = 'hotmesh_dba._counts'::regclass AND a.attnum > 0 AND NOT a.attisdropped
$$;

-- myapp.prune(interval, boolean, …): how statements name the wrapper.
CREATE FUNCTION hotmesh_dba._wrapper_name(app_schema name) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT format('%I.prune(%s)', app_schema, string_agg(format_type(t.type, NULL), ', ' ORDER BY t.position))
    FROM pg_proc p, unnest(p.proargtypes::oid[]) WITH ORDINALITY AS t (type, position)
    WHERE p.oid = hotmesh_dba._prune_oid() AND t.position > 1
$$;

-- It names its own schema by identity, so it follows ALTER SCHEMA RENAME, and prune by identity too.
CREATE FUNCTION hotmesh_dba._wrapper_sql(app_schema name) RETURNS text
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
CREATE FUNCTION hotmesh_dba._replaceable(app_schema name) RETURNS regprocedure
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
CREATE FUNCTION hotmesh_dba._grantees(overload regprocedure)
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
CREATE FUNCTION hotmesh_dba._old_grantees(app_schema name)
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
CREATE FUNCTION hotmesh_dba._public_rights_sql(app_schema name) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT format(CASE WHEN count(*) = 0 OR bool_or(o.grantee = 0) THEN 'GRANT EXECUTE ON FUNCTION %s TO PUBLIC;'
                       ELSE 'REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC;' END,
                  hotmesh_dba._wrapper_name(app_schema))
    FROM hotmesh_dba._old_grantees(app_schema) o
$$;

-- Taking over must not break a caller: whoever could execute an old overload can execute the wrapper.
CREATE FUNCTION hotmesh_dba._plan_grants(app_schema name) RETURNS SETOF hotmesh_dba._action
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    WITH wrapper AS (
        SELECT hotmesh_dba._wrapper_name(app_schema) AS name,
               hotmesh_dba._replaceable(app_schema) AS kept,
               (SELECT c.relowner FROM pg_class c WHERE c.oid = hotmesh_dba._jobs(app_schema)) AS owner
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

CREATE FUNCTION hotmesh_dba._plan_overloads(app_schema name) RETURNS SETOF hotmesh_dba._action
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT 'dropped', 'function ' || o.overload, format('DROP FUNCTION %s;', o.overload)
    FROM hotmesh_dba._overloads(app_schema) o
    WHERE o.kind = 'known' AND o.overload IS DISTINCT FROM hotmesh_dba._replaceable(app_schema)
$$;

CREATE FUNCTION hotmesh_dba._plan_wrapper(app_schema name) RETURNS SETOF hotmesh_dba._action
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    WITH app AS (
        SELECT pg_get_userbyid(c.relowner) AS owner FROM pg_class c WHERE c.oid = hotmesh_dba._jobs(app_schema)
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
CREATE FUNCTION hotmesh_dba._is_big(jobs regclass) RETURNS boolean
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

-- The first name that is free: another index may have taken HotMesh's.
CREATE FUNCTION hotmesh_dba._index_name(app_schema name) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT c.candidate
    FROM (SELECT 'idx_jobs_pruned_at' || coalesce('_' || nullif(i, 0), '') AS candidate, i
          FROM generate_series(0, 99) i) c
    WHERE to_regclass(format('%I.%I', app_schema, c.candidate)) IS NULL
    ORDER BY c.i
    LIMIT 1
$$;

-- What to type for one table, without blocking its writers; begins where an earlier try broke off.
CREATE FUNCTION hotmesh_dba._concurrent_index_sql(relation regclass, index_name text) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT concat_ws(E'\n',
        'DROP INDEX CONCURRENTLY ' || hotmesh_dba._pruned_at_index(relation, valid => false) || ';',
        format('CREATE INDEX CONCURRENTLY %I ON %s (pruned_at) WHERE pruned_at IS NULL;', index_name, relation))
    WHERE hotmesh_dba._pruned_at_index(relation) IS NULL
$$;

-- A partitioned table takes no CONCURRENTLY: an empty index on it, one built on each part, and each attached.
CREATE FUNCTION hotmesh_dba._partitioned_index_sql(jobs regclass, app_schema name) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    WITH part AS (
        SELECT h.inhrelid::regclass AS relation, left(c.relname, 50) || '_pruned_at_idx' AS index_name,
               hotmesh_dba._pruned_at_index(h.inhrelid) AS built
        FROM pg_inherits h
        JOIN pg_class c ON c.oid = h.inhrelid
        WHERE h.inhparent = jobs
    )
    SELECT concat_ws(E'\n',
        CASE WHEN hotmesh_dba._pruned_at_index(jobs, valid => false) IS NULL THEN
            format('CREATE INDEX %I ON ONLY %s (pruned_at) WHERE pruned_at IS NULL;',
                   hotmesh_dba._index_name(app_schema), jobs)
        END,
        string_agg(concat_ws(E'\n',
            hotmesh_dba._concurrent_index_sql(p.relation, p.index_name),
            format('ALTER INDEX %s ATTACH PARTITION %s;',
                   coalesce(hotmesh_dba._pruned_at_index(jobs, valid => false)::text,
                            format('%I.%I', app_schema, hotmesh_dba._index_name(app_schema))),
                   coalesce(p.built::text, format('%I.%I', app_schema, p.index_name)))),
            E'\n' ORDER BY p.index_name)
            FILTER (WHERE NOT EXISTS (SELECT FROM pg_inherits i
                                      WHERE i.inhrelid = p.built AND i.inhparent = hotmesh_dba._pruned_at_index(jobs, valid => false))))
    FROM part p
$$;

-- Dropping the one on a partitioned table takes along what is attached to it; a new one would adopt the rest.
CREATE FUNCTION hotmesh_dba._drop_invalid_indexes_sql(jobs regclass) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT string_agg(format('DROP INDEX %s;', i.index), E'\n' ORDER BY i.index::text)
    FROM hotmesh_dba._tree(jobs) t, LATERAL (SELECT hotmesh_dba._pruned_at_index(t, valid => false)) i (index)
    WHERE i.index IS NOT NULL
      AND NOT EXISTS (SELECT FROM pg_inherits h WHERE h.inhrelid = i.index)
$$;

CREATE FUNCTION hotmesh_dba._plan_migration(app_schema name) RETURNS SETOF hotmesh_dba._action
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_jobs           regclass := hotmesh_dba._jobs(app_schema);
    v_is_partitioned boolean := (SELECT c.relkind = 'p' FROM pg_class c WHERE c.oid = v_jobs);
    v_action         hotmesh_dba._action;
    v_index          text := hotmesh_dba._index_name(app_schema);
    v_object         text := format('index %I.%I', app_schema, v_index);
BEGIN
    IF NOT hotmesh_dba._is_migrated(app_schema) THEN
        v_action := ('added', format('column %s.pruned_at', v_jobs),
                     format('ALTER TABLE %s ADD COLUMN pruned_at timestamp with time zone;', v_jobs));
        RETURN NEXT v_action;
    END IF;
    IF hotmesh_dba._pruned_at_index(v_jobs) IS NOT NULL THEN
        RETURN;
    ELSIF hotmesh_dba._is_big(v_jobs) THEN
        v_action := ('pending', v_object, CASE WHEN v_is_partitioned
            THEN hotmesh_dba._partitioned_index_sql(v_jobs, app_schema)
            ELSE hotmesh_dba._concurrent_index_sql(v_jobs, v_index) END);
    ELSE
        v_action := ('created', v_object, concat_ws(E'\n',
            hotmesh_dba._drop_invalid_indexes_sql(v_jobs),
            format('CREATE INDEX %I ON %s (pruned_at) WHERE pruned_at IS NULL;', v_index, v_jobs)));
    END IF;
    RETURN NEXT v_action;
END
$$;

-- sql/deploy/plan.sql

-- All that deploy has to do on an app, in order, each with its statements; none where everything is in place.
CREATE FUNCTION hotmesh_dba._deploy_plan(app_schema name) RETURNS SETOF hotmesh_dba._action
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
CREATE FUNCTION hotmesh_dba._carry_out(plan hotmesh_dba._action[]) RETURNS void
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
CREATE FUNCTION hotmesh_dba._check_unknown_overloads(app_schema name) RETURNS void
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
CREATE FUNCTION hotmesh_dba._check_dependents(overload regprocedure) RETURNS void
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

CREATE FUNCTION hotmesh_dba._raise_not_owner(app_schema name, doing text, detail text, hint text) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION 'permission denied to % app "%"', doing, app_schema
        USING ERRCODE = 'insufficient_privilege', DETAIL = detail || ' Nothing was changed.', HINT = hint;
END
$$;

-- Whoever deploys or undeploys acts for the owner of the app's tables, who owns the wrapper. No hint gives away
-- the role of a superuser.
CREATE FUNCTION hotmesh_dba._check_deployer(app_schema name, doing text) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_owner    pg_roles;
    v_role     name;
    v_foreign  pg_roles;
    v_overload regprocedure;
BEGIN
    SELECT r.* INTO v_owner
    FROM pg_class c
    JOIN pg_roles r ON r.oid = c.relowner
    WHERE c.oid = hotmesh_dba._jobs(app_schema);
    IF NOT pg_has_role(v_owner.oid, 'USAGE') THEN
        PERFORM hotmesh_dba._raise_not_owner(app_schema, doing,
            format('The app''s tables belong to "%s", whose rights role "%s" does not have.', v_owner.rolname, current_user),
            CASE WHEN v_owner.rolsuper THEN format('Call it as that role, or after SET ROLE %I;', v_owner.rolname)
                 ELSE format('SET ROLE %I; or: GRANT %1$I TO %I;', v_owner.rolname, current_user) END);
    END IF;
    -- To give a function to a role, that role too must be able to create it.
    FOREACH v_role IN ARRAY ARRAY[v_owner.rolname, current_user] LOOP
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
            || format('as its owner: ALTER FUNCTION %s OWNER TO %I;', v_overload, v_owner.rolname));
    END IF;
END
$$;

-- Where the routines were installed without CREATE EXTENSION, they belong to the role that did it, and it can
-- replace them: it is trusted by every app that is deployed. Another owner's app is taken only on its word.
CREATE FUNCTION hotmesh_dba._check_trust(app_schema name, trust_installer boolean) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_installer pg_roles;
    v_owner     oid := (SELECT c.relowner FROM pg_class c WHERE c.oid = hotmesh_dba._jobs(app_schema));
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
CREATE FUNCTION hotmesh_dba._deploy_lock_mode(app_schema name) RETURNS text
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
CREATE FUNCTION hotmesh_dba._deploy_once(app_schema name, trust_installer boolean)
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
CREATE FUNCTION hotmesh_dba.deploy(app_id text, trust_installer boolean DEFAULT false)
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

CREATE FUNCTION hotmesh_dba._undeploy_plan(app_schema name) RETURNS SETOF hotmesh_dba._action
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT 'dropped', 'function ' || o.overload, format('DROP FUNCTION %s;', o.overload)
    FROM hotmesh_dba._overloads(app_schema) o
    WHERE o.kind = 'ours'
$$;

CREATE FUNCTION hotmesh_dba.undeploy(app_id text)
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

-- sql/rights.sql

-- Said, not left to default privileges, which the installing role may have changed: every routine acts with
-- its caller's own rights, so everybody may call it.
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA hotmesh_dba TO PUBLIC;
