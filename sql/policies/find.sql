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
