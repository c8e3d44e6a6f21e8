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
