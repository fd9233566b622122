gcc -o first first.c $(dynamo-llm config --cflags --libs)
./first
