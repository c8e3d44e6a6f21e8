-- What a strip marks its jobs with.
ALTER TABLE {schema}.jobs ADD COLUMN pruned_at timestamptz;
