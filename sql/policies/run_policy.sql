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
