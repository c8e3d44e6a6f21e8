-- Locking wants UPDATE on a column, and under row-level security a policy for it: a role that may delete and no
-- more chooses without. The strip cannot do without.
CREATE OR REPLACE FUNCTION hotmesh_dba._may_lock(step hotmesh_dba._step) RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT step.name = 'strip'
        OR has_any_column_privilege(step.relation, 'UPDATE') AND NOT row_security_active(step.relation)
$$;

-- Chooses up to max_jobs due jobs (NULL: all of them) and locks them: nobody then adds an attribute to them
-- (its foreign key wants the row) nor changes them before we are done. A job that somebody else has locked is
-- left for the next run.
CREATE OR REPLACE FUNCTION hotmesh_dba._take_jobs(step hotmesh_dba._step, max_jobs bigint, skip uuid[])
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
    PERFORM hotmesh_dba._check_sees_all(step.attributes, 'delete jobs without their foreign key''s cascade');
    PERFORM hotmesh_dba._check_sees_all(step.relation, 'delete jobs without their foreign key''s cascade');
END
$$;

-- Jobs, and transient jobs: up to max_jobs due ones go (NULL: all of them), their attributes with them.
CREATE OR REPLACE FUNCTION hotmesh_dba._delete_jobs(step hotmesh_dba._step, max_jobs bigint)
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
