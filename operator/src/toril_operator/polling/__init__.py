"""Reading the queues of each Redis endpoint."""
