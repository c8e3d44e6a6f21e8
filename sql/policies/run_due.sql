-- Every policy whose time has come, of every app that the caller has a say in. One that fails does not stop the others.

-- When it last began. What says to have begun in the future (a clock was set back), or before there was this policy (an app
-- of the name had one like it), would keep it waiting, and counts for nothing.
CREATE OR REPLACE FUNCTION hotmesh_dba._last_run(policy hotmesh_dba.policy) RETURNS timestamptz
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT max(r.started_at)
    FROM hotmesh_dba.run r
    WHERE r.app = policy.app AND r.policy = policy.name AND r.started_at BETWEEN policy.created_at AND clock_timestamp()
$$;

-- A tenth of `every` early, ten minutes at most: a run begins a moment after its tick, by as much as those before it took,
-- and the next tick must not find that a second is missing.
CREATE OR REPLACE FUNCTION hotmesh_dba._is_policy_due(policy hotmesh_dba.policy) RETURNS boolean
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN policy.enabled AND policy.every IS NOT NULL
       AND coalesce(hotmesh_dba._last_run(policy)
                    <= clock_timestamp() - policy.every + least(policy.every / 10, '10 minutes'), true);
EXCEPTION WHEN OTHERS THEN
    RETURN true;    -- whatever is wrong with it is said when its turn has come, and is nobody else's business
END
$$;

-- Those that are due, of apps that the caller has a say in, the one that waits longest first.
CREATE OR REPLACE FUNCTION hotmesh_dba._due_policies() RETURNS SETOF hotmesh_dba.policy
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT p.*
    FROM hotmesh_dba.policy p
    WHERE hotmesh_dba._is_policy_due(p)
      AND hotmesh_dba._may_see_policy(p)    -- who bypasses row-level security sees them all
    ORDER BY hotmesh_dba._last_run(p) NULLS FIRST, p.app, p.name
$$;

CREATE OR REPLACE FUNCTION hotmesh_dba._begin_round(max_runtime interval, trust_owners boolean) RETURNS hotmesh_dba._due
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '10s'
AS $$
DECLARE
    v_due     hotmesh_dba._due;
    v_policy  hotmesh_dba.policy;
    v_foreign text[];
BEGIN
    PERFORM hotmesh_dba._check_flag('trust_owners', trust_owners);
    PERFORM hotmesh_dba._check_knob(coalesce(max_runtime BETWEEN '0' AND '1 year', true), 'max_runtime', max_runtime::text,
                                    'between 0 and a year, or NULL', '''10 minutes''');
    PERFORM hotmesh_dba._follow_renames();
    v_due.waiting := '{}';
    v_due.ends_at := hotmesh_dba._ends_at(max_runtime);
    v_due.runs := 0;
    v_due.failed := 0;
    v_due.postponed := 0;
    v_due.busy := 0;
    v_due.others := 0;
    v_due.failures := '{}';
    v_due.ended := false;
    v_foreign := ARRAY(SELECT coalesce(a.app, '')
                       FROM (SELECT DISTINCT hotmesh_dba._policy_app(p) AS app FROM hotmesh_dba.policy p) a
                       WHERE hotmesh_dba._is_foreign(a.app));
    v_due.trust := trust_owners;
    v_due.role := current_setting('role');
    FOR v_policy IN SELECT p.* FROM hotmesh_dba._due_policies() p LOOP
        -- Asked again when its turn has come.
        IF NOT trust_owners AND coalesce(hotmesh_dba._policy_app(v_policy)::text, '') = ANY (v_foreign) THEN
            v_due.others := (v_due).others + 1;
        ELSE
            v_due.waiting := (v_due).waiting || v_policy;
        END IF;
    END LOOP;
    RETURN v_due;
END
$$;

-- A policy that fails is not tried again before its next turn, so even one that could not begin has a run.
CREATE OR REPLACE FUNCTION hotmesh_dba._record_failure(policy hotmesh_dba.policy, sqlstate_of text, message text, detail text)
RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '10s'
AS $$
DECLARE
    v_id bigint;
BEGIN
    PERFORM hotmesh_dba._tidy_runs(policy.app);
    INSERT INTO hotmesh_dba.run AS r (group_id, app, worker, workers, options, jobs_before, engine_before, worker_before,
                                      signals_until, triggers_disabled, finished_at, state, stop_reason, remaining,
                                      error_sqlstate, error_message, error_detail, policy)
    VALUES (0, policy.app, 1, 1, to_jsonb(policy) || '{"worker": 1, "workers": 1}', now(), now(), now(), now(),
            policy.disable_triggers, clock_timestamp(), 'failed', 'error', 0, sqlstate_of, message, nullif(detail, ''), policy.name)
    RETURNING r.id INTO v_id;
    UPDATE hotmesh_dba.run r SET group_id = r.id WHERE r.id = v_id;
EXCEPTION WHEN OTHERS OR assert_failure THEN
    RAISE WARNING 'the failure of policy "%" of app "%" could not be recorded', policy.name, policy.app
        USING ERRCODE = SQLSTATE, DETAIL = SQLERRM,
              HINT = 'It will be tried again at the next call; disable it until it is mended.';
END
$$;

CREATE OR REPLACE FUNCTION hotmesh_dba._with_failure(due hotmesh_dba._due, sqlstate_of text, message text, hint text)
RETURNS hotmesh_dba._due
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    due.failed := (due).failed + 1;
    due.sqlstate := coalesce((due).sqlstate, sqlstate_of);
    due.failures := (due).failures || format('Policy "%s" of app "%s": %s.', ((due).policy).name, ((due).policy).app, message);
    RAISE WARNING 'policy "%" of app "%" failed: %', ((due).policy).name, ((due).policy).app, message
        USING ERRCODE = sqlstate_of, HINT = coalesce(nullif(hint, ''), 'SELECT * FROM hotmesh_dba.run ORDER BY id DESC;');
    RETURN due;
END
$$;

-- The failure of a policy that could not begin. Where its app is gone, or another has its name, no other app's owner has
-- to read of it.
CREATE OR REPLACE FUNCTION hotmesh_dba._fail_turn(due hotmesh_dba._due, sqlstate_of text, message text, detail text, hint text)
RETURNS hotmesh_dba._due
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF hotmesh_dba._policy_app((due).policy) = ((due).policy).app OR hotmesh_dba._jobs(((due).policy).app) IS NULL THEN
        PERFORM hotmesh_dba._record_failure((due).policy, sqlstate_of, message, detail);
    END IF;
    due.runs := (due).runs + 1;
    RETURN hotmesh_dba._with_failure(due, sqlstate_of, message, hint);
END
$$;

-- Begins the run of one policy, unless it has none to do any more: another round was quicker, or it was changed.
CREATE OR REPLACE FUNCTION hotmesh_dba._begin_turn(due hotmesh_dba._due, share interval) RETURNS hotmesh_dba._due
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '10s'
AS $$
DECLARE
    v_policy hotmesh_dba.policy;
    v_run    hotmesh_dba._run;
    v_detail text;
    v_hint   text;
BEGIN
    SELECT p.* INTO v_policy
    FROM hotmesh_dba.policy p
    WHERE (p.origin, p.app_oid, p.name) = (((due).policy).origin, ((due).policy).app_oid, ((due).policy).name);
    IF v_policy.app IS NULL OR NOT hotmesh_dba._is_policy_due(v_policy) THEN
        RETURN due;
    END IF;
    v_policy := hotmesh_dba._up_to_date(v_policy);      -- its row may have been locked
    due.policy := v_policy;
    IF NOT (due).trust AND hotmesh_dba._is_foreign(v_policy.app) THEN
        due.others := (due).others + 1;
        RETURN due;
    END IF;
    PERFORM hotmesh_dba._check_policy_app(v_policy);
    v_run := hotmesh_dba._begin_policy(v_policy, false, 1, 1);
    v_run.ends_at := least(clock_timestamp() + v_policy.max_runtime, clock_timestamp() + share);
    v_run.isolated := true;
    due.run := v_run;
    due.runs := (due).runs + 1;
    RETURN due;
EXCEPTION
    WHEN lock_not_available THEN
        GET STACKED DIAGNOSTICS v_detail = PG_EXCEPTION_DETAIL, v_hint = PG_EXCEPTION_HINT;
        RAISE WARNING 'policy "%" of app "%" is left for the next call: %', ((due).policy).name, ((due).policy).app, SQLERRM
            USING ERRCODE = SQLSTATE, DETAIL = v_detail, HINT = v_hint;
        due.busy := (due).busy + 1;
        RETURN due;
    WHEN OTHERS OR assert_failure THEN
        GET STACKED DIAGNOSTICS v_detail = PG_EXCEPTION_DETAIL, v_hint = PG_EXCEPTION_HINT;
        RETURN hotmesh_dba._fail_turn(due, SQLSTATE, SQLERRM, v_detail, v_hint);
END
$$;

-- The next policy, with its share of the time that is left.
CREATE OR REPLACE FUNCTION hotmesh_dba._next_turn(due hotmesh_dba._due) RETURNS hotmesh_dba._due
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_none  hotmesh_dba._run;
    v_share interval := ((due).ends_at - clock_timestamp()) / nullif(cardinality((due).waiting), 0);
BEGIN
    v_none.ended := true;
    due.run := v_none;
    IF cardinality((due).waiting) = 0 THEN
        due.ended := true;
        RETURN due;
    END IF;
    IF current_setting('role') <> (due).role THEN
        PERFORM set_config('role', (due).role, false);
    END IF;
    due.policy := (due).waiting[1];
    due.waiting := (due).waiting[2 :];
    IF v_share <= '0' THEN
        due.postponed := (due).postponed + 1;
        RETURN due;
    END IF;
    RETURN hotmesh_dba._begin_turn(due, v_share);
END
$$;

-- Whoever cancels a run means the whole round.
CREATE OR REPLACE FUNCTION hotmesh_dba._end_turn(due hotmesh_dba._due, run hotmesh_dba._run) RETURNS hotmesh_dba._due
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF (run).id IS NULL THEN
        RETURN due;
    ELSIF (run).stop_reason = 'cancelled' THEN
        due.waiting := '{}';
    END IF;
    IF (run).sqlstate IS NOT NULL THEN
        RETURN hotmesh_dba._with_failure(due, (run).sqlstate, (run).message, (run).hint);
    END IF;
    PERFORM hotmesh_dba._report(run);
    RETURN due;
END
$$;

CREATE OR REPLACE FUNCTION hotmesh_dba._report_round(due hotmesh_dba._due) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF (due).postponed > 0 THEN
        RAISE WARNING '% policies are left for the next call: max_runtime', (due).postponed
            USING HINT = 'They are the first then; or give it more time: max_runtime => ''1 hour''.';
    END IF;
    IF (due).others > 0 THEN
        RAISE WARNING '% policies are left to the owners of their apps, whose code a superuser would execute', (due).others
            USING HINT = 'Call it as a member of those roles; or, where they are trusted: CALL hotmesh_dba.run_due(trust_owners => true);';
    END IF;
    IF (due).failed > 0 THEN
        RAISE EXCEPTION '% of % policies failed', (due).failed, (due).runs
            USING ERRCODE = (due).sqlstate,
                  DETAIL = array_to_string((due).failures, ' ') || ' What was removed stays removed.',
                  HINT = 'SELECT * FROM hotmesh_dba.run WHERE state = ''failed'' ORDER BY id DESC;';
    END IF;
END
$$;

CREATE OR REPLACE PROCEDURE hotmesh_dba.run_due(
    max_runtime     interval DEFAULT NULL,
    trust_owners    boolean  DEFAULT false,
    INOUT runs      int      DEFAULT NULL,
    INOUT failed    int      DEFAULT NULL,
    INOUT busy      int      DEFAULT NULL,
    INOUT postponed int      DEFAULT NULL,
    INOUT others    int      DEFAULT NULL)
LANGUAGE plpgsql
AS $$
DECLARE
    v_due hotmesh_dba._due;
    v_run hotmesh_dba._run;
BEGIN
    COMMIT;
    SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
    v_due := hotmesh_dba._begin_round(max_runtime, trust_owners);
    LOOP
        COMMIT;
        SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
        SET LOCAL synchronous_commit TO off;
        v_due := hotmesh_dba._next_turn(v_due);
        EXIT WHEN v_due.ended;
        v_run := v_due.run;
        CALL hotmesh_dba._drive(v_run);
        v_due := hotmesh_dba._end_turn(v_due, v_run);
    END LOOP;
    COMMIT;
    runs := v_due.runs;
    failed := v_due.failed;
    busy := v_due.busy;
    postponed := v_due.postponed;
    others := v_due.others;
    PERFORM hotmesh_dba._report_round(v_due);
END
$$;

COMMENT ON PROCEDURE hotmesh_dba.run_due(interval, boolean, int, int, int, int, int) IS
'Runs every enabled policy whose time (every) has come, of every app that the caller has a say in, one after the other, the one that waits longest first. One line in any scheduler. CALL it by itself, outside a transaction block.
max_runtime (NULL: nine tenths of statement_timeout, where one is set): stop after this time; each policy gets a fair share of what is left. What comes too late is first at the next call.
trust_owners (false): a superuser leaves other owners'' apps alone, with a WARNING, for whatever these have put on their tables (a trigger, an index on a function) is executed by whoever prunes them; true: they are pruned too.
runs, failed, busy, postponed, others: leave them out; they return how many runs there were, how many of them failed, and how many of those that are due were left for the next call, with a WARNING: because another run or somebody''s lock held their app, and for want of time; and how many of other owners'' apps a superuser left to them.
One that fails does not stop the others, and waits for its next turn. Each has its row in hotmesh_dba.run. If any failed, its error is raised at the end.
Errors: 2D000 in a transaction block; 22023 bad max_runtime; 25006 read-only; 57014 cancelled; else the SQLSTATE of the first that failed.';
