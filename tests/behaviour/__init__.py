"""How a NATS server and a client on it behave: one suite, run against the server in memory and against a real one."""
