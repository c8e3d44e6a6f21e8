CREATE OR REPLACE FUNCTION hotmesh_dba.schedule(app_id text, policy_name text, cron_expression text)
RETURNS TABLE (job_name text, scheduled boolean, statement text)
LANGUAGE plpgsql VOLATILE ROWS 1
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_policy  hotmesh_dba.policy := hotmesh_dba._find_policy(app_id, policy_name, 'schedule a policy of');
    v_role    name := hotmesh_dba._job_role(v_policy.app);
    v_command text := hotmesh_dba._run_policy_call(v_policy.app, v_policy.name);
BEGIN
    PERFORM hotmesh_dba._check_enabled(v_policy);
    PERFORM hotmesh_dba._check_cron();
    PERFORM hotmesh_dba._check_cron_expression(cron_expression);
    job_name := hotmesh_dba._job_name(v_policy.app, v_policy.name);
    scheduled := hotmesh_dba._cron_is_here();
    IF scheduled AND v_role = current_user THEN
        statement := format('SELECT cron.schedule(%L, %L, %L);', job_name, cron_expression, v_command);
    ELSE
        statement := format('SELECT cron.schedule_in_database(%L, %L, %L, %L, %L);', job_name, cron_expression, v_command,
                            current_database(), v_role);
    END IF;
    IF scheduled THEN
        PERFORM hotmesh_dba._call_cron(statement);
    END IF;
    RETURN NEXT;
END
$$;

COMMENT ON FUNCTION hotmesh_dba.schedule(text, text, text) IS
'Has pg_cron run a policy: a job whose command is one CALL of run_policy. A job of that name is replaced. Called by a superuser, the job is the app''s owner''s. Needs membership in that role, and USAGE on schema cron.
app_id: the app (see view hotmesh_dba.app).
policy_name: of the policy.
cron_expression: minute, hour, day of the month, month, day of the week; in the time zone of pg_cron (UTC unless it is told another).
job_name: what the job is called.
scheduled: true where pg_cron is in this database, and it is done. false where pg_cron lives in another database of the cluster: then nothing was done, and a superuser has to run there what is in the next column.
statement: the statement.
Errors: 42704 no such policy; 22023 invalid cron_expression; 0A000 no pg_cron; 55000 not created in this database, a disabled policy, or an owner who cannot log in; 42501 not the owner''s, or no USAGE.';

CREATE OR REPLACE FUNCTION hotmesh_dba.unschedule(app_id text, policy_name text)
RETURNS TABLE (job_name text, scheduled boolean, statement text)
LANGUAGE plpgsql VOLATILE ROWS 1
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_job text := hotmesh_dba._job_name(hotmesh_dba._app_or_name(app_id), policy_name);
    v_id  bigint;
BEGIN
    PERFORM hotmesh_dba._check_cron();
    job_name := v_job;
    scheduled := false;
    IF NOT hotmesh_dba._cron_is_here() THEN
        statement := format('SELECT cron.unschedule(jobid) FROM cron.job WHERE jobname = %L AND database = %L;',
                            v_job, current_database());
        RETURN NEXT;
        RETURN;
    END IF;
    FOR v_id IN SELECT s.job_id FROM hotmesh_dba.schedules s WHERE s.job_name = v_job AND s.database = current_database() LOOP
        statement := concat_ws(' ', statement, format('SELECT cron.unschedule(%s);', v_id));
    END LOOP;
    IF statement IS NULL THEN
        RAISE EXCEPTION 'no such schedule: %', coalesce(quote_literal(v_job), 'NULL')
            USING ERRCODE = 'undefined_object',
                  DETAIL = format('Role "%s" has no job of that name in this database.', current_user),
                  HINT = 'SELECT job_id, job_name, role FROM hotmesh_dba.schedules;';
    END IF;
    PERFORM hotmesh_dba._call_cron(statement);
    RETURN NEXT;
END
$$;

COMMENT ON FUNCTION hotmesh_dba.unschedule(text, text) IS
'Ends a schedule that schedule made; the policy stays. The job must be the caller''s, unless that is a superuser.
app_id: the app, or the name that it had.
policy_name: of the policy; it may be dropped already.
job_name: what the job was called.
scheduled: whether a job of that name is still scheduled by this database''s pg_cron: false.
statement: what was run; where pg_cron lives in another database of the cluster, what has to be run there.
Errors: 42704 no such schedule; 0A000 no pg_cron; 55000 not created in this database; 42501 no USAGE on schema cron.';
