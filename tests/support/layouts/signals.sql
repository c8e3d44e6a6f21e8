CREATE TABLE {schema}.signal_registry (
  key    text PRIMARY KEY,
  value  text,
  expiry timestamptz
);
