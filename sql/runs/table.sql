-- A row a run, updated with every batch and in its transaction, so it says no more and no less than what was done.
CREATE TABLE hotmesh_dba.run (
    id                     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    group_id               bigint      NOT NULL,
    app                    name        NOT NULL,
    worker                 int         NOT NULL,
    workers                int         NOT NULL,
    role                   name        NOT NULL DEFAULT current_user,
    pid                    int         NOT NULL DEFAULT pg_catalog.pg_backend_pid(),
    options                jsonb       NOT NULL,
    jobs_before            timestamptz NOT NULL,
    engine_before          timestamptz NOT NULL,
    worker_before          timestamptz NOT NULL,
    signals_until          timestamptz NOT NULL,
    triggers_disabled      boolean     NOT NULL,
    started_at             timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    updated_at             timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    finished_at            timestamptz,
    state                  text        NOT NULL DEFAULT 'running'
                           CHECK (state IN ('running', 'completed', 'stopped', 'failed', 'interrupted')),
    stop_reason            text,
    batches                bigint      NOT NULL DEFAULT 0,
    longest_batch          interval    NOT NULL DEFAULT '0',
    deleted_jobs           bigint      NOT NULL DEFAULT 0,
    deleted_transient      bigint      NOT NULL DEFAULT 0,
    deleted_engine_streams bigint      NOT NULL DEFAULT 0,
    deleted_worker_streams bigint      NOT NULL DEFAULT 0,
    deleted_signals        bigint      NOT NULL DEFAULT 0,
    marked_pruned          bigint      NOT NULL DEFAULT 0,
    stripped_attributes    bigint      NOT NULL DEFAULT 0,
    cascaded_attributes    bigint      NOT NULL DEFAULT 0,
    skipped                bigint      NOT NULL DEFAULT 0,
    expected               bigint      NOT NULL DEFAULT 0,
    remaining              bigint,
    error_sqlstate         text,
    error_message          text,
    error_detail           text,
    policy                 text,
    expected_by_step       jsonb       NOT NULL DEFAULT '{}',
    app_owner              oid
) WITH (fillfactor = 50);
CREATE INDEX run_app_idx ON hotmesh_dba.run (app, id);

COMMENT ON TABLE hotmesh_dba.run IS
'The runs of prune_batched and of policies, a row a run (with several workers a row each, joined by group_id). Kept 90 days and no more than 1000 an app, and of each policy the last. You see the runs of apps whose jobs you may delete or whose owner you are a member of.';
COMMENT ON COLUMN hotmesh_dba.run.id IS 'What prune_batched returns as run_id.';
COMMENT ON COLUMN hotmesh_dba.run.group_id IS 'The id of the first of the workers'' runs; of a run alone its own.';
COMMENT ON COLUMN hotmesh_dba.run.app IS 'Name of the app schema.';
COMMENT ON COLUMN hotmesh_dba.run.worker IS 'Which of the workers, from 1.';
COMMENT ON COLUMN hotmesh_dba.run.workers IS 'How many share the work.';
COMMENT ON COLUMN hotmesh_dba.run.role IS 'Who ran it.';
COMMENT ON COLUMN hotmesh_dba.run.pid IS 'The server process; proof of nothing once the run is over, for pids are used again.';
COMMENT ON COLUMN hotmesh_dba.run.options IS 'The arguments of the call, by parameter name.';
COMMENT ON COLUMN hotmesh_dba.run.jobs_before IS 'Cutoff: jobs that expired before it go. Fixed when the run began, shared by its workers.';
COMMENT ON COLUMN hotmesh_dba.run.engine_before IS 'Cutoff of engine messages.';
COMMENT ON COLUMN hotmesh_dba.run.worker_before IS 'Cutoff of worker messages.';
COMMENT ON COLUMN hotmesh_dba.run.signals_until IS 'Cutoff of signals: those whose expiry is no later go.';
COMMENT ON COLUMN hotmesh_dba.run.triggers_disabled IS 'Whether it ran with disable_triggers.';
COMMENT ON COLUMN hotmesh_dba.run.started_at IS 'When it began.';
COMMENT ON COLUMN hotmesh_dba.run.updated_at IS 'When its last batch was recorded.';
COMMENT ON COLUMN hotmesh_dba.run.finished_at IS 'When it ended; of an interrupted one, its last batch. NULL while it runs.';
COMMENT ON COLUMN hotmesh_dba.run.state IS
'running; completed (nothing due is left); stopped (see stop_reason); failed (see error_sqlstate); interrupted (its server process went away: what it had committed stays).';
COMMENT ON COLUMN hotmesh_dba.run.stop_reason IS
'Of a stopped run: max_runtime, max_rows, locked (rows that others had locked are left). Of a failed one: error, cancelled, max_percent (the fuse of its policy).';
COMMENT ON COLUMN hotmesh_dba.run.batches IS 'Transactions that removed rows, or looked for some.';
COMMENT ON COLUMN hotmesh_dba.run.longest_batch IS 'Duration of the longest batch that removed rows.';
COMMENT ON COLUMN hotmesh_dba.run.deleted_jobs IS 'Expired jobs deleted.';
COMMENT ON COLUMN hotmesh_dba.run.deleted_transient IS 'Expired jobs without an entity deleted by prune_transient.';
COMMENT ON COLUMN hotmesh_dba.run.deleted_engine_streams IS 'Engine messages deleted.';
COMMENT ON COLUMN hotmesh_dba.run.deleted_worker_streams IS 'Worker messages deleted.';
COMMENT ON COLUMN hotmesh_dba.run.deleted_signals IS 'Signals deleted.';
COMMENT ON COLUMN hotmesh_dba.run.marked_pruned IS 'Jobs stripped and marked.';
COMMENT ON COLUMN hotmesh_dba.run.stripped_attributes IS 'Attributes stripped from them.';
COMMENT ON COLUMN hotmesh_dba.run.cascaded_attributes IS 'Attributes that went with deleted jobs; 0 where track_counts is off.';
COMMENT ON COLUMN hotmesh_dba.run.skipped IS 'Rows that could not be removed whatever was done; a WARNING named each.';
COMMENT ON COLUMN hotmesh_dba.run.expected IS 'How many rows bounded probes estimated at the start: jobs, messages, signals and jobs to strip.';
COMMENT ON COLUMN hotmesh_dba.run.remaining IS 'What was left when it ended: 0 when completed, else an estimate; NULL where it failed before it had looked.';

COMMENT ON COLUMN hotmesh_dba.run.error_sqlstate IS 'SQLSTATE of the first error of a failed run.';
COMMENT ON COLUMN hotmesh_dba.run.error_message IS 'Its message.';
COMMENT ON COLUMN hotmesh_dba.run.error_detail IS 'Its detail, where it had one.';
COMMENT ON COLUMN hotmesh_dba.run.policy IS 'Name of the policy that it followed; NULL where prune_batched was called by itself.';
COMMENT ON COLUMN hotmesh_dba.run.expected_by_step IS 'The same by step: jobs, transient, engine_streams, worker_streams, strip, signals, those with anything due.';
COMMENT ON COLUMN hotmesh_dba.run.app_owner IS 'Of a policy''s run the oid of the role that owned the app when it began: it stops where that changes. NULL without a policy.';

ALTER TABLE hotmesh_dba.run ENABLE ROW LEVEL SECURITY;
-- All but the id, which the identity alone gives (one of the future would stop the runs of every app), and the start: one of
-- the future would keep a policy waiting.
GRANT SELECT, DELETE ON hotmesh_dba.run TO PUBLIC;
GRANT INSERT (group_id, app, worker, workers, role, pid, options, jobs_before, engine_before, worker_before,
              signals_until, triggers_disabled, updated_at, finished_at, state, stop_reason, batches,
              longest_batch, deleted_jobs, deleted_transient, deleted_engine_streams, deleted_worker_streams,
              deleted_signals, marked_pruned, stripped_attributes, cascaded_attributes, skipped, expected, remaining,
              error_sqlstate, error_message, error_detail, policy, expected_by_step, app_owner),
      UPDATE (group_id, app, worker, workers, role, pid, options, jobs_before, engine_before, worker_before,
              signals_until, triggers_disabled, updated_at, finished_at, state, stop_reason, batches,
              longest_batch, deleted_jobs, deleted_transient, deleted_engine_streams, deleted_worker_streams,
              deleted_signals, marked_pruned, stripped_attributes, cascaded_attributes, skipped, expected, remaining,
              error_sqlstate, error_message, error_detail, policy, expected_by_step, app_owner) ON hotmesh_dba.run TO PUBLIC;
GRANT SELECT ON SEQUENCE hotmesh_dba.run_id_seq TO PUBLIC;      -- pg_dump reads it
SELECT pg_catalog.pg_extension_config_dump('hotmesh_dba.run', '');
SELECT pg_catalog.pg_extension_config_dump('hotmesh_dba.run_id_seq', '');
