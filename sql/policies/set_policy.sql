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
