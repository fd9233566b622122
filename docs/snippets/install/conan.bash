# In a clone of the repository.
conan create packaging/conan --build=missing
