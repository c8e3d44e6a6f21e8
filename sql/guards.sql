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
