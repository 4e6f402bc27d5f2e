"""Ray: connection, authentication, placement, the stream of tasks, and submission of jobs."""
