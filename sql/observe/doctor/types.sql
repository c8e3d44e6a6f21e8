-- What a check of doctor finds wrong; one that finds nothing is ok.
CREATE TYPE hotmesh_dba._finding AS (
    status text,        -- warning, problem, or unknown
    detail text,
    hint   text         -- a statement to type, where there is one
);
