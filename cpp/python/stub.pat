# What the generator of the stubs cannot read from the module.
_core.STATUSES$:
    STATUSES: dict[str, int]
