-- The strongest lock on jobs that the plan will take, to be taken at once. Raising it later would be a deadlock
-- with whoever has read the table and then writes to it, and PostgreSQL ends that writer without waiting
-- for any timeout.
CREATE OR REPLACE FUNCTION hotmesh_dba._deploy_lock_mode(app_schema name) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN bool_or(p.statements ~ '^(ALTER TABLE|DROP INDEX)') THEN 'ACCESS EXCLUSIVE'
                ELSE 'SHARE ROW EXCLUSIVE' END
    FROM hotmesh_dba._deploy_plan(app_schema) p
    WHERE p.action <> 'pending'
$$;

-- Looks what there is to do; where there is something, locks the app against other deployments and
-- migrations, looks again, and does it.
CREATE OR REPLACE FUNCTION hotmesh_dba._deploy_once(app_schema name, trust_installer boolean)
RETURNS hotmesh_dba._action[]
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET lock_timeout = 0
AS $$
DECLARE
    v_plan hotmesh_dba._action[];
BEGIN
    PERFORM hotmesh_dba._bound_waiting(clock_timestamp());
    IF NOT EXISTS (SELECT FROM hotmesh_dba._deploy_plan(app_schema) p) THEN
        RETURN '{}';
    END IF;
    EXECUTE format('LOCK TABLE %s IN %s MODE', hotmesh_dba._jobs(app_schema), hotmesh_dba._deploy_lock_mode(app_schema));
    v_plan := ARRAY(SELECT p FROM hotmesh_dba._deploy_plan(app_schema) p);
    PERFORM hotmesh_dba._check_trust(app_schema, trust_installer);
    PERFORM hotmesh_dba._check_dependents(o.overload)
    FROM hotmesh_dba._overloads(app_schema) o
    WHERE o.kind = 'known' AND o.overload IS DISTINCT FROM hotmesh_dba._replaceable(app_schema);
    PERFORM hotmesh_dba._carry_out(v_plan);
    RETURN v_plan;
END
$$;

-- HotMesh's SDK may be deploying at this very moment: what two CREATE OR REPLACE at once give (XX000, 23505)
-- passes, but not soon where it does so all the time, and no lock keeps it out; hence many short tries, out of
-- step with its own. A lock that somebody holds is waited for, a few times.
CREATE OR REPLACE FUNCTION hotmesh_dba.deploy(app_id text, trust_installer boolean DEFAULT false)
RETURNS TABLE (action text, object text, statements text)
LANGUAGE plpgsql VOLATILE ROWS 10
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_schema name := hotmesh_dba.app_schema(app_id);
    v_plan   hotmesh_dba._action[];
    v_waits  int := 0;
BEGIN
    PERFORM hotmesh_dba._check_writable();
    PERFORM hotmesh_dba._check_deployer(v_schema, 'deploy');
    PERFORM hotmesh_dba._check_unknown_overloads(v_schema);
    FOR v_try IN 1 .. 60 LOOP
        BEGIN
            v_plan := hotmesh_dba._deploy_once(v_schema, trust_installer);
            RETURN QUERY SELECT p.* FROM unnest(v_plan) p;
            RETURN;
        EXCEPTION
            WHEN lock_not_available OR deadlock_detected THEN
                v_waits := v_waits + 1;
                EXIT WHEN v_waits = 5;
            WHEN internal_error OR unique_violation THEN
                IF v_try = 60 THEN
                    RAISE;
                END IF;
        END;
        PERFORM pg_sleep(random() * 0.05);
    END LOOP;
    PERFORM hotmesh_dba._raise_locked(v_schema, 'deploy');
END
$$;

COMMENT ON FUNCTION hotmesh_dba.deploy(text, boolean) IS
'Puts function prune into an app''s schema and migrates it (column jobs.pruned_at, its partial index), taking over what an older HotMesh left: its overloads go, their grants are carried over. Safe while HotMesh runs; waits a few seconds at most for a lock.
app_id: the app (see view hotmesh_dba.app).
trust_installer (false): where the routines were installed without CREATE EXTENSION by a role that is not the app''s owner, accept that this role can change them.
Returns a row an action: action (added, created, replaced, dropped, owned, granted; or pending: too big to do without blocking writers, for you to type), object, statements. No rows: everything is in place.
Errors: 42602 3F000 42809 bad app; 25006 read-only; 42501 missing privilege; 42725 an overload of unknown origin; 2BP01 something depends on an old overload; 55P03 locked.';
