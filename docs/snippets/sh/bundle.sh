gcc -o first first.c $(dynamo-llm config --cflags --libs)
dynamo-llm bundle first app
mv app elsewhere
elsewhere/bin/first
