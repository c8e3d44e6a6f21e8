-- The steps of 1.0.0 worked on a whole table; those of 1.1.0 work in lanes.
DROP FUNCTION hotmesh_dba._run_step_patiently(name, hotmesh_dba._step, bigint, uuid[]);
DROP FUNCTION hotmesh_dba._run_step(hotmesh_dba._step, bigint, uuid[]);
DROP FUNCTION hotmesh_dba._strip_jobs(hotmesh_dba._step, bigint, uuid[]);
DROP FUNCTION hotmesh_dba._strip_and_mark(hotmesh_dba._step, uuid[]);
DROP FUNCTION hotmesh_dba._delete_jobs(hotmesh_dba._step, bigint);
DROP FUNCTION hotmesh_dba._take_jobs(hotmesh_dba._step, bigint, uuid[]);
DROP FUNCTION hotmesh_dba._may_lock(hotmesh_dba._step);
DROP FUNCTION hotmesh_dba._delete_rows(hotmesh_dba._step, bigint);
DROP FUNCTION hotmesh_dba._batch_bound(hotmesh_dba._step);
DROP TYPE hotmesh_dba._outcome;

ALTER TYPE hotmesh_dba._options ADD ATTRIBUTE disable_triggers boolean;
ALTER TYPE hotmesh_dba._step ADD ATTRIBUTE mark_column name;

-- A step in one table: a leaf partition, or the parent where leaves may not be touched; with how far it has come.
CREATE TYPE hotmesh_dba._lane AS (
    step         hotmesh_dba._step,
    number       int,           -- of the leaf, by which lanes are dealt out to workers
    relation     regclass,
    attributes   regclass,      -- where the attributes of its jobs stand
    is_leaf      boolean,       -- whether a ctid names one row of it
    sweeps       boolean,       -- whether one statement takes all that is due in the whole table: it is little
    may_lock     boolean,       -- whether the role may lock rows, so that those others hold can be passed over
    careful      boolean,       -- whether it does, since somebody held one
    triggers_off boolean,       -- whether its statements run without triggers
    by_hand      boolean,       -- whether attributes are deleted before their jobs: the cascade cannot be relied on
    way          text,          -- blocks: along the pages; index: along an index
    due          bigint,        -- rows that are due, by a bounded probe; NULL until probed
    per_page     int,           -- rows on a full page
    next_tid     tid,           -- blocks: behind the last row taken
    next_mark    timestamptz,   -- index: of the last row taken
    queue        uuid[],        -- index, strip: jobs that were found and not yet taken
    spares       boolean,       -- whether a row that cannot be removed is left, and the others go
    skip         text[],        -- the keys of such rows
    size         bigint,        -- rows that the next batch may take
    setbacks     int,           -- batches that met a lock since the last that did not
    locked       bigint,        -- rows left because somebody else had locked them
    given_up     int,           -- batches that were left to others after several
    passes       int,           -- how often it has been gone through before
    taken        bigint,        -- rows taken in this pass
    finished     boolean,
    faults       int            -- rows that could not be removed since the last that could
);

-- The rows of one batch: their keys (job ids, or ctids on a leaf), and the lane moved on behind them.
CREATE TYPE hotmesh_dba._choice AS (
    ids      uuid[],
    tids     tid[],
    lane     hotmesh_dba._lane,
    finished boolean
);

-- What one bounded batch of a step did.
CREATE TYPE hotmesh_dba._outcome AS (
    taken      bigint,          -- rows deleted, or jobs stripped and marked
    attributes bigint,          -- attributes stripped
    cascaded   bigint,          -- attributes that went with their jobs
    skipped    text[],          -- keys of rows that cannot be removed, whatever we do
    finished   boolean,         -- NULL: it gave way to a full lock table
    lane       hotmesh_dba._lane
);

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
    error_detail           text
) WITH (fillfactor = 50);
CREATE INDEX run_app_idx ON hotmesh_dba.run (app, id);

COMMENT ON TABLE hotmesh_dba.run IS
'The runs of prune_batched, a row a run (with several workers a row each, joined by group_id). Kept 90 days and no more than 1000 an app. You see the runs of apps whose jobs you may delete.';
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
'Of a stopped run: max_runtime, max_rows, locked (rows that others had locked are left). Of a failed one: error, cancelled.';
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

ALTER TABLE hotmesh_dba.run ENABLE ROW LEVEL SECURITY;
-- All but the id, which the identity alone gives: one of the future would stop the runs of every app.
GRANT SELECT, DELETE ON hotmesh_dba.run TO PUBLIC;
GRANT INSERT (group_id, app, worker, workers, role, pid, options, jobs_before, engine_before, worker_before,
              signals_until, triggers_disabled, started_at, updated_at, finished_at, state, stop_reason, batches,
              longest_batch, deleted_jobs, deleted_transient, deleted_engine_streams, deleted_worker_streams,
              deleted_signals, marked_pruned, stripped_attributes, cascaded_attributes, skipped, expected, remaining,
              error_sqlstate, error_message, error_detail),
      UPDATE (group_id, app, worker, workers, role, pid, options, jobs_before, engine_before, worker_before,
              signals_until, triggers_disabled, started_at, updated_at, finished_at, state, stop_reason, batches,
              longest_batch, deleted_jobs, deleted_transient, deleted_engine_streams, deleted_worker_streams,
              deleted_signals, marked_pruned, stripped_attributes, cascaded_attributes, skipped, expected, remaining,
              error_sqlstate, error_message, error_detail) ON hotmesh_dba.run TO PUBLIC;
GRANT SELECT ON SEQUENCE hotmesh_dba.run_id_seq TO PUBLIC;      -- pg_dump reads it
SELECT pg_catalog.pg_extension_config_dump('hotmesh_dba.run', '');
SELECT pg_catalog.pg_extension_config_dump('hotmesh_dba.run_id_seq', '');

-- A run at work, as the procedure carries it from batch to batch.
CREATE TYPE hotmesh_dba._run AS (
    id              bigint,
    app             name,
    schema_oid      oid,            -- of the app, whatever it is called by now
    worker          int,
    workers         int,
    steps           hotmesh_dba._step[],
    lanes           hotmesh_dba._lane[],    -- NULL until they are planned
    current         int,            -- of the lanes
    batch_size      int,
    batch_time      interval,
    batch_pause     interval,
    ends_at         timestamptz,    -- max_runtime
    max_rows        bigint,
    max_wal_rate    bigint,
    max_replica_lag interval,
    disable_triggers boolean,
    taken           bigint,         -- rows so far
    resume_at       timestamptz,    -- no batch before
    replay_lsn      pg_lsn,         -- what every replica must have replayed max_replica_lag after
    replay_since    timestamptz,
    failed_steps    text[],
    sqlstate        text,           -- of the first error
    message         text,
    detail          text,
    hint            text,
    remaining       bigint,
    stop_reason     text,
    ended           boolean
);
