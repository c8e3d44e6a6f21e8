-- The options of one call, validated, with every cutoff worked out: made once by _resolve, then handed on.
CREATE TYPE hotmesh_dba._options AS (
    app_schema     name,
    jobs           boolean,
    transient      boolean,
    engine_streams boolean,
    worker_streams boolean,
    strip          boolean,
    signals        boolean,
    entity_list    text[],
    keep_hmark     boolean,
    jobs_before    timestamptz,
    engine_before  timestamptz,
    worker_before  timestamptz,
    signals_until  timestamptz,
    disable_triggers boolean
);

-- One kind of removal on one table. row_filter is SQL over alias t; $1 is before, $2 is entity_list.
CREATE TYPE hotmesh_dba._step AS (
    ordinal          int,
    name             text,
    relation         regclass,
    key_columns      text,
    row_filter       text,
    before           timestamptz,
    entity_list      text[],
    taken_before     text,      -- the rows that earlier steps of the same call take: row_filters joined by OR
    attributes       regclass,
    attribute_filter text,      -- SQL over alias a: the attributes that the strip removes
    mark_column      name       -- the time that says when a row is due; NULL for the strip
);

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

-- The result of prune and preview (contract: names, order and types are fixed).
CREATE TYPE hotmesh_dba._counts AS (
    deleted_jobs           bigint,
    deleted_streams        bigint,
    deleted_engine_streams bigint,
    deleted_worker_streams bigint,
    stripped_attributes    bigint,
    deleted_transient      bigint,
    marked_pruned          bigint,
    deleted_signals        bigint
);

-- One thing that deploy or undeploy does, or leaves for a person to type.
CREATE TYPE hotmesh_dba._action AS (
    action     text,
    object     text,
    statements text
);
