# In a clone of the repository. The headers of nlohmann-json must be installed (Debian: nlohmann-json3-dev).
cmake -B build -G Ninja -DDYNAMO_LLM_PYTHON=OFF
cmake --build build
cmake --install build --prefix "$HOME/dynamo"
cc -o app app.c -I"$HOME/dynamo/include" -L"$HOME/dynamo/lib" -ldynamo_llm_capi -Wl,-rpath,"$HOME/dynamo/lib"
