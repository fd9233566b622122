g++ -std=c++17 -o first first.cpp $(dynamo-llm config --cflags --libs)
./first
