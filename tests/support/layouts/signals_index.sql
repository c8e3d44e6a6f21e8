CREATE INDEX idx_signal_registry_expiry ON {schema}.signal_registry (expiry) WHERE expiry IS NOT NULL;
