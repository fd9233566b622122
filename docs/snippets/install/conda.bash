# In a clone of the repository.
rattler-build build --recipe packaging/conda --channel conda-forge
