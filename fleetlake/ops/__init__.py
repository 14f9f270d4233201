"""What operators do to a pipeline: checks, replay, dead letters, erasing, trials of rules, recordings."""
