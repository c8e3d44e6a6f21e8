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
