# In a clone of the repository; the triplet decides which of the two libraries it installs.
vcpkg install dynamo-llm --overlay-ports=packaging/vcpkg --triplet=x64-linux
