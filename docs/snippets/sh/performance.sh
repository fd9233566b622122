gcc -O2 -o send_busy_gil benchmarks/send_busy_gil.c $(dynamo-llm config --cflags --libs) -ldl
./send_busy_gil benchmarks "${PAIRS:-1000}"
