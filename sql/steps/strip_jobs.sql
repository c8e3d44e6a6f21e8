-- The jobs of job_ids, which we hold locked, lose their attributes and get their mark: the very same jobs in
-- both statements, so one that completes meanwhile is neither stripped nor marked.
-- Where a job cannot be marked (seen: two live rows of one key, which HotMesh's trigger refuses), it must not
-- keep the others from it for ever: the batch is halved down to that row, which is left as it was.
CREATE OR REPLACE FUNCTION hotmesh_dba._strip_and_mark(step hotmesh_dba._step, job_ids uuid[])
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
CREATE OR REPLACE FUNCTION hotmesh_dba._strip_jobs(step hotmesh_dba._step, max_jobs bigint, skip uuid[])
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
