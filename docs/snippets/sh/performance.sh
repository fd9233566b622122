python benchmarks/run.py --quick --only drain_1_flat --only c_to_c --json results.json
