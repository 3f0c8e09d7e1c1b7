"""The processes beside the bridge: load generators, floors, targets and witnesses. ``job.py`` says how they are talked to."""
