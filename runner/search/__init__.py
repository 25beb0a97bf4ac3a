"""Full-text search over the call log: an index of its own, that lags, and never slows a writer."""
