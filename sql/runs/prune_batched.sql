-- The procedures do no more than carry a run from one transaction to the next. They have no SET clause (they could not
-- COMMIT), so there is nothing in them that a search_path could turn: every name is qualified, and there is no operator.
-- The isolation level is set anew at the head of each transaction: default_transaction_isolation governs them all.
CREATE OR REPLACE PROCEDURE hotmesh_dba._drive(INOUT run hotmesh_dba._run)
LANGUAGE plpgsql
AS $$
BEGIN
    LOOP
        EXIT WHEN run.ended;                    -- not behind the COMMIT: even this looks at a snapshot
        COMMIT;
        SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
        SET LOCAL synchronous_commit TO off;    -- what a crash undoes is pruned again
        run := hotmesh_dba._next(run);
    END LOOP;
    COMMIT;
END
$$;

CREATE OR REPLACE PROCEDURE hotmesh_dba.prune_batched(
    app_id                   text,
    retention                interval DEFAULT '7 days',
    prune_jobs               boolean  DEFAULT true,
    prune_streams            boolean  DEFAULT true,
    strip_attributes         boolean  DEFAULT false,
    entity_list              text[]   DEFAULT NULL,
    prune_transient          boolean  DEFAULT false,
    keep_hmark               boolean  DEFAULT false,
    prune_engine_streams     boolean  DEFAULT NULL,
    prune_worker_streams     boolean  DEFAULT NULL,
    engine_streams_retention interval DEFAULT NULL,
    worker_streams_retention interval DEFAULT NULL,
    prune_signals            boolean  DEFAULT true,
    batch_size               int      DEFAULT NULL,
    batch_time               interval DEFAULT '200 ms',
    batch_pause              interval DEFAULT '0',
    max_runtime              interval DEFAULT NULL,
    max_rows                 bigint   DEFAULT NULL,
    worker                   int      DEFAULT 1,
    workers                  int      DEFAULT 1,
    disable_triggers         boolean  DEFAULT false,
    max_wal_rate             bigint   DEFAULT NULL,
    max_replica_lag          interval DEFAULT NULL,
    INOUT run_id             bigint   DEFAULT NULL)
LANGUAGE plpgsql
AS $$
DECLARE
    v_run hotmesh_dba._run;
BEGIN
    COMMIT;
    SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
    SET LOCAL synchronous_commit TO off;        -- a crash that undoes its record undoes all of its batches too
    v_run := hotmesh_dba._begin_run(
        app_id, retention, prune_jobs, prune_streams, strip_attributes, entity_list, prune_transient, keep_hmark,
        prune_engine_streams, prune_worker_streams, engine_streams_retention, worker_streams_retention, prune_signals,
        batch_size, batch_time, batch_pause, max_runtime, max_rows, worker, workers, disable_triggers, max_wal_rate,
        max_replica_lag);
    run_id := v_run.id;
    CALL hotmesh_dba._drive(v_run);
    PERFORM hotmesh_dba._report(v_run);
END
$$;

COMMENT ON PROCEDURE hotmesh_dba.prune_batched(text, interval, boolean, boolean, boolean, text[], boolean, boolean, boolean, boolean, interval, interval, boolean, int, interval, interval, interval, bigint, int, int, boolean, bigint, interval, bigint) IS
'Removes an app''s finished work, of any amount, in short transactions that are committed one by one, and keeps a record in hotmesh_dba.run. CALL it by itself, outside a transaction block.
app_id: the app (see view hotmesh_dba.app).
retention, prune_jobs, prune_streams, strip_attributes, entity_list, prune_transient, keep_hmark, prune_engine_streams, prune_worker_streams, engine_streams_retention, worker_streams_retention, prune_signals: as in prune.
batch_size (NULL: as many as take batch_time): rows a transaction; never more than the lock table holds.
batch_time (200 ms): how long a transaction should take.
batch_pause (0): how long to wait between two.
max_runtime (NULL: nine tenths of statement_timeout, where one is set): stop after this time, at the end of a transaction.
max_rows (NULL: no limit): stop after this many rows of jobs, messages and signals deleted and jobs stripped; of each worker.
worker, workers (1, 1): this call takes every workers-th leaf partition, so that several connections share the work; CALL each with the same options.
disable_triggers (false): delete and mark jobs with session_replication_role = replica, in about half the time. Needs the right to set it, and tables on which nothing hangs but HotMesh''s own triggers and foreign key.
max_wal_rate (NULL: no limit): bytes of WAL a second, the server''s own included.
max_replica_lag (NULL: no limit): wait while a replica is further behind. Needs pg_read_all_stats.
run_id: leave it out; it returns the id of the run''s row in hotmesh_dba.run.
A run ends completed; or stopped (max_runtime, max_rows, or rows that others had locked), with a WARNING; or failed: what is committed stays, and the first error is raised.
Errors: 2D000 in a transaction block; 22023 22004 42602 3F000 42809 bad input, or the app was dropped meanwhile; 25006 read-only; 42501 missing privilege; 55000 not deployed, triggers that cannot be disabled, or the app was renamed meanwhile; 55P03 another run; 57014 cancelled; 09000 rows that cannot be removed.';
