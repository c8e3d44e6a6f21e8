-- What slows a run down between two batches, so that others hardly notice it.

-- The pause that was asked for, or as long as the WAL of this batch should have taken to write. (All of the server's
-- since the batch began: others' is in it too, and makes us slower, not them.)
CREATE OR REPLACE FUNCTION hotmesh_dba._pause_after(run hotmesh_dba._run, begun timestamptz, wal_begun pg_lsn) RETURNS interval
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT greatest((run).batch_pause,
                    CASE WHEN (run).max_wal_rate IS NOT NULL THEN
                        make_interval(secs => ((pg_current_wal_insert_lsn() - wal_begun) / (run).max_wal_rate)::float8)
                        - (clock_timestamp() - begun)
                    END)
$$;

CREATE OR REPLACE FUNCTION hotmesh_dba._replayed(lsn pg_lsn) RETURNS boolean
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$ SELECT coalesce(bool_and(r.replay_lsn >= lsn), true) FROM pg_stat_replication r $$;

-- Has every replica replayed what was written max_replica_lag ago? What it has to reach is noted, and noted anew once
-- it was reached. (Its own replay_lag stands still while replay is paused.)
CREATE OR REPLACE FUNCTION hotmesh_dba._replicas_keep_up(run hotmesh_dba._run) RETURNS boolean
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT (run).max_replica_lag IS NULL
        OR clock_timestamp() < (run).replay_since + (run).max_replica_lag
        OR hotmesh_dba._replayed((run).replay_lsn)
$$;

-- May the next batch begin? Else sleeps for a moment (and no longer: a transaction that sleeps holds a snapshot).
CREATE OR REPLACE FUNCTION hotmesh_dba._throttle(run hotmesh_dba._run, OUT may_go boolean)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_left float8 := extract(epoch FROM (run).resume_at - clock_timestamp());
BEGIN
    may_go := false;
    IF v_left > 0 THEN
        PERFORM pg_sleep(least(v_left, 0.25));
        may_go := v_left <= 0.25 AND hotmesh_dba._replicas_keep_up(run);
    ELSIF hotmesh_dba._replicas_keep_up(run) THEN
        may_go := true;
    ELSE
        PERFORM pg_sleep(0.1);
    END IF;
END
$$;
