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
    signals_until  timestamptz
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
    attribute_filter text       -- SQL over alias a: the attributes that the strip removes
);

-- What one bounded batch of a step did.
CREATE TYPE hotmesh_dba._outcome AS (
    taken      bigint,          -- rows deleted, or jobs stripped and marked
    attributes bigint,          -- attributes stripped
    skipped    uuid[],          -- jobs that cannot be marked, whatever we do
    finished   boolean          -- NULL: it gave way to a full lock table
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
