# Types that the stub generator cannot read from the module.
_core.STATUSES$:
    STATUSES: dict[str, int]

# Internal to nanobind, so excluded from the stub.
_core.__nanobind_internals__$:

