"""The bridge under load and under faults: a real nats-server, a real bridge process, and beside each load its floor.

``python -m benchmarks.bridge`` (or ``make bench-bridge``) runs all rows in about ten minutes, stores what it found in
``benchmarks/results/bridge.json`` and writes the tables of ``docs/performance-bridge.rst``.

``rows.py`` lists the rows; each is a function in one of the ``*_rows.py``. What makes the load, and what stands at the other end, are
the programs of ``programs/``: each one a process of its own, bounded in count and time, on the loopback interface only.
"""
