CREATE INDEX idx_jobs_pruned_at ON {schema}.jobs (pruned_at) WHERE pruned_at IS NULL;
