"""Ray's Jobs API: the submission of a job, and its end."""
