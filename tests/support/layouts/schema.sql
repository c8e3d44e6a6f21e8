-- The type that every layout has.
CREATE TYPE {schema}.type_enum AS ENUM
  ('jmark', 'hmark', 'status', 'jdata', 'adata', 'udata', 'other');
