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
