"""Speed of this package and of other NATS clients, measured side by side: ``make bench``, or ``python -m benchmarks --help``."""
