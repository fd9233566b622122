# In a clone of the repository.
python3 -m venv .venv
. .venv/bin/activate
pip install .
dynamo-llm doctor
