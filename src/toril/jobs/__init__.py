"""What a job is: options, backoff, retention, codec. Pure: no I/O, no clock (time comes in as `now_ms`)."""
